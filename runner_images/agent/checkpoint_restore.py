"""Put back what an earlier attempt saved: whole and proven, or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cynthus.codec import decode, encode
from cynthus.errors import UserError
from cynthus.tree_form import crossing
from cynthus.wire_checkpoint import (
    CheckpointAsk,
    CheckpointFile,
    CheckpointPlace,
    CheckpointView,
    leaves_folder,
)
from runner_images.agent.checkpoint_folder import emptied, made, make_folders
from runner_images.agent.door import Door, TurnedAway, Unanswered
from runner_images.agent.fetching import Blob, Fetching
from runner_images.agent.threads import together

AT_ONCE = 4  # as many as are brought side by side
MOST_PLACES = 16  # two of each run in a line of eight that repeat each other
ASK_PAUSE_S = 2.0  # between two questions to a server that is away


class Damaged(Exception):  # noqa: N818 - reads as what happened
    """What lies there is not what was saved, or is gone."""


class Stopped(Exception):  # noqa: N818 - reads as what happened
    """The attempt shall end: nothing is put back any more."""


@dataclass(frozen=True, kw_only=True)
class Restoring:
    """What putting back works with."""

    folder: Path
    tell: Callable[[str], None]  # the user
    stopping: Callable[[], bool]
    wake: threading.Event  # set when `stopping` may have become true


@dataclass(frozen=True)
class Restored:
    """What was put back."""

    view: CheckpointView
    files: tuple[CheckpointFile, ...]


def restore(door: Door, work: Restoring) -> Restored | None:
    """Put the newest checkpoint back that is whole; None: there is none. Safe to repeat.

    A server that is away is waited for: what was saved is worth more than the time.
    Raises: Stopped; OSError when the disk cannot take it.
    """
    for place in range(MOST_PLACES):
        try:
            view, places = _asked(door, place, work)
            if view is None:
                return None
            _put_back(places, work)
        except Damaged as fault:
            work.tell(f"checkpoint: one is damaged ({fault}); the one before is tried")
            emptied(work.folder)
            continue
        return Restored(view, tuple(found.file for found in places))
    return None


def story(view: CheckpointView, run_id: str) -> str:
    """Say in a sentence what the attempt goes on from, and what was lost."""
    whose = f"attempt {view.attempt}"
    if view.run_id != run_id:
        whose += f" of run {view.run_id}"
    if view.step is not None:
        where = f"resumed from step {view.step}"
    elif view.progress is not None:
        where = f"resumed from {view.progress:.0%}"
    else:
        where = "resumed from a checkpoint"
    lost = ""
    if view.lost_steps is not None:
        lost = f"; {view.lost_steps} step{'' if view.lost_steps == 1 else 's'} lost"
    return f"{where}{lost} (checkpoint {view.number} of {whose})"


# ── what there is ───────────────────────────────────────────────────────────────────────────────


def _asked(
    door: Door, place: int, work: Restoring
) -> tuple[CheckpointView | None, tuple[CheckpointPlace, ...]]:
    """Return a checkpoint with all its files. Raises: Damaged, Stopped."""
    first = _page(door, CheckpointAsk(place=place), work)
    if first is None:
        return None, ()
    places = list(first.page)
    while len(places) < first.files:
        page = _page(door, CheckpointAsk(place=place, first=len(places)), work)
        if (
            page is None
            or not page.page
            or (page.run_id, page.number)
            != (
                first.run_id,
                first.number,
            )
        ):
            raise Damaged("its list of files is gone")
        places += page.page
    for found in places:
        _check(found.file)
    if crossing(found.file.path for found in places) is not None:
        # A folder that is a link as well would lead what lies below it anywhere.
        raise Damaged("a name is there twice")
    return first, tuple(places)


def _page(door: Door, ask: CheckpointAsk, work: Restoring) -> CheckpointView | None:
    while True:
        try:
            told = door.post("agent/v1/checkpoints/latest", encode(ask))
            return None if told is None else decode(CheckpointView, told, "checkpoint")
        except Unanswered:
            _pause(work, ASK_PAUSE_S)
        except (TurnedAway, UserError) as refusal:
            raise Damaged(str(refusal)) from refusal


def _pause(work: Restoring, pause_s: float) -> None:
    work.wake.wait(pause_s)
    work.wake.clear()
    if work.stopping():
        raise Stopped


def _check(file: CheckpointFile) -> None:
    """Refuse names that would lead out of the folder, whoever wrote the list."""
    parts = file.path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in file.path:
        raise Damaged("a file's name leads elsewhere")
    if file.link is not None and leaves_folder(file.path, file.link):
        raise Damaged("a link leads elsewhere")


# ── putting back ────────────────────────────────────────────────────────────────────────────────


def _put_back(places: tuple[CheckpointPlace, ...], work: Restoring) -> None:
    def one(found: CheckpointPlace) -> None:
        if work.stopping():
            raise Stopped
        _file(found, work.folder, fetching)

    try:
        with Fetching(_End(work), work.stopping) as fetching:
            together(one, (p for p in places if p.file.link is None), at_once=AT_ONCE)
    except Unanswered as error:
        if work.stopping():
            raise Stopped from error
        raise Damaged(str(error)) from error
    for found in places:
        if found.file.link is not None:  # last: no file is written through one
            _link(work.folder, found.file.path, found.file.link)
    for found in places:
        _set_time(work.folder, found.file)


def _file(found: CheckpointPlace, folder: Path, fetching: Fetching) -> None:
    file = found.file
    blob = Blob(url=found.url, size_bytes=file.size_bytes, sha256=file.sha256)
    with made(folder, file.path, executable=file.executable) as content:
        if not fetching.copy(blob, content, lambda _: None):
            raise Damaged("its bytes are not those that were saved")


class _End:
    """The end of the attempt, for who waits for something else meanwhile."""

    def __init__(self, work: Restoring) -> None:
        self._work = work

    def is_set(self) -> bool:
        return self._work.stopping()

    def wait(self, timeout: float | None = None) -> bool:
        self._work.wake.wait(timeout)
        return self._work.stopping()


def _link(folder: Path, path: str, link: str) -> None:
    target = folder / path
    make_folders(folder, target.parent)
    target.symlink_to(link)


def _set_time(folder: Path, file: CheckpointFile) -> None:
    """Give a file the time at which it was written: programs look for the newest by it."""
    at_ns = file.modified_us * 1000
    os.utime(folder / file.path, ns=(at_ns, at_ns), follow_symlinks=False)
