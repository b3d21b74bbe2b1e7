"""The source `gs://`, by Google's own client: a list of generations, and only what was opened."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from cynthus.errors import Transient
from cynthus.spec import DataSource
from cynthus.wire_data import Dataset
from tests.cloud_fixture import Cloud
from webhook_server.runs.data_cache import listing_key
from webhook_server.sources import gcs
from webhook_server.sources.gcs import CloudStorage, is_below, open_cloud_storage, relative
from webhook_server.sources.source import Asked, SourceFault, SourceNotFound, SourceRefused
from webhook_server.stores.data_listing import ListedObject, ListingPage, read_page
from webhook_server.stores.file_blobs import FileBlobs

FILES = {
    "train/": b"",  # what the console makes of a folder
    "train/a.csv": b"1,2\n",
    "train/deep/b.csv": b"3,4\n",
    "train/raw.bin": b"x" * 1000,
    "trainer/no.csv": b"not meant",
    "one.csv": b"5",
}


@dataclass
class Theirs:
    """A user's bucket, and the source as the server opens it."""

    cloud: Cloud
    blobs: FileBlobs
    url: str = field(default_factory=lambda: f"gs://acme-{uuid.uuid4().hex[:12]}")
    opened: str = ""

    def put(self, **files: bytes) -> None:
        bucket = self.cloud.client().bucket(self.url.removeprefix("gs://"))
        for name, content in files.items():
            bucket.blob(name).upload_from_string(content)

    def pin(self, source: str, *, repository_id: int = 7, **more: Any) -> Dataset:
        settings = self.cloud.settings(CYNTHUS_DATA_BUCKETS=self.opened)
        stranger = more.pop("stranger", False)
        entry = DataSource(name="own", source=source, mount="/data/own", **more)
        asked = Asked(entry=entry, repository_id=repository_id, stranger=stranger)
        return open_cloud_storage(settings, self.blobs).pin(asked)

    def fault(self, kind: type[SourceFault], source: str, **more: Any) -> str:
        with pytest.raises(kind) as caught:
            self.pin(source, **more)
        assert str(caught.value).startswith("data/own: ")
        return str(caught.value)

    def listing(self, dataset: Dataset, repository_id: int = 7) -> ListingPage:
        content = self.blobs.open(listing_key(repository_id, dataset.key))
        assert content is not None
        with content:
            return read_page(content, 0, 1000)


@pytest.fixture
def theirs(cloud: Cloud, tmp_path: Any) -> Iterator[Theirs]:
    blobs = FileBlobs(tmp_path / "blobs")
    found = Theirs(cloud, blobs)
    found.opened = f"7={found.url}/,8={found.url}/train/"
    cloud.client().create_bucket(found.url.removeprefix("gs://"))
    found.put(**FILES)
    yield found
    blobs.close()


def test_a_prefix_is_pinned_to_its_generations_and_their_list_is_kept(theirs: Theirs) -> None:
    found = theirs.pin(f"{theirs.url}/train/")
    assert (found.files, found.size_bytes, len(found.revision)) == (3, 1008, 64)
    page = theirs.listing(found)
    assert f"gs://{page.bucket}" == theirs.url
    assert [one.path for one in page.objects] == ["a.csv", "deep/b.csv", "raw.bin"]
    first = page.objects[0]
    assert (first.name, first.size_bytes, first.generation > 0) == ("train/a.csv", 4, True)
    assert first.md5 == hashlib.md5(b"1,2\n").hexdigest()
    assert theirs.pin(f"{theirs.url}/train") == replace(found, source=f"{theirs.url}/train")


def test_an_object_written_anew_is_another_revision_though_its_bytes_are_equal(
    theirs: Theirs,
) -> None:
    before = theirs.pin(f"{theirs.url}/train/")
    assert theirs.pin(f"{theirs.url}/train/").key == before.key
    theirs.put(**{"train/a.csv": b"1,2\n"})
    after = theirs.pin(f"{theirs.url}/train/")
    assert after.revision != before.revision
    assert theirs.listing(before) != theirs.listing(after), "the older list stays as it was"


def test_one_object_is_staged_by_its_own_name(theirs: Theirs) -> None:
    found = theirs.pin(f"{theirs.url}/train/deep/b.csv")
    assert [one.path for one in theirs.listing(found).objects] == ["b.csv"]


def test_patterns_choose_below_the_prefix(theirs: Theirs) -> None:
    found = theirs.pin(f"{theirs.url}/train/", include=("*.csv",), exclude=("deep/*",))
    assert [one.path for one in theirs.listing(found).objects] == ["a.csv"]
    text = theirs.fault(SourceNotFound, f"{theirs.url}/train/", include=("*.parquet",))
    assert "found none among 3" in text


def test_nobody_gets_what_the_operator_did_not_open_to_the_repository(theirs: Theirs) -> None:
    assert theirs.pin(f"{theirs.url}/train/", repository_id=8).files == 3
    closed = ((8, ""), (8, "trainer/"), (9, "train/"))
    for repository_id, source in ((who, f"{theirs.url}/{prefix}") for who, prefix in closed):
        text = theirs.fault(SourceRefused, source, repository_id=repository_id)
        assert f"adds `{repository_id}={source}` to CYNTHUS_DATA_BUCKETS" in text


def test_a_forks_commit_gets_nothing_of_the_repositorys_buckets(theirs: Theirs) -> None:
    text = theirs.fault(SourceRefused, f"{theirs.url}/train/", stranger=True)
    assert "a fork's commit gets nothing of that" in text


def test_a_bucket_that_is_not_there_is_told(theirs: Theirs) -> None:
    theirs.opened = "7=gs://acme-nothing"
    text = theirs.fault(SourceNotFound, "gs://acme-nothing/x/")
    assert "gs://acme-nothing should be a bucket, found none of this name" in text


# ── without a cloud ─────────────────────────────────────────────────────────────────────────────


class Many:
    """A bucket with more than anybody stages."""

    def __init__(self, number: int) -> None:
        self.number = number

    def below(self, _bucket: str, prefix: str) -> Iterator[ListedObject]:
        for n in range(self.number):
            yield ListedObject(path="", name=f"{prefix}{n}", generation=1, size_bytes=1)

    def close(self) -> None:
        """Do nothing: nothing is kept."""


def asked() -> Asked:
    entry = DataSource(name="own", source="gs://b-1/x/", mount="/data/own")
    return Asked(entry=entry, repository_id=7)


def test_more_objects_than_can_be_listed_are_a_fault(tmp_path: Any) -> None:
    many = Many(gcs.MOST_OBJECTS + 1)
    source = CloudStorage(("7=gs://b-1",), lambda: many, FileBlobs(tmp_path))
    with pytest.raises(SourceRefused, match="at most 100000 objects"):
        source.pin(asked())


def test_a_bucket_that_is_listed_too_slowly_is_asked_again(tmp_path: Any) -> None:
    moments = iter(range(0, 1000, 20))
    source = CloudStorage(
        ("7=gs://b-1",), lambda: Many(9), FileBlobs(tmp_path), clock=lambda: next(moments)
    )
    with pytest.raises(Transient, match="was not listed within 30 s"):
        source.pin(asked())


@pytest.mark.parametrize(
    ("place", "opened", "is_open"),
    [
        ("b/x/", "b", True),
        ("b/x/", "b/", True),
        ("b/x", "b/x/", True),
        ("b/x/y", "b/x", True),
        ("b/xy/", "b/x", False),
        ("b/", "b/x", False),
        ("bb/x/", "b", False),
    ],
)
def test_what_is_opened_is_a_folder_and_what_lies_below(
    place: str, opened: str, *, is_open: bool
) -> None:
    assert is_below(place, opened) is is_open


@pytest.mark.parametrize(
    ("name", "prefix", "path"),
    [
        ("a/b", "a/", "b"),
        ("a/b", "a", "b"),
        ("a/b", "", "a/b"),
        ("a/b", "a/b", "b"),
        ("ab/c", "a", None),
        ("a/", "a/", None),
    ],
)
def test_paths_are_relative_to_the_prefix(name: str, prefix: str, path: str | None) -> None:
    assert relative(name, prefix) == path
