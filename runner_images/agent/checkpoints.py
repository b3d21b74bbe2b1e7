"""Save a run's checkpoint folder on a timer while the command runs, and when it has ended."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cynthus.errors import UserError
from cynthus.wire import EventKind
from cynthus.wire_data import CheckpointWork
from runner_images.agent.checkpoint_folder import emptied
from runner_images.agent.checkpoint_restore import Restoring, Stopped, restore, story
from runner_images.agent.checkpoint_rules import SETTLE_NS, Steps
from runner_images.agent.checkpoint_save import NotSaved, NotStill, Saver, Saving
from runner_images.agent.door import Door, TurnedAway, Unanswered
from runner_images.agent.workload import CannotStart, Ended

HELD_FOLDER = "checkpoint-held"  # beside the folder itself: hard links do not leave a file system
# A folder that is written to is looked at again after 2, 4, 8 … seconds: a look at 20,000 files
# takes a quarter of a second.
FIRST_LOOK_AGAIN_S, LONGEST_LOOK_AGAIN_S = 2.0, 30.0
# After the command's end a server that is away is asked for about as long as for outputs.
FINAL_TRIES, FINAL_PAUSE_S = 12, 5.0
# SIGTERM ends who does not obey it within this, on a busy machine too.
DEATH_NS = 200_000_000
OVER = frozenset({401, 410})
LEFT_OUT_TOLD = 20  # names; who leaves out more sees the pattern


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What an attempt's checkpoints stand on."""

    run_id: str
    state_dir: Path
    notice: Callable[[str], None]
    hide: Callable[[str], str]  # secrets in names
    clock: Callable[[], float]  # elapsed seconds
    now_ns: Callable[[], int]  # by the clock that stamps files
    over: threading.Event


class Checkpoints:
    """One attempt's checkpoints; `begin` starts its thread, `finish` ends it."""

    def __init__(self, work: CheckpointWork, door: Door, ground: Ground) -> None:
        self._work, self._door, self._ground = work, door, ground
        self._saver = Saver(door)
        self._steps = Steps()
        self._wake = threading.Event()
        self._ending = False
        self._stopped_ns: int | None = None
        self._refused = False  # the server wants none of this attempt any more
        self._until_s = math.inf
        self._told: set[str] = set()
        self._thread: threading.Thread | None = None
        self._folder = Path()
        self._restless_s = FIRST_LOOK_AGAIN_S

    # ── before the command ───────────────────────────────────────────────────────────────────

    def restore(self, folder: Path, stopping: Callable[[], bool]) -> None:
        """Make the folder, with what an earlier attempt saved of it. Safe to repeat.

        Raises: CannotStart when the disk cannot take it.
        """
        self._folder = folder
        try:
            emptied(folder)
            if not self._work.restore:
                return
            work = Restoring(
                folder=folder, tell=self._tell, stopping=stopping, wake=threading.Event()
            )
            found = restore(self._door, work)
        except Stopped:
            return
        except OSError as error:
            raise CannotStart(f"checkpoint: {error}", infrastructure=True) from error
        if found is None:
            self._tell("checkpoint: none could be put back; the command begins anew")
            return
        self._saver.know(found.files)
        self._tell(story(found.view, self._ground.run_id))

    # ── while it runs ────────────────────────────────────────────────────────────────────────

    def hear(self, kind: EventKind, body: dict[str, Any]) -> None:
        """Note how far the command says that it is."""
        now_ns = self._ground.now_ns()
        if kind is EventKind.METRIC and body.get("step") is not None:
            self._steps.hear(now_ns, step=body["step"])
        elif kind is EventKind.PROGRESS:
            self._steps.hear(now_ns, progress=body["value"])

    def begin(self) -> None:
        """Save from now on, in a thread."""
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def hurry(self, until_s: float) -> None:
        """Save at once what stands still; all has to be done by that moment of the clock."""
        self._until_s = until_s
        self._wake.set()

    def _run(self) -> None:
        pause_s = self._work.every_s
        while not self._ending and not self._ground.over.is_set():
            self._wake.wait(pause_s)
            self._wake.clear()
            if self._ending or self._ground.over.is_set():
                return
            pause_s = self._round()

    def _round(self) -> float:
        """Save once; return after how many seconds to look again."""
        try:
            self._save(None)
        except NotStill:
            pause_s = self._restless_s
            self._restless_s = min(pause_s * 2, LONGEST_LOOK_AGAIN_S)
            return min(pause_s, self._work.every_s)
        except Unanswered:
            return min(LONGEST_LOOK_AGAIN_S, self._work.every_s)
        self._restless_s = FIRST_LOOK_AGAIN_S
        return self._work.every_s

    def _save(self, ended_ns: int | None) -> None:
        """Save once. Raises: NotStill, Unanswered: it can be tried again."""
        if self._refused:
            return
        saving = Saving(
            folder=self._folder,
            held=self._ground.state_dir / HELD_FOLDER,
            limit_bytes=self._work.limit_bytes,
            steps=self._steps,
            now_ns=self._ground.now_ns,
            left_s=self._left_s,
            over=self._ground.over,
        )
        try:
            self._saver.save(saving, ended_ns=ended_ns)
        except TurnedAway as refusal:
            self._refused = refusal.status in OVER
            if not self._refused:
                self._tell(f"checkpoint: not saved, the server refused it: {refusal}")
        except (NotSaved, UserError, OSError) as fault:
            self._tell(f"checkpoint: not saved: {fault}")
        finally:
            self._tell_left_out()

    # ── after it ─────────────────────────────────────────────────────────────────────────────

    def note_stop(self) -> None:
        """Note that the command was just asked to end (SIGTERM)."""
        self._stopped_ns = self._stopped_ns or self._ground.now_ns()

    def finish(self, ended: Ended) -> None:
        """Save what is there once the command has ended. Safe to repeat."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        judged_ns = self._judged_ns(ended)
        self._ending = True
        self._wake.set()
        thread.join()
        for _ in range(FINAL_TRIES):
            if self._ground.over.is_set() or self._left_s() <= 0:
                break
            try:
                self._save(judged_ns)
            except NotStill:
                self._tell(
                    "checkpoint: one was being written when the command was ended;"
                    " the one before stays"
                )
                return
            except Unanswered:
                self._ground.over.wait(min(FINAL_PAUSE_S, max(self._left_s(), 0.0)))
                continue
            return
        self._tell("checkpoint: the last one could not be saved; the one before stays")

    def close(self) -> None:
        """End the connection. Safe to repeat."""
        self._door.close()

    def _judged_ns(self, ended: Ended) -> int:
        """Return by which moment it is judged whether a file was being written.

        What a command wrote that ended by itself is whole. One that SIGTERM ended at once wrote
        nothing after it; one that obeys it finishes what it writes, later. Any other end is in the
        middle of something.
        """
        now_ns = self._ground.now_ns()
        if ended.signal is None and not ended.out_of_memory and ended.lost is None:
            return now_ns + SETTLE_NS
        if ended.signal == signal.SIGTERM and self._stopped_ns is not None:
            return self._stopped_ns + DEATH_NS
        return now_ns

    def _left_s(self) -> float:
        return self._until_s - self._ground.clock()

    # ── telling ──────────────────────────────────────────────────────────────────────────────

    def _tell_left_out(self) -> None:
        for path, why in sorted(self._saver.left_out.items())[:LEFT_OUT_TOLD]:
            shown = "".join(c if c.isprintable() else "?" for c in path)
            self._tell(f"checkpoint: {shown} is not saved: {why}")

    def _tell(self, text: str) -> None:
        """Tell the user, each thing once."""
        hidden = self._ground.hide(text.encode("utf-8", "replace").decode())
        if hidden not in self._told:
            self._told.add(hidden)
            self._ground.notice(hidden)
