"""Keep what the outside shows of each run, so that only differences are sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, and_, bindparam, case, func, or_, select, update

from webhook_server.acting import authority
from webhook_server.runs import deeds
from webhook_server.runs.model import Run, State, deserves_release
from webhook_server.runs.observations import ReleaseSeen, ReleaseState
from webhook_server.runs.retention import Released
from webhook_server.runs.trail import Deed
from webhook_server.stores import trail_store
from webhook_server.stores.database import Database, insert_once, lease_clock, lease_end
from webhook_server.stores.tables import publications, repositories, runs
from webhook_server.stores.waking import wake


class PublicationKind(StrEnum):
    """What is shown of a subject: a run, a pull request, a branch."""

    CHECK_RUN = "check_run"  #: of a run
    RELEASE = "release"  #: of a run
    BUILD = "build"  #: of a run: a workflow run is asked for its image
    COMMENT = "comment"  #: of a pull request: the sticky one
    PLAN = "plan"  #: of a pull request: the check run of its head's plan
    RETENTION = "retention"  #: of a run that has its release: the older ones of its name
    POLICY = "policy"  #: of a commit: the check run of its policy file


class PublicationState(StrEnum):
    """Where a publication stands."""

    PENDING = "pending"
    DONE = "done"
    REFUSED = "refused"  #: GitHub said no for good; the note says why


@dataclass(frozen=True, kw_only=True)
class Publication:
    """One thing shown of one subject, as far as it was sent."""

    subject: str  # a run's id, `pull/<repository id>/<number>`, `commit/<repository id>/<sha>`
    kind: PublicationKind
    repository_id: int
    external_id: int | None = None  # check-run id, release id
    sent_digest: str | None = None  # of what was last sent
    sent_at: datetime | None = None
    sent: dict[str, Any] = field(default_factory=dict)  # progress: annotations, assets done
    state: PublicationState = PublicationState.PENDING
    url: str | None = None
    note: str | None = None
    due_at: datetime | None = None  # when to look again; None: when the run changes
    failures: int = 0
    token: str | None = None  # proves the claim
    news: int = 0  # how often the run had changed


class PublicationStore:
    """Reads and writes the table `publications`."""

    def __init__(self, db: Database, new_token: Callable[[], str] = lambda: uuid4().hex) -> None:
        self._db = db
        self._new_token = new_token

    def claim(self, limit: int, lease: timedelta, now: datetime) -> list[Publication]:
        """Take due publications, most overdue first, for `lease`. Nobody else gets them."""
        return self._db.write(lambda connection: self._claim(connection, limit, lease, now))

    def _claim(
        self, connection: Connection, limit: int, lease: timedelta, now: datetime
    ) -> list[Publication]:
        free = or_(
            publications.c.lock_until.is_(None),
            publications.c.lock_until < lease_clock(connection, now),
        )
        query = (
            select(publications)
            .where(publications.c.due_at <= now, free)
            .order_by(publications.c.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        token = self._new_token()
        found = [_publication(row, token) for row in connection.execute(query)]
        for item in found:
            connection.execute(
                update(publications)
                .where(_is(item))
                .values(lock_token=token, lock_until=lease_end(connection, now, lease))
            )
        return found

    def put_off(self, installation_id: int, until: datetime, now: datetime) -> int:
        """Let all that is due of an installation wait until then; return how much it was.

        What somebody has claimed is left to them. Safe to repeat.
        """
        theirs = select(repositories.c.id).where(repositories.c.installation_id == installation_id)

        def work(connection: Connection) -> int:
            free = or_(
                publications.c.lock_until.is_(None),
                publications.c.lock_until < lease_clock(connection, now),
            )
            due = and_(publications.c.due_at <= now, publications.c.repository_id.in_(theirs))
            return connection.execute(
                update(publications).where(due, free).values(due_at=until)
            ).rowcount

        return self._db.write(work)

    def next_due(self) -> datetime | None:
        """Return when the next publication is due."""
        query = select(func.min(publications.c.due_at)).where(publications.c.due_at.is_not(None))
        with self._db.read() as connection:
            found: datetime | None = connection.execute(query).scalar_one()
        return found

    def save(self, publication: Publication, now: datetime | None = None) -> bool:
        """Store what was sent and end the claim; False: the claim was lost, nothing is stored.

        `due_at` holds only if the run has not changed since the claim: then it is due at once.
        A release wakes its run. A repeat returns False and changes nothing.
        """
        at, by = now or self._db.now(), authority()

        def work(connection: Connection) -> bool:
            changed = connection.execute(
                update(publications)
                .where(_is(publication), publications.c.lock_token == publication.token)
                .values(**_values(publication, at))
            ).rowcount
            if changed and publication.kind is PublicationKind.RELEASE:
                wake(connection, publication.subject, at)
                trail_store.add(connection, by, _release_deeds(publication), at)
            return changed == 1

        return self._db.write(work)

    def get(self, subject: str, kind: PublicationKind) -> Publication | None:
        """Return what is shown of a subject."""
        which = {"of_subject": subject, "of_kind": kind.value}
        with self._db.read() as connection:
            row = connection.execute(_GET, which).one_or_none()
        return None if row is None else _publication(row, row.lock_token)

    def release_seen(self, run_id: str) -> ReleaseSeen | None:
        """Return where the run's release stands; None: none was asked for yet."""
        found = self.get(run_id, PublicationKind.RELEASE)
        if found is None:
            return None
        return ReleaseSeen(state=_RELEASE[found.state], url=found.url, text=found.note)

    def release_of(self, repository_id: int, release_id: int) -> str | None:
        """Return the run whose published release this is; None: none of ours, or withdrawn."""
        query = select(publications.c.subject).where(
            publications.c.repository_id == repository_id,
            publications.c.external_id == release_id,
            publications.c.kind == PublicationKind.RELEASE.value,
            publications.c.state == PublicationState.DONE.value,
        )
        with self._db.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def released(self, repository_id: int, name: str) -> list[Released]:
        """Return all published releases of a spec's name, newest run first."""
        query = (
            select(publications.c.external_id, publications.c.sent)
            .add_columns(runs.c.id, runs.c.number, runs.c.created_at)
            .join(runs, runs.c.id == publications.c.subject)
            .where(
                runs.c.repository_id == repository_id,
                runs.c.name == name,
                publications.c.kind == PublicationKind.RELEASE.value,
                publications.c.state == PublicationState.DONE.value,
                publications.c.external_id.is_not(None),
            )
            .order_by(runs.c.number.desc())
        )
        with self._db.read() as connection:
            return [_released(row) for row in connection.execute(query)]

    def withdraw(self, run_id: str, note: str, now: datetime) -> None:
        """Note that a published release is gone; its run will say so. Safe to repeat."""
        by = authority()

        def work(connection: Connection) -> None:
            repository_id = connection.execute(
                update(publications)
                .where(
                    publications.c.subject == run_id,
                    publications.c.kind == PublicationKind.RELEASE.value,
                    publications.c.state == PublicationState.DONE.value,
                )
                .values(
                    state=PublicationState.REFUSED.value,
                    url=None,
                    note=note,
                    due_at=None,
                    lock_token=None,  # whoever looks for its twins just now must not bring it back
                )
                .returning(publications.c.repository_id)
            ).scalar_one_or_none()
            if repository_id is not None:
                wake(connection, run_id, now)
                done = deeds.withdrawn(repository_id, run_id, note)
                trail_store.add(connection, by, [done], now)

        self._db.write(work)

    def keep_release(self, run_id: str) -> None:
        """Note that nobody may delete a release by rule: it is not as we made it. Repeatable."""
        mine = and_(
            publications.c.subject == run_id,
            publications.c.kind == PublicationKind.RELEASE.value,
        )

        def work(connection: Connection) -> None:
            sent = connection.execute(select(publications.c.sent).where(mine)).scalar_one_or_none()
            if sent is not None:
                kept = {**sent, "kept": True}
                connection.execute(
                    update(publications).where(mine).values(sent=kept, lock_token=None)
                )

        self._db.write(work)

    def make_retention_due(self, item: Publication, now: datetime) -> None:
        """Let the publisher look at older releases, now that this one is there. Safe to repeat."""
        values = {
            "subject": item.subject,
            "kind": PublicationKind.RETENTION.value,
            "repository_id": item.repository_id,
            "due_at": now,
        }
        self._db.write(lambda connection: insert_once(connection, publications, values))


def _release_deeds(publication: Publication) -> list[Deed]:
    if publication.state is PublicationState.PENDING:
        return []
    url = publication.url if publication.state is PublicationState.DONE else None
    return [deeds.released(publication.repository_id, publication.subject, url, publication.note)]


def _released(row: Row[Any]) -> Released:
    return Released(
        run_id=row.id,
        number=row.number,
        release_id=row.external_id,
        tag=str(row.sent.get("tag", "")),
        at=row.created_at,
        kept=bool(row.sent.get("kept")),
    )


_RELEASE = {
    PublicationState.PENDING: ReleaseState.PENDING,
    PublicationState.DONE: ReleaseState.PUBLISHED,
    PublicationState.REFUSED: ReleaseState.REFUSED,
}


def make_due(connection: Connection, run: Run, now: datetime) -> None:
    """Let the publisher look at a changed run: its check run, and its release once it is due."""
    _due(connection, run, PublicationKind.CHECK_RUN, now)
    if deserves_release(run):
        _due(connection, run, PublicationKind.RELEASE, now)
    if run.origin.wants_build and run.state is State.BUILDING:
        _due(connection, run, PublicationKind.BUILD, now)
    if run.pull_request is not None:
        repository_id = run.key.repository_id
        wake_pull(connection, repository_id, run.pull_request, PublicationKind.COMMENT, now)


def subject_of(repository_id: int, number: int) -> str:
    """Name a pull request, as publications do."""
    return f"pull/{repository_id}/{number}"


def pull_of(subject: str) -> tuple[int, int]:
    """Return the repository's id and the number of the pull request that a subject names."""
    _, repository_id, number = subject.split("/")
    return int(repository_id), int(number)


def commit_subject(repository_id: int, sha: str) -> str:
    """Name a commit, as publications do."""
    return f"commit/{repository_id}/{sha}"


def commit_of(subject: str) -> str:
    """Return the sha that a subject names."""
    return subject.rpartition("/")[2]


def make_commit_due(
    connection: Connection, repository_id: int, sha: str, *, touched: bool, now: datetime
) -> None:
    """Let the publisher look at a commit's policy file. Safe to repeat.

    `touched` False: it is not known whether the commit changes the file; then one look is enough.
    True: a branch that holds it may have become the default branch's, and the file counts now.
    """
    values = {
        "subject": commit_subject(repository_id, sha),
        "kind": PublicationKind.POLICY.value,
        "repository_id": repository_id,
        "sent": {"touched": touched},
        "due_at": now,
    }
    if insert_once(connection, publications, values) or not touched:
        return
    mine = and_(publications.c.subject == values["subject"], publications.c.kind == values["kind"])
    row = select(publications.c.sent).where(mine).with_for_update()
    sent = {**connection.execute(row).scalar_one(), "touched": True}
    connection.execute(
        update(publications)
        .where(mine)
        .values(
            sent=sent,
            due_at=now,
            news=publications.c.news + 1,
            state=PublicationState.PENDING.value,
        )
    )


def make_pull_due(
    connection: Connection, repository_id: int, number: int, kind: PublicationKind, now: datetime
) -> None:
    """Let the publisher look at something shown of a pull request; it need not exist yet."""
    values = {
        "subject": subject_of(repository_id, number),
        "kind": kind.value,
        "repository_id": repository_id,
        "due_at": now,
    }
    if not insert_once(connection, publications, values):
        wake_pull(connection, repository_id, number, kind, now)


def wake_pull(
    connection: Connection, repository_id: int, number: int, kind: PublicationKind, now: datetime
) -> None:
    """Do the same for what exists only: nobody is written to who has not asked."""
    connection.execute(
        update(publications)
        .where(
            publications.c.subject == subject_of(repository_id, number),
            publications.c.kind == kind.value,
        )
        .values(
            due_at=now,
            news=publications.c.news + 1,
            state=PublicationState.PENDING.value,
        )
    )


def wake_shown(connection: Connection, run_id: str, now: datetime) -> None:
    """Let the publisher look at whatever is still open of a run that nobody can read."""
    pending = publications.c.state == PublicationState.PENDING.value
    connection.execute(
        update(publications)
        .where(publications.c.subject == run_id, pending)
        .values(due_at=now, news=publications.c.news + 1)
    )


#: Made once: the run's later steps change nothing of them.
_ONCE = frozenset({PublicationKind.RELEASE, PublicationKind.BUILD})

# Built once: each change of a run asks for these.
_WHICH = (
    publications.c.subject == bindparam("of_subject"),
    publications.c.kind == bindparam("of_kind"),
)
_GET = select(publications).where(*_WHICH)
_CHANGED = (
    update(publications)
    .where(*_WHICH)
    .values(due_at=bindparam("due_at"), news=publications.c.news + 1)
)


def _due(connection: Connection, run: Run, kind: PublicationKind, now: datetime) -> None:
    which = {"of_subject": run.id, "of_kind": kind.value}
    # Changed first, since all but a run's first change find it there.
    if kind not in _ONCE and connection.execute(_CHANGED, which | {"due_at": now}).rowcount:
        return
    values = {
        "subject": run.id,
        "kind": kind.value,
        "repository_id": run.key.repository_id,
        "due_at": now,
    }
    insert_once(connection, publications, values)


def _is(publication: Publication) -> Any:
    return and_(
        publications.c.subject == publication.subject,
        publications.c.kind == publication.kind.value,
    )


def _values(publication: Publication, now: datetime) -> dict[str, Any]:
    return {
        "external_id": publication.external_id,
        "sent_digest": publication.sent_digest,
        "sent_at": publication.sent_at,
        "sent": publication.sent,
        "state": publication.state.value,
        "url": publication.url,
        "note": publication.note,
        "failures": publication.failures,
        "due_at": case(
            (publications.c.news == publication.news, publication.due_at),
            else_=now,
        ),
        "lock_token": None,
        "lock_until": None,
    }


def _publication(row: Row[Any], token: str | None) -> Publication:
    return Publication(
        subject=row.subject,
        kind=PublicationKind(row.kind),
        repository_id=row.repository_id,
        external_id=row.external_id,
        sent_digest=row.sent_digest,
        sent_at=row.sent_at,
        sent=row.sent,
        state=PublicationState(row.state),
        url=row.url,
        note=row.note,
        due_at=row.due_at,
        failures=row.failures,
        token=token,
        news=row.news,
    )
