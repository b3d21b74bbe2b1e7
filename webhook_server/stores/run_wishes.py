"""Note what people and the Action wish of a run, each in the transaction that tells the trail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import JSON, Connection, and_, literal, select, update

from cynthus.codec import decode, encode
from cynthus.wire_image import Environment
from webhook_server.runs import deeds
from webhook_server.runs.model import Approval, Extension, Run, State
from webhook_server.runs.observations import CancelWish, ImageArrived
from webhook_server.runs.trail import Authority
from webhook_server.stores import environment_store, trail_store
from webhook_server.stores import run_statements as statements
from webhook_server.stores.database import insert_once, once_from
from webhook_server.stores.tables import Moment, is_set, runs, wishes
from webhook_server.stores.waking import wake, wake_where


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What people and the Action asked of one run."""

    cancel: CancelWish | None
    image: ImageArrived | None
    approval: Approval | None = None
    extensions: tuple[Extension, ...] = ()


def wishes_of(connection: Connection, run_id: str) -> Wishes:
    """Return what was asked of the run."""
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


def cancel(
    connection: Connection, run_id: str, wish: CancelWish, by: Authority, now: datetime
) -> bool:
    """Note that somebody wants the run to end; False: there is no such run, or it has ended."""
    query = select(runs.c.state, runs.c.repository_id).where(runs.c.id == run_id)
    row = connection.execute(query).one_or_none()
    if row is None or row.state == State.FINISHED:
        return False
    if _note(connection, run_id, "cancel", wish, now):
        done = deeds.wished(row.repository_id, run_id, wish)
        trail_store.add(connection, by, [done], now)
    wake(connection, run_id, now)
    return True


def cancel_all(
    connection: Connection,
    repository_id: int | None,
    wish: CancelWish,
    by: Authority,
    now: datetime,
) -> int:
    """Note that somebody wants all live runs to end; return how many there are."""
    whose = () if repository_id is None else (runs.c.repository_id == repository_id,)
    # Only what has not ended has a deadline, and deadlines have an index.
    live = (is_set(runs.c.look_again_at), runs.c.state != State.FINISHED.value, *whose)
    values = (literal("cancel"), literal(encode(wish), JSON()), literal(now, Moment()))
    wished = select(runs.c.id, *values).where(*live)
    put = once_from(connection, wishes, ("run_id", "kind", "body", "at"), wished)
    new = set(connection.execute(put.returning(wishes.c.run_id)).scalars())
    of_runs = connection.execute(select(runs.c.repository_id, runs.c.id).where(*live))
    done = [deeds.wished(*of_run, wish) for of_run in of_runs if of_run.id in new]
    trail_store.add(connection, by, done, now)
    return wake_where(connection, and_(*live), now)


def arrive(
    connection: Connection,
    run_id: str,
    arrived: ImageArrived,
    environment: Environment | None,
    now: datetime,
) -> bool:
    """Note the image and what it consists of; from here on it is in use. False: it has one."""
    if not _note(connection, run_id, "image", arrived, now):
        return False
    kept = arrived.environment
    if kept is not None and environment is not None:
        environment_store.keep(connection, kept, environment, now)
    values = {"image": arrived.image, "environment_id": kept.id if kept else None}
    connection.execute(statements.CHANGE, {"of_run": run_id, **values})
    return True


def lend_image(
    connection: Connection, run_id: str, lender: Run, by: Authority, now: datetime
) -> bool:
    """Give a run the image of another; False: there is no such run, or it has one."""
    lent = ImageArrived(image=lender.image, failure=None, environment=lender.environment)
    if not _is_live(connection, run_id):
        return False
    if arrive(connection, run_id, lent, None, now):
        told = deeds.image(lender.key.repository_id, run_id, lent)
        trail_store.add(connection, by, [told], now)
    return wake(connection, run_id, now)


def refuse_build(
    connection: Connection, run_id: str, failed: ImageArrived, by: Authority, now: datetime
) -> bool:
    """Note that no image will come; False: there is no such run, or it has one."""
    if not _is_live(connection, run_id) or not _note(connection, run_id, "image", failed, now):
        return False
    told = deeds.image(_repository_of(connection, run_id), run_id, failed)
    trail_store.add(connection, by, [told], now)
    return wake(connection, run_id, now)


def approve(
    connection: Connection, run_id: str, approval: Approval, by: Authority, now: datetime
) -> bool:
    """Note a person's yes; False: there is no such run, or it has ended."""
    if not _is_live(connection, run_id):
        return False
    before = wishes_of(connection, run_id).approval
    if before != approval:
        _replace(connection, run_id, "approval", approval, approval.at)
        place = _repository_of(connection, run_id)
        done = deeds.approved(place, run_id, before, approval)
        trail_store.add(connection, by, [done], now)
    wake(connection, run_id, approval.at)
    return True


def extend(
    connection: Connection, run_id: str, extension: Extension, by: Authority, now: datetime
) -> bool:
    """Note that somebody wants more time; False: there is no such run, or it has ended."""
    if not _is_live(connection, run_id):
        return False
    known = wishes_of(connection, run_id).extensions
    if extension.key not in {one.key for one in known}:
        _replace(connection, run_id, "extend", (*known, extension), extension.at)
        done = deeds.wished(_repository_of(connection, run_id), run_id, extension)
        trail_store.add(connection, by, [done], now)
        wake(connection, run_id, extension.at)
    return True


def _is_live(connection: Connection, run_id: str) -> bool:
    """Say whether there is such a run and it has not ended; nobody changes that meanwhile."""
    query = select(runs.c.state).where(runs.c.id == run_id).with_for_update()
    state = connection.execute(query).scalar_one_or_none()
    return state is not None and state != State.FINISHED


def _repository_of(connection: Connection, run_id: str) -> int:
    query = select(runs.c.repository_id).where(runs.c.id == run_id)
    found: int = connection.execute(query).scalar_one()
    return found


def _note(
    connection: Connection,
    run_id: str,
    kind: str,
    body: CancelWish | ImageArrived,
    now: datetime,
) -> bool:
    """Note a wish; False: there was one of its kind already, which stays."""
    row = {"run_id": run_id, "kind": kind, "body": encode(body), "at": now}
    return insert_once(connection, wishes, row)


def _replace(
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
