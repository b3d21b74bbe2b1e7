"""Start the runs that people ask for: each under a key that its ask names, so that once is once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cynthus import overrides as spec_overrides
from cynthus.errors import UserError
from cynthus.frozen import replace
from cynthus.repository_policy import POLICY_PATH
from cynthus.spec import Spec
from cynthus.wire_data import Dataset
from webhook_server.inbox.asked import Asked, Declined, Done, Standing
from webhook_server.inbox.parts import InboxParts
from webhook_server.inbox.spec_at import FoundSpec
from webhook_server.inbox.specs import chosen, specs_at
from webhook_server.inbox.targets import find_target
from webhook_server.runs import approval
from webhook_server.runs.asks import AskReproduce, AskRetry, AskRun, AskSweep
from webhook_server.runs.hostile import code, inline
from webhook_server.runs.images import reusable
from webhook_server.runs.model import Approval, Origin, Run, RunDraft, RunKey, State, SweepPart
from webhook_server.runs.observations import ImageArrived, PolicySeen
from webhook_server.runs.pull import Unproven, proven_head

NO_SUCH_RUN = "there is no such run here."
ON_DEMAND = (("spot", "false"),)  # the override that `--on-demand` is
_FORK = (
    "this pull request comes from a fork: nothing of it runs before somebody with the right to"
    " it has looked at its commit and commented `/cynthus approve {short}`."
)
_SHOWN_SHA = 7


@dataclass(frozen=True, kw_only=True)
class Start:
    """One run to be started."""

    commit_sha: str
    file: FoundSpec  # the text is the file's own, exactly
    spec: Spec  # overrides applied
    origin: Origin
    trigger: str
    ref: str
    pull_request: int | None
    event: str = "issue_comment"
    approval: Approval | None = None
    image_of: Run | None = None  # whose image it uses; None: whichever fits
    datasets: tuple[Dataset, ...] | None = None  # of the run that it repeats; None: pinned anew


class Starts:
    """Starts runs; safe to repeat, since a run's key is made of the ask that it comes from."""

    def __init__(self, parts: InboxParts) -> None:
        self._parts = parts

    # ── at a head ───────────────────────────────────────────────────────────────────────────────

    def run(self, asked: Asked, ask: AskRun) -> Done:
        """Start specs of the head.

        Raises: Declined; Transient.
        """
        sha = self._head(asked, ask.sha)
        files = chosen(specs_at(self._parts, asked.place, sha), ask.names)
        origin = Origin(asked_by=asked.by.login, overrides=ask.overrides)
        starts = [self._at_head(asked, sha, file, origin) for file in files]
        return self._all(asked, starts)

    def sweep(self, asked: Asked, ask: AskSweep) -> Done:
        """Start one run for each combination of values; all of them are valid, or none starts.

        Raises: Declined; Transient.
        """
        sha = self._head(asked, None)
        count = math.prod(len(values) for _, values in ask.axes)
        most = asked.policy.policy.limits.sweep
        if count > most:
            raise Declined(f"a sweep may have {most} runs here (`limits/sweep`), found {count}.")
        names = () if ask.name is None else (ask.name,)
        files = chosen(specs_at(self._parts, asked.place, sha), names)
        if len(files) > 1:
            there = ", ".join(code(one.spec.name) for one in files if one.spec is not None)
            raise Declined(f"a sweep is of one spec: name one of {there}.")
        starts = []
        for index, values in enumerate(_combinations(ask.axes)):
            part = SweepPart(id=asked.key, index=index, count=count)
            origin = Origin(asked_by=asked.by.login, overrides=values, sweep=part)
            start = self._at_head(asked, sha, files[0], origin)
            starts.append(replace(start, trigger=f"{asked.key}/{index}"))
        return self._all(asked, starts)

    def fork(self, asked: Asked, sha: str) -> Done:
        """Start a fork's specs, each born with the approval of whoever looked at the commit.

        Raises: Declined; Transient.
        """
        files = chosen(specs_at(self._parts, asked.place, sha), ())
        origin = Origin(asked_by=asked.by.login, fork=True)
        starts = [self._at_head(asked, sha, file, origin) for file in files]
        return self._all(asked, [self._approved(asked, start) for start in starts])

    def _approved(self, asked: Asked, start: Start) -> Start:
        grant = approval.grant_of(start.spec, asked.policy.policy, fork=True)
        given = approval.approve_commit(start.commit_sha, start.spec, grant, asked.by, asked.at)
        if isinstance(given, str):
            raise Declined(inline(given))
        return replace(start, approval=given)

    def _head(self, asked: Asked, named: str | None) -> str:
        if asked.is_fork:
            raise Declined(_FORK.format(short=asked.pull.sha[:_SHOWN_SHA]))
        sha = proven_head(asked.known, asked.pull.sha, asked_at=asked.at, named=named)
        if isinstance(sha, Unproven):
            raise Declined(sha.text)
        return sha

    def _at_head(self, asked: Asked, sha: str, file: FoundSpec, origin: Origin) -> Start:
        return Start(
            commit_sha=sha,
            file=file,
            spec=_with(file, origin.overrides),
            origin=origin,
            trigger=asked.key,
            ref=f"refs/pull/{asked.pull.number}/head",
            pull_request=asked.pull.number,
        )

    # ── from an earlier run ─────────────────────────────────────────────────────────────────────

    def retry(self, asked: Asked, ask: AskRetry) -> Done:
        """Start a finished run's commit again.

        Raises: Declined; Transient.
        """
        run = find_target(self._parts.runs, asked.place.id, asked.pull.number, ask.target)
        if run is None:
            raise Declined(NO_SUCH_RUN)
        return self.again(asked, run, on_demand=ask.on_demand, pull_request=asked.pull.number)

    def again(self, by: Standing, run: Run, *, on_demand: bool, pull_request: int | None) -> Done:
        """Start what a finished run was made from again, under the key of whatever asks for it.

        Raises: Declined.
        """
        if run.state is not State.FINISHED:
            raise Declined(f"run {run.id} is not finished; `cancel` ends it.")
        origin = Origin(
            asked_by=by.by.login,
            overrides=run.origin.overrides + (ON_DEMAND if on_demand else ()),
            retries=run.id,
        )
        return self._all(by, [replace(self._from(by, run, origin), pull_request=pull_request)])

    def reproduce(self, asked: Asked, ask: AskReproduce) -> Done:
        """Run again exactly what a run was made from: commit, spec, overrides, image.

        Raises: Declined.
        """
        run = find_target(self._parts.runs, asked.place.id, asked.pull.number, ask.target)
        if run is None:
            raise Declined(NO_SUCH_RUN)
        if run.image is None:
            raise Declined(f"run {run.id} never had an image: there is nothing to run again.")
        origin = Origin(asked_by=asked.by.login, overrides=run.origin.overrides, reproduces=run.id)
        start = self._from(asked, run, origin)
        return self._all(asked, [replace(start, pull_request=asked.pull.number, image_of=run)])

    def _from(self, by: Standing, run: Run, origin: Origin) -> Start:
        if run.spec is None:
            raise Declined(f"run {run.id} had no spec that could be read.")
        if run.origin.fork:  # its approval was for that run: another one needs another
            raise Declined(f"run {run.id} is of a fork's commit: `approve` that commit again.")
        text = self._parts.runs.spec_text(run.id) or ""
        file = FoundSpec(text=text, spec=run.spec, path=run.key.spec_path)
        same = origin.overrides == run.origin.overrides
        return Start(
            commit_sha=run.key.commit_sha,
            file=file,
            spec=run.spec if same else _with(file, origin.overrides),
            origin=origin,
            trigger=by.key,
            ref=run.ref,
            pull_request=run.pull_request,
            event=run.event,
            datasets=run.datasets,
        )

    # ── all of them ─────────────────────────────────────────────────────────────────────────────

    def _all(self, by: Standing, starts: Sequence[Start]) -> Done:
        if by.policy.faults:
            raise Declined(policy_faults(by.policy))
        begun = [self._begin(by, start) for start in starts]
        self._parts.bell.ring("runs")
        self._parts.bell.ring("publications")
        lines = [f"- {line}" for line, _ in begun]
        return Done(text="\n".join(lines), run_ids=tuple(run_id for _, run_id in begun))

    def _begin(self, by: Standing, start: Start) -> tuple[str, str]:
        """Accept one run; return what is said of it, and its id."""
        image_of = start.image_of or self._image_of(by, start)
        origin = replace(start.origin, wants_build=image_of is None)
        fork = origin.fork
        draft = RunDraft(
            id=self._parts.new_id(),
            key=_key(by, start),
            repository=by.place.full_name,
            ref=start.ref,
            event=start.event,
            default_branch=by.facts.default_branch,
            pull_request=start.pull_request,
            workflow_run_url=None,
            spec=start.spec,
            spec_text=start.file.text,
            # What a stranger's code made is not published under the repository's name.
            wants_release=bool(start.spec.outputs) and not fork,
            origin=origin,
            approval=start.approval,
            datasets=start.datasets,
        )
        accepted = self._parts.runs.accept(
            draft, arrived=_arrived(image_of), token_id=None, now=self._parts.now()
        )
        return self._said(start, accepted.run_id, has_image=image_of is not None), accepted.run_id

    def _image_of(self, by: Standing, start: Start) -> Run | None:
        runs = self._parts.runs.of_commit(by.place.id, start.commit_sha)
        return reusable(runs, start.commit_sha, start.file.path, fork=start.origin.fork)

    def _said(self, start: Start, run_id: str, *, has_image: bool) -> str:
        link = f"[{code(start.spec.name)} at `{start.commit_sha[:_SHOWN_SHA]}`]"
        words = [f"{link}({self._parts.url_of(run_id)}), run `{run_id}`"]
        words += [code(f"{key}={value}") for key, value in start.origin.overrides]
        waits = "its image is there" if has_image else "its image is asked for"
        return f"{' '.join(words)}: {waits}."


def policy_faults(seen: PolicySeen) -> str:
    """Say why nothing that costs may start: the policy file cannot be used."""
    faults = "\n".join(
        f"- {POLICY_PATH}:{f.line}:{f.column}: {inline(f.text)}" for f in seen.faults
    )
    return f"nothing that costs starts while the repository's policy cannot be used:\n\n{faults}"


def _key(by: Standing, start: Start) -> RunKey:
    return RunKey(
        repository_id=by.place.id,
        commit_sha=start.commit_sha,
        spec_path=start.file.path,
        trigger=start.trigger,
    )


def _arrived(run: Run | None) -> ImageArrived | None:
    if run is None:
        return None
    return ImageArrived(image=run.image, failure=None, environment=run.environment)


def _with(file: FoundSpec, overrides: Sequence[tuple[str, str]]) -> Spec:
    """Return the file's meaning with overrides, judged as the file itself is judged (C9)."""
    try:
        return spec_overrides.apply(file.text.encode(), file.path, overrides)
    except UserError as error:
        faults = [f"- {inline(f.where)}: {inline(f.message)}" for f in error.faults]
        text = "\n".join(faults) or inline(str(error))
        raise Declined(f"it cannot be run so:\n\n{text}") from error


def _combinations(
    axes: Sequence[tuple[str, tuple[str, ...]]],
) -> Iterable[tuple[tuple[str, str], ...]]:
    """Yield the overrides of each run of a sweep; the last key changes fastest."""
    keys = [key for key, _ in axes]
    for values in itertools.product(*(values for _, values in axes)):
        yield tuple(zip(keys, values, strict=True))
