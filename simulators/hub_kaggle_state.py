"""What a simulated Kaggle knows: people, datasets, competitions, models, each in versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from simulators.hub_content import Content

Kind = Literal["datasets", "competitions", "models"]


@dataclass(frozen=True, kw_only=True)
class Version:
    """What was uploaded at once."""

    number: int
    at: datetime
    notes: str
    files: Mapping[str, Content]
    archive: Content | None = None  # sent instead of the files' own: a hostile one

    @property
    def size(self) -> int:
        """Return how many bytes the files have."""
        return sum(content.size for content in self.files.values())


@dataclass(kw_only=True)
class Item:
    """A dataset `OWNER/SLUG`, a competition `SLUG` or a model `OWNER/SLUG/FRAMEWORK/INSTANCE`."""

    kind: Kind
    name: str
    id: int
    private: bool = False
    licenses: tuple[str, ...] = ()
    readers: set[str] = field(default_factory=set)
    gated: bool = False  # a competition is always: its rules must be accepted
    accepted: set[str] = field(default_factory=set)
    versions: list[Version] = field(default_factory=list)

    def version(self, number: int | None) -> Version | None:
        """Return one version; None names the newest."""
        if number is None:
            return self.versions[-1] if self.versions else None
        return next((one for one in self.versions if one.number == number), None)

    def may_know(self, user: str | None) -> bool:
        """Return whether somebody may see it."""
        owner = self.name.partition("/")[0]
        return not self.private or user == owner or user in self.readers

    def may_download(self, user: str | None) -> bool:
        """Return whether somebody agreed to what must be agreed to."""
        return not (self.gated or self.kind == "competitions") or user in self.accepted


class World:
    """Everybody and everything of Kaggle."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}  # user name → the legacy key
        self.tokens: dict[str, str] = {}  # active token → user name
        self.items: dict[tuple[Kind, str], Item] = {}

    def item(self, kind: Kind, name: str) -> Item | None:
        """Return an item by its name."""
        return self.items.get((kind, plain_name(kind, name)))


def plain_name(kind: Kind, name: str) -> str:
    """Return a name in one spelling: a framework is `pyTorch` here and `PY_TORCH` there."""
    parts = name.lower().split("/")
    if kind == "models" and len(parts) > 2:
        parts[2] = parts[2].removeprefix("model_framework_").replace("_", "")
    return "/".join(parts)
