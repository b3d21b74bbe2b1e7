"""Read a Pipfile: its packages, not those for development.

https://pipenv.pypa.io/en/latest/pipfile.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from action.packages import declared
from action.packages.declared import Declared, Wish, key_line, line_of, refused
from action.packages.pyproject import table, toml

_PUBLIC = "pypi.org"
# PEP 508's marker names may stand as keys: `sys_platform = "== 'linux'"`.
_MARKERS = {
    *("os_name", "sys_platform", "platform_machine", "platform_python_implementation"),
    *("platform_release", "platform_system", "platform_version", "python_version"),
    *("python_full_version", "implementation_name", "implementation_version"),
}


def read(root: Path, shown: str) -> Declared | None:
    """Return the packages that are declared; None when the file has no `[packages]`."""
    text = declared.read(root, shown)
    if isinstance(text, Declared):
        return text
    found = toml(text, shown)
    if isinstance(found, Declared):
        return found
    if "packages" not in found:
        return None
    entries = declared.together(
        _entry(name, wish, shown, key_line(text, name, "[packages]"))
        for name, wish in table(found, "packages").items()
    )
    return _sources(text, shown, found) + _python(text, shown, found) + entries


def _entry(name: str, wish: object, shown: str, line: int) -> Declared:
    parts = wish if isinstance(wish, dict) else {"version": wish}
    elsewhere = sorted(set(parts) - {"version", "extras", "markers"} - _MARKERS)
    if elsewhere:
        return refused(
            shown,
            line,
            f"packages/{name}: should be a package with versions, extras and markers, found "
            f"`{elsewhere[0]}`. Take a release from the index.",
        )
    version, extras = parts.get("version", "*"), parts.get("extras") or []
    if not isinstance(version, str) or not isinstance(extras, list):
        return refused(shown, line, f"packages/{name}: should be a version, found something else.")
    listed = f"[{','.join(str(extra) for extra in extras)}]" if extras else ""
    wanted = f"{name}{listed}{'' if version == '*' else version}{_marker(parts)}"
    return declared.checked(Wish(text=wanted, path=shown, line=line))


def _marker(parts: Mapping[str, Any]) -> str:
    found = [f"({parts['markers']})"] if parts.get("markers") else []
    found += [f"{key} {parts[key]}" for key in sorted(_MARKERS & set(parts))]
    if len(found) == 1 and parts.get("markers"):
        return f"; {parts['markers']}"
    return f"; {' and '.join(found)}" if found else ""


def _sources(text: str, shown: str, found: Mapping[str, Any]) -> Declared:
    """Refuse a private index: it is named where its credentials are, in the job."""
    listed = found.get("source", [])
    urls = [str(one.get("url", "")) for one in listed if isinstance(one, dict)]
    return declared.together(
        refused(
            shown,
            line_of(text, "url", after="[[source]]"),
            "source/url: should be the public index, found another one. Name it in the step's "
            "`env` (UV_INDEX or PIP_EXTRA_INDEX_URL), and take it out here.",
        )
        for url in urls
        if _host(url) != _PUBLIC
    )


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _python(text: str, shown: str, found: Mapping[str, Any]) -> Declared:
    requires = table(found, "requires")
    for key, form in (("python_full_version", "=={}"), ("python_version", "=={}.*")):
        version = requires.get(key)
        if isinstance(version, str) and re.fullmatch(r"[0-9.]+", version):
            line = key_line(text, key, "[requires]")
            return Declared(python=(Wish(text=form.format(version), path=shown, line=line),))
    return Declared()
