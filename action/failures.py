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
