"""Keep runs: accept them, lend them to one pass at a time, save what was decided."""

from __future__ import annotations

import builtins
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Row,
    Select,
    Update,
    and_,
    func,
    literal,
    select,
    update,
)

from cynthus.codec import decode, encode
from cynthus.errors import CynthusError, Refused, UserError
from cynthus.frozen import replace
from cynthus.spec import spec_digest
from cynthus.wire import EventKind
from cynthus.wire_image import Environment
from webhook_server import metrics
from webhook_server.about import about
from webhook_server.acting import authority
from webhook_server.metrics import METERS
from webhook_server.runs import deeds, forks
from webhook_server.runs.limits import millionths
from webhook_server.runs.model import (
    Approval,
    Attempt,
    CancelWish,
    Cause,
    CreateOutcome,
    CreateSeen,
    Decision,
    Extension,
    ImageArrived,
    Outcome,
    Reason,
    Run,
    RunDraft,
    RunKey,
    State,
)
from webhook_server.stores import (
    environment_store,
    event_store,
    instance_store,
    publication_store,
    schema,
    token_store,
    trail_store,
    warm_store,
)
from webhook_server.stores import run_statements as statements
from webhook_server.stores.budget_store import may_book
from webhook_server.stores.database import (
    Database,
    insert_once,
    lease_values,
    once_from,
    own_clock,
)
from webhook_server.stores.tables import Moment, is_set, repositories, runs, wishes
from webhook_server.stores.waking import wake, wake_where
from webhook_server.traces import span

log = logging.getLogger(__name__)

# Any number that no other program uses: replicas give out numbers in turn.
_ORDER_LOCK = 0x6379_6E74_6875_7302

# In a rolling upgrade old and new servers look in turn: the run waits for few of these.
_LEFT_FOR = timedelta(seconds=5)
_UNREADABLE = "the server cannot read its record of this run; its instances are given back"

_LIST = (
    runs.c.id,
    runs.c.seq,
    runs.c.repository_id,
    runs.c.repository,
    runs.c.commit_sha,
    runs.c.ref,
    runs.c.trigger,
    runs.c.name,
    runs.c.number,
    runs.c.state,
    runs.c.state_since,
    runs.c.outcome,
    runs.c.reason,
    runs.c.cost_usd,
    runs.c.created_at,
    runs.c.finished_at,
)


class RunUnreadable(Refused):
    """The row is damaged, or of a version that this server does not know."""


_WITH_INSTANCES = (State.PROVISIONING, State.RUNNING, State.COLLECTING, State.RELEASING)


class TokenReused(CynthusError):  # noqa: N818 - reads as what happened
    """The job's token was used before: ask GitHub for another one."""


class SpecDiffers(CynthusError):  # noqa: N818 - reads as what happened
    """The run exists with another text of its spec file."""


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """The run that a request or an event means."""

    run_id: str
    created: bool  # False: it existed already


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to handle one run for a while; `token` and `version` prove it."""

    run: Run
    version: int
    token: str
    failures: int  # passes in a row that raised
    news: int  # how often it had been woken
    due_at: datetime | None = None  # since when it was to be looked at


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One line of a list of runs."""

    id: str
    seq: int
    repository_id: int
    repository: str
    commit_sha: str
    ref: str
    trigger: str
    name: str
    number: int
    state: State
    state_since: datetime
    outcome: Outcome | None
    reason: str
    cost_usd: Decimal
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What people and the Action asked of one run."""

    cancel: CancelWish | None
    image: ImageArrived | None
    approval: Approval | None = None
    extensions: tuple[Extension, ...] = ()


class RunStore:
    """Reads and writes the tables `runs` and `wishes`."""

    def __init__(self, db: Database, new_token: Callable[[], str] = lambda: uuid4().hex) -> None:
        self._db = db
        self._new_token = new_token

    # ── doors ──────────────────────────────────────────────────────────────────────────────────

    def accept(
        self,
        draft: RunDraft,
        *,
        arrived: ImageArrived | None,
        token_id: tuple[str, datetime] | None,
        now: datetime,
        environment: Environment | None = None,
    ) -> Accepted:
        """Make the run unless its key has one; note its image; use up the token. All or nothing.

        `environment` is the whole of what `arrived` only names. Safe to repeat, but for the token:
        a second use raises. The first image stays, with its environment.
        Raises: TokenReused, SpecDiffers, DatabaseUnavailable.
        """
        by = authority()

        def work(connection: Connection) -> Accepted:
            if token_id is not None and not token_store.use(connection, *token_id):
                raise TokenReused("token: should be used once, found it used. Ask for a new one.")
            accepted = _upsert(connection, draft, now)
            if accepted.created:
                trail_store.add(connection, by, [deeds.start(draft)], now)
            if arrived is not None and _arrive(
                connection, accepted.run_id, arrived, environment, now
            ):
                told = deeds.image(draft.key.repository_id, accepted.run_id, arrived)
                trail_store.add(connection, by, [told], now)
            if not accepted.created:  # a new run is due already
                wake(connection, accepted.run_id, now)
            return accepted

        accepted = self._db.write_at_door(work)
        with about(run=accepted.run_id), span("accept"):  # leads from its asker to its own trace
            return accepted

    def get(self, run_id: str) -> Run | None:
        """Return the run."""
        return self._one(select(runs.c.doc).where(runs.c.id == run_id))

    def find(self, key: RunKey) -> Run | None:
        """Return the run that the key means."""
        return self._one(select(runs.c.doc).where(_is(key)))

    def waits(self, key: RunKey) -> bool:
        """Say whether the key's run had a build asked for and has neither image nor end yet."""
        run = self.find(key)
        if run is None or not run.origin.wants_build or run.state is not State.BUILDING:
            return False
        return self.wishes(run.id).image is None

    def _one(self, query: Select[Any]) -> Run | None:
        with self._db.read() as connection:
            doc = connection.execute(query).scalar_one_or_none()
        return None if doc is None else _read(doc)

    def list(self, *, repository_id: int | None, limit: int, before: int | None) -> list[RunRow]:
        """Return the newest runs first; `before` is the last row's `seq` of the page before."""
        query = select(*_LIST).order_by(runs.c.seq.desc()).limit(limit)
        if repository_id is not None:
            query = query.where(runs.c.repository_id == repository_id)
        if before is not None:
            query = query.where(runs.c.seq < before)
        with self._db.read() as connection:
            return [_run_row(row) for row in connection.execute(query)]

    def of_pull(self, repository_id: int, number: int, *, limit: int) -> builtins.list[Run]:
        """Return a pull request's newest runs, newest first; unreadable ones are left out."""
        query = (
            select(runs.c.doc)
            .where(runs.c.repository_id == repository_id, runs.c.pull_request == number)
            .order_by(runs.c.seq.desc())
            .limit(limit)
        )
        return self._readable(query)

    def live_of_ref(self, repository_id: int, ref: str) -> builtins.list[Run]:
        """Return the runs of a branch that have not ended, newest first."""
        query = (
            select(runs.c.doc)
            .where(
                runs.c.repository_id == repository_id,
                runs.c.ref == ref,
                runs.c.finished_at.is_(None),
            )
            .order_by(runs.c.seq.desc())
        )
        return self._readable(query)

    def of_name(
        self, repository_id: int, name: str, *, number: int | None = None, limit: int = 20
    ) -> builtins.list[Run]:
        """Return the newest runs of a spec's name, newest first; `number`: that one only."""
        query = select(runs.c.doc).where(runs.c.repository_id == repository_id, runs.c.name == name)
        if number is not None:
            query = query.where(runs.c.number == number)
        return self._readable(query.order_by(runs.c.number.desc()).limit(limit))

    def of_branch(
        self, repository_id: int, name: str, branch: str, *, limit: int
    ) -> builtins.list[Run]:
        """Return the newest succeeded runs of a spec's name on a branch, newest first."""
        query = (
            select(runs.c.doc)
            .where(
                runs.c.repository_id == repository_id,
                runs.c.name == name,
                runs.c.ref == f"refs/heads/{branch}",
                runs.c.outcome == Outcome.SUCCEEDED.value,
            )
            .order_by(runs.c.number.desc())
            .limit(limit)
        )
        return self._readable(query)

    def live(self, repository_id: int) -> builtins.list[Run]:
        """Return a repository's runs that have not ended, newest first."""
        query = (
            select(runs.c.doc)
            .where(runs.c.repository_id == repository_id, runs.c.finished_at.is_(None))
            .order_by(runs.c.seq.desc())
        )
        return self._readable(query)

    def of_commit(self, repository_id: int, commit_sha: str) -> builtins.list[Run]:
        """Return all runs of a commit, newest first."""
        query = (
            select(runs.c.doc)
            .where(runs.c.repository_id == repository_id, runs.c.commit_sha == commit_sha)
            .order_by(runs.c.seq.desc())
        )
        return self._readable(query)

    def spec_paths(self, repository_id: int) -> tuple[str, ...]:
        """Return the paths of all specs that the repository has had runs of."""
        query = select(runs.c.spec_path).where(runs.c.repository_id == repository_id).distinct()
        with self._db.read() as connection:
            return tuple(sorted(connection.execute(query).scalars()))

    def _readable(self, query: Select[Any]) -> builtins.list[Run]:
        found = []
        with self._db.read() as connection:
            docs = connection.execute(query).scalars().all()
        for doc in docs:
            with contextlib.suppress(UserError):
                found.append(decode(Run, doc))
        return found

    def spec_text(self, run_id: str) -> str | None:
        """Return the exact text of the run's spec file."""
        with self._db.read() as connection:
            query = select(runs.c.spec_text).where(runs.c.id == run_id)
            return connection.execute(query).scalar_one_or_none()

    def cancel(self, run_id: str, by: str, now: datetime, *, superseded: bool = False) -> bool:
        """Note that somebody wants the run to end; False: there is no such run, or it has ended.

        `superseded`: the policy wants it. Safe to repeat: the first wish stays.
        """
        wish = CancelWish(by=by, at=now, superseded=superseded)
        acting = authority()

        def work(connection: Connection) -> bool:
            query = select(runs.c.state, runs.c.repository_id).where(runs.c.id == run_id)
            row = connection.execute(query).one_or_none()
            if row is None or row.state == State.FINISHED:
                return False
            if _wish(connection, run_id, "cancel", wish, now):
                done = deeds.wished(row.repository_id, run_id, wish)
                trail_store.add(connection, acting, [done], now)
            wake(connection, run_id, now)
            return True

        return self._db.write_at_door(work)

    def cancel_all(self, by: str, now: datetime, *, repository_id: int | None = None) -> int:
        """Note that somebody wants all live runs to end; return how many there are.

        Four statements, however many runs. Safe to repeat: the first wish of each stays.
        """
        wish, acting = CancelWish(by=by, at=now), authority()
        whose = () if repository_id is None else (runs.c.repository_id == repository_id,)
        # Only what has not ended has a deadline, and deadlines have an index.
        live = (is_set(runs.c.look_again_at), runs.c.state != State.FINISHED.value, *whose)

        def work(connection: Connection) -> int:
            values = (literal("cancel"), literal(encode(wish), JSON()), literal(now, Moment()))
            wished = select(runs.c.id, *values).where(*live)
            put = once_from(connection, wishes, ("run_id", "kind", "body", "at"), wished)
            new = set(connection.execute(put.returning(wishes.c.run_id)).scalars())
            of_runs = connection.execute(select(runs.c.repository_id, runs.c.id).where(*live))
            done = [deeds.wished(*of_run, wish) for of_run in of_runs if of_run.id in new]
            trail_store.add(connection, acting, done, now)
            return wake_where(connection, and_(*live), now)

        return self._db.write_at_door(work)

    def lend_image(self, run_id: str, lender: Run, now: datetime) -> bool:
        """Give a run the image of another; False: there is no such run, or it has one. Repeatable.

        Which run may lend to which is `images.reusable`'s to say.
        """
        lent = ImageArrived(image=lender.image, failure=None, environment=lender.environment)
        by = authority()

        def work(connection: Connection) -> bool:
            if not _is_live(connection, run_id):
                return False
            if _arrive(connection, run_id, lent, None, now):
                told = deeds.image(lender.key.repository_id, run_id, lent)
                trail_store.add(connection, by, [told], now)
            return wake(connection, run_id, now)

        return self._db.write(work)

    def refuse_build(self, run_id: str, reason: str, now: datetime) -> bool:
        """Note that no image will come; False: there is no such run, or it has one. Repeatable."""
        failed = ImageArrived(image=None, failure=reason)
        by = authority()

        def work(connection: Connection) -> bool:
            if not _is_live(connection, run_id) or not _wish(
                connection, run_id, "image", failed, now
            ):
                return False
            told = deeds.image(_repository_of(connection, run_id), run_id, failed)
            trail_store.add(connection, by, [told], now)
            return wake(connection, run_id, now)

        return self._db.write(work)

    def approve(self, run_id: str, approval: Approval) -> bool:
        """Note a person's yes; False: there is no such run, or it has ended.

        Safe to repeat: a newer yes replaces an older one.
        """
        by = authority()

        def work(connection: Connection) -> bool:
            if not _is_live(connection, run_id):
                return False
            before = _wishes(connection, run_id).approval
            if before != approval:
                _replace_wish(connection, run_id, "approval", approval, approval.at)
                place = _repository_of(connection, run_id)
                done = deeds.approved(place, run_id, before, approval)
                trail_store.add(connection, by, [done], self._db.now())
            wake(connection, run_id, approval.at)
            return True

        return self._db.write(work)

    def extend(self, run_id: str, extension: Extension) -> bool:
        """Note that somebody wants more time; False: there is no such run, or it has ended.

        Safe to repeat: the same key counts once. Whether it can be had, the loop says.
        """
        by = authority()

        def work(connection: Connection) -> bool:
            if not _is_live(connection, run_id):
                return False
            known = _wishes(connection, run_id).extensions
            if extension.key not in {one.key for one in known}:
                _replace_wish(connection, run_id, "extend", (*known, extension), extension.at)
                done = deeds.wished(_repository_of(connection, run_id), run_id, extension)
                trail_store.add(connection, by, [done], self._db.now())
                wake(connection, run_id, extension.at)
            return True

        return self._db.write(work)

    def wake(self, run_id: str, now: datetime) -> bool:
        """Make the run due now; False: there is no such run. Safe to repeat."""
        return self._db.write(lambda connection: wake(connection, run_id, now))

    def count_by_state(self) -> dict[State, int]:
        """Return how many runs stand in each state."""
        query = select(runs.c.state, func.count()).group_by(runs.c.state)
        with self._db.read() as connection:
            return {State(state): count for state, count in connection.execute(query)}

    def live_by_installation(self) -> dict[int, int]:
        """Return how many live runs each installation of the app has."""
        # Only live runs have a deadline, and deadlines have an index: a million finished runs
        # are not looked at.
        query = (
            select(repositories.c.installation_id, func.count().label("live"))
            .join(runs, runs.c.repository_id == repositories.c.id)
            .where(is_set(runs.c.look_again_at), repositories.c.installation_id.is_not(None))
            .group_by(repositories.c.installation_id)
        )
        with self._db.read() as connection:
            return {row.installation_id: row.live for row in connection.execute(query)}

    # ── the loop ───────────────────────────────────────────────────────────────────────────────

    def claim(self, *, limit: int, lease: timedelta, now: datetime) -> builtins.list[Claim]:
        """Take due runs, most overdue first, for `lease`; nobody else gets them meanwhile.

        Safe to repeat: what is claimed is not given twice. A row that cannot be read is parked.
        """

        def work(connection: Connection) -> builtins.list[Claim]:
            clock = own_clock(connection)
            found = connection.execute(statements.due(clock), {"now": now, "most": limit}).all()
            claims = [self._claim(connection, row, now) for row in found]
            lent = [claim for claim in claims if claim is not None]
            until = lease_values(clock, now, lease)
            if lent:
                connection.execute(
                    statements.lend(clock, lease),
                    [{"of_run": one.run.id, "claim_token": one.token, **until} for one in lent],
                )
            return lent

        return self._db.write(work)

    def _claim(
        self, connection: Connection, row: Row[*tuple[Any, ...]], now: datetime
    ) -> Claim | None:
        try:
            run = decode(Run, row.doc)
        except UserError as error:
            log.error("run unreadable run=%s fault=%s", row.id, error)  # noqa: TRY400 - said whole
            if schema.is_newer(connection):
                _leave(connection, row.id, now)
            else:
                _park_unreadable(connection, row.id, now)
            return None
        return Claim(
            run=run,
            version=row.version,
            token=self._new_token(),
            failures=row.failures,
            news=row.news,
            due_at=row.look_again_at,
        )

    def next_due(self, now: datetime) -> datetime | None:
        """Return when the next unclaimed run is due."""
        return next(iter(self.upcoming(1, now)), None)

    def upcoming(self, most: int, now: datetime) -> builtins.list[datetime]:
        """Return when the next unclaimed runs are due, soonest first, at most so many."""
        with self._db.read() as connection:
            query = statements.upcoming(own_clock(connection))
            values = {"now": now, "most": most}
            return builtins.list(connection.execute(query, values).scalars())

    def save(self, claim: Claim, decision: Decision, now: datetime) -> bool:
        """Store the decision if the claim still holds, and end the claim. One transaction.

        False: somebody else has changed the run, booked what was left of a budget that the
        decision counts on, taken its turn among the repository's live runs, or taken the
        instance that it takes over. Then nothing of it was stored, and the run is due as it was.
        A repeat of a save that was stored is such a case.
        """
        by = authority()

        def work(connection: Connection) -> str | None:
            why = _lost(connection, claim, decision, now)
            if why is not None:
                _unlock(connection, claim)
                return why
            values = _columns(decision.run) | _books(decision) | _after(claim, decision, now)
            changed = connection.execute(statements.SAVE, values).rowcount
            if not changed:
                _unlock(connection, claim)
                return "changed"
            _record(connection, claim.run, decision.run, now)
            trail_store.add(connection, by, deeds.of_save(claim.run, decision.run), now)
            return None

        why = self._db.write(work)
        if why is not None:
            METERS.add(metrics.SAVES_LOST, why=why)
        return why is None

    def give_up(self, claim: Claim, note: str, look_again_at: datetime) -> None:
        """End a pass that raised: count it, and let the run be due again at `look_again_at`.

        Not safe to repeat: each call counts. A run that somebody else claimed is left alone.
        """

        def work(connection: Connection) -> None:
            if _put_off(connection, statements.FAILED, claim, look_again_at):
                number = claim.run.attempt.number if claim.run.attempt else 0
                event_store.add(
                    connection,
                    claim.run.id,
                    number,
                    EventKind.NOTICE,
                    {"text": note},
                    look_again_at,
                )

        self._db.write(work)

    def put_off(self, claim: Claim, look_again_at: datetime) -> None:
        """End a pass that the database did not let end: it counts against nobody. Safe to repeat.

        A run that somebody else claimed is left alone.
        """
        self._db.write(
            lambda connection: _put_off(connection, statements.PUT_OFF, claim, look_again_at)
        )

    def forgive(self, run_id: str) -> None:
        """Forget the passes that raised: one has succeeded. Safe to repeat."""
        self._db.write(
            lambda connection: (
                connection.execute(statements.CHANGE, {"of_run": run_id, "failures": 0}).rowcount
            )
        )

    def release(self, claim: Claim) -> None:
        """End the claim and change nothing else. Safe to repeat."""
        self._db.write(lambda connection: _unlock(connection, claim))

    def wishes(self, run_id: str) -> Wishes:
        """Return what people and the Action asked of the run."""
        with self._db.read() as connection:
            return _wishes(connection, run_id)

    def count_live(self, repository_id: int, *, but: str) -> int:
        """Return how many other runs of the repository have an instance, or had until now."""
        with self._db.read() as connection:
            return _count_live(connection, repository_id, but)

    def states(self, run_ids: builtins.list[str]) -> dict[str, State]:
        """Return the state of each run that exists."""
        with self._db.read() as connection:
            found = connection.execute(statements.STATES, {"of_runs": run_ids})
            return {row.id: State(row.state) for row in found}

    def is_empty(self) -> bool:
        """Say whether no run was ever accepted."""
        with self._db.read() as connection:
            return connection.execute(select(runs.c.id).limit(1)).first() is None


# ── accept ──────────────────────────────────────────────────────────────────────────────────────


def _upsert(connection: Connection, draft: RunDraft, now: datetime) -> Accepted:
    _take_turn(connection)
    row = connection.execute(statements.BY_KEY, statements.key_values(draft.key)).one_or_none()
    if row is None:
        _insert(connection, draft, now)
        return Accepted(run_id=draft.id, created=True)
    _merge(connection, row, draft)
    return Accepted(run_id=row.id, created=False)


def _take_turn(connection: Connection) -> None:
    """Let one replica at a time look for the key and give out numbers; SQLite has one writer."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_ORDER_LOCK)))


def _insert(connection: Connection, draft: RunDraft, now: datetime) -> None:
    name = draft.spec.name if draft.spec else ""
    alike = {"of_repository": draft.key.repository_id, "of_name": name}
    highest = connection.execute(statements.HIGHEST, alike).one()
    run = _new_run(draft, (highest.number or 0) + 1, now)
    values = {
        "id": run.id,
        "seq": (highest.seq or 0) + 1,
        "repository_id": run.key.repository_id,
        "commit_sha": run.key.commit_sha,
        "spec_path": run.key.spec_path,
        "trigger": run.key.trigger,
        "name": name,
        "number": run.number,
        "created_at": now,
        "version": 1,
        "look_again_at": now,
        "spec_text": draft.spec_text,
        **_columns(run),
    }
    connection.execute(statements.INSERT, values)
    _record(connection, None, run, now)


def _new_run(draft: RunDraft, number: int, now: datetime) -> Run:
    return Run(
        id=draft.id,
        key=draft.key,
        repository=draft.repository,
        number=number,
        spec=draft.spec,
        spec_sha256=spec_digest(draft.spec_text.encode()),
        spec_faults=draft.spec_faults,
        ref=draft.ref,
        event=draft.event,
        default_branch=draft.default_branch,
        pull_request=draft.pull_request,
        workflow_run_url=draft.workflow_run_url,
        state=State.BUILDING,
        state_since=now,
        reason=Reason(cause=Cause.ACCEPTED, text="waiting for the image"),
        created_at=now,
        wants_release=draft.wants_release and not draft.origin.fork,
        notices=forks.notices(draft.spec) if draft.origin.fork else (),
        origin=draft.origin,
        approval=draft.approval,
        datasets=draft.datasets,
    )


def _merge(connection: Connection, row: Row[*tuple[Any, ...]], draft: RunDraft) -> None:
    """Add what the webhook or the Action did not know; what is known stays."""
    run = decode(Run, row.doc)
    if run.spec_sha256 != spec_digest(draft.spec_text.encode()):
        raise SpecDiffers(
            f"{draft.key.spec_path}: should be the text that run {run.id} was made from,"
            " found another. Submit the file as it is in that commit."
        )
    # What was asked for knows where: a job that brings its image has no say in that.
    is_told = run.pull_request is not None or run.origin.wants_build
    merged = replace(
        run,
        ref=run.ref or draft.ref,
        event=run.event or draft.event,
        default_branch=run.default_branch or draft.default_branch,
        pull_request=run.pull_request if is_told else draft.pull_request,
        workflow_run_url=run.workflow_run_url or draft.workflow_run_url,
        # Of a fork's commit nothing is released, whatever a later job says of it.
        wants_release=(run.wants_release or draft.wants_release) and not run.origin.fork,
    )
    if merged == run or run.state is State.FINISHED:
        return
    # The new version makes a pass that is under way lose its race: it will look again.
    connection.execute(
        update(runs)
        .where(runs.c.id == run.id)
        .values(
            doc=encode(merged),
            ref=merged.ref,
            pull_request=merged.pull_request,
            version=row.version + 1,
        )
    )


def _is_live(connection: Connection, run_id: str) -> bool:
    """Say whether there is such a run and it has not ended; nobody changes that meanwhile."""
    query = select(runs.c.state).where(runs.c.id == run_id).with_for_update()
    state = connection.execute(query).scalar_one_or_none()
    return state is not None and state != State.FINISHED


def _repository_of(connection: Connection, run_id: str) -> int:
    query = select(runs.c.repository_id).where(runs.c.id == run_id)
    found: int = connection.execute(query).scalar_one()
    return found


def _wishes(connection: Connection, run_id: str) -> Wishes:
    found = {
        row.kind: row.body for row in connection.execute(statements.WISHES, {"of_run": run_id})
    }
    extensions = decode(tuple[Extension, ...], found.get("extend", []))
    return Wishes(
        cancel=decode(CancelWish, found["cancel"]) if "cancel" in found else None,
        image=decode(ImageArrived, found["image"]) if "image" in found else None,
        approval=decode(Approval, found["approval"]) if "approval" in found else None,
        extensions=extensions,
    )


def _replace_wish(
    connection: Connection,
    run_id: str,
    kind: str,
    body: Approval | tuple[Extension, ...],
    now: datetime,
) -> None:
    values = {"body": encode(body), "at": now}
    if not insert_once(connection, wishes, {"run_id": run_id, "kind": kind, **values}):
        connection.execute(
            update(wishes).where(wishes.c.run_id == run_id, wishes.c.kind == kind).values(**values)
        )


def _wish(
    connection: Connection,
    run_id: str,
    kind: str,
    body: CancelWish | ImageArrived,
    now: datetime,
) -> bool:
    """Note a wish; False: there was one of its kind already, which stays."""
    row = {"run_id": run_id, "kind": kind, "body": encode(body), "at": now}
    return insert_once(connection, wishes, row)


def _arrive(
    connection: Connection,
    run_id: str,
    arrived: ImageArrived,
    environment: Environment | None,
    now: datetime,
) -> bool:
    """Note the image and what it consists of; from here on it is in use. False: it has one."""
    if not _wish(connection, run_id, "image", arrived, now):
        return False
    kept = arrived.environment
    if kept is not None and environment is not None:
        environment_store.keep(connection, kept, environment, now)
    values = {"image": arrived.image, "environment_id": kept.id if kept else None}
    connection.execute(statements.CHANGE, {"of_run": run_id, **values})
    return True


# ── claim and save ──────────────────────────────────────────────────────────────────────────────


def _is(key: RunKey) -> ColumnElement[bool]:
    return and_(
        runs.c.repository_id == key.repository_id,
        runs.c.commit_sha == key.commit_sha,
        runs.c.spec_path == key.spec_path,
        runs.c.trigger == key.trigger,
    )


def _columns(run: Run) -> dict[str, Any]:
    """Return the columns that repeat a part of the run, so that it can be found by them."""
    finished = run.state is State.FINISHED
    return {
        "repository": run.repository,
        "ref": run.ref,
        "state": run.state.value,
        "state_since": run.state_since,
        "outcome": run.outcome.value if finished and run.outcome else None,
        "reason": run.reason.text,
        "cost_usd": format(run.cost_usd, "f"),
        "finished_at": run.finished_at,
        "pull_request": run.pull_request,
        "doc": encode(run),
    }


def _lost(connection: Connection, claim: Claim, decision: Decision, now: datetime) -> str | None:
    """Say what the decision counted on that somebody else has taken meanwhile; None: nothing."""
    if not _pays(connection, claim.run, decision, now):
        return "budget"
    if not _has_turn(connection, claim.run, decision.live_limit):
        return "turn"
    return None if _takes(connection, claim, decision.run, now) else "warm"


def _pays(connection: Connection, run: Run, decision: Decision, now: datetime) -> bool:
    """Say whether the budgets allow what the decision commits to."""
    need = decision.commitment_usd
    return need is None or may_book(connection, run, need, decision.budgets, now)


def _has_turn(connection: Connection, run: Run, limit: int | None) -> bool:
    """Say whether so few other runs of the repository have instances, after all other saves."""
    if limit is None:
        return True
    _take_turn(connection)
    return _count_live(connection, run.key.repository_id, run.id) < limit


def _count_live(connection: Connection, repository_id: int, but: str) -> int:
    query = select(func.count()).where(
        runs.c.repository_id == repository_id,
        runs.c.finished_at.is_(None),
        runs.c.state.in_([state.value for state in _WITH_INSTANCES]),
        runs.c.id != but,
    )
    found: int = connection.execute(query).scalar_one()
    return found


def _books(decision: Decision) -> dict[str, Any]:
    """Return what the run counts against budgets from now on."""
    run = decision.run
    usd = run.cost_usd if run.state is State.FINISHED else decision.commitment_usd
    return {} if usd is None else {"booked_microusd": millionths(usd)}


def _after(claim: Claim, decision: Decision, now: datetime) -> dict[str, Any]:
    """Return what ends the claim, and which claim it is."""
    moved = decision.run.state is not claim.run.state
    return {
        "of_run": claim.run.id,
        "claim_token": claim.token,
        "read_version": claim.version,
        "known_news": claim.news,
        "next_look": decision.look_again_at,
        "now": now,
        "version": claim.version + 1,
        "lock_token": None,
        "lock_until": None,
        # A pass that only waits proves nothing, and with commands it is not over: see `forgive`.
        "failures": 0 if moved and not decision.commands else claim.failures,
    }


def _put_off(
    connection: Connection, statement: Update, claim: Claim, look_again_at: datetime
) -> int:
    """End a claim, or what followed its save; return 0 where somebody else claimed the run."""
    values = {
        "of_run": claim.run.id,
        "claim_token": claim.token,
        "look_again_at": look_again_at,
    }
    return connection.execute(statement, values).rowcount


def _unlock(connection: Connection, claim: Claim) -> None:
    connection.execute(statements.UNLOCK, {"of_run": claim.run.id, "claim_token": claim.token})


def _record(connection: Connection, before: Run | None, run: Run, now: datetime) -> None:
    """Write what follows from a changed run: its feed, its new instance, what GitHub shows."""
    if before is None or (before.state, before.outcome) != (run.state, run.outcome):
        _state_event(connection, run, now)
    if run.attempt and (before is None or len(before.attempts) < len(run.attempts)):
        _instances(connection, run, run.attempt)
    _keep(connection, before, run, now)
    if run.key.repository_id and _differs(before, run):
        publication_store.make_due(connection, run, now)


def _takes(connection: Connection, claim: Claim, run: Run, now: datetime) -> bool:
    """Take the instance that a new attempt counts on; False: it is no longer there to be taken."""
    new = [one for one in run.attempts[len(claim.run.attempts) :] if one.offer.warm]
    if not new:
        return True
    # Whoever lost the race for the run must not take anything for it.
    held = select(runs.c.id).where(
        runs.c.id == claim.run.id,
        runs.c.version == claim.version,
        runs.c.lock_token == claim.token,
    )
    if connection.execute(held.with_for_update()).one_or_none() is None:
        return False
    return all(warm_store.take(connection, run, attempt, now) for attempt in new)


def _keep(connection: Connection, before: Run | None, run: Run, now: datetime) -> None:
    """Let the instance wait that this save hands over."""
    known = before.attempts if before is not None else ()
    for number, attempt in enumerate(run.attempts):
        was = known[number].kept_until if number < len(known) else None
        if attempt.kept_until is not None and was is None:
            warm_store.keep(connection, run, attempt, now)
            # Here and not by a command alone: no later pass gives back what waits.
            instance_store.close(connection, attempt.members[0].name, now)


def _differs(before: Run | None, run: Run) -> bool:
    """Say whether there is something new to show: the cost alone grows with every look."""
    return before is None or replace(run, cost_usd=before.cost_usd) != before


def _state_event(connection: Connection, run: Run, now: datetime) -> None:
    number = run.attempt.number if run.attempt else 0
    body: dict[str, object] = {
        "state": run.state.value,
        "outcome": run.outcome.value if run.outcome else None,
        "cause": run.reason.cause.value,
        "reason": run.reason.text,
        "attempt": number,
    }
    event_store.add(connection, run.id, number, EventKind.STATE, body, now)


def _instances(connection: Connection, run: Run, attempt: Attempt) -> None:
    earlier = run.attempts[-2].members if len(run.attempts) > 1 else ()
    before = {member.rank: member.name for member in earlier}
    for member in attempt.members:
        row = {
            "name": member.name,
            "run_id": run.id,
            "attempt": attempt.number,
            "rank": member.rank if len(attempt.members) > 1 else None,
            "provider": attempt.offer.provider,
            "repository_id": run.key.repository_id,
            "ordered_at": attempt.ordered_at,
            "create_seen": _taken_over(attempt) if attempt.offer.warm else None,
        }
        instance_store.add(connection, row, before.get(member.rank))


def _taken_over(attempt: Attempt) -> dict[str, Any]:
    """Return the answer to the order of an instance that is there already."""
    seen = CreateSeen(outcome=CreateOutcome.CREATED, at=attempt.ordered_at, detail="kept warm")
    value: dict[str, Any] = encode(seen)
    return value


def _read(doc: Any) -> Run:
    try:
        return decode(Run, doc)
    except UserError as error:  # the user has nothing to mend here
        raise RunUnreadable(_UNREADABLE) from error


def _leave(connection: Connection, run_id: str, now: datetime) -> None:
    """Leave a row to the newer servers, one of which wrote it; look in vain a little later."""
    later = now + _LEFT_FOR
    connection.execute(update(runs).where(runs.c.id == run_id).values(look_again_at=later))


def _park_unreadable(connection: Connection, run_id: str, now: datetime) -> None:
    """Take a row out of the loop that no version of ours can read; the sweep ends its instances."""
    connection.execute(
        update(runs)
        .where(runs.c.id == run_id)
        .values(
            state=State.FINISHED.value,
            state_since=now,
            outcome=Outcome.INFRASTRUCTURE.value,
            reason=_UNREADABLE,
            finished_at=now,
            look_again_at=None,
        )
    )
    publication_store.wake_shown(connection, run_id, now)
    event_store.add(connection, run_id, 0, EventKind.NOTICE, {"text": _UNREADABLE}, now)


def _run_row(row: Row[*tuple[Any, ...]]) -> RunRow:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented way to a dict
    values["state"] = State(row.state)
    values["outcome"] = Outcome(row.outcome) if row.outcome else None
    values["cost_usd"] = Decimal(row.cost_usd)
    return RunRow(**values)
