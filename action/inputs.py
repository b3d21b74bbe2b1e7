"""Read the job's environment once into frozen `Inputs`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from action import asked
from action.asked import Asked
from cynthus.errors import UserError

DEFAULT_WAIT = timedelta(hours=6)  # a job on GitHub's own runners ends after six hours anyway
DEFAULT_KEEP = timedelta(days=30)  # a month of commits can be run again without a build
LONGEST_WAIT = timedelta(days=5)  # a job on a self-hosted runner ends after five days
ENVIRONMENTS = "cynthus.env"  # a dot: the name of a spec has none
_GHCR = "ghcr.io"
_HUB = {"docker.io", "index.docker.io", "registry-1.docker.io"}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Secret(str):
    """Text that does not show itself in a repr or a log."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Hide the value."""
        return "***"


@dataclass(frozen=True, kw_only=True)
class PullRequest:
    """The pull request that started the job."""

    number: int
    head_sha: str
    from_fork: bool


@dataclass(frozen=True, kw_only=True)
class TokenDoor:
    """Where the job asks for its identity token."""

    url: str
    token: Secret


@dataclass(frozen=True, kw_only=True)
class Job:
    """What GitHub says about the job."""

    repository: str
    repository_id: int
    sha: str
    ref: str
    event: str
    run_id: str
    run_attempt: int  # 1, and one more each time somebody runs the workflow again
    run_url: str
    server_url: str
    api_url: str
    default_branch: str
    pull_request: PullRequest | None
    before: str | None  # of a push: the commit the branch pointed to
    changed_paths: tuple[str, ...] | None  # of a push, where the event lists them
    token_door: TokenDoor | None
    asked: Asked | None = None  # by the server, with a dispatch: not the workflow's own commit

    @property
    def commit_sha(self) -> str:
        """Return the commit a person means: of a pull request its head, not the test merge."""
        if self.asked:
            return self.asked.commit_sha
        return self.pull_request.head_sha if self.pull_request else self.sha

    @property
    def branch(self) -> str | None:
        """Return the branch that was pushed, None for a tag."""
        return self.ref.removeprefix("refs/heads/") if self.ref.startswith("refs/heads/") else None


@dataclass(frozen=True, kw_only=True)
class Login:
    """Who pushes to the registry."""

    username: str
    password: Secret


@dataclass(frozen=True, kw_only=True)
class BuildSecret:
    """A secret for a user's own Dockerfile, as `RUN --mount=type=secret,id=…` names it."""

    id: str
    value: Secret


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where things are on this machine."""

    path: str  # where programs are looked for
    docker_config: Path
    cache_dir: Path  # wheels, kept between builds
    bundles_dir: Path  # where process-mode bundles go
    takes_bundles: bool = False  # a server of this machine takes them, where no engine answers


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Everything the Action is told."""

    spec_path: str
    root: Path  # the checked-out repository, or the folder named by `working-directory`
    server_url: str
    registry: str  # host[:port]/path that images are pushed below
    environments: str  # host[:port]/path of the repository that keeps environments
    login: Login | None
    audience: str
    wait: bool
    wait_timeout: timedelta
    base_image: str | None
    keep_images: timedelta | None  # how long unused images stay in the registry; None: for ever
    dry_run: bool
    build_secrets: tuple[BuildSecret, ...]
    job: Job
    prefix: str  # of the folder `root` within the repository
    output_file: Path | None
    summary_file: Path | None
    machine: Machine

    @property
    def spec_shown(self) -> str:
        """Return the spec's path within the repository, as annotations and the server know it."""
        return self.spec_path if self.prefix in {"", "."} else f"{self.prefix}/{self.spec_path}"


def read(environ: Mapping[str, str] | None = None) -> Inputs:
    """Return what the environment says.

    Raises: UserError, naming every input that cannot be used.
    """
    env = os.environ if environ is None else environ
    faults: list[str] = []
    workspace = Path(_needed(env, "GITHUB_WORKSPACE", faults) or ".")
    folder = _folder(env, faults)
    job = _job(env, faults)
    server = _server(env, faults)
    wait = _truth(env, "wait", faults)
    dry_run = _truth(env, "dry-run", faults)
    spec_path = _spec_path(env, faults)
    timeout = _wait_timeout(env, faults)
    keep_images = _keep_images(env, faults)
    registry = _registry(env, job, faults)
    environments = _environments(env, registry, faults)
    login = _login(env, registry, faults)
    secrets = _build_secrets(env, faults)
    if faults or job is None:
        raise UserError("\n".join(faults))
    return Inputs(
        spec_path=spec_path,
        root=workspace / folder,
        prefix=folder,
        server_url=server,
        registry=registry,
        environments=environments,
        login=login,
        audience=_given(env, "audience") or "cynthus",
        wait=wait,
        wait_timeout=timeout,
        base_image=_given(env, "base-image") or None,
        keep_images=keep_images,
        dry_run=dry_run,
        build_secrets=secrets,
        job=job,
        output_file=_file(env, "GITHUB_OUTPUT"),
        summary_file=_file(env, "GITHUB_STEP_SUMMARY"),
        machine=machine(env),
    )


def machine(environ: Mapping[str, str] | None = None) -> Machine:
    """Return where things are, by the environment."""
    env = os.environ if environ is None else environ
    home = Path(env.get("HOME") or "/tmp")  # noqa: S108 - a runner without any home
    cache = _file(env, "CYNTHUS_CACHE_DIR") or (
        (_file(env, "XDG_CACHE_HOME") or home / ".cache") / "cynthus"
    )
    return Machine(
        path=env.get("PATH") or os.defpath,
        docker_config=_file(env, "DOCKER_CONFIG") or home / ".docker",
        cache_dir=cache,
        bundles_dir=_file(env, "CYNTHUS_BUNDLES_DIR") or cache / "bundles",
        takes_bundles=bool(env.get("CYNTHUS_BUNDLES_DIR")),
    )


_NOT_INHERITED = (
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "INPUT_BUILD_SECRETS",
    "INPUT_GITHUB_TOKEN",
    "INPUT_PASSWORD",
    "PYTHONPATH",
)


def clean_environment() -> None:
    """Take secrets (and our own import path) out of what the programs we start inherit.

    pip runs the build scripts of source packages, and a Dockerfile runs anything.
    """
    for name in _NOT_INHERITED:
        os.environ.pop(name, None)


# ── inputs ──────────────────────────────────────────────────────────────────────────────────────


def _given(env: Mapping[str, str], name: str) -> str:
    """Return an input as `action.yml` hands it over: a variable, never text inside a script."""
    return env.get("INPUT_" + name.upper().replace("-", "_"), "").strip()


def _wrong(name: str, should: str, found: str, do: str) -> str:
    return f"with/{name}: should be {should}, found `{found}`. {do}"


def _truth(env: Mapping[str, str], name: str, faults: list[str]) -> bool:
    text = _given(env, name)
    # What @actions/core takes for a boolean input: YAML 1.2's core schema.
    if text in {"true", "True", "TRUE"}:
        return True
    if text not in {"", "false", "False", "FALSE"}:
        faults.append(_wrong(name, "true or false", text, f"Write `{name}: true` or leave it out."))
    return False


def _spec_path(env: Mapping[str, str], faults: list[str]) -> str:
    text = _given(env, "spec") or "cynthus.yaml"
    if not _inside(text):
        faults.append(
            _wrong("spec", "a file of the repository", text, "Write `spec: cynthus.yaml`.")
        )
    return str(PurePosixPath(text))


def _folder(env: Mapping[str, str], faults: list[str]) -> str:
    text = _given(env, "working-directory") or "."
    if not _inside(text):
        remedy = "Write a folder such as `working-directory: training`."
        faults.append(_wrong("working-directory", "a folder of the repository", text, remedy))
    return str(PurePosixPath(text))


def _inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return not path.startswith(("/", "-", "~")) and ".." not in parts and "\\" not in path


def _server(env: Mapping[str, str], faults: list[str]) -> str:
    text = _given(env, "server").rstrip("/")
    parts = urlsplit(text)
    if not text:
        if not _truth(env, "dry-run", []):
            remedy = "Write `server: https://cynthus.example.org`."
            faults.append(f"with/server: should be the Cynthus server's address. {remedy}")
        return ""
    secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not secure or not parts.hostname or parts.username or parts.query or parts.fragment:
        should = "an https address without user, query or fragment"
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        remedy = "Write `server: https://cynthus.example.org`."
        faults.append(_wrong("server", should, shown, remedy))
    return text


_REGISTRY = re.compile(
    r"(?P<host>(?:[a-z0-9]+(?:[.-][a-z0-9]+)*|\[[0-9a-f:]+\])(?::[0-9]{1,5})?)"
    r"(?P<path>(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*)"
)


def _registry(env: Mapping[str, str], job: Job | None, faults: list[str]) -> str:
    """Return where images go; a bare host gets the repository's name, as GHCR has it."""
    text = _given(env, "registry").removeprefix("https://").rstrip("/")
    match = _REGISTRY.fullmatch(text or _GHCR)
    if match is None:
        remedy = "Write one such as `registry: ghcr.io/acme/train`, in lower case."
        faults.append(_wrong("registry", "a registry's host and path", text, remedy))
        return ""
    if match["host"] in _HUB:
        return _of_docker_hub(text, match["path"].strip("/"), job, faults)
    if match["path"] or job is None:
        return text
    return f"{match['host']}/{job.repository.lower()}"


def _of_docker_hub(text: str, path: str, job: Job | None, faults: list[str]) -> str:
    """Return an owner of Docker Hub: its repositories have no names below them.

    https://docs.docker.com/docker-hub/repos/create/
    """
    if "/" in path:
        remedy = f"Write `registry: docker.io/{path.partition('/')[0]}`."
        faults.append(_wrong("registry", "an owner on Docker Hub", text, remedy))
    if path or job is None:
        return text
    return f"{text}/{job.repository.partition('/')[0].lower()}"


def _environments(env: Mapping[str, str], registry: str, faults: list[str]) -> str:
    """Return where environments are kept: beside the images, under a name that no spec can have."""
    text = _given(env, "environments").removeprefix("https://").rstrip("/")
    match = _REGISTRY.fullmatch(text) if text else None
    if text and (match is None or not match["path"]):
        remedy = "Write one such as `environments: ghcr.io/acme/environments`, in lower case."
        faults.append(_wrong("environments", "a registry's host and path", text, remedy))
    return text or f"{registry}/{ENVIRONMENTS}"


def _login(env: Mapping[str, str], registry: str, faults: list[str]) -> Login | None:
    username, password = _given(env, "username"), _given(env, "password")
    if username and password:
        return Login(username=username, password=Secret(password))
    if username or password:
        one, other = ("username", "password") if username else ("password", "username")
        faults.append(
            f"with/{other}: should be given together with `{one}`, found nothing. "
            f"Add it, or leave both out to use the job's own Docker login."
        )
        return None
    token = _given(env, "github-token")
    if token and registry.split("/", maxsplit=1)[0] == _GHCR:
        return Login(username=env.get("GITHUB_ACTOR") or "x-access-token", password=Secret(token))
    return None


# What BuildKit takes as an id and what is no other word of docker's `--secret`.
_SECRET_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def _build_secrets(env: Mapping[str, str], faults: list[str]) -> tuple[BuildSecret, ...]:
    """Return the lines `id=VALUE`; a fault names the line's number and never what is in it."""
    found: dict[str, BuildSecret] = {}
    for number, line in enumerate(_given(env, "build-secrets").splitlines(), 1):
        name, equals, value = line.strip().partition("=")
        if not name and not equals:
            continue
        if not equals or not value or not _SECRET_ID.fullmatch(name) or name in found:
            faults.append(
                f"with/build-secrets: line {number} should be `id=VALUE` with an id of letters, "
                f"digits, `_`, `-` and `.` that no other line has and a value that is not empty. "
                f"Write one such as `index=${{{{ secrets.INDEX_TOKEN }}}}`; is the secret set?"
            )
            continue
        found[name] = BuildSecret(id=name, value=Secret(value))
    return tuple(found.values())


_DURATION = re.compile(r"(?:([0-9]{1,3})d)?(?:([0-9]{1,4})h)?(?:([0-9]{1,5})m)?(?:([0-9]{1,6})s)?")


def _wait_timeout(env: Mapping[str, str], faults: list[str]) -> timedelta:
    text = _given(env, "wait-timeout")
    wait = _duration(text) if text else DEFAULT_WAIT
    if not timedelta(0) < wait <= LONGEST_WAIT:
        should = f"a duration up to {LONGEST_WAIT.days}d"
        faults.append(_wrong("wait-timeout", should, text, "Write one such as `2h` or `90m`."))
    return wait


def _keep_images(env: Mapping[str, str], faults: list[str]) -> timedelta | None:
    """Return how long images stay. A day at least: a job may still put one together."""
    text = _given(env, "keep-images")
    keep = _duration(text) if text else DEFAULT_KEEP
    if text == "0":
        return None
    if keep < timedelta(days=1):
        should = "a duration of a day or more, or 0 for ever"
        faults.append(_wrong("keep-images", should, text, "Write one such as `30d`."))
    return keep


def _duration(text: str) -> timedelta:
    """Return a duration; one that is none is as long as none."""
    match = _DURATION.fullmatch(text)
    days, hours, minutes, seconds = (
        (int(part or 0) for part in match.groups()) if match else [0] * 4
    )
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


# ── what GitHub says ────────────────────────────────────────────────────────────────────────────


def _needed(env: Mapping[str, str], name: str, faults: list[str]) -> str:
    if not env.get(name):
        faults.append(
            f"{name}: should be set by the runner, found nothing. Run this in a workflow."
        )
    return env.get(name, "")


def _attempt(env: Mapping[str, str]) -> int:
    text = env.get("GITHUB_RUN_ATTEMPT", "")
    return int(text) if text.isascii() and text.isdigit() else 1


def _file(env: Mapping[str, str], name: str) -> Path | None:
    return Path(env[name]) if env.get(name) else None


def _job(env: Mapping[str, str], faults: list[str]) -> Job | None:
    names = ("GITHUB_REPOSITORY", "GITHUB_REPOSITORY_ID", "GITHUB_SHA", "GITHUB_REF")
    before = len(faults)
    repository, repository_id, sha, ref = (_needed(env, name, faults) for name in names)
    event_name = _needed(env, "GITHUB_EVENT_NAME", faults)
    run_id = _needed(env, "GITHUB_RUN_ID", faults)
    event = _event(env, faults)
    told = asked.read(event_name, event, faults)
    if (repository_id and not repository_id.isascii()) or not repository_id.isdigit():
        faults.append(f"GITHUB_REPOSITORY_ID: should be a number, found `{repository_id}`.")
    if len(faults) > before:
        return None
    server_url = env.get("GITHUB_SERVER_URL", "https://github.com").rstrip("/")
    return Job(
        repository=repository,
        repository_id=int(repository_id),
        sha=sha,
        ref=ref,
        event=event_name,
        run_id=run_id,
        run_attempt=_attempt(env),
        run_url=f"{server_url}/{repository}/actions/runs/{run_id}",
        server_url=server_url,
        api_url=env.get("GITHUB_API_URL", "https://api.github.com").rstrip("/"),
        default_branch=_text(_object(event, "repository").get("default_branch")) or "main",
        pull_request=_pull_request(event, int(repository_id)),
        before=_text(event.get("before")),
        changed_paths=_changed(event),
        token_door=_token_door(env),
        asked=told,
    )


def _event(env: Mapping[str, str], faults: list[str]) -> dict[str, Any]:
    path = env.get("GITHUB_EVENT_PATH")
    if not path:
        return {}
    try:
        event = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not JSON"
        faults.append(f"GITHUB_EVENT_PATH: should be a readable event file, found: {reason}.")
        return {}
    return event if isinstance(event, dict) else {}


def _object(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _pull_request(event: Mapping[str, Any], repository_id: int) -> PullRequest | None:
    found = _object(event, "pull_request")
    head = _object(found, "head")
    number, sha = found.get("number"), _text(head.get("sha"))
    if not isinstance(number, int) or sha is None:
        return None
    # `repo` is null once a fork has been deleted: a fork all the same.
    from_fork = _object(head, "repo").get("id") != repository_id
    return PullRequest(number=number, head_sha=sha, from_fork=from_fork)


def _changed(event: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the paths of a push; None where the event leaves them out, as GitHub's runners do."""
    commits = event.get("commits")
    if not isinstance(commits, list) or not commits:
        return None
    paths: set[str] = set()
    for commit in commits:
        lists = [commit.get(kind) for kind in ("added", "modified", "removed")]
        if not all(isinstance(found, list) for found in lists):
            return None
        paths.update(str(path) for found in lists for path in found)
    return tuple(sorted(paths))


def _token_door(env: Mapping[str, str]) -> TokenDoor | None:
    url, token = (env.get(f"ACTIONS_ID_TOKEN_REQUEST_{part}") for part in ("URL", "TOKEN"))
    return TokenDoor(url=url, token=Secret(token)) if url and token else None
