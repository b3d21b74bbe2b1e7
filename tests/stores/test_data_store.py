"""One brings a dataset, the others wait; what nobody uses goes, and nothing else does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from cynthus.wire_cache import Standing
from cynthus.wire_data import Dataset, SourceKind
from tests.builders import NOON
from tests.stores.test_build_lease_store import AGES_AGO
from tests.stores.test_database import run_together
from webhook_server.data_keeper import GRACE, DataKeeper
from webhook_server.runs.data_cache import CacheLimits, KeptTree, Scope
from webhook_server.stores.blob_protocol import Announced
from webhook_server.stores.data_store import DataStore, TreeTotals
from webhook_server.stores.database import Database
from webhook_server.stores.file_blobs import FileBlobs
from webhook_server.stores.tables import data_trees

KEY, OTHER_KEY = "5e" * 32, "7f" * 32
OURS, PULL = Scope(tenant_id=41), Scope(tenant_id=41, part=5)
ONE, OTHER = "cynthus-one-1", "cynthus-other-1"


def dataset(key: str = KEY) -> Dataset:
    return Dataset(
        name="train",
        source="hf://datasets/acme/digits",
        mount="/data/train",
        kind=SourceKind.HF,
        revision="c" * 40,
        key=key,
    )


def expire(db: Database) -> None:
    """Let every lease end long ago: the database's own clock cannot be set."""
    ended = data_trees.update().values(until=AGES_AGO)
    db.write(lambda connection: connection.execute(ended).rowcount)


@pytest.fixture
def store(db: Database) -> DataStore:
    return DataStore(db)


def brought(
    store: DataStore, blobs: FileBlobs | None, *contents: bytes, key: str = KEY, scope: Scope = OURS
) -> TreeTotals:
    """Play an agent that has brought these."""
    now = NOON
    assert store.claim((scope,), dataset(key), ONE, now).standing is Standing.FETCH
    listed = b"list of " + key.encode()
    sizes = {hashlib.sha256(one).hexdigest(): len(one) for one in (*contents, listed)}
    for content in (*contents, listed) if blobs else ():
        put(blobs, scope, content)
    store.keep(scope, sizes, now)
    digest = hashlib.sha256(listed).hexdigest()
    store.add_files(scope, key, set(sizes) - {digest})
    totals = TreeTotals(
        files=len(contents),
        size_bytes=sum(map(len, contents)),
        sha256=digest,
        list_bytes=len(listed),
    )
    assert store.commit(scope, key, ONE, totals, now)
    return totals


def put(blobs: FileBlobs | None, scope: Scope, content: bytes) -> str:
    assert blobs is not None
    sha256 = hashlib.sha256(content).hexdigest()
    blob = Announced(size_bytes=len(content), sha256=sha256)
    receipt = blobs.receive(scope.blob_key(sha256), blob)
    receipt.write(content)
    receipt.finish()
    return sha256


# ── leases ──────────────────────────────────────────────────────────────────────────────────────


def test_one_brings_it_the_others_wait_until_it_is_ready(store: DataStore) -> None:
    assert store.claim((OURS,), dataset(), ONE, NOON).standing is Standing.FETCH
    assert store.claim((OURS,), dataset(), ONE, NOON).standing is Standing.FETCH  # renewed
    assert store.claim((OURS,), dataset(), OTHER, NOON).standing is Standing.WAIT
    totals = brought(store, None, b"a")
    found = store.claim((OURS,), dataset(), OTHER, NOON)
    assert found.standing is Standing.READY
    assert found.tree is not None
    assert (found.tree.scope, found.tree.sha256) == (OURS, totals.sha256)


def test_of_many_that_ask_at_once_one_brings_it(store: DataStore) -> None:
    found: list[Standing] = []

    def ask(number: int) -> Callable[[], None]:
        holder = f"cynthus-{number}-1"
        return lambda: found.append(store.claim((OURS,), dataset(), holder, NOON).standing)

    run_together([ask(number) for number in range(8)])
    assert sorted(found) == [Standing.FETCH, *[Standing.WAIT] * 7]


def test_a_lease_that_ran_out_is_taken_over_and_commits_nothing(
    db: Database, store: DataStore
) -> None:
    store.claim((OURS,), dataset(), ONE, NOON)
    expire(db)
    totals = TreeTotals(files=0, size_bytes=0, sha256="a" * 64, list_bytes=1)
    assert not store.holds(OURS, KEY, ONE, NOON)
    assert not store.commit(OURS, KEY, ONE, totals, NOON)
    assert store.claim((OURS,), dataset(), OTHER, NOON).standing is Standing.FETCH
    assert not store.commit(OURS, KEY, ONE, totals, NOON)
    assert store.commit(OURS, KEY, OTHER, totals, NOON)
    assert store.commit(OURS, KEY, OTHER, totals, NOON)  # its answer was lost


def test_who_gives_up_leaves_the_lease_of_another_alone(store: DataStore) -> None:
    store.claim((OURS,), dataset(), ONE, NOON)
    store.give_up(OURS, KEY, OTHER)
    assert store.claim((OURS,), dataset(), OTHER, NOON).standing is Standing.WAIT
    store.give_up(OURS, KEY, ONE)
    assert store.claim((OURS,), dataset(), OTHER, NOON).standing is Standing.FETCH


def test_what_others_may_read_is_read_and_what_is_missing_is_brought_to_ones_own(
    store: DataStore,
) -> None:
    brought(store, None, b"a")
    assert store.claim((PULL, OURS), dataset(), OTHER, NOON).standing is Standing.READY
    assert store.claim((PULL,), dataset(), OTHER, NOON).standing is Standing.FETCH
    assert store.claim((OURS,), dataset(OTHER_KEY), OTHER, NOON).standing is Standing.FETCH
    assert store.of_tree(PULL, KEY, {hashlib.sha256(b"a").hexdigest()}) == {}
    assert store.of_tree(OURS, KEY, {hashlib.sha256(b"a").hexdigest()}) != {}
    assert store.of_tree(OURS, OTHER_KEY, {hashlib.sha256(b"a").hexdigest()}) == {}


def test_a_damaged_tree_is_brought_anew(store: DataStore) -> None:
    brought(store, None, b"a", b"b")
    a, b = (hashlib.sha256(one).hexdigest() for one in (b"a", b"b"))
    assert store.damaged(OURS, KEY, {"f" * 64}) == ()
    assert store.claim((OURS,), dataset(), OTHER, NOON).standing is Standing.READY
    assert store.damaged(OURS, KEY, {a, "f" * 64}) == (a,)
    assert store.stored(OURS, {a, b}, NOON) == ({b: 1}, frozenset({a}))
    store.dropped(OURS, {a, b})
    assert store.stored(OURS, {a, b}, NOON) == ({b: 1}, frozenset())
    assert store.claim((OURS,), dataset(), OTHER, NOON).standing is Standing.FETCH


# ── what goes ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")


Keeper = Callable[..., DataKeeper]


@pytest.fixture
def keeper(store: DataStore, blobs: FileBlobs) -> Keeper:
    def made(now: datetime, *, most: int = 1 << 40, days: int = 30) -> DataKeeper:
        limits = CacheLimits(tenant_bytes=most, unused=timedelta(days=days))
        return DataKeeper(store, blobs, limits, lambda: now)

    return made


def names(found: tuple[KeptTree, ...]) -> list[str]:
    return [tree.key for tree in found]


def test_what_was_not_used_for_long_goes_and_its_bytes_after_a_day(
    store: DataStore, blobs: FileBlobs, keeper: Keeper
) -> None:
    brought(store, blobs, b"a", b"shared")
    brought(store, blobs, b"b", b"shared", key=OTHER_KEY)
    later = NOON + timedelta(days=31)
    store.claim((OURS,), dataset(OTHER_KEY), OTHER, later)  # used again
    done = keeper(later).collect()
    assert names(done.trees) == [KEY]
    assert done.blobs == 2  # its own and its list: they were last asked for a month ago
    left = {blob.key.rpartition("/")[2] for blob in blobs.stored("41/")}
    assert {hashlib.sha256(one).hexdigest() for one in (b"b", b"shared")} < left
    assert hashlib.sha256(b"a").hexdigest() not in left
    assert store.usage()[0].blobs == len(left) == 3
    assert keeper(later).collect().trees == ()


def test_too_much_goes_by_repository_the_longest_unused_first(
    store: DataStore, keeper: Keeper
) -> None:
    elsewhere = Scope(tenant_id=42)
    brought(store, None, b"12345", key=KEY)
    brought(store, None, b"67890", key=OTHER_KEY)
    brought(store, None, b"abcde", key=KEY, scope=elsewhere)
    later = NOON + timedelta(hours=1)
    store.claim((OURS,), dataset(KEY), OTHER, later)
    assert names(keeper(later, most=10).planned()) == []
    found = keeper(later, most=9).planned()
    assert [(tree.scope, tree.key) for tree in found] == [(OURS, OTHER_KEY)]


def test_what_was_used_since_it_was_looked_at_stays(store: DataStore) -> None:
    brought(store, None, b"a")
    (tree,) = store.trees("41")
    later = NOON + timedelta(hours=1)
    store.claim((OURS,), dataset(), OTHER, later)
    assert not store.evict(tree, later)
    assert store.evict(store.trees("41")[0], later)


def test_what_is_being_brought_is_never_swept(
    db: Database, store: DataStore, blobs: FileBlobs, keeper: Keeper
) -> None:
    store.claim((OURS,), dataset(), ONE, NOON)
    sha256 = put(blobs, OURS, b"half")
    store.keep(OURS, {sha256: 4}, NOON)
    assert keeper(NOON + GRACE / 2).collect().blobs == 0
    expire(db)
    later = NOON + GRACE + timedelta(seconds=1)
    done = keeper(later).collect()
    assert names(done.trees) == [KEY]
    assert done.blobs == 1
    assert list(blobs.stored("41/")) == []


def test_a_crash_between_bytes_and_row_is_made_good(
    store: DataStore, blobs: FileBlobs, keeper: Keeper
) -> None:
    sha256 = put(blobs, OURS, b"alone")
    store.keep(OURS, {sha256: 5}, NOON)
    later = NOON + GRACE + timedelta(seconds=1)
    assert store.orphans(later - GRACE) == [(OURS, sha256, 5)]  # here the server died
    assert store.stored(OURS, {sha256}, later) == ({}, frozenset({sha256}))
    assert keeper(later).collect().blobs == 1
    assert store.stored(OURS, {sha256}, later) == ({}, frozenset())


def test_bytes_that_no_row_knows_go_after_a_day(
    store: DataStore, blobs: FileBlobs, keeper: Keeper
) -> None:
    brought(store, blobs, b"a")
    put(blobs, OURS, b"stray")
    stored_at = max(blob.stored_at for blob in blobs.stored("41/"))
    assert keeper(stored_at + GRACE / 2).sweep_strays() == 0
    assert keeper(stored_at + GRACE + timedelta(seconds=1)).sweep_strays() == 1
    assert len(list(blobs.stored("41/"))) == 2


def test_a_purge_removes_one_repository_s_bytes_in_steps(
    store: DataStore, blobs: FileBlobs, keeper: Keeper
) -> None:
    brought(store, blobs, b"a")
    brought(store, blobs, b"a", scope=replace(OURS, tenant_id=42))
    brought(store, blobs, b"o", scope=Scope(tenant_id=41, owner=True))  # an owner's: another's
    for word in ("arun23456789", "ckarun23456789", "listings"):
        sha256 = hashlib.sha256(word.encode()).hexdigest()
        receipt = blobs.receive(
            f"41/{word}/0/{sha256}", Announced(size_bytes=len(word), sha256=sha256)
        )
        receipt.write(word.encode())
        receipt.finish()
    ticks = iter(range(0, 100, 3))
    first = keeper(NOON).purge(41, lambda: float(next(ticks)))
    assert first.more
    steps = [first]
    while steps[-1].more:
        steps.append(keeper(NOON).purge(41, lambda: 0.0))
    counted: dict[str, int] = {}
    for step in steps:
        for kind, number in step.blobs.items():
            counted[kind] = counted.get(kind, 0) + number
    assert counted == {"cached data": 2, "checkpoints": 1, "listings": 1, "outputs": 1}
    assert [blob.key.split("/")[:2] for blob in blobs.stored("41/")] == [["41", "ownerdata"]] * 2
    assert len(list(blobs.stored("42/"))) == 2
    assert {tree.scope.tenant for tree in store.trees()} == {"42", "o41"}
    assert keeper(NOON).purge(41, lambda: 0.0).blobs == {}
