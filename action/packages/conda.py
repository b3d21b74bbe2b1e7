"""Read a conda environment: its `pip:` part, and what conda calls as pip does.

https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from action.packages import declared
from action.packages.conda_names import OF_PIP, OF_THE_SYSTEM, RENAMED
from action.packages.declared import Declared, Wish, refused

# conda's match specification: `channel::name=version=build`, or with a comparison.
_SPEC = re.compile(
    r"(?:[^\s:]+::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)\s*(?P<version>[=<>!~ ][^\s\[#]*)?.*"
)
_FUZZY = re.compile(r"=(?P<version>[0-9][A-Za-z0-9_.!]*?)(?:\.?\*)?(?:=.*)?")
_EXACT = re.compile(r"(?:==|\s)\s*(?P<version>[0-9][A-Za-z0-9_.!]*)(?:=.*)?")
_CLAUSE = re.compile(r"(?:[<>!=]=|[<>]|~=)[0-9][A-Za-z0-9_.!]*(?:\.\*)?")


def read(root: Path, shown: str) -> Declared | None:
    """Return what is declared; None when the file lists no dependencies."""
    text = declared.read(root, shown)
    if isinstance(text, Declared):
        return text
    tree = _tree(text, shown)
    if isinstance(tree, Declared):
        return tree
    entries = _value(tree, "dependencies")
    if entries is None:
        return None
    if not _is(entries, "sequence"):
        return refused(shown, _line(entries), "dependencies: should be a list. Write one.")
    notes: tuple[str, ...] = ()
    if _value(tree, "variables") is not None:
        notes = (f"{shown}: `variables` are not set; write them under `env` of the spec",)
    return declared.together(_entry(e, shown) for e in entries.value) + Declared(notes=notes)


def _tree(text: str, shown: str) -> Any:
    """Return YAML's tree, whose nodes know their lines."""
    import yaml

    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or "it cannot be read"
        line = mark.line + 1 if mark else 1
        return refused(shown, line, f"should be YAML, found a fault: {said}. Correct it.")


def _is(node: Any, kind: str) -> bool:
    return getattr(node, "id", None) == kind


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _value(node: Any, key: str) -> Any:
    pairs = node.value if _is(node, "mapping") else ()
    return next((value for name, value in pairs if name.value == key), None)


def _entry(node: Any, shown: str) -> Declared:
    if _is(node, "scalar"):
        return _package(str(node.value), shown, _line(node))
    listed = _value(node, "pip")
    if not _is(listed, "sequence"):
        return refused(
            shown, _line(node), "should be a package, or `pip:` with a list, found neither."
        )
    return declared.together(_pips(item, shown) for item in listed.value)


def _pips(node: Any, shown: str) -> Declared:
    if not _is(node, "scalar"):
        return refused(shown, _line(node), "should be a package as pip knows it. Write its name.")
    text = str(node.value).strip()
    if text.startswith(("-r", "-c", "--requirement", "--constraint")):
        return refused(
            shown,
            _line(node),
            f"should be a package, found `{text[:100]}`. "
            f"Name that file as `image.requirements` of the spec instead.",
        )
    return declared.checked(Wish(text=text, path=shown, line=_line(node)))


def _package(entry: str, shown: str, line: int) -> Declared:
    match = _SPEC.fullmatch(entry.strip())
    name = match["name"].lower() if match else ""
    if match is None:
        return refused(shown, line, f"should be a conda package, found `{entry[:100]}`.")
    if name in OF_THE_SYSTEM:  # the base has it, or a wheel brings its own
        return Declared()
    version = _version((match["version"] or "").strip("\t"))
    if name == "python":
        return Declared(python=tuple(_python(version, shown, line)))
    known = RENAMED.get(name) or (name if name in OF_PIP else None)
    if known is None:
        return refused(
            shown,
            line,
            f"should be below `pip:`, found the conda package `{entry[:100]}`, which Cynthus does "
            f"not know by another name. Name it there as pip knows it, or write a "
            f"requirements.txt; take it out when it is only for CUDA or the system.",
        )
    if version is None:
        return refused(
            shown,
            line,
            f"should be versions that pip can say, found `{entry[:100]}`. Write `{known}` with "
            f"its versions below `pip:`.",
        )
    return declared.checked(Wish(text=known + version, path=shown, line=line))


def _python(version: str | None, shown: str, line: int) -> Iterator[Wish]:
    if version:
        yield Wish(text=version, path=shown, line=line)


def _version(text: str) -> str | None:
    """Return conda's version in pip's words, None for what has none there.

    `=1.2` is any 1.2, `==1.2` is that one, and what follows a further `=` is a build's name:
    https://docs.conda.io/projects/conda-build/en/stable/resources/package-spec.html
    """
    if not text.strip() or text.strip() in {"=*", "*", "==*"}:
        return ""
    if match := _EXACT.fullmatch(text):
        return f"=={match['version']}"
    if match := _FUZZY.fullmatch(text):
        return f"=={match['version'].rstrip('.')}.*"
    body = text.strip()
    fits = all(_CLAUSE.fullmatch(clause) for clause in body.split(","))
    return body if fits else None
