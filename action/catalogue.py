"""Read the catalogue of runner images: what each contains, and where it is pulled from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOM = Path(__file__).resolve().parent.parent / "runner_images"
FILE = ROOM / "catalogue.yaml"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of the catalogue. What each field means is said at the head of the file."""

    name: str
    reference: str
    python: tuple[str, ...]
    bases: Mapping[str, str]
    architectures: tuple[str, ...]
    published: Mapping[str, str] = field(default_factory=dict)
    cuda: str | None = None
    minimum_driver: str | None = None
    frameworks: Mapping[str, str] = field(default_factory=dict)
    offline_packages: tuple[str, ...] | None = None
    notes: str = ""

    def at(self, python: str | None = None) -> str:
        """Return what is pulled for a Python version (`3.12`, `3.12.4`), the default without one.

        Our own image by its digest when it was published; else the reference, which a tag pins.
        """
        version = python or self.python[0]
        ours = self.published.get(minor(version))
        # We publish no patch versions: who asks for 3.12.4 gets the reference that names it.
        if ours and version == minor(version):
            return ours
        return self.reference.format(python=version)


def minor(version: str) -> str:
    """Return `3.12` of `3.12.4`."""
    return ".".join(version.split(".")[:2])


def read_catalogue(path: Path = FILE) -> Mapping[str, Entry]:
    """Return the base images that a spec may name."""
    return _entries(_read(path)["images"])


def read_programs(path: Path = FILE) -> Mapping[str, Entry]:
    """Return the images that carry a program of ours; no spec names them."""
    return _entries(_read(path)["programs"])


def _read(path: Path) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load(path.read_bytes())
    return found


def _entries(found: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Entry]:
    return {name: _entry(name, value) for name, value in found.items()}


_LISTS = ("python", "architectures", "offline_packages")


def _entry(name: str, value: Mapping[str, Any]) -> Entry:
    # The file is ours, and judged by its schema in the tests: a stray key ends here as TypeError.
    fields: dict[str, Any] = {key: tuple(v) if key in _LISTS else v for key, v in value.items()}
    return Entry(name=name, **fields)
