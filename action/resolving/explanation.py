"""Turn what a resolver says into what a person needs: the line, the fault, the remedy. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from action.failures import BuildFailed
from action.packages.import_names import package_of
from action.packages.requirements import Requirements
from action.plan import canonical
from cynthus.errors import Fault, UserError

LONGEST = 600  # characters: an annotation that fits a screen; the job's log has the whole text


@dataclass(frozen=True, kw_only=True)
class Target:
    """What was resolved for."""

    requirements: Requirements
    python: str  # 3.11
    machine: str  # x86_64
    kept: Mapping[str, str]  # packages of the base that stay as they are


def failure(text: str, target: Target) -> UserError | BuildFailed:
    """Return the error for what uv printed when it found no answer.

    A fault in the user's lines is a UserError with their places; an index that does not answer is
    a BuildFailed. Read with the words of uv 0.5 to 0.13.
    """
    plain = _plain(text)
    if refused := re.search(r"\b(401 Unauthorized|403 Forbidden)\b", plain):
        return BuildFailed(
            f"the package index refuses the job's credentials ({refused[1]}). "
            f"Give them in the step's `env`, for example as UV_INDEX or PIP_EXTRA_INDEX_URL."
        )
    if "No solution found" in plain:
        return _unsolved(plain, target)
    if failed := re.search(r"Failed to (?:build|download and build) `([^`]+)`", plain):
        return _unbuildable(failed[1], plain, target)
    if away := _away(plain):
        return BuildFailed(
            f"the package index cannot be reached: {away}. Run the job again; if that does not "
            f"help, check the index's address in the step's `env`."
        )
    return BuildFailed(f"the packages could not be locked: {_shortened(_first_error(plain))}")


def _plain(text: str) -> str:
    """Undo drawings and line breaks: one line, one space between words."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"^\s*(?:\xd7|╰─▶|├─▶|│)\s*", "", text, flags=re.MULTILINE)
    return " ".join(re.sub(r"://[^/\s@]*@", "://", text).split())


_AWAY = (
    # The innermost cause says most: https://docs.rs/reqwest/latest/reqwest/struct.Error.html
    (
        re.compile(r"dns error|failed to lookup address", re.IGNORECASE),
        "its name is not known to DNS",
    ),
    (re.compile(r"Connection refused", re.IGNORECASE), "the connection was refused"),
    (re.compile(r"timed? ?out", re.IGNORECASE), "no answer in time"),
    (re.compile(r"certificate|UnknownIssuer", re.IGNORECASE), "its TLS certificate is not trusted"),
    (re.compile(r"\b(5\d\d [A-Z][A-Za-z ]+?)\)"), "it answers {0}"),
    (re.compile(r"\b(4\d\d [A-Z][A-Za-z ]+?)\)"), "it answers {0}"),
    (
        re.compile(r"Failed to fetch|error sending request|network", re.IGNORECASE),
        "the connection failed",
    ),
)


def _away(plain: str) -> str | None:
    for pattern, words in _AWAY:
        if match := pattern.search(plain):
            return words.format(*match.groups())
    return None


def _first_error(plain: str) -> str:
    return plain.partition("error: ")[2] or plain or "uv gave no reason"


# ── requirements that no set of packages meets ──────────────────────────────────────────────────


def _unsolved(plain: str, target: Target) -> UserError:
    because = plain.partition("Because ")[2] or plain
    because = because.partition(" hint: ")[0]
    because = re.split(r",? we can conclude that your requirements are unsatisfiable", because)[0]
    message = _single(because, target) or (
        f"no versions fit together: {_shortened(because)}. {_remedy(because, target)}"
    )
    return at_lines(message, _wanted_names(because, target), target.requirements)


def _single(because: str, target: Target) -> str | None:
    """Return the sentence for a fault that is about one package alone."""
    for pattern, sentence in _SINGLE:
        if match := pattern.search(because):
            return sentence(match[1].rstrip(","), because, target)
    return None


def _absent(name: str, _because: str, _target: Target) -> str:
    return (
        f"should be a package that the index has, found none called `{name}`. {_other_name(name)}"
        f"Check its name; a private index is named in the step's `env` (UV_INDEX)."
    )


def _no_version(wanted: str, _because: str, _target: Target) -> str:
    return f"should be a version that exists, found none of `{wanted}`. Correct the version."


def _no_wheel(wanted: str, _because: str, target: Target) -> str:
    return (
        f"should be a package with a wheel for Python {target.python} on {target.machine}, found "
        f"none of `{wanted}`. {_other_name(wanted)}Take a version that has one; packages that only "
        f"come as source are built where the runner's Python and C library fit the image."
    )


def _other_python(wanted: str, because: str, target: Target) -> str:
    return (
        f"should fit Python {target.python}, found a package for Python {wanted} only: "
        f"{_shortened(because, 300)}. Change its version, or `image.python`."
    )


_SINGLE: tuple[tuple[re.Pattern[str], Callable[[str, str, Target], str]], ...] = (
    (re.compile(r"(\S+) was not found in the (?:package registry|provided)"), _absent),
    (re.compile(r"^there (?:is|are) no versions? of (\S+?),? and you require"), _no_version),
    (
        re.compile(r"^(?:all versions of )?(\S+) ha(?:s|ve) no (?:usable )?wheels\b.*require \S+$"),
        _no_wheel,
    ),
    (re.compile(r"(?:requires|does not satisfy) Python ?([<>=!~]\S*)"), _other_python),
)


def _other_name(wanted: str) -> str:
    """Return a sentence when a module was named instead of the package that brings it."""
    module = re.split(r"[=<>!~\[]", wanted)[0]
    package = package_of(module)
    other = package is not None and canonical(module) != package
    return f"The module `{module}` comes with the package `{package}`. " if other else ""


def _remedy(because: str, target: Target) -> str:
    kept = [name for name in target.kept if _mentions(because, name)]
    if kept:
        listed = ", ".join(f"{name} {target.kept[name]}" for name in sorted(kept)[:5])
        return (
            f"The base brings {listed} and keeps it; to replace it, name the version you want in "
            f"your requirements, or take another base."
        )
    return "Loosen one of these versions."


def _wanted_names(because: str, target: Target) -> tuple[str, ...]:
    """Return the user's packages that the explanation is about, those it says so of first."""
    required = {
        name_of(part)
        for found in re.findall(r"you require (.+?)(?:,|$| we can)", because)
        for part in found.split(" and ")
    }
    names = [name_of(line) for line in target.requirements.lines]
    exact = [name for name in names if name in required]
    return tuple(exact or [name for name in names if _mentions(because, name)])


def _mentions(text: str, name: str) -> bool:
    pattern = re.escape(name).replace(r"\-", "[-_.]")
    return re.search(rf"(?<![\w.-]){pattern}(?![\w-])", text, re.IGNORECASE) is not None


def _unbuildable(what: str, plain: str, target: Target) -> UserError:
    name = canonical(re.split(r"[=@ ]", what)[0])
    tail = plain.partition("[stderr]")[2] or plain.partition("`")[2]
    message = (
        f"should be a package with a wheel, found only the source of `{what}`, which does not "
        f"build here: …{tail[-300:].strip()}. Take a version that has a wheel."
    )
    return at_lines(message, (name,), target.requirements)


def name_of(line: str) -> str:
    """Return the package that a requirement line names, as indexes compare names."""
    return canonical(re.split(r"[^A-Za-z0-9._-]", line.strip())[0])


def at_lines(message: str, names: Iterable[str], requirements: Requirements) -> UserError:
    """Return the error at every line that names one of these packages, told whole at the first."""
    wanted = set(names)
    spots = [
        place
        for line, place in zip(requirements.lines, requirements.places, strict=False)
        if place is not None and name_of(line) in wanted
    ]
    faults: list[Fault] = []
    for place in spots:
        first = faults[0] if faults else None
        told = f"does not fit together with {first.path}:{first.line}" if first else message
        line = place.line or 1
        faults.append(Fault(path=place.file, line=line, column=1, where="", message=told))
    where = requirements.source or "image/packages"
    text = "\n".join(str(fault) for fault in faults) or f"{where}: {message}"
    return UserError(text, tuple(faults))


def _shortened(text: str, limit: int = LONGEST) -> str:
    """Return an explanation in fewer words, from the middle left out when they are many still."""
    text = re.sub(r",? we can conclude that", ", so", text)
    text = re.sub(r"\s*\(\d+\)|because we know from \(\d+\) that", "", text)
    head, joint, last = text.rpartition(". And because ")
    if joint and ", so " not in last:  # its conclusion is what we begin with
        text = f"{head}; yet {last}"
    if len(text) <= limit:
        return text.rstrip(".")
    head = text[: limit * 2 // 3].rsplit(" ", 1)[0]
    tail = text[-limit // 3 :].partition(" ")[2]
    return f"{head} … {tail}".rstrip(".")
