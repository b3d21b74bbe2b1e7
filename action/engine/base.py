"""Have a base image: here already, pulled, or made offline on a Debian machine."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from action import frameworks
from action.catalogue import ROOM, Entry, minor, read_catalogue
from action.failures import BuildFailed, NoImage
from action.plan import BaseFacts, Interpreter
from action.programs import stream
from action.workflow import Console
from cynthus.errors import UserError
from cynthus.spec import ImageSpec

if TYPE_CHECKING:
    from action.engine.engine import Engine

OFFLINE_SCRIPT = ROOM / "base" / "offline.sh"
DEFAULT_BASE = "python"
PROBE_S = 3  # a registry that takes longer to say a word is not worth waiting for
_LOOPBACK = ("localhost", "127.", "[::1]")


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base image that is on this machine."""

    facts: BaseFacts
    how: str  # one plain sentence for the log and the summary
    extra_packages: tuple[str, ...] = ()  # what the offline form lacks, as pip knows it


# ── which: pure ─────────────────────────────────────────────────────────────────────────────────


def choose(
    image: ImageSpec, override: str | None, catalogue: Mapping[str, Entry]
) -> tuple[str, Entry | None]:
    """Return the reference of the wanted base, with its line of the catalogue if it has one."""
    wanted = override or image.base or DEFAULT_BASE
    entry = catalogue.get(wanted)
    if entry is None:
        if "/" not in wanted and ":" not in wanted and "@" not in wanted and not override:
            raise UserError(
                f"image/base: should be one of {', '.join(catalogue)}, or an image reference with "
                f"a tag or digest, found `{wanted}`. Write `base: {DEFAULT_BASE}`."
            )
        return wanted, None
    if image.python and minor(image.python) not in entry.python:
        raise UserError(
            f"image/python: should be {' or '.join(entry.python)} with the base `{wanted}`, "
            f"found `{image.python}`. Change it, or name another base."
        )
    return entry.at(image.python), entry


def registry_host(reference: str) -> str:
    """Return the registry that a reference names: https://docs.docker.com/reference/cli/docker/image/tag/."""
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return "registry-1.docker.io" if first in {"docker.io", "index.docker.io"} else first
    return "registry-1.docker.io"


# ── having it ───────────────────────────────────────────────────────────────────────────────────


def registry_answers(host: str) -> bool:
    """Ask a registry for its API; 401 is a full answer, a proxy's page is none."""
    import urllib.error  # with all of HTTP behind it: only for a base that no digest names
    import urllib.request

    scheme = "http" if host.startswith(_LOOPBACK) else "https"
    try:
        with urllib.request.urlopen(f"{scheme}://{host}/v2/", timeout=PROBE_S) as answer:  # noqa: S310 - scheme above
            return bool(answer.status == 200)  # noqa: PLR2004 - OK
    except urllib.error.HTTPError as error:
        return error.code == 401  # noqa: PLR2004 - "who are you?"
    except (OSError, ValueError):
        return False


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the base is needed for."""

    image: ImageSpec
    cache_dir: Path
    override: str | None = None
    answers: Callable[[str], bool] = registry_answers


def prepare(wish: Wish, engine: Engine, console: Console) -> Base:
    """Return the base image, on this machine, with what it contains.

    Raises: UserError; NoImage when neither a registry nor the offline way can give one.
    """
    reference, entry = choose(wish.image, wish.override, read_catalogue())
    if engine.image_id(reference):
        return _known(engine, reference, f"base image {reference}: on this machine already", wish)
    host = registry_host(reference)
    if wish.answers(host):
        pulled = engine.show(console, "pull", reference)
        if pulled.code == 0:
            return _known(engine, reference, f"base image {reference}: pulled", wish)
        console.say(f"{host} answers but did not give {reference}")
    if entry is None:
        raise BuildFailed(
            f"image/base: should be an image that can be pulled, but {host} did not give "
            f"{reference}. Check the name and the login."
        )
    return _offline(reference, entry, wish, engine, console)


def pull(reference: str, engine: Engine, console: Console) -> None:
    """Have an image that a registry is known to have. Safe to repeat. Raises: BuildFailed."""
    pulled = engine.show(console, "pull", reference)
    if pulled.code != 0:
        raise BuildFailed(f"{reference} could not be pulled: {last_words(pulled.out)}")


def _known(engine: Engine, reference: str, how: str, wish: Wish) -> Base:
    facts = look_into(engine, reference, wish.cache_dir)
    check_python(wish.image, facts)
    return Base(facts=facts, how=how)


def check_python(image: ImageSpec, facts: BaseFacts) -> None:
    """Raise UserError unless the base has the Python that the spec names."""
    found = facts.interpreter
    if image.python and found and minor(image.python) != found.version:
        raise UserError(
            f"image/python: should be {found.version}, which the base image {facts.reference} has, "
            f"found `{image.python}`. Change it, or name another base."
        )


def _offline(reference: str, entry: Entry, wish: Wish, engine: Engine, console: Console) -> Base:
    """Make the base from Debian packages: CPU only, the Python of this machine's Debian."""
    if entry.offline_packages is None or not _can_make_offline():
        raise NoImage(
            f"{registry_host(reference)} does not answer, and a base image is made offline only "
            f"as root on Debian or Ubuntu"
        )
    tag = offline_tag(wish.image.system)
    if engine.image_id(tag) is None:
        console.say(f"{registry_host(reference)} does not answer: making the base image offline")
        words = ("env", f"CYNTHUS_DOCKER={engine.client}", str(OFFLINE_SCRIPT), tag)
        made = stream((*words, *wish.image.system), console)
        if made.code != 0:
            raise BuildFailed(f"the offline base image could not be made: {last_words(made.out)}")
    facts = look_into(engine, tag, wish.cache_dir)
    check_python(wish.image, facts)
    python = facts.interpreter.version if facts.interpreter else "no"
    how = (
        f"base image `{entry.name}`: no registry answers, so it was made offline from Debian "
        f"packages (CPU only, Python {python})"
    )
    return Base(
        facts=replace(facts, system_done=True), how=how, extra_packages=entry.offline_packages
    )


def _can_make_offline() -> bool:
    tools = all(shutil.which(name) for name in ("apt-get", "dpkg-deb", "chroot"))
    return os.geteuid() == 0 and tools


def offline_tag(system: tuple[str, ...]) -> str:
    """Return the name of the offline base: another script or other packages, another image."""
    recipe = OFFLINE_SCRIPT.read_bytes() + json.dumps(sorted(system)).encode()
    return f"cynthus/base:offline-{hashlib.sha256(recipe).hexdigest()[:12]}"


_LOOK = """
import json, platform, sys
try:
    from importlib.metadata import distributions
    found = [(d.metadata["Name"], d.version) for d in distributions()]
    packages = sorted({(name, version) for name, version in found if name and version})
except ImportError:
    packages = []
def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
def fields(text, sign):
    pairs = (line.partition(sign) for line in text.splitlines() if line[:1] not in (" ", "#"))
    return {name: value.strip().strip('"') for name, _, value in pairs}
system = []
for entry in read("/var/lib/dpkg/status").split("\\n\\n"):
    about = fields(entry, ":")
    if about.get("Status", "").endswith(" installed"):
        system.append([about.get(name, "") for name in ("Package", "Version", "Architecture")])
release = fields(read("/etc/os-release"), "=")
libc = platform.libc_ver()
print(json.dumps({"version": "%d.%d" % sys.version_info[:2], "machine": platform.machine(),
                  "libc": libc[1] if libc[0] == "glibc" else "", "packages": packages,
                  "system": sorted(system), "distribution": release.get("ID", ""),
                  "release": release.get("VERSION_CODENAME", "")}))
"""


def look_into(engine: Engine, reference: str, cache_dir: Path) -> BaseFacts:
    """Ask the image itself which Python it has: its name may say anything."""
    image_id = engine.image_id(reference)
    if image_id is None:
        raise BuildFailed(f"the base image {reference} vanished before it was looked at")
    recipe = hashlib.sha256(_LOOK.encode()).hexdigest()[:8]  # another question, another answer
    kept = cache_dir / "bases" / f"{image_id.removeprefix('sha256:')}-{recipe}.json"
    found = _kept_look(kept) or _look(engine, image_id)
    if found:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(found))
    return BaseFacts(
        reference=reference,
        image_id=image_id,
        interpreter=interpreter_of(found) if found else None,
        packages=tuple((name, version) for name, version in found["packages"]) if found else (),
        digest=engine.digest(reference),
        cuda=frameworks.cuda_of(engine.environment(image_id)),
        distribution=str(found.get("distribution", "")) if found else "",
        release=str(found.get("release", "")) if found else "",
        system=tuple((n, v, a) for n, v, a in found.get("system", ())) if found else (),
    )


def _kept_look(path: Path) -> dict[str, Any] | None:
    """Return what an image said before: its id is the hash of its content, so it says it again."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):  # not there, or cut off while it was written
        return None
    return found if isinstance(found, dict) else None


def _look(engine: Engine, image_id: str) -> dict[str, Any] | None:
    words = ("run", "--rm", "--network", "none", "--entrypoint", "python3", image_id, "-c", _LOOK)
    answer = engine.ask(*words, timeout_s=120)  # a large image is slow to unpack the first time
    if answer.code != 0 or not answer.out:
        return None
    found = json.loads(answer.out.splitlines()[-1])
    return found if isinstance(found, dict) else None


def interpreter_of(found: Mapping[str, str]) -> Interpreter:
    """Read what a Python said about itself."""
    return Interpreter(
        version=found["version"], machine=found["machine"], libc=libc_version(found["libc"])
    )


def libc_version(text: str) -> tuple[int, int] | None:
    """Return glibc's version as numbers."""
    parts = text.split(".")
    return (
        (int(parts[0]), int(parts[1])) if len(parts) > 1 and all(map(str.isdigit, parts)) else None
    )


def last_words(text: str) -> str:
    """Return the last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason")
