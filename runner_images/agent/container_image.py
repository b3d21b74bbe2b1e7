"""Have an image in the Docker engine: pulled by digest, with what it weighs told on the way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner_images.agent.workload import CannotStart

if TYPE_CHECKING:
    from docker import APIClient

FIRST_TELL_S = 5.0  # shorter pulls tell nothing; then twice as rare each time: 10 in an hour
_MB = 10**6


@dataclass
class PullProgress:
    """The bytes of a pull, layer by layer, as the engine tells them."""

    clock: Callable[[], float]
    _layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    _began_s: float | None = None
    _pause_s: float = FIRST_TELL_S

    def hear(self, step: Mapping[str, Any]) -> str | None:
        """Take one step of the engine's answer; return a sentence from time to time."""
        now = self.clock()
        self._began_s = now if self._began_s is None else self._began_s
        self._count(str(step.get("id", "")), str(step.get("status", "")), step)
        if now - self._began_s < self._pause_s:
            return None
        self._pause_s *= 2
        done = sum(current for current, _ in self._layers.values())
        total = sum(total for _, total in self._layers.values())
        # Layers whose turn has not come have not told their size.
        return f"pulling the image: {done / _MB:.0f} of at least {total / _MB:.0f} MB"

    def _count(self, layer: str, status: str, step: Mapping[str, Any]) -> None:
        detail = step.get("progressDetail") or {}
        total = int(detail.get("total") or 0)
        if status == "Downloading" and total:
            self._layers[layer] = (int(detail.get("current") or 0), total)
        elif status == "Download complete" and layer in self._layers:
            total = self._layers[layer][1]
            self._layers[layer] = (total, total)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An image, with whom to ask and to tell while it is pulled."""

    name: str
    login: Callable[[str], dict[str, str] | None]  # what to show its registry
    stopping: Callable[[], bool]
    tell: Callable[[str], None]
    clock: Callable[[], float]


def have_image(engine: APIClient, wanted: Wanted) -> dict[str, Any]:
    """Return what the engine knows of the image, after a pull if need be; raises CannotStart."""
    from docker.errors import ImageNotFound

    with contextlib.suppress(ImageNotFound):
        return _inspected(engine, wanted.name)
    if "@sha256:" not in wanted.name:
        text = f"image {wanted.name}: not in this machine's engine, and only name@digest is pulled"
        raise CannotStart(text, infrastructure=False)
    _pull(engine, wanted)
    return _inspected(engine, wanted.name)


def _inspected(engine: APIClient, image: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.inspect_image(image)  # type: ignore[no-untyped-call]
    return found


def _pull(engine: APIClient, wanted: Wanted) -> None:
    repository, _, digest = wanted.name.partition("@")
    login = wanted.login(wanted.name)
    progress = PullProgress(wanted.clock)
    for step in engine.pull(repository, tag=digest, stream=True, decode=True, auth_config=login):
        if "error" in step:
            text = str(step["error"])
            raise CannotStart(f"image {wanted.name}: {text}", infrastructure=passes(text))
        told = progress.hear(step)
        if told is not None:
            wanted.tell(told)
        if wanted.stopping():
            raise CannotStart("stopped while the image was pulled", infrastructure=False)


def passes(text: str) -> bool:
    """Say whether a pull's fault may pass: anything but a clear no of the registry."""
    final = ("not found", "manifest unknown", "unauthorized", "denied", "invalid reference")
    return not any(word in text.lower() for word in final)
