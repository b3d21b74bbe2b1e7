"""Look at a folder and say what a spec for it would hold. Nothing in it is run or imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# The first that is there is what a person would start.
_PROGRAMS = ("train.py", "main.py", "run.py", "app.py", "src/train.py", "src/main.py")
_REQUIREMENTS = ("requirements.txt", "pyproject.toml", "environment.yml", "Pipfile")
_OUTPUTS = ("outputs", "output", "results", "models")
_SKIPPED = frozenset(("venv", "env", "node_modules", "site-packages", "build", "dist", "tests"))
MOST_FILES = 200  # enough to meet every import of an honest project, and over at once
LARGEST_PROGRAM = 1_000_000  # bytes; what is larger is generated

#: import → template, the one that decides most about the machine first
FRAMEWORKS = {
    "torch": "pytorch",
    "lightning": "pytorch",
    "transformers": "pytorch",
    "tensorflow": "tensorflow",
    "keras": "tensorflow",
    "jax": "jax",
    "sklearn": "sklearn",
    "xgboost": "sklearn",
    "lightgbm": "sklearn",
}


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What was seen."""

    name: str
    program: str | None
    requirements: str | None
    template: str
    outputs: str
    checkpoint: str | None
    git_root: Path | None


def look_at(folder: Path) -> Folder:
    """Return what a folder holds."""
    return Folder(
        name=_name(folder),
        program=_program(folder),
        requirements=next((name for name in _REQUIREMENTS if (folder / name).is_file()), None),
        template=_template(folder),
        outputs=next((name for name in _OUTPUTS if (folder / name).is_dir()), "outputs"),
        checkpoint="checkpoints" if (folder / "checkpoints").is_dir() else None,
        git_root=next((up for up in (folder, *folder.parents) if (up / ".git").exists()), None),
    )


def _name(folder: Path) -> str:
    """Return the folder's name in the letters of a run's name."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")
    name = re.sub(r"^[^a-z]+", "", name)[:40].strip("-")
    return name or "my-run"


def _program(folder: Path) -> str | None:
    known = next((name for name in _PROGRAMS if (folder / name).is_file()), None)
    if known:
        return known
    alone = [
        path.name
        for path in folder.glob("*.py")
        if not path.name.startswith(("_", "setup", "test"))
    ]
    return alone[0] if len(alone) == 1 and re.fullmatch(r"[\w.-]+", alone[0]) else None


def _template(folder: Path) -> str:
    found = {name for path in _python_files(folder) for name in _imports(path)}
    return next((template for name, template in FRAMEWORKS.items() if name in found), "plain")


def _python_files(folder: Path) -> Iterator[Path]:
    """Yield some Python files, those near the root first; links are not followed."""
    waiting, left = [folder], MOST_FILES
    while waiting and left > 0:
        here = waiting.pop(0)
        try:
            entries = sorted(here.iterdir())
        except OSError:
            continue
        for entry in entries:
            if entry.is_symlink() or entry.name.startswith("."):
                continue
            if entry.is_dir() and entry.name not in _SKIPPED:
                waiting.append(entry)
            elif entry.suffix == ".py" and entry.is_file() and left > 0:
                left -= 1
                yield entry


def _imports(path: Path) -> set[str]:
    """Return the top-level names a file imports; none when it is no Python."""
    try:
        if path.stat().st_size > LARGEST_PROGRAM:
            return set()
        tree = ast.parse(path.read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names
