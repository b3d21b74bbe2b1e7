"""Data is staged by the hubs' own clients, verified, kept, and told of, on good and on bad days."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cynthus.wire_cache import ListedFile
from cynthus.wire_data import DatasetWork, Tree
from runner_images.agent.door import Unanswered
from runner_images.agent.public_http import Trust
from runner_images.agent.shared_cache import Claim
from runner_images.agent.workload import CannotStart
from tests.hub_fixture import Hub
from tests.small_disk import small_disk  # noqa: F401 - a fixture
from tests.staged import Machine, a_dataset, content

MB = 1 << 20
TOKEN = "hf_token-of-this-test"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    hub.make("hf/users", name="ada", token=TOKEN)
    hub.make("kaggle/users", name="ada", key="k1", tokens=["t1"])
    yield hub
    hub.stop()


@pytest.fixture
def hub(world: Hub) -> Hub:
    world.forget()
    return world


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def a_repository(hub: Hub, name: str, **wish: Any) -> str:
    """Make a dataset on the hub; return its commit."""
    made = hub.make("hf/repos", type="dataset", name=name, **wish)
    return str(made["commit"])


def hf(hub: Hub, name: str, commit: str, **changes: Any) -> DatasetWork:
    patterns = {part: changes.pop(part) for part in ("allow", "ignore") if part in changes}
    dataset = a_dataset(f"hf://datasets/{name}@main", commit, **changes)
    return DatasetWork(dataset=dataset, endpoint=hub.url, **patterns)


def fetched(hub: Hub) -> list[str]:
    """Return the paths of all files whose bytes the hub gave."""
    return [line["path"] for line in hub.seen("GET") if "/resolve" in line["path"]]


# ── Hugging Face ────────────────────────────────────────────────────────────────────────────────


def test_cold_comes_from_the_hub_and_warm_asks_it_nothing(hub: Hub, machine: Machine) -> None:
    large = {"size": 40 * MB, "seed": "cold"}
    commit = a_repository(hub, "acme/cold", files={"a/b.txt": "hello", "large.bin": large})
    work = hf(hub, "acme/cold", commit)
    [first] = machine.stage(work)
    assert set(content(first.folder)) == {".gitattributes", "a/b.txt", "large.bin"}
    assert machine.told.states == ["fetching", "verifying", "ready"]
    assert machine.told.views[-1].done_bytes == sum(map(len, content(first.folder).values()))
    assert machine.told.notices[0].startswith("data train: 41.9 MB in 3 files came from hf, ")
    assert oct((first.folder / "a" / "b.txt").stat().st_mode)[-3:] == "444"
    hub.forget()
    assert machine.stage(work) == (first,)
    assert hub.seen() == []
    assert [view.origin for view in machine.told.views] == ["disk"]


def test_patterns_choose_and_an_empty_choice_is_said(hub: Hub, machine: Machine) -> None:
    commit = a_repository(hub, "acme/parts", files={"x/a.csv": "1", "x/b.bin": "2", "y/a.csv": "3"})
    work = hf(hub, "acme/parts", commit, allow=("*.csv",), ignore=("y/",))
    [staged] = machine.stage(work)
    assert content(staged.folder) == {"x/a.csv": b"1"}
    with pytest.raises(CannotStart, match=r"no file is left of it\. Look at its `include`"):
        machine.stage(hf(hub, "acme/parts", commit, allow=("*.parquet",), subset="none"))


def test_a_changed_revision_fetches_what_changed(hub: Hub, machine: Machine) -> None:
    large = {"size": 20 * MB, "seed": "same"}
    before = a_repository(hub, "acme/changed", files={"large.bin": large, "small.txt": "one"})
    [first] = machine.stage(hf(hub, "acme/changed", before))
    made = hub.make("hf/commits", type="dataset", name="acme/changed", files={"small.txt": "two"})
    hub.forget()
    [second] = machine.stage(hf(hub, "acme/changed", made["commit"]))
    assert not [path for path in fetched(hub) if path.endswith("large.bin")]
    assert content(first.folder)["small.txt"] == b"one"
    assert content(second.folder)["small.txt"] == b"two"
    assert (first.folder / "large.bin").stat().st_ino == (second.folder / "large.bin").stat().st_ino


@pytest.mark.case("A13")
def test_a_cut_download_goes_on_where_it_stopped(hub: Hub, machine: Machine) -> None:
    files = {"large.bin": {"size": 12 * MB, "seed": "cut"}}
    commit = a_repository(hub, "acme/cut", files=files)
    hub.fault("reset", host="storage", method="GET", after=5 * MB)
    [staged] = machine.stage(hf(hub, "acme/cut", commit))
    assert hub.struck() == 1
    assert len(content(staged.folder)["large.bin"]) == 12 * MB
    sent = [line for line in hub.seen("GET") if line["host"] == "storage"]
    assert len(sent) == 2


@pytest.mark.case("A13")
@pytest.mark.parametrize("name", ["large.bin", "small.txt"])
def test_bytes_that_the_hub_did_not_promise_are_fetched_again(
    hub: Hub, machine: Machine, name: str
) -> None:
    files = {"large.bin": {"size": 12 * MB, "seed": "wrong"}, "small.txt": "a" * 100}
    commit = a_repository(hub, f"acme/wrong-{name[:5]}", files=files)
    hub.fault("corrupt", method="GET", **_bytes_of(name))
    [staged] = machine.stage(hf(hub, f"acme/wrong-{name[:5]}", commit))
    assert hub.struck() == 1
    assert content(staged.folder)["small.txt"] == b"a" * 100
    large = hashlib.sha256(content(staged.folder)["large.bin"]).hexdigest()
    assert large in {path.name for path in (machine.folder / "blobs").iterdir()}


def _bytes_of(name: str) -> dict[str, str]:
    return {"host": "storage"} if name == "large.bin" else {"path": name}


@pytest.mark.case("A13")
def test_a_hub_that_keeps_giving_other_bytes_ends_the_attempt(hub: Hub, tmp_path: Path) -> None:
    commit = a_repository(hub, "acme/lies", files={"small.txt": "a" * 100})
    hub.fault("corrupt", method="GET", path="small.txt", times=-1)
    machine = Machine(tmp_path)
    machine.tries = 2
    with pytest.raises(CannotStart, match=r"data train: small.txt is not what the hub promised"):
        machine.stage(hf(hub, "acme/lies", commit))
    assert list((machine.folder / "trees").iterdir()) == []


def test_gated_private_and_absent_are_sentences_with_a_page(hub: Hub, machine: Machine) -> None:
    gated = a_repository(hub, "acme/gated", gated="auto", files={"a.txt": "a"})
    private = a_repository(hub, "acme/private", private=True, files={"a.txt": "a"})
    secret = {"HF_TOKEN": TOKEN}
    page = f"{hub.url}/datasets/acme"
    for work, secrets, text in (
        (hf(hub, "acme/gated", gated), secret, f"is gated: accept its terms at {page}/gated"),
        (hf(hub, "acme/private", private), {}, f"{page}/private needs the secret HF_TOKEN"),
        (hf(hub, "acme/private", private), secret, "is not there, or HF_TOKEN may not read it"),
        (hf(hub, "acme/gone", "0" * 40), {}, "acme/gone is not there, or private"),
        (hf(hub, "acme/gated", "0" * 40), secret, "has no revision 0000000"),
    ):
        with pytest.raises(CannotStart) as refusal:
            machine.stage(work, secrets=secrets)
        assert text in str(refusal.value)
        assert not refusal.value.infrastructure
        assert TOKEN not in str(refusal.value)


def test_who_may_read_a_private_one_gets_it_by_a_secret(hub: Hub, machine: Machine) -> None:
    files = {"a.txt": "a"}
    commit = a_repository(hub, "acme/mine", private=True, readers=["ada"], files=files)
    [staged] = machine.stage(hf(hub, "acme/mine", commit), secrets={"HF_TOKEN": TOKEN})
    assert content(staged.folder)["a.txt"] == b"a"


def test_another_repository_gets_nothing_of_it(hub: Hub, tmp_path: Path) -> None:
    commit = a_repository(hub, "acme/scoped", files={"a.txt": "a"})
    [mine] = Machine(tmp_path).stage(hf(hub, "acme/scoped", commit))
    stranger = Machine(tmp_path, repository_id=78)
    hub.forget()
    [theirs] = stranger.stage(hf(hub, "acme/scoped", commit))
    assert fetched(hub)
    assert theirs.folder != mine.folder
    assert (theirs.folder / "a.txt").stat().st_ino != (mine.folder / "a.txt").stat().st_ino


def test_a_stop_ends_a_slow_download_and_the_rest_comes_later(hub: Hub, machine: Machine) -> None:
    files = {"one.txt": "1", "large.bin": {"size": 20 * MB, "seed": "slow"}}
    commit = a_repository(hub, "acme/slow", files=files)
    hub.fault("slow", host="storage", bytes_per_s=MB, times=1)
    staging = machine.begin(hf(hub, "acme/slow", commit))
    try:
        with pytest.raises(CannotStart, match="stopped while"):
            staging.wait(lambda: bool(machine.told.views))
    finally:
        staging.close()
    assert list((machine.folder / "trees").iterdir()) == []
    hub.forget()
    [staged] = machine.stage(hf(hub, "acme/slow", commit))
    assert len(content(staged.folder)["large.bin"]) == 20 * MB


# ── Kaggle ──────────────────────────────────────────────────────────────────────────────────────


def kaggle(hub: Hub, source: str, version: str = "1", **changes: Any) -> DatasetWork:
    dataset = a_dataset(f"kaggle://{source}", version, name="wine", **changes)
    return DatasetWork(dataset=dataset, endpoint=hub.url)


SECRETS = {"KAGGLE_API_TOKEN": "t1"}


def test_kaggles_archive_is_unpacked_and_its_hash_recorded(hub: Hub, machine: Machine) -> None:
    large = {"size": 3 * MB, "seed": "k"}
    hub.make("kaggle/datasets", name="zyn/wine", files={"w/x.csv": "1,2", "y.bin": large})
    hub.fault("reset", host="storage", method="GET", after=MB)
    [staged] = machine.stage(kaggle(hub, "datasets/zyn/wine@1"), secrets=SECRETS)
    assert hub.struck() == 1
    assert set(content(staged.folder)) == {"w/x.csv", "y.bin"}
    assert machine.told.states == ["fetching", "unpacking", "ready"]
    described = next((machine.folder / "trees").glob("*.json")).read_text()
    assert '"archive_sha256": "' in described


def test_competitions_and_models_come_too(hub: Hub, machine: Machine) -> None:
    hub.make("kaggle/competitions", name="titanic", files={"train.csv": "1,2"})
    hub.make("kaggle/accept", kind="competitions", name="titanic", user="ada")
    hub.make("kaggle/models", name="google/bert/pyTorch/base", files={"m/weights.bin": "w"})
    work = (
        kaggle(hub, "competitions/titanic", "", mount="/data/titanic"),
        kaggle(hub, "models/google/bert/pyTorch/base@1", mount="/data/bert"),
    )
    competition, model = machine.stage(
        *work, secrets={"KAGGLE_USERNAME": "ada", "KAGGLE_KEY": "k1"}
    )
    assert content(competition.folder) == {"train.csv": b"1,2"}
    assert content(model.folder) == {"m/weights.bin": b"w"}


def test_kaggles_refusals_are_sentences(hub: Hub, machine: Machine) -> None:
    hub.make("kaggle/competitions", name="closed", gated=True, files={"train.csv": "1,2"})
    rules = "https://www.kaggle.com/competitions/closed/rules"
    for work, secrets, text in (
        (kaggle(hub, "competitions/closed", ""), SECRETS, f"accept its terms or rules at {rules}"),
        (kaggle(hub, "datasets/zyn/none@1"), {"KAGGLE_API_TOKEN": "old"}, "its token is missing"),
        (kaggle(hub, "datasets/zyn/none@1"), SECRETS, "zyn/none is not there in this version"),
    ):
        with pytest.raises(CannotStart) as refusal:
            machine.stage(work, secrets=secrets)
        assert text in str(refusal.value)
        assert not refusal.value.infrastructure


@pytest.mark.case("A18")
def test_a_hostile_archive_ends_the_run_with_a_reason(hub: Hub, machine: Machine) -> None:
    hub.make("kaggle/datasets", name="evil/zip", archive={"hostile": "traversal"})
    with pytest.raises(CannotStart, match=r"escaped\.txt': leads out of the archive") as refusal:
        machine.stage(kaggle(hub, "datasets/evil/zip@1"), secrets=SECRETS)
    assert not refusal.value.infrastructure
    assert list((machine.folder / "trees").iterdir()) == []


# ── https ───────────────────────────────────────────────────────────────────────────────────────


def https(hub: Hub, path: str, sha256: str, **changes: Any) -> DatasetWork:
    dataset = a_dataset(f"https://example.org/{path}", sha256, name="file", **changes)
    return DatasetWork(dataset=dataset, endpoint=f"{hub.url}/files/{path}")


def test_a_file_of_a_web_server_is_resumed_and_checked(hub: Hub, machine: Machine) -> None:
    machine.trust = Trust(allowed=frozenset({hub.url.removeprefix("http://")}))
    made = hub.make("files", path="a/model.bin", content={"size": 5 * MB, "seed": "web"})
    hub.make("files", path="moved/model.bin", redirect="/files/a/model.bin")
    hub.fault("reset", path="a/model.bin", after=2 * MB)
    [staged] = machine.stage(https(hub, "moved/model.bin", made["sha256"]))
    assert hub.struck() == 1
    assert {path: len(data) for path, data in content(staged.folder).items()} == {
        "model.bin": 5 * MB
    }
    wrong = https(hub, "a/model.bin", "0" * 64)
    with pytest.raises(CannotStart, match=f"its SHA-256 is {made['sha256']}, the spec demands 000"):
        machine.stage(wrong)


def test_an_archive_of_a_web_server_is_unpacked_when_asked_for(hub: Hub, machine: Machine) -> None:
    machine.trust = Trust(allowed=frozenset({hub.url.removeprefix("http://")}))
    made = hub.make("files", path="x.tar.gz", content={"tar": {"d/a.txt": "a", "b.txt": "b"}})
    [staged] = machine.stage(https(hub, "x.tar.gz", made["sha256"], unpack=True))
    assert content(staged.folder) == {"d/a.txt": b"a", "b.txt": b"b"}


@pytest.mark.case("A17")
def test_an_address_of_this_machine_is_refused_directly_and_by_a_redirect(
    hub: Hub, machine: Machine
) -> None:
    with pytest.raises(CannotStart, match="should be https"):
        machine.stage(https(hub, "x", "0" * 64))
    inside = hub.url.replace("127.0.0.1", "localhost")
    hub.make("files", path="away", redirect=f"{inside.replace('http', 'https')}/files/x")
    machine.trust = Trust(allowed=frozenset({hub.url.removeprefix("http://")}))
    with pytest.raises(CannotStart, match="leads to this machine, a private network"):
        machine.stage(https(hub, "away", "0" * 64))


# ── buckets ─────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Bucket:
    """A server that lists a bucket whose objects lie on the plain host."""

    objects: list[ListedFile] = field(default_factory=list)

    def listing(self, key: str) -> Iterator[ListedFile]:
        assert len(key) == 64
        return iter(self.objects)

    def close(self) -> None:
        """Nothing is open."""


def test_a_buckets_objects_come_by_signed_addresses(hub: Hub, machine: Machine) -> None:
    data = b"123456789"
    hub.make("files", path="o/1", content={"base64": base64.b64encode(data).decode()})
    hub.make("files", path="o/2", content={"base64": base64.b64encode(data).decode()})
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    # The check value of CRC-32C: https://reveng.sourceforge.io/crc-catalogue/all.htm
    bucket = Bucket(
        [
            ListedFile(path="d/one", size_bytes=9, url=f"{hub.url}/files/o/1", md5=md5),
            ListedFile(path="two", size_bytes=9, url=f"{hub.url}/files/o/2", crc32c="e3069283"),
        ]
    )
    machine.shared = bucket  # type: ignore[assignment]
    work = DatasetWork(dataset=a_dataset("gs://bucket/prefix/", "a" * 64, name="own"))
    [staged] = machine.stage(work)
    assert content(staged.folder) == {"d/one": data, "two": data}


def test_an_object_that_is_a_folder_too_is_said(hub: Hub, machine: Machine) -> None:
    """Buckets have such names, disks have not; another attempt would change nothing."""
    url = f"{hub.url}/files/none"
    names = ("d/e", "d")
    machine.shared = Bucket([ListedFile(path=p, size_bytes=1, url=url) for p in names])  # type: ignore[assignment]
    work = DatasetWork(dataset=a_dataset("gs://bucket/prefix/", "b" * 64, name="own"))
    with pytest.raises(CannotStart, match="'d' is an object and a folder") as caught:
        machine.stage(work)
    assert not caught.value.infrastructure


# ── the blob store's cache ──────────────────────────────────────────────────────────────────────


@dataclass
class Store:
    """The cache in a blob store, as its contract has it, in this process' memory."""

    trees: dict[str, Tree] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    leases: set[str] = field(default_factory=set)
    waits: int = 0  # answers "wait" before any other
    away: bool = False

    def claim(self, key: str) -> Claim:
        if self.away:
            raise Unanswered("away")
        if self.waits:
            self.waits -= 1
            return Claim(standing="wait", wait_s=0.01)
        if key in self.trees:
            return Claim(standing="ready", tree=self.trees[key])
        self.leases.add(key)
        return Claim(standing="fetch")

    def fetch(self, key: str, files: Any, put: Any, told: Any, stopping: Any) -> None:
        assert key in self.trees
        assert not stopping()
        for file in files:
            if file.sha256 not in self.blobs:
                raise Unanswered("gone")
            with put(file) as target:
                target.write(self.blobs[file.sha256])
            told(file.size_bytes)

    def keep(self, tree: Tree, open: Any, told: Any, stopping: Any) -> None:  # noqa: A002 - the contract's word
        assert tree.key in self.leases
        assert not stopping()
        for file in tree.files:
            with open(file) as content:
                self.blobs[file.sha256] = content.read()
            told(file.size_bytes)
        self.trees[tree.key] = tree
        self.leases.discard(tree.key)

    def give_up(self, key: str) -> None:
        self.leases.discard(key)

    def close(self) -> None:
        """Nothing is open."""


def a_sharing_machine(hub: Hub, folder: Path, store: Store) -> Machine:
    machine = Machine(folder)
    machine.trust = Trust(allowed=frozenset({hub.url.removeprefix("http://")}))
    machine.shared = store  # type: ignore[assignment]
    return machine


def kept(machine: Machine, work: DatasetWork) -> Path:
    """Stage, let what is stored for others be stored, and return the tree."""
    staging = machine.begin(work)
    try:
        [staged] = staging.wait(lambda: False)
        staging.finish(60.0)
    finally:
        staging.close()
    return staged.folder


def test_what_one_machine_fetched_comes_to_the_next_from_the_cache(
    hub: Hub, tmp_path: Path
) -> None:
    made = hub.make("files", path="s.tar.gz", content={"tar": {"a": "1", "d/b": "2", "c": "1"}})
    store, work = Store(), https(hub, "s.tar.gz", made["sha256"], unpack=True)
    first = kept(a_sharing_machine(hub, tmp_path / "one", store), work)
    hub.forget()
    store.waits = 2  # another instance is about to finish
    second = a_sharing_machine(hub, tmp_path / "two", store)
    assert content(kept(second, work)) == content(first) == {"a": b"1", "d/b": b"2", "c": b"1"}
    assert hub.seen() == []
    assert second.told.states == ["waiting", "fetching", "ready"]
    assert second.told.views[-1].origin == "cache"
    assert store.leases == set()


def test_a_cache_that_is_away_or_lacks_a_blob_costs_only_time(hub: Hub, tmp_path: Path) -> None:
    made = hub.make("files", path="t.bin", content="bytes")
    store, work = Store(), https(hub, "t.bin", made["sha256"])
    kept(a_sharing_machine(hub, tmp_path / "one", store), work)
    store.blobs.clear()
    assert content(kept(a_sharing_machine(hub, tmp_path / "two", store), work)) == {
        "t.bin": b"bytes"
    }
    store.away = True
    third = a_sharing_machine(hub, tmp_path / "three", store)
    assert content(kept(third, work)) == {"t.bin": b"bytes"}
    assert third.told.views[-1].origin == "hub"


def test_a_fetch_that_fails_gives_its_lease_back(hub: Hub, tmp_path: Path) -> None:
    hub.make("files", path="u.bin", content="bytes")
    store = Store()
    with pytest.raises(CannotStart, match="the spec demands"):
        kept(a_sharing_machine(hub, tmp_path, store), https(hub, "u.bin", "0" * 64))
    assert store.leases == set()


# ── room ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.case("A13")
def test_what_does_not_fit_is_said_before_it_is_fetched(
    hub: Hub,
    small_disk: Path,  # noqa: F811
) -> None:
    machine = Machine(small_disk)
    commit = a_repository(hub, "acme/huge", files={"large.bin": {"size": 60 * MB, "seed": "h"}})
    with pytest.raises(CannotStart) as refusal:
        machine.stage(hf(hub, "acme/huge", commit))
    assert "62.9 MB are still needed and" in str(refusal.value)
    assert "Ask for more in resources/disk" in str(refusal.value)
    assert not refusal.value.infrastructure
    assert fetched(hub) == []


def test_unused_trees_make_room_and_used_ones_stay(
    hub: Hub,
    small_disk: Path,  # noqa: F811
) -> None:
    machine = Machine(small_disk)
    works = []
    for name in ("one", "two", "three"):
        files = {"large.bin": {"size": 9 * MB, "seed": name}}
        works.append(hf(hub, f"acme/{name}", a_repository(hub, f"acme/{name}", files=files)))
    machine.stage(works[0])
    using = machine.begin(works[1])
    [used] = using.wait(lambda: False)
    try:
        [third] = machine.stage(works[2])
        assert len(content(used.folder)["large.bin"]) == 9 * MB
        assert len(content(third.folder)["large.bin"]) == 9 * MB
        assert len(list((machine.folder / "trees").glob("*.json"))) == 2
    finally:
        using.close()
