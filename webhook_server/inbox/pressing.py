"""Carry out what people press on our check runs: extend, retry, approve, logs; clicks are one."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from cynthus.errors import Transient
from cynthus.frozen import replace
from cynthus.repository_policy import Verb
from webhook_server import intents
from webhook_server.acting import under
from webhook_server.github_api import PullFacts, RepositoryFacts
from webhook_server.inbox.asked import Asked, Declined, Done, Standing
from webhook_server.inbox.authorities import of_standing
from webhook_server.inbox.confirm import confirmed
from webhook_server.inbox.parts import InboxParts, Skip
from webhook_server.inbox.pulls import noted, open_pull
from webhook_server.inbox.replanning import plan_anew
from webhook_server.inbox.replies import Replies, a_reply
from webhook_server.inbox.screen import Screen
from webhook_server.inbox.starts import NO_SUCH_RUN
from webhook_server.inbox.verbs import Verbs
from webhook_server.intents import (
    APPROVE,
    EXTEND,
    LOGS,
    RETRY_ON_DEMAND,
    Place,
    Pressed,
)
from webhook_server.runs.asks import AskApprove, AskLogs
from webhook_server.runs.model import Extension, Run
from webhook_server.runs.pull import Reply
from webhook_server.runs.superseded import is_live
from webhook_server.stores.publication_store import PublicationKind, subject_of

# A button has no room for an amount: a quarter more is enough for what was nearly done, and half
# an hour is worth a click where a quarter would be minutes.
_SHARE, _LEAST = 0.25, timedelta(minutes=30)
#: Clicks that follow one another within this are one: a screen takes a while to show the first.
_ONE_CLICK = timedelta(minutes=10)
_VERBS = {EXTEND: Verb.EXTEND, RETRY_ON_DEMAND: Verb.RETRY, APPROVE: Verb.APPROVE, LOGS: Verb.LOGS}
_LABELS = {EXTEND: "Extend", RETRY_ON_DEMAND: "Retry on demand", APPROVE: "Approve", LOGS: "Logs"}


class Pressing:
    """Our own buttons."""

    def __init__(self, parts: InboxParts, verbs: Verbs) -> None:
        self._parts, self._verbs = parts, verbs
        self._screen, self._replies = Screen(parts), Replies(parts)

    def pressed(self, intent: Pressed) -> str:
        """Extend, retry, approve, or show the log's end; many clicks are one.

        Raises: Skip; Transient.
        """
        verb = _VERBS.get(intent.identifier)
        if verb is None:
            raise Skip(f"{intent.identifier!r} is no button of ours")
        place, facts = confirmed(self._parts, intent.place)
        if intent.external_id.startswith("pull/"):
            return self._on_plan(intent, place, facts)
        run = self._screen.run_of(place, intent.check_run_id, intent.external_id, intent.sha)
        key = self._key(intent, run)
        by = self._screen.standing(place, facts, intent.sender, run.pull_request, key)
        self._screen.need(by, verb, run.pull_request)
        if self._parts.deliveries.was_handled(by.key):
            raise Skip("was pressed a moment ago")
        reply = self._reply(by, intent.identifier)
        try:
            with under(of_standing(by, self._parts.now())):
                done = self._act(intent.identifier, by, run)
            reply = replace(reply, text=done.text, run_ids=done.run_ids)
        except Declined as declined:
            reply = replace(reply, text=str(declined), refused=True)
            self._screen.refused(by, verb.value, str(declined))
        if run.pull_request is not None:
            self._replies.give(place, run.pull_request, reply)
        self._screen.handled(by.key, by, run)
        return reply.text

    def _key(self, intent: Pressed, run: Run) -> str:
        """Name a press such that clicks which mean the same have the same name."""
        key = f"button/{intent.check_run_id}/{intent.identifier}"
        match intent.identifier:
            case intents.EXTEND:  # how many had taken effect or were wished for when it was pressed
                known = self._parts.runs.wishes(run.id).extensions
                if known and self._parts.now() - known[-1].at < _ONE_CLICK:
                    return known[-1].key
                return f"{key}/{len(known)}"
            case intents.APPROVE:  # what may come to cost more waits, and is approved, again
                return f"{key}/{run.hold.cap_usd if run.hold else 'nothing'}"
            case intents.LOGS:  # a log grows: later it is another answer
                return f"{key}/{int(self._parts.now().timestamp()) // _ONE_CLICK.seconds}"
            case _:
                return key

    def _act(self, identifier: str, by: Standing, run: Run) -> Done:
        match identifier:
            case intents.EXTEND:
                return self._extend(by, run)
            case intents.RETRY_ON_DEMAND:
                return self._verbs.starts.again(
                    by, run, on_demand=True, pull_request=run.pull_request
                )
            case intents.APPROVE:
                return self._let_go_on(by, run)
            case _:
                return self._logs(by, run)

    def _extend(self, by: Standing, run: Run) -> Done:
        if not is_live(run) or run.spec is None:
            raise Declined(NO_SUCH_RUN)
        more = max(run.spec.resources.max_duration * _SHARE, _LEAST)
        extension = Extension(key=by.key, by=by.by.login, at=by.at, more=more)
        return self._verbs.changes.lengthen(by, [run], extension)

    def _let_go_on(self, by: Standing, run: Run) -> Done:
        done = self._verbs.changes.let_go_on(by, [run])
        with suppress(Transient):  # the plans show what is known, and can wait
            plan_anew(self._parts, by.place, by.facts, run.key.commit_sha)
        return done

    def _logs(self, by: Standing, run: Run) -> Done:
        if run.pull_request is None:
            raise Declined("a log is answered at a pull request; the check run shows its end.")
        asked = self._asked(by, open_pull(self._parts, by.place, run.pull_request))
        return self._verbs.carry_out(asked, AskLogs(target=run.id))

    def _on_plan(self, intent: Pressed, place: Place, facts: RepositoryFacts) -> str:
        """Approve what waits at the head that a plan's check run stands at."""
        number = self._pull_of(place, intent)
        if intent.identifier != APPROVE:
            raise Skip("a plan has no such button")
        key = f"button/{intent.check_run_id}/{APPROVE}"
        by = self._screen.standing(place, facts, intent.sender, number, key)
        self._screen.need(by, Verb.APPROVE, number)
        asked = self._asked(by, open_pull(self._parts, place, number))
        reply = self._reply(by, APPROVE)
        try:
            with under(of_standing(asked, self._parts.now())):
                done = self._verbs.changes.approve(asked, AskApprove(sha=intent.sha), planned=True)
            reply = replace(reply, text=done.text, run_ids=done.run_ids)
        except Declined as declined:
            reply = replace(reply, text=str(declined), refused=True)
            self._screen.refused(asked, Verb.APPROVE.value, str(declined))
        self._replies.give(place, number, reply)
        return reply.text

    def _pull_of(self, place: Place, intent: Pressed) -> int:
        """Return the pull request whose plan a check run shows: by our records, as for runs."""
        prefix = subject_of(place.id, 0).removesuffix("0")
        number = intent.external_id.removeprefix(prefix)
        known = intent.external_id.startswith(prefix) and number.isascii() and number.isdigit()
        shown = self._parts.publications.get(intent.external_id, PublicationKind.PLAN)
        if not known or shown is None or shown.external_id != intent.check_run_id:
            raise Skip("the check run is not one of ours")
        return int(number)

    def _reply(self, by: Standing, identifier: str) -> Reply:
        return a_reply(by.key, by.at, by.by, _VERBS[identifier], _LABELS[identifier])

    def _asked(self, by: Standing, pull: PullFacts) -> Asked:
        known = noted(self._parts, by.place, pull, None)
        return Asked(pull=pull, known=known, **vars(by))
