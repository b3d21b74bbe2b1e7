"""Data shared through Cloud Storage: past the server, proven, by the agent's own code."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cynthus.wire_data import SourceKind
from runner_images.agent.door import Unanswered
from runner_images.agent.ranges import Fetcher, Span
from tests.cloud_fixture import Cloud
from tests.doors.conftest import Site, open_site
from tests.doors.test_data_door import KEY, Instance, dataset
from webhook_server.stores.data_listing import ListedObject, keep_listing, listing_bytes

FILES = {"small.txt": b"first", "large.bin": os.urandom(9 << 20), "zero": b""}


@pytest.fixture
def site(cloud: Cloud, tmp_path: Path) -> Iterator[Site]:
    settings = cloud.settings(CYNTHUS_STATE_DIR=str(tmp_path / "state"), CYNTHUS_PORT="0")
    with open_site(settings) as opened:
        yield opened


def begun(site: Site, kind: SourceKind = SourceKind.HF) -> Instance:
    run_id = site.a_run(repository_id=41)
    site.save(run_id, lambda run: replace(run, datasets=(dataset(kind=kind),)))
    return Instance(site, site.an_agent(run_id))


def test_bytes_pass_the_server_by_both_ways(site: Site) -> None:
    first, second = begun(site), begun(site)
    first.cache.claim(KEY)
    first.keep(FILES)
    assert site.parts.counters.named().get("blob_bytes_received_total", 0) == 0
    found = second.cache.claim(KEY)
    assert found.tree is not None
    second.fetch(found.tree.files)
    assert second.got == FILES
    keys = [blob.key for blob in site.parts.blobs.stored("41/data/0/")]
    assert len(keys) == len(FILES) + 1
    assert all(site.parts.blobs.delete(key) for key in keys)
    assert not any(site.parts.blobs.delete(key) for key in keys)
    first.cache.close()
    second.cache.close()


def test_a_buckets_objects_are_read_at_the_generation_they_were_pinned_to(
    site: Site, cloud: Cloud
) -> None:
    bucket = cloud.client().bucket(cloud.bucket)
    listed = []
    for number in range(101):  # a page and one more
        blob = bucket.blob(f"theirs/{number:03}.txt")
        blob.upload_from_string(f"text {number}".encode())
        told = ListedObject(
            path=f"{number:03}.txt",
            name=blob.name,
            generation=int(blob.generation),
            size_bytes=int(blob.size),
            md5=hashlib.md5(f"text {number}".encode()).hexdigest(),
        )
        listed.append(told)
    content = listing_bytes(cloud.bucket, reversed(listed))
    keep_listing(site.parts.blobs, 41, KEY, content)
    keep_listing(site.parts.blobs, 41, KEY, content)  # safe to repeat
    one = begun(site, SourceKind.GS)
    found = list(one.cache.listing(KEY))
    assert [file.path for file in found] == [told.path for told in listed]
    assert [file.md5 for file in found] == [told.md5 for told in listed]
    assert fetched(found[100].url, found[100].size_bytes) == b"text 100"
    bucket.blob("theirs/007.txt").upload_from_string(b"another text")
    with pytest.raises(Unanswered, match="404"):  # what was pinned is gone, and nothing else comes
        fetched(found[7].url, found[7].size_bytes)
    one.cache.close()


def fetched(url: str, size: int) -> bytes:
    """Fetch as the agent does."""
    fetcher = Fetcher(threading.Event(), lambda: False)
    try:
        return b"".join(fetcher.bytes_of(url, Span(first=0, last=size - 1, whole=size)))
    finally:
        fetcher.close()
