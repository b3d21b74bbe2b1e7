"""Decide what to build: a spec, its packages and its base become Dockerfiles, tags and words. Pure.

Two images are built. The *environment* (base, system packages, Python packages) has a key, the
hash of everything that can change it, and is built once. The *run image* adds the source, one
layer, on every commit. Neither Dockerfile uses what BuildKit without buildx lacks: no heredoc and
no `# syntax=`, which would ask a registry for a front end.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from action.packages import versions
from action.packages.requirements import Requirements
from cynthus.spec import Spec

UID = 1000  # the user that runs workloads, in every image
LIBC_FLOOR = 17  # manylinux2014 is glibc 2.17; older wheels are found through it


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """A Python, as far as wheels care."""

    version: str  # 3.11
    machine: str  # x86_64
    libc: tuple[int, int] | None  # glibc's version; None: musl or unknown


@dataclass(frozen=True, kw_only=True)
class BaseFacts:
    """What the base image is."""

    reference: str
    image_id: str
    interpreter: Interpreter | None  # None: no Python in it
    packages: tuple[tuple[str, str], ...] = ()  # what it has installed, name and version
    digest: str | None = None  # of the registry it was pulled from
    system_done: bool = False  # the Debian packages of the spec are in it already
    cuda: str | None = None  # 12.4, where the image says so
    distribution: str = ""  # debian, ubuntu: os-release's ID
    release: str = ""  # bookworm: os-release's VERSION_CODENAME
    system: tuple[tuple[str, str, str], ...] = ()  # Debian packages: name, version, architecture


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the source comes from; every field empty for a folder on this machine."""

    source_url: str = ""
    commit_sha: str = ""
    spec_sha256: str = ""
    committed_s: int = 0  # Unix time; 0: not known


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """Everything `build` needs to know; it makes no choice of its own."""

    base: str
    system_dockerfile: str | None
    system_tag: str
    environment_dockerfile: str | None  # None: the user's own Dockerfile makes the environment
    environment_tag: str
    environment_key: str
    requirements: Requirements
    run_dockerfile: str
    run_tag: str
    labels: tuple[tuple[str, str], ...]


def build_plan(
    spec: Spec, base: BaseFacts, requirements: Requirements, origin: Origin, *, as_of: str
) -> BuildPlan:
    """Return the plan for a generated environment.

    `as_of` (a date) is part of the key when a package is not pinned, so that the environment takes
    in new releases once a day and not never.
    """
    system = () if base.system_done else spec.image.system
    system_key = _key("system", base.image_id, system)
    system_tag = f"cynthus/system:{system_key}" if system else base.reference
    folders = ("wheels",) if requirements.lines else ()
    dockerfile = environment_dockerfile(system_tag, wheels=folders)
    date = "" if requirements.pinned else as_of
    key = _key("environment", base.image_id, dockerfile, system, requirements.asked, date)
    tag = f"cynthus/env:{key}"
    return BuildPlan(
        base=base.reference,
        system_dockerfile=system_dockerfile(base.reference, system) if system else None,
        system_tag=system_tag,
        environment_dockerfile=dockerfile,
        environment_tag=tag,
        environment_key=key,
        requirements=requirements,
        run_dockerfile=run_dockerfile(tag),
        run_tag=f"cynthus/run-{spec.name}:latest",
        labels=labels(origin, key, base),
    )


def own_dockerfile_plan(spec: Spec, origin: Origin, text: bytes, context: str) -> BuildPlan:
    """Return the plan for a user's own Dockerfile, with the hash of its context's files."""
    key = _key("own", hashlib.sha256(text).hexdigest(), context)
    tag = f"cynthus/own:{key}"
    return BuildPlan(
        base=f"{spec.image.dockerfile}",
        system_dockerfile=None,
        system_tag="",
        environment_dockerfile=None,
        environment_tag=tag,
        environment_key=key,
        requirements=Requirements(),
        run_dockerfile=run_dockerfile(tag, home="/tmp"),  # noqa: S108 - the one folder all have
        run_tag=f"cynthus/run-{spec.name}:latest",
        labels=labels(origin, key, None),
    )


def _key(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


# ── Dockerfiles ─────────────────────────────────────────────────────────────────────────────────


def system_dockerfile(base: str, packages: Sequence[str]) -> str:
    """Return the one step that needs a network: Debian packages, from the image's own mirrors."""
    return (
        f"FROM {base}\n"
        "USER root\n"
        "RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y "
        f"--no-install-recommends {' '.join(packages)} && rm -rf /var/lib/apt/lists/*\n"
    )


def environment_dockerfile(base: str, *, wheels: Sequence[str] = ()) -> str:
    """Return the Dockerfile of the environment; wheels come by a bind mount, never by network.

    Each of the folders `wheels` becomes a layer of its own.
    """
    lines = [
        f"FROM {base}",
        "USER root",
        f"RUN {_USER_SCRIPT}",
        # Exactly the wheels the builder resolved: nothing is chosen a second time in here.
        *(f"RUN --mount=type=bind,source={folder},target=/mnt/wheels {_PIP}" for folder in wheels),
        "ENV HOME=/home/workload PYTHONUNBUFFERED=1",
        "WORKDIR /workspace",
    ]
    return "\n".join(lines) + "\n"


# No bytecode of pip itself, which would be 10 MB; that of the packages is written all the same.
_PIP = (
    "PYTHONDONTWRITEBYTECODE=1 "
    "PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 "
    "python3 -m pip install --no-cache-dir --no-index --no-deps --progress-bar off "
    "/mnt/wheels/*.whl"
)

# Some bases have no useradd, so the line is written by hand; a base that has uid 1000 keeps it.
_USER_SCRIPT = (
    f"cut -d: -f3 /etc/passwd | grep -qx {UID} "
    f"|| echo 'workload:x:{UID}:{UID}::/home/workload:/bin/sh' >> /etc/passwd; "
    f"cut -d: -f3 /etc/group | grep -qx {UID} || echo 'workload:x:{UID}:' >> /etc/group; "
    f"mkdir -p /home/workload /workspace && chown {UID}:{UID} /home/workload /workspace"
)


def run_dockerfile(environment: str, *, home: str | None = None) -> str:
    """Return the Dockerfile that adds the source; it runs nothing, so it fits any image."""
    lines = [
        f"FROM {environment}",
        f"COPY --chown={UID}:{UID} . /workspace/",
        "WORKDIR /workspace",
        *([f"ENV HOME={home} PYTHONUNBUFFERED=1"] if home else []),
        "ENTRYPOINT []",  # the command comes from the spec, whole
        f"USER {UID}:{UID}",
    ]
    return "\n".join(lines) + "\n"


def labels(origin: Origin, key: str, base: BaseFacts | None) -> tuple[tuple[str, str], ...]:
    """Return the image's labels: https://github.com/opencontainers/image-spec/blob/main/annotations.md."""
    base_name = "" if base is None else base.reference
    base_digest = "" if base is None else base.digest or ""
    found = (
        ("org.opencontainers.image.source", origin.source_url),
        ("org.opencontainers.image.revision", origin.commit_sha),
        ("org.opencontainers.image.base.name", base_name),
        ("org.opencontainers.image.base.digest", base_digest),
        ("dev.cynthus.environment", key),
        ("dev.cynthus.spec.sha256", origin.spec_sha256),
    )
    return tuple((name, value) for name, value in found if value)


# ── docker's words ──────────────────────────────────────────────────────────────────────────────


def build_words(
    *, dockerfile: str, context: str, tag: str, network: str, more: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the words after `docker` for one build."""
    words = ("build", "--progress", "plain", "--network", network, "--file", dockerfile)
    return (*words, "--tag", tag, *more, context)


def label_words(labels: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return the words that label an image."""
    return tuple(word for name, value in labels for word in ("--label", f"{name}={value}"))


def image_name(registry: str, spec_name: str) -> str:
    """Return the repository that a spec's images are pushed to."""
    return f"{registry}/{spec_name}"


# ── pip's words ─────────────────────────────────────────────────────────────────────────────────


def same_wheels(builder: Interpreter, image: Interpreter) -> bool:
    """Say whether what is built on the builder also runs in the image.

    The C library only promises that what was built on an older one runs on a newer one.
    """
    if (builder.version, builder.machine) != (image.version, image.machine):
        return False
    if builder.libc is None or image.libc is None:
        return False
    return builder.libc <= image.libc


def wheel_words(
    builder: Interpreter,
    image: Interpreter,
    *,
    target: str,
    wishes: Sequence[str],
    sources: bool = True,
) -> tuple[str, ...]:
    """Return pip's words to fill `target` with every wheel that the image needs.

    `sources`: what comes as source only may be built here, where the builder fits.
    """
    common = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
    if sources and same_wheels(builder, image):
        return ("wheel", *common, "--wheel-dir", target, *wishes)
    platforms = [word for name in platforms_of(image) for word in ("--platform", name)]
    return (
        "download",
        *common,
        "--dest",
        target,
        "--only-binary=:all:",
        "--implementation",
        "cp",
        "--python-version",
        image.version,
        *platforms,
        *wishes,
    )


def platforms_of(image: Interpreter) -> tuple[str, ...]:
    """Return the wheel platforms an image takes, the best first (PEP 600)."""
    if image.libc is None:
        return (f"linux_{image.machine}",)
    newest = image.libc[1]
    modern = tuple(
        f"manylinux_2_{minor}_{image.machine}" for minor in range(newest, LIBC_FLOOR, -1)
    )
    return (*modern, f"manylinux2014_{image.machine}", f"linux_{image.machine}")


def canonical(name: str) -> str:
    """Return a package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def kept_versions(
    packages: Sequence[tuple[str, str]], requirements: Requirements
) -> Mapping[str, str]:
    """Return the base's packages that stay as they are: all whose version does for the user.

    One that is wanted with extras does not stay: what they need is written in the package itself.
    """
    wishes = [match for line in requirements.lines if (match := _WISH.match(line))]
    found = {canonical(name): version for name, version in packages}
    return {
        name: version
        for name, version in found.items()
        if name not in _TOOLS and all(_does(wish, version) for wish in wishes if _is(wish, name))
    }


_WISH = re.compile(r"([A-Za-z0-9._-]+)\s*(\[[^\]]*\])?\s*([^;\s-][^;]*?)?\s*(?:;.*|--hash.*)?$")


def _is(wish: re.Match[str], name: str) -> bool:
    return canonical(wish[1]) == name


def _does(wish: re.Match[str], version: str) -> bool:
    return not wish[2] and versions.allows(wish[3] or "", version)


_TOOLS = {"pip", "setuptools", "wheel"}  # Debian's pip does without their metadata being kept
