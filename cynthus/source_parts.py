"""Take a data source apart, once it is known to be one."""

from __future__ import annotations

from dataclasses import dataclass

_SHELVES = frozenset({"hf", "kaggle"})


@dataclass(frozen=True, kw_only=True)
class SourceParts:
    """A source as its own words: `hf://datasets/acme/demo@main` has all four."""

    kind: str  # hf, kaggle, gs, https
    shelf: str  # datasets, models, competitions; "": neither gs nor https has any
    name: str  # acme/demo; of a Kaggle model four parts; bucket/prefix; the whole address
    revision: str  # after the `@`; "": the newest


def source_parts(source: str) -> SourceParts:
    """Return the parts of a source that the spec's grammar has let pass."""
    kind, _, rest = source.partition("://")
    if kind not in _SHELVES:
        name = source if kind == "https" else rest
        return SourceParts(kind=kind, shelf="", name=name, revision="")
    path, _, revision = rest.partition("@")
    shelf, _, name = path.partition("/")
    return SourceParts(kind=kind, shelf=shelf, name=name, revision=revision)
