"""Read what the books say of the machines that a provider lists, all as of one moment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from webhook_server.runs.model import State
from webhook_server.stores import instance_store, run_reading, warm_store
from webhook_server.stores.database import Database
from webhook_server.stores.instance_store import InstanceRow


@dataclass(frozen=True, kw_only=True)
class Account:
    """What is on record beside a provider's list."""

    #: Of the machines that were kept: the name under which each works now, or waits.
    used_as: Mapping[str, str]
    rows: Mapping[str, InstanceRow]  # by name: of what is listed, and of what it is used as
    states: Mapping[str, State]  # of their runs
    waiting: frozenset[str]  # machines that wait for a run, or are being given back after it
    missing: tuple[InstanceRow, ...]  # the provider's, under way, and not listed


class FleetStore:
    """Reads the tables `instances`, `kept_instances` and `runs`; changes nothing."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def account(
        self, provider: str, listed: Collection[str], instances: Collection[str]
    ) -> Account:
        """Return what is on record beside a provider's list of names.

        `instances` are those of the names that are machines: a disk that is left says nothing of
        the instance it belonged to.
        """
        with self._db.read() as connection:
            used_as = warm_store.users(connection, listed)
            names = {*listed, *used_as.values()}
            rows = {row.name: row for row in instance_store.rows(connection, names)}
            there = {*instances, *(used_as[name] for name in instances if name in used_as)}
            absent = [
                name
                for name in instance_store.unfinished(connection, provider)
                if name not in there
            ]
            return Account(
                used_as=used_as,
                rows=rows,
                states=run_reading.states(connection, {row.run_id for row in rows.values()}),
                waiting=frozenset(one.machine for one in warm_store.unfinished(connection)),
                missing=tuple(instance_store.rows(connection, absent)) if absent else (),
            )
