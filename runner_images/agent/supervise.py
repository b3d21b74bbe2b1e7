"""Live one attempt: prepare, run, watch, stop, collect, report."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cynthus.codec import encode
from cynthus.wire import AgentState, EventKind, Exit, Mark, Output, Rendezvous, Work
from runner_images.agent.checkpoints import Checkpoints
from runner_images.agent.clock import wall_clock
from runner_images.agent.masking import Masks
from runner_images.agent.outbox import Outbox
from runner_images.agent.output_stream import OutputStream
from runner_images.agent.sampling import FIRST_SAMPLE_S, SAMPLE_S, Sampler
from runner_images.agent.uplink import Uplink
from runner_images.agent.workload import CannotStart, Ended, Found, Workload

if TYPE_CHECKING:
    from runner_images.agent.staging import Staging  # imported by runs with data alone

LOOK_S = 1.0  # how often the deadline and the silence are looked at
SUMMARY_EVERY = 2  # samples between two looks at the summary file
KILL_AGAIN_S = 5.0  # SIGKILL is repeated: an engine may have been away for the first
DISK_FLOOR_BYTES = 256 << 20  # below it neither logs nor outputs could be saved any more
FAILURE_REPORT_S = 30.0  # three heartbeats: a server that is away finds out by the silence
REPORT_LIMIT_S = 3600.0  # an ended attempt waits this long for the server's return, then goes
# Google pulls the plug 30 s after its notice. The command gets what the spec's grace is, at most 17
# of them; outputs may go up until the 22nd, and the last report is out before the 25th.
# https://cloud.google.com/compute/docs/instances/preemptible#preemption-process
TAKEN_GRACE_S = 17.0
TAKEN_COLLECT_S = 22.0
# What came from a hub goes into the cache beside the command; a command that ends before that waits
# so long for it: the next run downloads that much less, and the GPU costs a minute at most.
KEEP_LIMIT_S = 60.0
MAKE_ROOM_S = 5.0  # a report is taken in milliseconds, unless the server has no room for it


@dataclass
class _Ending:
    """Why and since when the command shall end."""

    reason: str
    terminated_at: float
    killed_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What an attempt stands on."""

    uplink: Uplink
    outbox: Outbox
    masks: Masks
    clock: Callable[[], float]
    state_dir: Path
    collect: Callable[[Iterable[Found]], tuple[Output, ...]]
    hurry: Callable[[float], None]  # collect until that moment of `clock` only
    stored: Callable[[], tuple[Output, ...]]  # what was collected by now
    checkpoints: Checkpoints | None = None  # None: the spec names no folder
    staging: Staging | None = None  # None: the run has no data
    # Raises CannotStart; None: nothing is to be checked. It is told how to ask for a stop.
    check: Callable[[Callable[[], bool]], None] | None = None


class Attempt:
    """One attempt on this instance; `run` is its life, the other public verbs come from outside."""

    def __init__(
        self, work: Work, workload: Workload, around: Surroundings, over: threading.Event
    ) -> None:
        self._work = work
        self._workload = workload
        self._around = around
        self._stop_reason: str | None = None
        self._machines_fault = False  # the stop is: another instance may help
        self._over_reason: str | None = None
        self._taken = False  # the machine goes away: the report has to be short
        self._rendezvous: Rendezvous | None = None
        self._wake = threading.Event()
        self._deadline = around.clock() + work.deadline_s
        self._started = False
        self._ended: Ended | None = None
        self._summary = b""
        self._removing: threading.Thread | None = None
        self.over = over  # set once nobody waits for this attempt any more

    # ── said from outside, by other threads ──────────────────────────────────────────────────

    def stop(self, reason: str, *, machines_fault: bool = False) -> None:
        """End the command with its grace, then report as always."""
        if self._stop_reason is None:
            self._stop_reason, self._machines_fault = reason, machines_fault
        self._wake.set()

    def take_back(self, reason: str) -> None:
        """End the command within seconds and report what there is: the machine goes away."""
        if not self._taken:
            self._taken = True
            until_s = self._around.clock() + TAKEN_COLLECT_S
            self._around.hurry(until_s)
            if self._around.checkpoints is not None:
                self._around.checkpoints.hurry(until_s)
        self.stop(reason, machines_fault=True)

    def meet(self, rendezvous: Rendezvous) -> None:
        """Let a gang that is ready start. Safe to repeat."""
        if self._rendezvous is None:
            self._rendezvous = rendezvous
            self._wake.set()

    def prolong(self, left_s: float) -> None:
        """Let the command run for so many seconds from now. Safe to repeat."""
        self._deadline = self._around.clock() + left_s

    def abandon(self, reason: str) -> None:
        """End everything at once: the report is not wanted."""
        self._over_reason = self._over_reason or reason
        self.over.set()
        self._wake.set()

    # ── the life ─────────────────────────────────────────────────────────────────────────────

    def run(self) -> str | None:
        """Live to the end; return why the attempt was abandoned, or None when it was reported."""
        try:
            exit_ = self._execute()
            if not self.over.is_set():
                self._report(exit_)
        except Exception as error:
            self._report_failure(error)
            raise
        finally:
            if self._started and self._workload.ending() is None:
                self._workload.kill()
            self._remove()
            if self._around.staging is not None:
                self._around.staging.close()
        return self._over_reason

    def _report_failure(self, error: Exception) -> None:
        """Tell of our own fault, so that nobody waits for a silent agent; another may do better."""
        if self._started:
            self._workload.kill()
        text = self._around.masks.hide(f"the agent failed: {type(error).__name__}: {error}")
        exit_ = Exit(code=None, error=text, infrastructure=True)
        self._around.uplink.report(AgentState.DONE, exit=exit_, outputs=())
        self._around.uplink.ended.wait(FAILURE_REPORT_S)

    def _execute(self) -> Exit:
        kept = self._around.checkpoints
        heard = kept.hear if kept is not None else None
        stream = OutputStream(self._around.outbox, self._around.masks, heard)
        try:
            if self._around.check is not None:
                self._around.check(self._is_ending)
            self._prepare()
            self._tell()
            if kept is not None and not self._stopping():
                kept.restore(self._workload.checkpoint_folder, self._is_ending)
            if not self._met():
                return self._stopped_early()
            self._workload.start(self._first_marked(stream.feed), self._wake.set)
            self._started = True
        except CannotStart as fault:
            return self._never_started(fault)
        finally:
            self._tell()
        self._around.uplink.report(AgentState.RUNNING)
        if kept is not None:
            kept.begin()
        self._ended = self._watch()
        stream.close()
        self._around.outbox.finish_log()
        return self._exit(self._ended)

    def _prepare(self) -> None:
        """Have the image and the data, both at once; raises CannotStart."""
        staging = self._around.staging
        if staging is None:
            self._workload.prepare(self._stopping)
            self._workload.receive(())
            return
        staging.begin()
        try:
            self._workload.prepare(lambda: staging.failed or self._stopping())
        except CannotStart:
            if staging.failed:
                staging.wait(self._stopping)  # raises the cause
            raise
        self._tell()
        self._workload.receive(staging.wait(self._stopping))
        self._mark(Mark(name="data_staged", at=wall_clock()))

    def _stopping(self) -> bool:
        self._tell()  # asked often while an image is pulled: its progress is told as it comes
        return self._is_ending()

    def _is_ending(self) -> bool:
        """Say whether the attempt shall end; asked by several threads at once."""
        return self._stop_wanted() is not None or self.over.is_set()

    def _met(self) -> bool:
        """Wait until the whole gang is ready; False: it was stopped before."""
        if self._work.gang is not None and not self._stopping():
            self._around.uplink.report(AgentState.READY)
            while self._rendezvous is None and not self._stopping():
                self._wake.wait(LOOK_S)
                self._wake.clear()
            if self._rendezvous is not None and not self._stopping():
                self._workload.meet(self._rendezvous)
        return not self._stopping()

    def _stopped_early(self) -> Exit:
        text = self._stop_reason or self._over_reason
        return Exit(code=None, stopped=True, error=text, infrastructure=self._machines_fault)

    def _first_marked(self, feed: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """Mark the command's first output on its way to `feed`."""
        untold = [True]

        def marked(data: bytes) -> None:
            if untold:
                untold.clear()
                self._mark(Mark(name="first_output", at=wall_clock()))
            feed(data)

        return marked

    def _tell(self) -> None:
        """Pass on what the workload wants told."""
        while self._workload.notices:
            self._around.outbox.notice(self._workload.notices.pop(0))
        while self._workload.marks:
            self._mark(self._workload.marks.pop(0))

    def _mark(self, mark: Mark) -> None:
        self._around.outbox.add(EventKind.MARK, encode(mark))

    def _never_started(self, fault: CannotStart) -> Exit:
        stopped = self._stop_reason is not None
        text = self._around.masks.hide(str(fault))
        return Exit(
            code=None,
            stopped=stopped,
            error=text,
            infrastructure=self._machines_fault or (fault.infrastructure and not stopped),
        )

    # ── while it runs ────────────────────────────────────────────────────────────────────────

    def _watch(self) -> Ended:
        sampler = Sampler(self._around.state_dir, self._workload.gpu_uuids)
        sample_at = self._around.clock() + FIRST_SAMPLE_S
        looks = 0
        ending: _Ending | None = None
        while (ended := self._workload.ending()) is None:
            self._wake.wait(self._pause_s(ending))
            self._wake.clear()
            if self._workload.ending() is not None:
                continue
            ending = self._end_if_wanted(ending)
            if self._around.clock() >= sample_at:
                self._sample(sampler, look_at_summary=looks % SUMMARY_EVERY == 0)
                looks += 1
                sample_at = self._around.clock() + SAMPLE_S
        return ended

    def _pause_s(self, ending: _Ending | None) -> float:
        if ending is None or ending.killed_at is not None:
            return LOOK_S
        kill_at = ending.terminated_at + self._grace_s()
        return min(LOOK_S, max(0.0, kill_at - self._around.clock()))

    def _grace_s(self) -> float:
        grace_s = self._work.stop_grace_s
        return min(grace_s, TAKEN_GRACE_S) if self._taken else grace_s

    def _stop_wanted(self) -> str | None:
        if self._stop_reason is not None:
            return self._stop_reason
        if self._around.clock() > self._deadline:
            self._stop_reason = "the time limit is reached"
        elif self._around.uplink.silent_s() > self._work.silence_limit_s:
            self.stop("cut off from the server for too long", machines_fault=True)
        return self._stop_reason

    def _end_if_wanted(self, ending: _Ending | None) -> _Ending | None:
        now = self._around.clock()
        if self.over.is_set():
            self._workload.kill()
            return ending
        reason = self._stop_wanted()
        if reason is None:
            return None
        if ending is None:
            self._around.outbox.notice(f"stopping: {reason}")
            self._workload.terminate()
            if self._around.checkpoints is not None:
                self._around.checkpoints.note_stop()
            return _Ending(reason, now)
        last = ending.killed_at
        if now - ending.terminated_at >= self._grace_s() and (
            last is None or now - last >= KILL_AGAIN_S
        ):
            self._workload.kill()
            ending.killed_at = now
        return ending

    def _sample(self, sampler: Sampler, *, look_at_summary: bool) -> None:
        body = sampler.sample(self._workload.usage(), self._around.clock())
        self._around.outbox.add(EventKind.SAMPLE, body)
        if shutil.disk_usage(self._around.state_dir).free < DISK_FLOOR_BYTES:
            self.stop("the instance's disk is full", machines_fault=True)
        if look_at_summary:
            self._tell_summary()

    def _tell_summary(self) -> None:
        found = self._workload.summary()
        if found is None or found == self._summary:
            return
        self._summary = found
        text = self._around.masks.hide(found.decode("utf-8", "replace").replace("\0", ""))
        self._around.outbox.add(EventKind.SUMMARY, {"text": text})

    # ── after it ended ───────────────────────────────────────────────────────────────────────

    def _exit(self, ended: Ended) -> Exit:
        if ended.lost is not None:
            return Exit(code=None, error=ended.lost, infrastructure=True, stopped=False)
        return Exit(
            code=ended.code,
            signal=ended.signal,
            out_of_memory=ended.out_of_memory,
            stopped=self._stop_reason is not None,
            error=self._stop_reason,
            infrastructure=self._machines_fault or self._taken,
        )

    def _remove(self) -> None:
        if self._removing is None:
            self._workload.remove()
        else:
            self._removing.join()

    def _report(self, exit_: Exit) -> None:
        uplink = self._around.uplink
        if not self._started:
            uplink.report(AgentState.DONE, exit=exit_, outputs=())
        else:
            self._tell_summary()
            if self._work.outputs or self._around.checkpoints is not None:
                uplink.report_stored(self._around.stored)
                uplink.report(AgentState.UPLOADING, exit=exit_)
            if self._around.checkpoints is not None and self._ended is not None:
                self._around.checkpoints.finish(self._ended)  # first: the next attempt needs it
            outputs = self._around.collect(self._workload.outputs(self._work.outputs))
            self._finish_keeping()
            self._removing = threading.Thread(target=self._workload.remove)
            self._removing.start()  # beside the last report: the server waits for our end next
            uplink.report(AgentState.DONE, exit=exit_, outputs=outputs)
        self._wait_until_told()

    def _finish_keeping(self) -> None:
        if self._around.staging is not None:
            gone = self._taken or self.over.is_set()
            self._around.staging.finish(0.0 if gone else KEEP_LIMIT_S)

    def _wait_until_told(self) -> None:
        began, made_room = self._around.clock(), False
        while not self._around.uplink.ended.wait(LOOK_S):
            waited_s = self._around.clock() - began
            if self.over.is_set() or waited_s > REPORT_LIMIT_S:
                return
            if waited_s > MAKE_ROOM_S and not made_room:
                made_room = True
                self._make_room()

    def _make_room(self) -> None:
        """Let go of the workspace: on a shared disk it may be what leaves the server no room."""
        try:
            self._workload.remove()
        except OSError as error:  # the engine's faults are OSErrors too; `run` removes it again
            self._around.outbox.notice(f"the workspace is not removed yet: {type(error).__name__}")
