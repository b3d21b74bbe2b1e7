"""Read pyproject.toml: PEP 621's dependencies, or Poetry's.

https://packaging.python.org/en/latest/specifications/pyproject-toml/
https://python-poetry.org/docs/pyproject/
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from action.packages import declared, pip_file, poetry
from action.packages.declared import Declared, Wish, key_line, line_of, refused

_POETRY = "[tool.poetry.dependencies]"


def toml(text: str, shown: str) -> dict[str, Any] | Declared:
    """Return a TOML file's content, or its fault on its line."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        at = re.search(r"at line ([0-9]+)", str(error))
        line = int(at[1]) if at else max(text.count("\n"), 1)
        return refused(shown, line, f"should be TOML, found: {error}. Correct it.")


def table(found: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Return a table inside tables, empty where there is none."""
    for name in names:
        inner = found.get(name)
        found = inner if isinstance(inner, dict) else {}
    return found


def read(root: Path, shown: str) -> Declared | None:
    """Return what the project depends on; None when the file only configures tools."""
    text = declared.read(root, shown)
    if isinstance(text, Declared):
        return text
    found = toml(text, shown)
    if isinstance(found, Declared):
        return found
    project, poetrys = table(found, "project"), table(found, "tool", "poetry", "dependencies")
    dynamic = _strings(project.get("dynamic"))
    sources = _sources(text, shown, found, project)
    if "dependencies" in project:
        return _pep_621(text, shown, project) + sources
    if poetrys:
        return _python(text, shown, project) + _poetrys(text, shown, poetrys) + sources
    if "dependencies" in dynamic:
        return _python(text, shown, project) + _dynamic(root, text, shown, found) + sources
    return None


def _strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


# ── PEP 621 ─────────────────────────────────────────────────────────────────────────────────────


def _pep_621(text: str, shown: str, project: Mapping[str, Any]) -> Declared:
    lines = project["dependencies"]
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        at = key_line(text, "dependencies", "[project]")
        return refused(
            shown,
            at,
            "project/dependencies: should be a list of text, found something else. "
            "Write it as in PEP 621.",
        )
    wishes = declared.together(
        declared.checked(
            Wish(text=line, path=shown, line=line_of(text, line, after="dependencies"))
        )
        for line in lines
    )
    extras = table(project, "optional-dependencies")
    notes: tuple[str, ...] = ()
    if extras:
        listed = ", ".join(f"`{name}`" for name in sorted(extras))
        notes = (f"{shown}: the optional dependencies {listed} are not installed",)
    return _python(text, shown, project) + wishes + Declared(notes=notes)


def _python(text: str, shown: str, project: Mapping[str, Any]) -> Declared:
    wanted = project.get("requires-python")
    if not isinstance(wanted, str):
        return Declared()
    line = key_line(text, "requires-python", "[project]")
    return Declared(python=(Wish(text=wanted, path=shown, line=line),))


def _dynamic(root: Path, text: str, shown: str, found: Mapping[str, Any]) -> Declared:
    """Follow setuptools to the files it reads dependencies from; other build systems run code.

    https://setuptools.pypa.io/en/latest/userguide/pyproject_config.html#dynamic-metadata
    """
    how = table(found, "tool", "setuptools", "dynamic", "dependencies").get("file")
    names = [how] if isinstance(how, str) else _strings(how)
    line = key_line(text, "dynamic", "[project]")
    if not names:
        return refused(
            shown,
            line,
            "project/dynamic: should not hold `dependencies`, which only a build would tell, "
            "found it there. List them under `project.dependencies`, or in a requirements.txt.",
        )
    folder = posixpath.dirname(shown)
    return declared.together(
        pip_file.read(root, posixpath.normpath(posixpath.join(folder, name))) for name in names
    )


def _sources(
    text: str, shown: str, found: Mapping[str, Any], project: Mapping[str, Any]
) -> Declared:
    """Refuse packages from places of their own: the index may have others of these names.

    https://docs.astral.sh/uv/concepts/projects/dependencies/#dependency-sources
    https://python-poetry.org/docs/repositories/
    """
    names = {_name(line) for line in _strings(project.get("dependencies"))}
    poetrys = table(found, "tool", "poetry", "dependencies") if names else {}
    moved = [("[tool.uv.sources]", name) for name in table(found, "tool", "uv", "sources")]
    moved += [(_POETRY, name) for name, wish in poetrys.items() if poetry.is_elsewhere(wish)]
    places = [
        refused(
            shown,
            key_line(text, name, header),
            f"{header.strip('[]')}.{name}: should be a package of an index, found a place of its "
            f"own. Take the line out, and name a private index in the step's `env` (UV_INDEX).",
        )
        for header, name in moved
        if _name(name) in names
    ]
    return declared.together((*places, *_own_indexes(text, shown, found)))


def _own_indexes(text: str, shown: str, found: Mapping[str, Any]) -> Iterator[Declared]:
    """Refuse indexes beside the public one, but for those that only named packages come from."""
    tool = table(found, "tool")
    kinds = (("uv", "index"), ("poetry", "source"))
    for header, entries in ((f"[[tool.{t}.{k}]]", table(tool, t).get(k)) for t, k in kinds):
        for entry in entries if isinstance(entries, list) else ():
            only_named = entry.get("explicit") is True or entry.get("priority") == "explicit"
            if only_named or str(entry.get("url", "")).startswith("https://pypi.org/"):
                continue
            yield refused(
                shown,
                line_of(text, header),
                f"{header.strip('[]')}: should be the public index, found another one. Name it in "
                f"the step's `env` (UV_INDEX or PIP_EXTRA_INDEX_URL), and take it out here.",
            )


def _name(line: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", line.strip())[0]).lower()


# ── Poetry ──────────────────────────────────────────────────────────────────────────────────────


def _poetrys(text: str, shown: str, dependencies: Mapping[str, Any]) -> Declared:
    """Return the main group; what Poetry calls groups and extras is asked for by name only."""
    return declared.together(
        _poetry_entry(name, wish, shown, key_line(text, name, _POETRY))
        for name, wish in _entries(dependencies)
    )


def _entries(dependencies: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield each dependency; a list holds one for each case that its markers tell apart."""
    for name, wish in dependencies.items():
        yield from ((name, one) for one in wish) if isinstance(wish, list) else ((name, wish),)


def _poetry_entry(name: str, wish: object, shown: str, line: int) -> Declared:
    if name == "python":
        return _poetry_python(wish, shown, line)
    try:
        wanted = poetry.requirement(name, wish)
    except poetry.Untranslatable as error:
        return refused(
            shown,
            line,
            f"should be a package with versions that pip can say, found {error}. "
            f"Write a requirements.txt, for example with `poetry export`.",
        )
    if wanted is None:
        return Declared(notes=(f"{shown}: the optional dependency `{name}` is not installed",))
    return declared.checked(Wish(text=wanted, path=shown, line=line))


def _poetry_python(wish: object, shown: str, line: int) -> Declared:
    """Return Python's own constraint; alternatives stay, since any of them may fit."""
    if not isinstance(wish, str):
        return Declared()
    try:
        either = "||".join(poetry.specifiers(part) for part in wish.split("||"))
    except poetry.Untranslatable as error:
        return refused(shown, line, f"python: should be versions, found {error}. Correct it.")
    return Declared(python=(Wish(text=either, path=shown, line=line),)) if either else Declared()
