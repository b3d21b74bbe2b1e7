"""Name what can go wrong between a spec and its image."""

from __future__ import annotations

from action.workflow import Place
from cynthus.errors import CynthusError, Refused


class BuildFailed(Refused):
    """No image could be made; the text is one sentence for the run's page."""

    def __init__(self, message: str, place: Place | None = None) -> None:
        super().__init__(message)
        self.place = place


class NoImage(CynthusError):  # noqa: N818 - it reads as a type: "no image can be had here"
    """No container image can be had on this machine; a plain process still can."""


class RegistryRefused(BuildFailed):
    """A registry said no, and asking again will not help."""


class BlobsMissing(RegistryRefused):
    """A manifest names blobs that the registry has not (any more): send them, then it again."""

    def __init__(self, message: str, digests: tuple[str, ...]) -> None:
        super().__init__(message)
        self.digests = digests  # empty where the registry does not say which


class RegistryAway(BuildFailed):
    """A registry did not answer, or only with failures of its own, for as long as is sensible."""
