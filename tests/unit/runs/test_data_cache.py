"""Who shares cached data, and what of it goes: values in, values out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynthus.wire_data import Dataset, SourceKind
from tests.builders import NOON, a_key, a_run
from webhook_server.runs.data_cache import (
    BRANCHES,
    TRUNK,
    UNFINISHED,
    CacheLimits,
    KeptTree,
    Scope,
    dataset_of,
    evictions,
    scope_of,
    scopes_of,
)
from webhook_server.runs.model import Origin, Run
from webhook_server.stores.blob_protocol import is_key, is_prefix

KEY = "5e" * 32
TRUNKS = Scope(tenant_id=41)
DAY = timedelta(days=1)


def run(**changes: Any) -> Run:
    base = a_run(key=a_key(repository_id=41), ref="refs/heads/main", pull_request=None)
    return replace(base, default_branch="main", **changes)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, [(41, TRUNK)]),
        ({"ref": "refs/heads/idea"}, [(41, BRANCHES), (41, TRUNK)]),
        ({"ref": "refs/tags/main"}, [(41, BRANCHES), (41, TRUNK)]),
        ({"pull_request": 5}, [(41, 5), (41, TRUNK)]),
        ({"pull_request": 5, "origin": Origin(fork=True)}, [(41, 5)]),
        ({"origin": Origin(fork=True)}, []),
        ({"pull_request": 0}, []),
        ({"pull_request": BRANCHES}, []),
    ],
)
def test_a_run_writes_its_own_part_and_reads_what_is_trusted(
    changes: dict[str, Any], wanted: list[tuple[int, int]]
) -> None:
    assert [(one.tenant_id, one.part) for one in scopes_of(run(**changes))] == wanted


def test_an_owner_s_cache_is_the_trunk_of_all_its_repositories() -> None:
    shared = Scope(tenant_id=7, owner=True)
    assert scopes_of(run(), 7) == (shared,)
    assert scopes_of(run(pull_request=5), 7) == (Scope(tenant_id=41, part=5), shared)
    assert scopes_of(run(pull_request=5, origin=Origin(fork=True)), 7) == (
        Scope(tenant_id=41, part=5),
    )


def test_a_folder_on_this_machine_has_one_part() -> None:
    local = a_run(key=a_key(repository_id=0), ref="", pull_request=None)
    assert scopes_of(local) == (Scope(tenant_id=0),)


@given(tenant=st.integers(0, 10**18), part=st.integers(0, BRANCHES), owner=st.booleans())
def test_every_scope_makes_keys_of_the_store_s_shape(tenant: int, part: int, owner: bool) -> None:
    scope = Scope(tenant_id=tenant, part=part, owner=owner)
    assert is_key(scope.blob_key(KEY))
    assert is_prefix(scope.prefix)
    assert scope_of(scope.tenant, scope.part) == scope


def test_owners_and_repositories_of_one_number_have_nothing_in_common() -> None:
    ours, theirs = Scope(tenant_id=7), Scope(tenant_id=7, owner=True)
    assert ours.tenant != theirs.tenant
    assert not theirs.prefix.startswith(ours.prefix)


def test_a_key_is_the_run_s_own_or_none() -> None:
    data = Dataset(
        name="train",
        source="hf://datasets/acme/digits",
        mount="/data/train",
        kind=SourceKind.HF,
        revision="c" * 40,
        key=KEY,
    )
    assert dataset_of(run(datasets=(data,)), KEY) == data
    assert dataset_of(run(datasets=(data,)), "0" * 64) is None
    assert dataset_of(run(), KEY) is None


# ── eviction ────────────────────────────────────────────────────────────────────────────────────


def tree(key: str, *, age: timedelta = DAY, size: int = 10, **changes: Any) -> KeptTree:
    told: dict[str, Any] = {
        "scope": TRUNKS,
        "key": key,
        "source": "hf://datasets/acme/digits",
        "revision": "c" * 40,
        "files": 1,
        "size_bytes": size,
        "ready": True,
        "created_at": NOON - age,
        "used_at": NOON - age,
        "leased_until": NOON - 365 * DAY,
    }
    return KeptTree(**{**told, **changes})


def gone(
    *trees: KeptTree, live: set[str] = frozenset(), most: int = 100, days: int = 30
) -> list[str]:  # type: ignore[assignment]
    limits = CacheLimits(tenant_bytes=most, unused=timedelta(days=days) if days else None)
    return [one.key for one in evictions(trees, live, limits, NOON)]


def test_what_fits_and_is_young_stays() -> None:
    assert gone(tree("a", size=60), tree("b", size=40)) == []


def test_the_longest_unused_goes_until_the_rest_fits() -> None:
    found = gone(tree("a", age=3 * DAY), tree("b", age=DAY), tree("c", age=2 * DAY), most=10)
    assert found == ["a", "c"]


def test_what_is_too_old_goes_though_there_is_room() -> None:
    assert gone(tree("a", age=30 * DAY), tree("b", age=30 * DAY - timedelta(seconds=1))) == ["a"]
    assert gone(tree("a", age=999 * DAY), days=0) == []


def test_a_live_run_s_data_and_what_is_leased_stay_whatever_the_limits() -> None:
    held = tree("b", age=99 * DAY, leased_until=NOON + timedelta(seconds=1))
    assert gone(tree("a", age=99 * DAY), held, live={"a"}, most=1) == []


def test_what_nobody_finished_goes_after_a_day() -> None:
    begun = tree("a", age=UNFINISHED, ready=False, size=0)
    assert gone(begun) == ["a"]
    assert gone(replace(begun, used_at=begun.used_at + timedelta(seconds=1)), most=1) == []


def test_parts_of_pull_requests_go_before_the_default_branch_s() -> None:
    pull = tree("p", age=DAY / 2, scope=replace(TRUNKS, part=5))
    assert gone(tree("a", age=2 * DAY), pull, most=10) == ["p"]


def test_nobody_s_data_makes_another_s_go() -> None:
    big = tree("big", size=10**9, scope=Scope(tenant_id=42))
    assert gone(tree("a", age=2 * DAY), big) == ["big"]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40), st.integers(0, 50), st.booleans(), st.booleans(), st.booleans()
        ),
        max_size=12,
    )
)
def test_whatever_is_kept_the_plan_keeps_its_word(
    told: list[tuple[int, int, bool, bool, bool]],
) -> None:
    trees = [
        tree(
            f"k{number}",
            age=days * DAY,
            size=size,
            ready=ready,
            leased_until=NOON + DAY if leased else NOON - DAY,
        )
        for number, (days, size, ready, leased, _) in enumerate(told)
    ]
    live = {f"k{number}" for number, one in enumerate(told) if one[4]}
    going = set(gone(*trees, live=live))
    assert not going & live
    assert not going & {one.key for one in trees if one.leased_until > NOON}
    left = [one for one in trees if one.key not in going]
    free = [one for one in left if one.key not in live and one.leased_until <= NOON and one.ready]
    assert not free or sum(one.size_bytes for one in left) <= 100
