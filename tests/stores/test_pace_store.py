"""The pace that replicas share: one state an installation, changes one after the other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from webhook_server.runs.github_pace import PaceState, Turn, reserve
from webhook_server.stores.database import Database
from webhook_server.stores.pace_store import PaceStore

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
GAP = timedelta(milliseconds=100)


def _take(store: PaceStore, installation_id: int) -> Turn:
    return store.change(
        installation_id,
        lambda state: reserve(state, NOON, write=True, content=True, spacing=GAP),
    )


def test_replicas_take_places_in_one_line(db: Database) -> None:
    stores = [PaceStore(db), PaceStore(db)]
    with ThreadPoolExecutor(4) as pool:
        turns = list(pool.map(lambda number: _take(stores[number % 2], 5), range(20)))
    assert sorted(turn.at for turn in turns) == [NOON + GAP * n for n in range(20)]
    state = stores[0].state(5)
    assert state.write_at == NOON + GAP * 20
    assert len(state.content) == 20


def test_an_installation_waits_for_none_of_another(db: Database) -> None:
    store = PaceStore(db)
    _take(store, 5)
    assert _take(store, 6).at == NOON
    assert store.state(7) == PaceState()
