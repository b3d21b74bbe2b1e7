"""Keep runs: accept them, lend them to one pass at a time, save what was decided."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Select, func, select

from cynthus.wire_image import Environment
from webhook_server import metrics
from webhook_server.acting import authority
from webhook_server.metrics import METERS
from webhook_server.runs import deeds
from webhook_server.runs.commands import Decision
from webhook_server.runs.model import Approval, Extension, Run, RunDraft, RunKey, State
from webhook_server.runs.observations import CancelWish, ImageArrived, InstanceSeen
from webhook_server.stores import (
    instance_store,
    run_accepting,
    run_claims,
    run_reading,
    run_wishes,
    token_store,
    trail_store,
)
from webhook_server.stores import run_statements as statements
from webhook_server.stores.database import Database, own_clock
from webhook_server.stores.run_accepting import Accepted, TokenReused
from webhook_server.stores.run_claims import Claim
from webhook_server.stores.run_reading import RunRow
from webhook_server.stores.run_turns import count_live
from webhook_server.stores.run_wishes import Wishes
from webhook_server.stores.tables import runs
from webhook_server.stores.waking import wake
from webhook_server.traces import run_accepted


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
        accepted = self.accept_async(
            draft, arrived=arrived, token_id=token_id, now=now, environment=environment
        ).result()
        run_accepted(accepted.run_id)
        return accepted

    def accept_async(
        self,
        draft: RunDraft,
        *,
        arrived: ImageArrived | None,
        token_id: tuple[str, datetime] | None,
        now: datetime,
        environment: Environment | None = None,
    ) -> Future[Accepted]:
        """As `accept`, for a door that has others to hear meanwhile: many share a commit.

        The future raises what `accept` does; that the server stops is raised at once. Whoever
        waits for it tells the traces.
        """
        by = authority()

        def work(connection: Connection) -> Accepted:
            if token_id is not None and not token_store.use(connection, *token_id):
                raise TokenReused("token: should be used once, found it used. Ask for a new one.")
            accepted = run_accepting.upsert(connection, draft, now)
            done = [deeds.start(draft)] if accepted.created else []
            if arrived is not None and run_wishes.arrive(
                connection, accepted.run_id, arrived, environment, now
            ):
                done.append(deeds.image(draft.key.repository_id, accepted.run_id, arrived))
            trail_store.add(connection, by, done, now)
            if not accepted.created:  # a new run is due already
                wake(connection, accepted.run_id, now)
            return accepted

        return self._db.write_at_door_async(work)

    def get(self, run_id: str) -> Run | None:
        """Return the run."""
        return self._one(run_reading.of_id(run_id))

    def find(self, key: RunKey) -> Run | None:
        """Return the run that the key means."""
        return self._one(run_reading.of_key(key))

    def waits(self, key: RunKey) -> bool:
        """Say whether the key's run had a build asked for and has neither image nor end yet."""
        run = self.find(key)
        if run is None or not run.origin.wants_build or run.state is not State.BUILDING:
            return False
        return self.wishes(run.id).image is None

    def _one(self, query: Select[Any]) -> Run | None:
        with self._db.read() as connection:
            doc = connection.execute(query).scalar_one_or_none()
        return None if doc is None else run_reading.run_of(doc)

    def list(self, *, repository_id: int | None, limit: int, before: int | None) -> list[RunRow]:
        """Return the newest runs first; `before` is the last row's `seq` of the page before."""
        query = run_reading.listed(repository_id, limit, before)
        with self._db.read() as connection:
            return [run_reading.row_of(row) for row in connection.execute(query)]

    def of_pull(self, repository_id: int, number: int, *, limit: int) -> builtins.list[Run]:
        """Return a pull request's newest runs, newest first; unreadable ones are left out."""
        return self._readable(run_reading.of_pull(repository_id, number, limit))

    def live_of_ref(self, repository_id: int, ref: str) -> builtins.list[Run]:
        """Return the runs of a branch that have not ended, newest first."""
        return self._readable(run_reading.live_of_ref(repository_id, ref))

    def of_name(
        self, repository_id: int, name: str, *, number: int | None = None, limit: int = 20
    ) -> builtins.list[Run]:
        """Return the newest runs of a spec's name, newest first; `number`: that one only."""
        return self._readable(run_reading.of_name(repository_id, name, number, limit))

    def of_branch(
        self, repository_id: int, name: str, branch: str, *, limit: int
    ) -> builtins.list[Run]:
        """Return the newest succeeded runs of a spec's name on a branch, newest first."""
        return self._readable(run_reading.of_branch(repository_id, name, branch, limit))

    def live(self, repository_id: int) -> builtins.list[Run]:
        """Return a repository's runs that have not ended, newest first."""
        return self._readable(run_reading.live(repository_id))

    def of_commit(self, repository_id: int, commit_sha: str) -> builtins.list[Run]:
        """Return all runs of a commit, newest first."""
        return self._readable(run_reading.of_commit(repository_id, commit_sha))

    def spec_paths(self, repository_id: int) -> tuple[str, ...]:
        """Return the paths of all specs that the repository has had runs of."""
        query = select(runs.c.spec_path).where(runs.c.repository_id == repository_id).distinct()
        with self._db.read() as connection:
            return tuple(sorted(connection.execute(query).scalars()))

    def _readable(self, query: Select[Any]) -> builtins.list[Run]:
        with self._db.read() as connection:
            docs = connection.execute(query).scalars().all()
        return run_reading.readable(docs)

    def spec_text(self, run_id: str) -> str | None:
        """Return the exact text of the run's spec file."""
        with self._db.read() as connection:
            query = select(runs.c.spec_text).where(runs.c.id == run_id)
            return connection.execute(query).scalar_one_or_none()

    def cancel(self, run_id: str, by: str, now: datetime, *, superseded: bool = False) -> bool:
        """Note that somebody wants the run to end; False: there is no such run, or it has ended.

        `superseded`: the policy wants it. Safe to repeat: the first wish stays.
        """
        wish, acting = CancelWish(by=by, at=now, superseded=superseded), authority()
        return self._db.write_at_door(
            lambda connection: run_wishes.cancel(connection, run_id, wish, acting, now)
        )

    def cancel_all(self, by: str, now: datetime, *, repository_id: int | None = None) -> int:
        """Note that somebody wants all live runs to end; return how many there are.

        Four statements, however many runs. Safe to repeat: the first wish of each stays.
        """
        wish, acting = CancelWish(by=by, at=now), authority()
        return self._db.write_at_door(
            lambda connection: run_wishes.cancel_all(connection, repository_id, wish, acting, now)
        )

    def lend_image(self, run_id: str, lender: Run, now: datetime) -> bool:
        """Give a run the image of another; False: there is no such run, or it has one. Repeatable.

        Which run may lend to which is `images.reusable`'s to say.
        """
        by = authority()
        return self._db.write(
            lambda connection: run_wishes.lend_image(connection, run_id, lender, by, now)
        )

    def refuse_build(self, run_id: str, reason: str, now: datetime) -> bool:
        """Note that no image will come; False: there is no such run, or it has one. Repeatable."""
        failed, by = ImageArrived(image=None, failure=reason), authority()
        return self._db.write(
            lambda connection: run_wishes.refuse_build(connection, run_id, failed, by, now)
        )

    def approve(self, run_id: str, approval: Approval) -> bool:
        """Note a person's yes; False: there is no such run, or it has ended.

        Safe to repeat: a newer yes replaces an older one.
        """
        by = authority()
        return self._db.write(
            lambda connection: run_wishes.approve(connection, run_id, approval, by, self._db.now())
        )

    def extend(self, run_id: str, extension: Extension) -> bool:
        """Note that somebody wants more time; False: there is no such run, or it has ended.

        Safe to repeat: the same key counts once. Whether it can be had, the loop says.
        """
        by = authority()
        return self._db.write(
            lambda connection: run_wishes.extend(connection, run_id, extension, by, self._db.now())
        )

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
        query = run_reading.by_installation()
        with self._db.read() as connection:
            return {row.installation_id: row.live for row in connection.execute(query)}

    # ── the loop ───────────────────────────────────────────────────────────────────────────────

    def claim(self, *, limit: int, lease: timedelta, now: datetime) -> builtins.list[Claim]:
        """Take due runs, most overdue first, for `lease`; nobody else gets them meanwhile.

        Safe to repeat: what is claimed is not given twice. A row that cannot be read is parked.
        """
        return self._db.write(
            lambda connection: run_claims.lend_due(
                connection, limit=limit, lease=lease, now=now, new_token=self._new_token
            )
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
        why = self._db.write(
            lambda connection: run_claims.save(connection, claim, decision, by, now)
        )
        if why is not None:
            METERS.add(metrics.SAVES_LOST, why=why)
        return why is None

    def give_up(self, claim: Claim, note: str, look_again_at: datetime) -> None:
        """End a pass that raised: count it, and let the run be due again at `look_again_at`.

        Not safe to repeat: each call counts. A run that somebody else claimed is left alone.
        """
        self._db.write(
            lambda connection: run_claims.give_up(connection, claim, note, look_again_at)
        )

    def put_off(self, claim: Claim, look_again_at: datetime) -> None:
        """End a pass that the database did not let end: it counts against nobody. Safe to repeat.

        A run that somebody else claimed is left alone.
        """
        self._db.write(
            lambda connection: run_claims.put_off(
                connection, statements.PUT_OFF, claim, look_again_at
            )
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
        self._db.write(lambda connection: run_claims.unlock(connection, claim))

    def wishes(self, run_id: str) -> Wishes:
        """Return what people and the Action asked of the run."""
        with self._db.read() as connection:
            return run_wishes.wishes_of(connection, run_id)

    def seen(self, run_id: str, names: Collection[str]) -> tuple[Wishes, dict[str, InstanceSeen]]:
        """Return what was asked of the run, and what a pass looks at of these of its instances.

        Both as of one moment, since every pass over the run reads both.
        """
        with self._db.read() as connection:
            wishes = run_wishes.wishes_of(connection, run_id)
            return wishes, instance_store.seen(connection, names)

    def count_live(self, repository_id: int, *, but: str) -> int:
        """Return how many other runs of the repository have an instance, or had until now."""
        with self._db.read() as connection:
            return count_live(connection, repository_id, but)

    def is_empty(self) -> bool:
        """Say whether no run was ever accepted."""
        with self._db.read() as connection:
            return connection.execute(select(runs.c.id).limit(1)).first() is None
