"""Note what people want of runs that exist: end, more time, a yes, nothing kept."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from cynthus.errors import Transient
from webhook_server.inbox.asked import Asked, Declined, Done, Standing
from webhook_server.inbox.parts import InboxParts
from webhook_server.inbox.plan_keeping import keep_plan
from webhook_server.inbox.starts import NO_SUCH_RUN, Starts, policy_faults
from webhook_server.inbox.targets import find_target
from webhook_server.runs import approval
from webhook_server.runs.asks import AskApprove, AskCancel, AskExtend
from webhook_server.runs.attempts import span
from webhook_server.runs.hostile import inline
from webhook_server.runs.model import Extension, Run
from webhook_server.runs.pull import Unproven, proven_head
from webhook_server.runs.rights import who_may
from webhook_server.runs.sticky import run_title
from webhook_server.runs.superseded import is_live

_LOOKED_AT = 200  # newest runs of a pull request: what is live is among them


class Changes:
    """Writes wishes; safe to repeat, since a wish of a kind or a key counts once."""

    def __init__(self, parts: InboxParts, starts: Starts) -> None:
        self._parts, self._starts = parts, starts

    def cancel(self, asked: Asked, ask: AskCancel) -> Done:
        """End a live run, or all live runs of the pull request.

        Raises: Declined.
        """
        return self.end(asked, self._meant(asked, ask.target))

    def end(self, by: Standing, runs: Sequence[Run]) -> Done:
        """Let runs end."""
        now = self._parts.now()
        for run in runs:
            self._parts.runs.cancel(run.id, f"{by.by.login} on GitHub", now)
        self._parts.bell.ring("runs")
        return Done(text=f"{self._named(runs)} will end.", run_ids=_ids(runs))

    def extend(self, asked: Asked, ask: AskExtend) -> Done:
        """Want more time for a live run, or for all of the pull request.

        Raises: Declined.
        """
        runs = self._meant(asked, ask.target)
        extension = Extension(key=asked.key, by=asked.by.login, at=asked.at, more=ask.more)
        return self.lengthen(asked, runs, extension)

    def lengthen(self, by: Standing, runs: Sequence[Run], extension: Extension) -> Done:
        """Want more time for runs; what of it can be had the loop says on each.

        Raises: Declined.
        """
        if by.policy.faults:
            raise Declined(policy_faults(by.policy))
        for run in runs:
            self._parts.runs.extend(run.id, extension)
        self._parts.bell.ring("runs")
        more = span(extension.more)
        text = f"{more} more for {self._named(runs)}; the check run says how much of it was given."
        return Done(text=text, run_ids=_ids(runs))

    def approve(self, asked: Asked, ask: AskApprove, *, planned: bool = False) -> Done:
        """Let what waits at the head go on; let a fork's commit run.

        The commit is always named, so a push voids the wish before it is one. Runs that somebody
        asked for after the yes was written are not part of it. `planned`: it was said to the plan,
        which shows the files alone, so that runs with other values are not part of it either.
        Raises: Declined; Transient.
        """
        sha = proven_head(asked.known, asked.pull.sha, asked_at=asked.at, named=ask.sha)
        if isinstance(sha, Unproven):
            raise Declined(sha.text)
        live = [run for run in self._live(asked) if run.key.commit_sha == sha]
        held = [run for run in live if run.hold is not None]
        meant = [run for run in held if _was_there(run, asked, planned=planned)]
        if meant:
            return self._planned_anew(asked, self.let_go_on(asked, meant))
        if held:
            text = f"{self._named(held)} was not what this was about: look at it and approve it"
            raise Declined(f"{text} by its own check run, or by another comment.")
        if asked.is_fork and not live:
            return self._planned_anew(asked, self._approve_fork(asked, sha))
        raise Declined(f"nothing waits for an approval at `{sha[:7]}`.")

    def _planned_anew(self, asked: Asked, done: Done) -> Done:
        """Let the head's plan show the approval; it shows what is known, and can wait."""
        with suppress(Transient):
            keep_plan(self._parts, asked.place, asked.facts, asked.pull)
        return done

    def let_go_on(self, by: Standing, held: Sequence[Run]) -> Done:
        """Approve held runs, each by the right that its own reasons demand.

        Raises: Declined.
        """
        if by.policy.faults:
            raise Declined(policy_faults(by.policy))
        given = []
        for run in held:
            allowance = approval.approver(run, by.policy.policy)
            if not by.is_of(allowance):
                raise Declined(f"run {run.id} must be approved by {inline(who_may(allowance))}.")
            yes = approval.approve(run, by.by, self._parts.now())
            if isinstance(yes, str):
                raise Declined(inline(yes))
            given.append((run, yes))
        for run, yes in given:
            self._parts.runs.approve(run.id, yes)
        self._parts.bell.ring("runs")
        return Done(text=f"{self._named(held)} may go on.", run_ids=_ids(held))

    def _approve_fork(self, asked: Asked, sha: str) -> Done:
        line = asked.policy.policy.approval
        has_lines = line.cost_usd is not None or line.duration is not None or bool(line.gpus)
        # Whether the run crosses one is known only once there is an offer, and the yes that it is
        # born with counts there: so it must come from somebody who may give it.
        if has_lines and not asked.is_of(line.by):
            raise Declined(f"a fork's commit must be approved by {inline(who_may(line.by))}.")
        return self._starts.fork(asked, sha)

    def destroy(self, asked: Asked) -> Done:
        """End all live runs of the pull request, and give back what its runs keep warm."""
        runs = self._parts.runs.of_pull(asked.place.id, asked.pull.number, limit=_LOOKED_AT)
        live = [run for run in runs if is_live(run)]
        for run in live:
            self._parts.runs.cancel(run.id, f"{asked.by.login} on GitHub", self._parts.now())
        ended = self._parts.warm.end_of(asked.place.id, _ids(runs), self._parts.now())
        self._parts.bell.ring("runs")
        named = f"{self._named(live)} will end" if live else "no run is live here"
        kept = f"; {ended} kept instance{'' if ended == 1 else 's'} will be given back"
        return Done(text=f"{named}{kept if ended else ''}.", run_ids=_ids(live))

    def _meant(self, asked: Asked, target: str | None) -> list[Run]:
        """Return the live runs that are meant; whatever else is written means none of them."""
        if target is None:
            runs = self._live(asked)
            if not runs:
                raise Declined("no run of this pull request is live.")
            return runs
        run = find_target(self._parts.runs, asked.place.id, asked.pull.number, target)
        if run is None or not is_live(run):
            raise Declined(NO_SUCH_RUN)
        return [run]

    def _live(self, asked: Asked) -> list[Run]:
        runs = self._parts.runs.of_pull(asked.place.id, asked.pull.number, limit=_LOOKED_AT)
        return [run for run in runs if is_live(run)]

    def _named(self, runs: Sequence[Run]) -> str:
        links = (f"[{run_title(run)}]({self._parts.url_of(run.id)})" for run in runs)
        return ", ".join(links)


def _was_there(run: Run, asked: Asked, *, planned: bool) -> bool:
    """Say whether whoever said yes could have looked at this run."""
    return not run.origin.overrides if planned else run.created_at <= asked.at


def _ids(runs: Sequence[Run]) -> tuple[str, ...]:
    return tuple(run.id for run in runs)
