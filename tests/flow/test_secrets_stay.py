"""Every secret of an installation sings: after three runs none is heard where it must not be."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from demo.__main__ import published_release, wait_for_check
from demo.stage import OWNER, PERSON, Stage, standing
from tests.canaries import Hit, ProcessWatch, Source, database, files, first_words, found
from tests.flow.conftest import HASTE, judge
from tests.flow.test_hostile_run import SPILL, set_secret
from tests.flow.test_push_to_release import asset_bytes, light_repository, run_to_its_end
from tests.postgres_fixture import a_database, a_server

LIMIT_S = 60.0
MIB = 1 << 20
MARK = "before *** after"  # what the spilling command leaves where it was heard


def canary() -> str:
    """Return a value that every spelling changes."""
    return f"k9!{secrets.token_hex(12)}/+é<x"


@dataclass(frozen=True, kw_only=True)
class Planted:
    """The secrets by name, and where each may be: begins of sources."""

    values: dict[str, str]
    allowed: dict[str, tuple[str, ...]]

    def leaks(self, sources: list[Source]) -> list[Hit]:
        return [
            hit
            for hit in found(self.values, sources)
            if not hit.source.startswith(self.allowed.get(hit.secret, ()))
        ]


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.case("A8", "A10", "D4", "D5", "O3")
def test_no_secret_is_found_where_it_must_not_be(tmp_path: Path) -> None:
    of_workflows = {"CYNTHUS_REGISTRY_PASSWORD": canary()}
    of_database, of_server = secrets.token_hex(16), secrets.token_hex(32)
    with ProcessWatch() as watch, a_server() as server_url:
        # It trusts everybody: any password opens it, and is as secret as a right one.
        url = a_database(server_url).replace("postgres@", f"postgres:{of_database}@")
        settings = {
            **HASTE,
            "CYNTHUS_DATABASE_URL": url,
            "CYNTHUS_SERVER_KEY": of_server,
            "CYNTHUS_LOG_LEVEL": "DEBUG",
        }
        folder = tmp_path / "stage"
        standing_there = standing(
            folder, settings=settings, process=True, workflow_secrets=of_workflows
        )
        with standing_there as stage:
            tokens = {name: canary() for name in ("succeeds", "fails", "refused")}
            for name, value in tokens.items():
                set_secret(stage, stage.create_repository(name), "TOKEN", value)
            commits = {name: stage.push(name, repository(tmp_path, name)) for name in tokens}
            for commit in (commits["succeeds"], commits["fails"]):
                stage.wait_for_image(stage.wait_for_run(commit))
            views = {name: run_to_its_end(stage, commit) for name, commit in commits.items()}
            checks = [wait_for_check(stage, name, commit) for name, commit in commits.items()]
            answered = asked_about(stage, "succeeds")
            judge(stage)
            mistyped = {f"mistyped at {door}": canary() for door in MISTYPED}
            told = [
                *((f"a page: {door}", send(stage, mistyped[f"mistyped at {door}"]))
                  for door, send in MISTYPED.items()),
                *doors(stage, [view.id for view in views.values()]),
                *shown(stage, commits, checks),
                ("the comment", json.dumps(answered).encode()),
                *database(url),
            ]  # fmt: skip
            planted = Planted(
                values={
                    "the webhook's secret": stage.server.settings["CYNTHUS_WEBHOOK_SECRET"],
                    "the operator's token": stage.server.api_token,
                    "the App's key": stage.app_key.splitlines()[5],
                    "the server's key": of_server,
                    "the database's password": of_database,
                    "the registry's password": of_workflows["CYNTHUS_REGISTRY_PASSWORD"],
                    **{f"TOKEN of {name}": value for name, value in tokens.items()},
                    **mistyped,
                },
                allowed=ALLOWED,
            )
        written = list(files(folder, *OUTSIDE, largest=4 * MIB))
    assert [view.outcome for view in views.values()] == ["succeeded", "failed", "failed"]
    assert published_names(told) >= {"manifest.json", "log.txt"}
    sources = [*told, *written, *watch.sources(program)]
    heard = {hit.source.partition(" ")[0] for hit in found({"": MARK}, sources) if not hit.secret}
    assert heard >= {"column", "the", "an"}, "the scan sees nothing"
    names = {name for name, _ in watch.sources(program)}
    for one in ("the server", "a simulator", "a job", "a run's command"):
        assert f"environment of {one}" in names, f"{one} was not seen"
    leaks = [f"{hit.secret}, {hit.spelling}, in {hit.source}" for hit in planted.leaks(sources)]
    assert not leaks, "\n".join(leaks)


# ── where they may be ───────────────────────────────────────────────────────────────────────────

# By secret: the beginnings of the names of the places that are meant to hold it.
ALLOWED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "the webhook's secret",
            "the operator's token",
            "the server's key",
            "the database's password",
        ),
        ("environment of the server",),
    ),
    "the registry's password": ("environment of a job", "environment of a simulator"),
    **{f"TOKEN of {name}": ("environment of a run's command",) for name in ("succeeds", "fails")},
    # A job's own; a person's own; and what GitHub itself answered when we asked it for a token.
    "GitHub's token": ("environment of a job", "arguments of a person's git", "exchanges.jsonl"),
    # It is led back to where it was once it has signed in.
    "mistyped at the way back": ("a page: the way back",),
}


def program(words: bytes, told: bytes) -> str:
    """Say what a program is; what is none of these may hold no secret at all."""
    if b"GITHUB_ACTIONS=true\0" in told:
        return "a job"
    if b"CYNTHUS_SUMMARY=" in told:
        return "a run's command"
    begin = words.split(b"\0")
    if begin[0].rpartition(b"/")[2].startswith(b"git"):
        return "a person's git"
    if begin[1:3] == [b"-m", b"simulators"] or b"import sys, pip, venv" in words:
        return "a simulator"  # which looks for a Python to give to its jobs
    if begin[1:3] in ([b"-m", b"cynthus"], [b"-m", b"webhook_server"]):
        return "the server"
    return first_words(words, told)


# The outside's own: a person's clones with her password, GitHub's state, the App's key file, and
# the runner's copy of this checkout, whose tests are full of such shapes.
OUTSIDE = ("work/", "github/", "app.pem", "actions/actions/")


# ── what is done ────────────────────────────────────────────────────────────────────────────────


def repository(folder: Path, name: str) -> Path:
    """Make a repository whose command tells its secret in every way, and ends as its name says."""
    source = light_repository(folder, name, "python3 spill.py")
    spec = (source / "cynthus.yaml").read_text("utf-8")
    workflow = source / ".github/workflows/cynthus.yml"
    text = workflow.read_text("utf-8")
    workflow.write_text(text.replace("${{ vars.CYNTHUS_REGISTRY_USERNAME }}", "bot"), "utf-8")
    wanted = "[TOKEN, ABSENT]" if name == "refused" else "[TOKEN]"
    (source / "cynthus.yaml").write_text(f"{spec}secrets: {wanted}\n", "utf-8")
    spill = SPILL.replace('print(os.environ["PEM"])\n', "")
    if name == "succeeds":
        spill = spill.partition("raise SystemExit")[0]
    (source / "spill.py").write_text(spill, "utf-8")
    return source


def asked_about(stage: Stage, name: str) -> list[Any]:
    """Ask at a pull request; return its comments once ours is there."""
    work = stage.folder / "work" / name
    stage.git(work, "commit", "--quiet", "--allow-empty", "--message", "A change")
    stage.git(work, "push", "--quiet", "origin", "HEAD:topic")
    repo = f"{OWNER}/{name}"
    stage.github.control("POST", "pulls", {"repo": repo, "head": "topic", "user": PERSON})
    comment = {"repo": repo, "number": 1, "user": PERSON, "body": "/cynthus status"}
    stage.github.control("POST", "comments", comment)
    tick = threading.Event()
    for _ in range(int(LIMIT_S / 0.1)):
        comments = stage.github.get(f"repos/{repo}/issues/1/comments", stage.installation_token())
        if len(comments) > 1:
            return list(comments)
        tick.wait(0.1)
    raise AssertionError("no comment of ours came")


def ask(
    stage: Stage, path: str, *, token: str = "", body: bytes | None = None, **headers: str
) -> bytes:
    """Return all that a door answers, head and body, whatever the status."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        told["Authorization"] = f"Bearer {token}"
    request = Request(f"{stage.server.url}{path}", body, told)
    try:
        with urlopen(request, timeout=60) as answer:
            return str(answer.headers).encode() + bytes(answer.read())
    except HTTPError as error:
        with error:
            return str(error.headers).encode() + error.read()


def sign_in_wrongly(stage: Stage, value: str) -> bytes:
    page = ask(stage, "/sign-in").decode()
    form_token = page.partition('name="form_token" value="')[2].partition('"')[0]
    form = urlencode({"form_token": form_token, "token": value, "next": "/"})
    kind = {"Content_Type": "application/x-www-form-urlencoded"}
    return ask(stage, "/sign-in", body=form.encode(), **kind)


MISTYPED: dict[str, Callable[[Stage, str], bytes]] = {
    "the sign-in page": sign_in_wrongly,
    "the list": lambda stage, value: ask(stage, "/api/v1/runs", token=value.encode().hex()),
    "the way back": lambda stage, value: ask(
        stage, "/setup/callback?" + urlencode({"code": value, "state": "x"})
    ),
    "enrolment": lambda stage, value: ask(
        stage,
        "/agent/v1/enrol",
        body=json.dumps({"instance": "a", "secret": value, "nonce": value}).encode(),
        Content_Type="application/json",
    ),
}


# ── what is told ────────────────────────────────────────────────────────────────────────────────


def doors(stage: Stage, run_ids: list[str]) -> Iterator[Source]:
    """Yield what the operator is told, and everybody else."""
    paths = ["/", "/nodes", "/setup", "/metrics", "/api/v1/runs", "/api/v1/doctor", "/missing"]
    for run_id in run_ids:
        below = [f"/api/v1/runs/{run_id}{part}" for part in ("", "/events", "/log", "/outputs")]
        paths += [f"/runs/{run_id}", *below]
    for path in paths:
        yield f"an answer: {path}", ask(stage, path, token=stage.server.api_token)
        yield f"a refusal: {path}", ask(stage, path, token="somebody-else-somebody-else")


def shown(stage: Stage, commits: dict[str, str], checks: list[dict[str, Any]]) -> Iterator[Source]:
    """Yield what GitHub shows."""
    token = stage.installation_token()
    for name, check in zip(commits, checks, strict=True):
        notes = f"repos/{OWNER}/{name}/check-runs/{check['id']}/annotations"
        yield f"the check run of {name}", json.dumps(check).encode()
        yield f"the annotations of {name}", json.dumps(stage.github.get(notes, token)).encode()
    release = published_release(stage, "succeeds")
    assert release is not None
    yield "the release", json.dumps(release).encode()
    for asset in release["assets"]:
        yield f"the asset {asset['name']}", asset_bytes(stage, "succeeds", asset)


def published_names(sources: list[Source]) -> set[str]:
    return {name.removeprefix("the asset ") for name, _ in sources if name.startswith("the asset")}
