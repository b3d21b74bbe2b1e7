"""Data shared between instances: one brings it, all fetch it, nobody else's is ever reached."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from cynthus.repository_policy import CacheReach, DataRules, RepositoryPolicy
from cynthus.tree_form import written
from cynthus.wire_data import Dataset, SourceKind, Tree, TreeFile
from runner_images.agent.door import Unanswered
from runner_images.agent.shared_cache import Damaged, SharedCache
from tests.doors.conftest import Agent, Site
from webhook_server.metrics import DATA_CLAIMS, METERS
from webhook_server.runs.data_cache import BRANCHES, Scope
from webhook_server.runs.model import Origin, Run
from webhook_server.runs.observations import PolicySeen
from webhook_server.stores.data_store import DataStore
from webhook_server.stores.policy_store import PolicyStore
from webhook_server.stores.repository_store import Repository, RepositoryStore

KEY, OTHER_KEY = "5e" * 32, "7f" * 32
REVISION = "c" * 40
FILES = {"a.txt": b"first", "deep/b.bin": os.urandom(200_000), "same.txt": b"first", "zero": b""}


def dataset(key: str = KEY, **change: Any) -> Dataset:
    told = {
        "name": "train",
        "source": "hf://datasets/acme/digits",
        "mount": "/data/train",
        "kind": SourceKind.HF,
        "revision": REVISION,
        "key": key,
    }
    return Dataset(**{**told, **change})


def tree_of(files: dict[str, bytes], key: str = KEY, revision: str = REVISION) -> Tree:
    listed = tuple(
        TreeFile(path=path, size_bytes=len(b), sha256=hashlib.sha256(b).hexdigest())
        for path, b in files.items()
    )
    return Tree(key=key, revision=revision, files=listed)


class Instance:
    """An agent with its part of the cache, and a folder."""

    def __init__(self, site: Site, agent: Agent) -> None:
        self.agent = agent
        self.cache = SharedCache(site.url, agent.token, threading.Event())
        self.got: dict[str, bytes] = {}
        self.told: list[int] = []

    @contextmanager
    def put(self, file: TreeFile) -> Iterator[BinaryIO]:
        content = io.BytesIO()
        yield content
        self.got[file.path] = content.getvalue()

    def keep(self, files: dict[str, bytes] = FILES, **of_tree: str) -> None:
        tree = tree_of(files, **of_tree)
        self.cache.keep(
            tree, lambda file: io.BytesIO(files[file.path]), self.told.append, lambda: False
        )

    def fetch(self, files: tuple[TreeFile, ...], key: str = KEY) -> None:
        self.cache.fetch(key, files, self.put, self.told.append, lambda: False)


Begin = Callable[..., Instance]


@pytest.fixture
def begin(site: Site) -> Iterator[Begin]:
    began: list[Instance] = []

    def begun(repository_id: int = 41, data: Dataset | None = None, **of_run: Any) -> Instance:
        run_id = site.a_run(repository_id=repository_id)

        def change(run: Run) -> Run:
            return replace(run, datasets=(data or dataset(),), **of_run)

        site.save(run_id, change)
        began.append(Instance(site, site.an_agent(run_id)))
        return began[-1]

    yield begun
    for one in began:
        one.cache.close()


# ── one download ────────────────────────────────────────────────────────────────────────────────


def test_the_first_brings_it_the_second_waits_then_fetches_it(begin: Begin) -> None:
    before = METERS.value(DATA_CLAIMS, standing="ready")
    first, second = begin(), begin()
    assert first.cache.claim(KEY).standing == "fetch"
    waiting = second.cache.claim(KEY)
    assert (waiting.standing, waiting.wait_s) == ("wait", 5.0)
    first.keep()
    assert sum(first.told) == 5 + 200_000  # what is the same is brought once
    found = second.cache.claim(KEY)
    assert found.standing == "ready"
    assert found.tree is not None
    assert {file.path for file in found.tree.files} == set(FILES)
    second.fetch(found.tree.files)
    assert second.got == FILES
    assert sum(second.told) == sum(len(content) for content in FILES.values())
    assert METERS.value(DATA_CLAIMS, standing="ready") == before + 1


def test_two_that_ask_at_once_download_once(begin: Begin) -> None:
    instances = [begin() for _ in range(4)]
    gate = threading.Barrier(4)
    standings: list[str] = []

    def ask(one: Instance) -> None:
        gate.wait()
        standings.append(one.cache.claim(KEY).standing)

    threads = [threading.Thread(target=ask, args=(one,)) for one in instances]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(standings) == ["fetch", "wait", "wait", "wait"]


def test_a_lease_that_is_given_up_is_taken_by_the_next(begin: Begin) -> None:
    first, second = begin(), begin()
    assert first.cache.claim(KEY).standing == "fetch"
    first.cache.give_up(KEY)
    assert second.cache.claim(KEY).standing == "fetch"
    with pytest.raises(Unanswered, match="brings it now"):
        first.keep()


def test_what_was_brought_before_a_cut_is_not_brought_again(begin: Begin, site: Site) -> None:
    first, second = begin(), begin()
    first.cache.claim(KEY)
    tree, opened = tree_of(FILES), []

    def open_file(file: TreeFile) -> BinaryIO:
        opened.append(file.path)
        return io.BytesIO(FILES[file.path])

    DataStore(site.parts.database).keep(
        Scope(tenant_id=41), {hashlib.sha256(b"").hexdigest(): 0}, site.parts.now()
    )
    first.cache.keep(tree, open_file, lambda _: None, lambda: False)
    assert "zero" not in opened
    assert len(opened) == 2
    assert second.cache.claim(KEY).standing == "ready"


def test_a_large_file_comes_in_parts_and_in_order(begin: Begin) -> None:
    content = os.urandom(1 << 20) * 65 + b"end"
    first, second = begin(), begin()
    first.cache.claim(KEY)
    first.keep({"model.bin": content})
    found = second.cache.claim(KEY)
    assert found.tree is not None
    second.fetch(found.tree.files)
    assert hashlib.sha256(second.got["model.bin"]).digest() == hashlib.sha256(content).digest()


def test_whoever_is_told_to_stop_brings_and_fetches_no_more(begin: Begin) -> None:
    first, second = begin(), begin()
    first.cache.claim(KEY)
    with pytest.raises(Unanswered):
        first.cache.keep(tree_of(FILES), lambda _: io.BytesIO(), lambda _: None, lambda: True)
    first.keep()
    with pytest.raises(Unanswered, match="stopped"):
        second.cache.fetch(KEY, tree_of(FILES).files, second.put, lambda _: None, lambda: True)


# ── what came damaged ───────────────────────────────────────────────────────────────────────────


@pytest.mark.case("A16")
def test_bytes_that_are_others_are_found_out_and_brought_anew(begin: Begin, site: Site) -> None:
    first, second = begin(), begin()
    first.cache.claim(KEY)
    first.keep()
    tree = tree_of(FILES)
    spoiled = Scope(tenant_id=41).blob_key(tree.files[0].sha256)
    (Path(site.parts.settings.state_dir) / "blobs" / spoiled).write_bytes(b"other")
    with pytest.raises(Damaged):
        second.fetch(tree.files)
    assert "a.txt" not in second.got
    assert second.cache.claim(KEY).standing == "fetch"
    second.keep()
    third = begin()
    found = third.cache.claim(KEY)
    assert found.tree is not None
    third.fetch(found.tree.files)
    assert third.got == FILES


@pytest.mark.parametrize("name", ["a.txt", "the list"])
def test_bytes_that_have_gone_are_found_out_and_brought_anew(
    begin: Begin, site: Site, name: str
) -> None:
    """Somebody removed them from the bucket: else all that come would try in vain for ever."""
    first, second = begin(), begin()
    first.cache.claim(KEY)
    first.keep()
    tree = tree_of(FILES)
    gone = tree.files[0].sha256 if name == "a.txt" else sha256_of(b"".join(written(tree)))
    (Path(site.parts.settings.state_dir) / "blobs" / Scope(tenant_id=41).blob_key(gone)).unlink()
    look: Callable[[], object] = lambda: second.fetch(tree.files)  # noqa: E731 - one of two
    if name == "the list":
        look = lambda: second.cache.claim(KEY)  # noqa: E731 - the other
    with pytest.raises(Damaged):
        look()
    assert second.cache.claim(KEY).standing == "fetch"
    second.keep()
    assert begin().cache.claim(KEY).standing == "ready"


def test_a_tree_that_shares_damaged_bytes_is_brought_anew_too(begin: Begin, site: Site) -> None:
    first, other = begin(), begin(data=dataset(OTHER_KEY))
    first.cache.claim(KEY)
    first.keep()
    other.cache.claim(OTHER_KEY)
    other.keep({"copy": FILES["a.txt"]}, key=OTHER_KEY)
    tree = tree_of(FILES)
    spoiled = Scope(tenant_id=41).blob_key(tree.files[0].sha256)
    (Path(site.parts.settings.state_dir) / "blobs" / spoiled).write_bytes(b"other")
    with pytest.raises(Damaged):
        begin().fetch(tree.files)
    assert begin(data=dataset(OTHER_KEY)).cache.claim(OTHER_KEY).standing == "fetch"


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ── whose it is ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.case("A14")
def test_another_repository_with_the_same_key_reaches_none_of_it(begin: Begin, site: Site) -> None:
    ours, theirs = begin(41), begin(42)
    ours.cache.claim(KEY)
    ours.keep()
    assert theirs.cache.claim(KEY).standing == "fetch"  # it knows the key, and finds nothing
    with pytest.raises(Unanswered, match="not there"):
        theirs.fetch(tree_of(FILES).files)
    theirs.keep({"a.txt": b"theirs"})
    again = begin(41).cache.claim(KEY)
    assert again.tree is not None
    assert len(again.tree.files) == len(FILES)
    keys = {blob.key.split("/")[0] for blob in site.parts.blobs.stored("42/")}
    assert keys == {"42"}


@pytest.mark.case("A14")
def test_a_digest_that_is_known_is_no_right_to_its_bytes(begin: Begin) -> None:
    """A run of the same repository reaches files of its own data only."""
    ours = begin(41)
    ours.cache.claim(KEY)
    ours.keep()
    other = begin(41, dataset(OTHER_KEY))
    assert other.cache.claim(OTHER_KEY).standing == "fetch"
    with pytest.raises(Unanswered, match="not there"):
        other.cache.fetch(OTHER_KEY, tree_of(FILES).files, other.put, lambda _: None, lambda: False)
    assert other.got == {}


@pytest.mark.case("A14")
def test_a_key_of_no_data_of_its_own_run_is_not_known(begin: Begin) -> None:
    stranger = begin(41, dataset(OTHER_KEY))
    more: dict[str, Any] = {
        "claim": {},
        "addresses": {},
        "listing": {},
        "give-up": {},
        "blobs": {"blobs": []},
        "commit": {"tree": {"sha256": "a" * 64, "size_bytes": 1}},
    }
    for key in (KEY, "0" * 64, "../41/data/0", "", "5E" * 32):
        for verb, members in more.items():
            assert ask(stranger, verb, {"key": key, **members}).status == 404, (verb, key)


def test_an_attempt_that_is_over_is_turned_away(begin: Begin, site: Site) -> None:
    one = begin()
    site.parts.instances.close(one.agent.instance, site.parts.now())
    answer = site.ask("POST", "/agent/v1/data/claim", value={"key": KEY}, token=one.agent.token)
    assert answer.status == 410


@pytest.mark.case("A16")
def test_what_a_pull_request_brings_is_never_read_by_the_default_branch(begin: Begin) -> None:
    pull = begin(pull_request=5)
    assert pull.cache.claim(KEY).standing == "fetch"
    pull.keep({"a.txt": b"of the pull request"})
    assert begin(pull_request=5).cache.claim(KEY).standing == "ready"
    assert begin(pull_request=6).cache.claim(KEY).standing == "fetch"
    assert begin(ref="refs/heads/idea").cache.claim(KEY).standing == "fetch"
    assert begin().cache.claim(KEY).standing == "fetch"


def test_what_the_default_branch_has_brought_is_read_by_its_own_people(begin: Begin) -> None:
    trunk = begin()
    trunk.cache.claim(KEY)
    trunk.keep()
    for one in (begin(pull_request=5), begin(ref="refs/heads/idea")):
        found = one.cache.claim(KEY)
        assert found.tree is not None
        one.fetch(found.tree.files)
        assert one.got == FILES


@pytest.mark.case("A16")
def test_a_fork_reads_nothing_that_it_has_not_brought(begin: Begin) -> None:
    trunk = begin()
    trunk.cache.claim(KEY)
    trunk.keep()
    fork = begin(pull_request=5, origin=Origin(fork=True))
    assert fork.cache.claim(KEY).standing == "fetch"
    with pytest.raises(Unanswered, match="not there"):
        fork.fetch(tree_of(FILES).files)
    nowhere = begin(origin=Origin(fork=True))
    with pytest.raises(Unanswered, match="this run's own data"):
        nowhere.cache.claim(KEY)


@pytest.mark.case("A16")
def test_who_only_reads_a_part_spoils_nothing_in_it(begin: Begin) -> None:
    trunk, pull = begin(), begin(pull_request=5)
    trunk.cache.claim(KEY)
    trunk.keep()
    told = {"key": KEY, "sha256": [file.sha256 for file in tree_of(FILES).files]}
    answer = pull.agent.site.ask(
        "POST", "/agent/v1/data/give-up", value=told, token=pull.agent.token
    )
    assert answer.status == 200
    assert begin().cache.claim(KEY).standing == "ready"


def test_a_policy_may_share_it_among_the_owner_s_repositories(begin: Begin, site: Site) -> None:
    for number in (41, 42, 43):
        facts = Repository(
            id=number,
            owner_id=7,
            full_name=f"acme/r{number}",
            default_branch="main",
            installation_id=None,
        )
        RepositoryStore(site.parts.database).upsert(facts, site.parts.now())
    shared = RepositoryPolicy(data=DataRules(cache=CacheReach.OWNER))
    for number in (41, 42):
        seen = PolicySeen(policy=shared, read_at=site.parts.now())
        PolicyStore(site.parts.database).keep(number, seen)
    first = begin(41)
    first.cache.claim(KEY)
    first.keep()
    assert begin(42).cache.claim(KEY).standing == "ready"
    assert begin(43).cache.claim(KEY).standing == "fetch"  # its own policy says nothing of it


# ── hostile words ───────────────────────────────────────────────────────────────────────────────


def ask(one: Instance, verb: str, value: object) -> Any:
    path = f"/agent/v1/data/{verb}"
    return one.agent.site.ask("POST", path, value=value, token=one.agent.token)


def bring(one: Instance, content: bytes) -> dict[str, Any]:
    """Put bytes where the server says, and have them confirmed."""
    blob = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    grant = ask(one, "blobs", {"key": KEY, "blobs": [blob]}).json["grants"][0]
    if grant["url"]:
        assert one.agent.site.ask("PUT", grant["url"], body=content).status == 201
        assert not ask(one, "blobs", {"key": KEY, "blobs": [blob]}).json["grants"][0]["url"]
    return blob


def test_without_the_lease_nothing_is_taken(begin: Begin) -> None:
    one, other = begin(), begin()
    one.cache.claim(KEY)
    blob = {"sha256": "a" * 64, "size_bytes": 1}
    assert ask(other, "blobs", {"key": KEY, "blobs": [blob]}).status == 409
    listed = bring(one, b"".join(written(tree_of({}))))
    assert ask(other, "commit", {"key": KEY, "tree": listed}).status == 409
    assert ask(one, "commit", {"key": KEY, "tree": listed}).status == 200
    assert ask(one, "commit", {"key": KEY, "tree": listed}).status == 200  # its answer was lost


@pytest.mark.case("A16")
def test_a_list_that_is_wrong_is_not_committed(begin: Begin) -> None:
    one = begin()
    one.cache.claim(KEY)
    bring(one, b"")
    for tree, fault in (
        (tree_of({"a": b"1"}), "not stored"),
        (tree_of({}, key=OTHER_KEY), "this key and revision"),
        (tree_of({}, revision="d" * 40), "this key and revision"),
        (tree_of({"../a": b""}), "within its folder"),
        (tree_of({"/a": b""}), "within its folder"),
        (tree_of({"a\n": b""}), "within its folder"),
    ):
        listed = bring(one, b"".join(written(tree)))
        answer = ask(one, "commit", {"key": KEY, "tree": listed})
        assert answer.status == 422, fault
        assert fault in answer.fault
    assert begin().cache.claim(KEY).standing == "wait"


def test_what_is_no_list_is_not_committed(begin: Begin) -> None:
    one = begin()
    one.cache.claim(KEY)
    for content in (b"", b"{}\n", b"\xff\n", b"[1]\n", b"x" * 100_000, b"\n" * 10):
        listed = bring(one, content)
        assert ask(one, "commit", {"key": KEY, "tree": listed}).status == 422, content[:10]


def test_a_blob_is_named_by_its_digest_only(begin: Begin) -> None:
    one = begin()
    one.cache.claim(KEY)
    good = {"sha256": "a" * 64, "size_bytes": 1}
    for change in (
        {"sha256": "A" * 64},
        {"sha256": "a" * 63},
        {"sha256": "../../" + "a" * 58},
        {"size_bytes": -1},
        {"md5": "b"},
    ):
        assert ask(one, "blobs", {"key": KEY, "blobs": [good | change]}).status == 422, change
    assert ask(one, "blobs", {"key": KEY, "blobs": [good] * 101}).status == 422
    assert ask(one, "addresses", {"key": KEY, "sha256": ["b" * 64] * 501}).status == 422


@pytest.mark.case("A14")
def test_an_address_is_good_for_its_own_bytes_only(begin: Begin, site: Site) -> None:
    one = begin()
    one.cache.claim(KEY)
    one.keep()
    digest = tree_of(FILES).files[0].sha256
    found = ask(one, "addresses", {"key": KEY, "sha256": [digest]}).json["addresses"][0]
    assert site.ask("GET", found["url"]).body == b"first"
    other = tree_of(FILES).files[1].sha256
    assert site.ask("GET", found["url"].replace(digest, other)).status == 403
    assert site.ask("GET", found["url"].replace("/41/", "/42/")).status == 403
    assert site.ask("PUT", found["url"], body=b"x").status == 403


def test_a_listing_is_only_of_a_bucket(begin: Begin) -> None:
    with pytest.raises(Unanswered, match="gs://"):
        list(begin().cache.listing(KEY))


def test_branches_have_a_part_that_no_pull_request_can_name(begin: Begin) -> None:
    with pytest.raises(Unanswered, match="this run's own data"):
        begin(pull_request=BRANCHES).cache.claim(KEY)


def test_a_lease_lives_a_minute(begin: Begin, site: Site) -> None:
    store, scope = DataStore(site.parts.database), Scope(tenant_id=41)
    one = begin()
    one.cache.claim(KEY)
    now = site.parts.now()
    assert store.holds(scope, KEY, one.agent.instance, now + timedelta(seconds=55))
    assert not store.holds(scope, KEY, one.agent.instance, now + timedelta(seconds=61))
