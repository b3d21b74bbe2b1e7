"""Find out which packages the user's code needs: declared, or inferred from its imports."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from action.packages import pip_file, versions
from action.packages.declared import Declared
from action.workflow import Place
from cynthus.errors import Fault, UserError
from cynthus.spec import ImageSpec

if TYPE_CHECKING:
    from action.packages.import_findings import Wanted

# In this order, the first that exists: a lock-like list before a project's own wishes.
FOUND_NAMES = ("requirements.txt", "pyproject.toml", "environment.yml", "Pipfile")
# Locks of other tools, and how to say the same in a way that is read here.
OTHER_LOCKS = {
    "uv.lock": "uv export --format requirements-txt --output-file requirements.txt",
    "poetry.lock": "poetry export --output requirements.txt",
    "Pipfile.lock": "pipenv requirements --hash > requirements.txt",
    "pdm.lock": "pdm export --output requirements.txt",
}
MOST_FAULTS = 100  # told of one commit
_LATEST_PATCH = 99  # no Python had half as many


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What shall be installed: lines of names, versions and markers, checked."""

    lines: tuple[str, ...] = ()
    places: tuple[Place | None, ...] = ()  # where each line stands; None: in the spec
    constraints: tuple[str, ...] = ()  # versions for what others want; nothing is installed for it
    python: tuple[tuple[str, Place], ...] = ()  # specifiers for Python itself, with their places
    source: str | None = None  # the file they come from; None: the imports, or the spec alone
    hashed: bool = False  # every line has its hashes: a lock already
    notes: tuple[str, ...] = ()  # what a person should know, each a sentence

    @property
    def pinned(self) -> bool:
        """Say whether every line names one exact version, so that the result never changes."""
        return all(pip_file.exact(line.partition(" --hash=")[0]) for line in self.lines)

    @property
    def asked(self) -> tuple[str, ...]:
        """Return everything that can change the result, for keys."""
        return (*self.lines, *(f"-c {line}" for line in self.constraints))


def find(image: ImageSpec, root: Path, src: str, *, run: str | Sequence[str] = "") -> Requirements:
    """Return the declared packages or, when nothing declares any, the inferred; plus the spec's.

    A file named by the spec is looked for from the repository's root, then in `src`; without a
    name the first of `FOUND_NAMES` in `src` that declares something counts. `run` is the command
    of the spec: the files it starts are judged more strictly (`action/packages/imports.py`).
    Raises: UserError with the place of everything that is more than a name with versions, and of
    every import that no package is known for.
    """
    name, found = _declared(image, root, src)
    if found is None:
        from action.packages import imports  # knows many names; mostly something is declared

        found = imports.infer(root, src, _wanted(image, run))
    found = found or Declared()
    if found.faults:
        faults = _first_faults(found.faults)
        raise UserError("\n".join(str(fault) for fault in faults), faults)
    hashed = any(wish.hashes for wish in found.wishes)
    if hashed and image.packages:
        raise UserError(
            f"image/packages: should be empty when `{name}` carries hashes, since pip then wants "
            f"one for every package. Move the packages into that file."
        )
    needed = Requirements(
        lines=(*(" ".join((w.text, *w.hashes)) for w in found.wishes), *image.packages),
        places=(*(Place(file=w.path, line=w.line) for w in found.wishes), *_nowhere(image)),
        constraints=tuple(wish.text for wish in found.constraints),
        python=tuple((w.text, Place(file=w.path, line=w.line)) for w in found.python),
        source=name,
        hashed=hashed,
        notes=(*found.notes, *_lock_notes(root / src, name)),
    )
    if image.python:
        check_python(needed, image.python)
    return needed


def _first_faults(faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
    """Return as many as somebody mends in one go: a wrong file has one on each of its lines."""
    rest = len(faults) - MOST_FAULTS
    if rest <= 0:
        return faults
    more = replace(faults[MOST_FAULTS], message=f"{rest} faults more are not listed.")
    return (*faults[:MOST_FAULTS], more)


def _wanted(image: ImageSpec, run: str | Sequence[str]) -> Wanted:
    from action.packages.import_findings import Wanted

    # A name of the catalogue is one word; anything else is an image reference.
    own = any(sign in (image.base or "") for sign in "/:@")
    return Wanted(run=run, python=image.python, packages=image.packages, own_base=own)


def _nowhere(image: ImageSpec) -> tuple[None, ...]:
    return (None,) * len(image.packages)


def _declared(image: ImageSpec, root: Path, src: str) -> tuple[str | None, Declared | None]:
    if image.requirements:
        shown = _named(root, src, image.requirements)
        return shown, _read(root, shown) or Declared()
    for name in FOUND_NAMES:
        shown = posixpath.normpath(posixpath.join(src, name))
        if (root / shown).is_file() and (found := _read(root, shown)) is not None:
            return shown, found
    return None, None


def _named(root: Path, src: str, name: str) -> str:
    inside = posixpath.normpath(posixpath.join(src, name))
    shown = name if (root / name).is_file() else inside
    if not (root / shown).is_file():
        raise UserError(
            f"image/requirements: should be a readable file, found no `{inside}`. "
            f"Commit the file, or correct the name."
        )
    return shown


def _read(root: Path, shown: str) -> Declared | None:
    path = Path(shown)
    return _reader("Pipfile" if path.name == "Pipfile" else path.suffix)(root, shown)


def _reader(kind: str) -> Callable[[Path, str], Declared | None]:
    """Return who reads a kind of file; a repository has one kind, so only that one is imported."""
    match kind:
        case ".toml":
            from action.packages import pyproject

            return pyproject.read
        case ".yml" | ".yaml":
            from action.packages import conda

            return conda.read
        case "Pipfile":
            from action.packages import pipfile

            return pipfile.read
        case _:
            return pip_file.read


def _lock_notes(folder: Path, source: str | None) -> tuple[str, ...]:
    """Tell of locks that are not read, since versions are then looked up anew."""
    if source is None or source.endswith(".txt"):
        return ()
    found = [name for name in OTHER_LOCKS if (folder / name).is_file()]
    return tuple(
        f"{name} is not read: the versions are resolved from {source}. To have its versions, "
        f"commit the requirements.txt that `{OTHER_LOCKS[name]}` writes"
        for name in found
    )


# ── Python's own version ────────────────────────────────────────────────────────────────────────


def check_python(requirements: Requirements, version: str) -> None:
    """Raise a UserError at the line that does not take the Python of the image (`3.11`)."""
    faults = tuple(
        Fault(
            path=place.file,
            line=place.line or 1,
            column=1,
            where="",
            message=f"should take the image's Python {version}, found `{wanted}`. "
            f"Set `image.python` of the spec, or correct this line.",
        )
        for wanted, place in requirements.python
        if not takes_python(wanted, version)
    )
    if faults:
        raise UserError("\n".join(str(fault) for fault in faults), faults)


def takes_python(wanted: str, version: str) -> bool:
    """Say whether a specifier takes some Python of a version; `||` stands between alternatives.

    `3.11` stands for every 3.11.x, since an image's patch release is not asked for.
    """
    return any(_takes(part, version) for part in wanted.split("||"))


def _takes(wanted: str, version: str) -> bool:
    clauses = versions.clauses(wanted)
    if clauses is None:
        return False
    if version.count(".") > 1:
        return versions.allows(wanted, version)
    named = [right for _, right in clauses if right.startswith(f"{version}.")]
    tried = (f"{version}.0", f"{version}.{_LATEST_PATCH}", version, *named)
    return any(versions.allows(wanted, one) for one in tried)
