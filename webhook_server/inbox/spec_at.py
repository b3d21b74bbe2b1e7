"""Read the spec at exactly one commit, through GitHub's contents API."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cynthus import specfile
from cynthus.errors import Refused, UserError
from cynthus.frozen import replace
from cynthus.spec import Spec
from webhook_server.github_api import Entry, GithubApi, NotFound
from webhook_server.inbox.parts import Skip
from webhook_server.intents import Place
from webhook_server.runs.model import SpecFault

SPEC_PATH, OTHER_PATH = "cynthus.yaml", "cynthus.yml"
MAX_SPEC_BYTES = 64 * 1024  # spec.md: "files over 64 KiB" are errors
_LFS = b"version https://git-lfs.github.com/spec/"
_LISTED = 1000  # GitHub lists no more entries of a folder


@dataclass(frozen=True, kw_only=True)
class FoundSpec:
    """The spec file's text, with either its meaning or its faults."""

    text: str
    spec: Spec | None
    faults: tuple[SpecFault, ...] = ()
    path: str = SPEC_PATH


def read_spec(api: GithubApi, place: Place, sha: str) -> FoundSpec:
    """Return the spec at this commit.

    Raises: Skip when there is none; NotFound when there is no such commit; Transient.
    """
    entries = api.folder(place, "", sha)
    names = {entry.name: entry for entry in entries}
    found, other = names.get(SPEC_PATH), _nearly_named(entries)
    if found is None and len(entries) < _LISTED:
        if other is None:
            raise Skip(f"the commit has no {SPEC_PATH}")
        return _unusable(f"should be named {SPEC_PATH}, found {other.name}. Rename the file.")
    fault = _entry_fault(found, other)
    if fault is not None:
        return _unusable(fault)
    try:
        data = _bytes(api, place, sha)
    except Refused:  # a listing may call a submodule a file: only the file itself tells
        return _unusable(
            "should be an ordinary file, found something else. Commit the file itself."
        )
    if data.startswith(_LFS):
        return _unusable("should be the file itself, found a Git LFS pointer. Track it by git.")
    return _read(data, SPEC_PATH)


def read_other(api: GithubApi, place: Place, sha: str, path: str) -> FoundSpec | None:
    """Return the spec at another path of this commit; None: there is none.

    Raises: Transient.
    """
    try:
        data = api.file(place, path, sha)
    except NotFound:
        return None
    except Refused as error:
        return replace(_unusable(str(error)), path=path)
    if len(data) > MAX_SPEC_BYTES:
        return replace(_unusable(_too_large(len(data))), path=path)
    return _read(data, path)


def _bytes(api: GithubApi, place: Place, sha: str) -> bytes:
    try:
        return api.file(place, SPEC_PATH, sha)
    except NotFound as error:
        raise Skip(f"the commit has no {SPEC_PATH}") from error


def _nearly_named(entries: Iterable[Entry]) -> Entry | None:
    """Return what a person may take for the spec: `.yml`, or another case.

    On a disk that does not tell cases apart it may even be what they see when they open the spec.
    """
    alike = {SPEC_PATH, OTHER_PATH}
    found = (e for e in entries if e.name != SPEC_PATH and e.name.lower() in alike)
    return next(found, None)


def _entry_fault(found: Entry | None, other: Entry | None) -> str | None:
    """Judge the file by its entry in the folder, before anything is downloaded."""
    if found is None:
        return None  # beyond what GitHub lists: the file itself is asked for
    if other is not None:
        return f"should be the only spec, found {other.name} beside it. Remove one of them."
    if found.kind != "file":
        return f"should be an ordinary file, found a {found.kind}. Commit the file itself."
    if found.size_bytes > MAX_SPEC_BYTES:
        return _too_large(found.size_bytes)
    return None


def _too_large(size_bytes: int) -> str:
    return f"should be at most {MAX_SPEC_BYTES} bytes, found {size_bytes}. Move text into a script."


def _unusable(text: str) -> FoundSpec:
    return FoundSpec(text="", spec=None, faults=(SpecFault(line=1, column=1, text=text),))


def _read(data: bytes, path: str) -> FoundSpec:
    text = data.decode("utf-8", "replace").replace("\x00", "\ufffd")  # PostgreSQL takes no NUL
    try:
        return FoundSpec(text=text, spec=specfile.parse(data, path), path=path)
    except UserError as error:
        faults = tuple(
            SpecFault(
                line=fault.line,
                column=fault.column,
                text=f"{fault.where}: {fault.message}" if fault.where else fault.message,
            )
            for fault in error.faults
        )
        one = (SpecFault(line=1, column=1, text=str(error)),)
        return FoundSpec(text=text, spec=None, faults=faults or one, path=path)
