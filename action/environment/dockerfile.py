"""Say which files of its context a user's Dockerfile takes, so that others do not rebuild it. Pure.

What cannot be said for certain counts as "everything": that costs a build, never a wrong image.
The language: https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a Dockerfile asks for."""

    sources: tuple[str, ...] | None  # patterns of paths in the context; None: everything
    images: tuple[str, ...] = field(default=())  # of other images, as they are written
    secrets: tuple[str, ...] = field(default=())  # ids of the build secrets it mounts


class _Unclear(Exception):  # noqa: N818 - a way out of the reading, not a fault
    """Something that only BuildKit could say."""


def read(text: str) -> Reading:
    """Return what a Dockerfile takes; any text has an answer."""
    images, secrets = _images(text), _secrets(text)
    try:
        sources = _sources(text)
    except _Unclear:
        return Reading(sources=None, images=images, secrets=secrets)
    whole = any(source in {"", "."} for source in sources)
    return Reading(sources=None if whole else tuple(sources), images=images, secrets=secrets)


def taken(reading: Reading, paths: Iterable[tuple[str, bool]]) -> tuple[str, ...]:
    """Return those paths of a context (each with "is a symbolic link") that count.

    A link among them, or above them, could point to any other file of the context: then all count.
    """
    listed = sorted(paths)
    if reading.sources is None:
        return tuple(path for path, _ in listed)
    found = [(path, link) for path, link in listed if any(_under(path, s) for s in reading.sources)]
    links = [path for path, link in listed if link]
    through = any(_leads(link, source) for link in links for source in reading.sources)
    if through or any(link for _, link in found):
        return tuple(path for path, _ in listed)
    return tuple(path for path, _ in found)


def _under(path: str, pattern: str) -> bool:
    """Say whether a path is what a pattern names, or inside it; `*` does not cross a folder."""
    parts, wanted = path.split("/"), pattern.split("/")
    pairs = zip(parts, wanted, strict=False)
    return len(parts) >= len(wanted) and all(fnmatchcase(part, want) for part, want in pairs)


def _leads(link: str, pattern: str) -> bool:
    """Say whether a pattern goes through a link that is a folder above what it names."""
    parts, wanted = link.split("/"), pattern.split("/")
    pairs = zip(parts, wanted, strict=False)
    return len(parts) <= len(wanted) and all(fnmatchcase(part, want) for part, want in pairs)


# ── instructions ────────────────────────────────────────────────────────────────────────────────

_HEREDOC = re.compile(r"<<(-?)\s*([\"']?)([A-Za-z_]\w*)\2")
_DIRECTIVE = re.compile(r"#\s*(\w+)\s*=\s*(\S+)\s*")
_FLAG = re.compile(r"\s*--([a-z-]+)(?:=(\S+))?(?=\s|$)")
_NO_END = "?"  # stands for an instruction that cannot be told from what follows it


@dataclass(frozen=True)
class _Instruction:
    name: str
    flags: tuple[tuple[str, str], ...]
    rest: str


def _instructions(text: str) -> Iterable[_Instruction]:
    lines = text.removeprefix("\ufeff").splitlines()
    escape = _escape(lines)
    at = 0
    while at < len(lines):
        line, at = _joined(lines, at, escape)
        if not line:
            continue
        name, rest = re.match(r"(\S+)\s*(.*)", line, re.DOTALL).groups()  # type: ignore[union-attr]
        for dash, _, end in _HEREDOC.findall(rest) if name.upper() in _WITH_HEREDOC else ():
            after = _after(lines, at, end, dash=bool(dash))
            if after is None:
                yield _Instruction(_NO_END, (), "")
            at = after or at
        yield _Instruction(name.upper(), *_flags(rest))


_WITH_HEREDOC = {"RUN", "COPY", "ADD"}


def _escape(lines: list[str]) -> str:
    """Return the sign that continues a line; directives stand at the very top."""
    for line in lines:
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None:
            break
        if match[1].lower() == "escape":
            return match[2]
    return "\\"


def _joined(lines: list[str], at: int, escape: str) -> tuple[str, int]:
    whole = ""
    while at < len(lines):
        line = lines[at].strip()
        at += 1
        if line.startswith("#") or (not line and whole):
            continue  # comments and empty lines within an instruction count for nothing
        if not line.endswith(escape):
            return (whole + line).strip(), at
        whole += line[: -len(escape)] + " "
    return whole.strip(), at


def _after(lines: list[str], at: int, end: str, *, dash: bool) -> int | None:
    for number in range(at, len(lines)):
        if (lines[number].lstrip("\t") if dash else lines[number]) == end:
            return number + 1
    return None


def _flags(rest: str) -> tuple[tuple[tuple[str, str], ...], str]:
    found = []
    while match := _FLAG.match(rest):
        found.append((match[1], match[2] or ""))
        rest = rest[match.end() :]
    return tuple(found), rest.strip()


# ── sources ─────────────────────────────────────────────────────────────────────────────────────


def _sources(text: str) -> list[str]:
    known: dict[str, str] = {}  # what this stage has set
    above: dict[str, str] = {}  # ARG before the first FROM
    begun, found = False, []
    _expect_plain_frontend(text)
    for line in _instructions(text):
        match line.name:
            case "FROM":
                begun, known = True, {}
            case "ARG" | "ENV" if not begun:
                _remember(line, above, above)
            case "ARG":
                _remember_open(line, known, above)
            case "ENV":
                _remember(line, known, above)
            case "COPY" | "ADD":
                found += _copied(line, known)
            case "RUN":
                found += _mounted(line, known)
            case "?":
                raise _Unclear
            case _:  # ONBUILD too: it takes effect in a build on top of this one, never made
                continue
    return found


def _remember_open(line: _Instruction, known: dict[str, str], above: Mapping[str, str]) -> None:
    """Remember a stage's ARG as "anything without a slash": the image's own ENV goes before it."""
    given: dict[str, str] = {}
    _remember(line, given, above)
    for name, value in given.items():
        known.pop(name, None)
        if "/" not in value:
            known[name] = "*"


def _expect_plain_frontend(text: str) -> None:
    for line in text.splitlines():
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None:
            return
        if match[1].lower() == "syntax" and not re.match(
            r"(?:docker\.io/)?docker/dockerfile(?::[\d.]+)?$", match[2]
        ):
            raise _Unclear  # another front end may read another language


def _remember(line: _Instruction, known: dict[str, str], above: Mapping[str, str]) -> None:
    try:
        words = shlex.split(line.rest)
    except ValueError:
        raise _Unclear from None
    for word in words:
        name, equals, value = word.partition("=")
        if equals:
            known[name] = _filled(value, known)
        elif line.name == "ENV":
            raise _Unclear  # `ENV name value`, the old form
        elif not name.startswith(("TARGET", "BUILD")):  # those BuildKit gives itself
            known[name] = above.get(name, "")  # no `--build-arg` is ever given


_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\}|\{(\w+):-([^}$]*)\})")


def _filled(text: str, known: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2] or match[3]
        if name not in known:
            raise _Unclear  # perhaps an ENV of the image below
        return known[name] or match[4] or ""

    filled = _VARIABLE.sub(value, text)
    if "$" in filled:
        raise _Unclear
    return filled


def _copied(line: _Instruction, known: Mapping[str, str]) -> list[str]:
    if any(name == "from" for name, _ in line.flags):
        return []
    words = [word for word in _words(line.rest) if not word.startswith("<<")]  # no file of ours
    sources = [_filled(word, known) for word in words[:-1]]
    remote = re.compile(r"https?://|git@|git://|ssh://")
    local = [source for source in sources if not (line.name == "ADD" and remote.match(source))]
    return [_inside(source) for source in local]


def _words(rest: str) -> list[str]:
    if rest.startswith("["):
        try:
            found = json.loads(rest)
        except ValueError:
            raise _Unclear from None
        if isinstance(found, list) and all(isinstance(word, str) for word in found):
            return found
        raise _Unclear
    if "\\" in rest or '"' in rest or "'" in rest:
        raise _Unclear  # quoting in this form is BuildKit's own
    return rest.split()


def _mounted(line: _Instruction, known: Mapping[str, str]) -> list[str]:
    found = []
    for name, value in line.flags:
        if name != "mount":
            continue
        given = _mount(value)
        if given.get("type", "bind") == "bind" and "from" not in given:
            source = given.get("source", given.get("src", "."))
            found.append(_inside(_filled(source, known)))
    return found


def _mount(value: str) -> dict[str, str]:
    if '"' in value:
        raise _Unclear  # it is read as CSV
    pairs = (part.partition("=") for part in value.split(","))
    return {name.lower(): text for name, _, text in pairs}


def _inside(source: str) -> str:
    if any(sign in source for sign in ("[", "\\", "**")):
        raise _Unclear  # Go's patterns differ from ours there
    clean = posixpath.normpath("/" + source).lstrip("/")
    return clean or "."


# ── images and secrets ──────────────────────────────────────────────────────────────────────────


def _images(text: str) -> tuple[str, ...]:
    """Return the images a Dockerfile stands on; those named by an unknown variable are left out."""
    known: dict[str, str] = {}
    stages: set[str] = set()
    found: list[str] = []
    for line in _instructions(text):
        try:
            if line.name == "ARG" and not found:
                _remember(line, known, known)
            elif line.name == "FROM":
                words = _filled(line.rest, known).split()
                found += [word for word in words[:1] if word.lower() not in stages]
                stages |= {word.lower() for word in words[2:3]}
            else:
                found += [_filled(name, {}) for name in _from(line) if name.lower() not in stages]
        except _Unclear:
            continue
    return tuple(dict.fromkeys(name for name in found if name and name != "scratch"))


def _from(line: _Instruction) -> list[str]:
    found = [value for name, value in line.flags if name == "from"]
    for name, value in line.flags:
        if name == "mount" and '"' not in value:
            found += [text for key, text in _mount(value).items() if key == "from"]
    return [name for name in found if not name.isdigit()]


def _secrets(text: str) -> tuple[str, ...]:
    found = []
    for line in _instructions(text):
        for name, value in line.flags:
            if name == "mount" and '"' not in value and "type=secret" in value.split(","):
                given = _mount(value)
                target = given.get("target", given.get("dst", given.get("destination", "")))
                found.append(given.get("id") or posixpath.basename(target))
    return tuple(dict.fromkeys(name for name in found if name))
