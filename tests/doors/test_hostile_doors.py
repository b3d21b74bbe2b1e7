"""What arrives when a disk is full, a spec is wrong, or a row is damaged: the doors' side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.doors.conftest import open_site
from tests.small_disk import fill, small_disk
from webhook_server.settings import Settings

__all__ = ["small_disk"]  # a fixture


def test_a13_an_upload_into_a_full_disk_leaves_nothing_and_is_taken_once_there_is_room(
    settings: Settings, small_disk: Path
) -> None:
    url = (small_disk / "blobs").as_uri()
    content = b"weights" * 600_000  # several blocks: the disk is full in the middle of one
    with open_site(replace(settings, blob_url=url)) as site:
        agent = site.an_agent()
        filler = fill(small_disk)
        with filler.open("ab") as file:
            file.truncate(filler.stat().st_size - 2_500_000)
        assert agent.upload("outputs/model", content).status == 507
        assert list((small_disk / "blobs" / ".incoming").iterdir()) == []
        filler.unlink()
        assert agent.upload("outputs/model", content).status == 201
        assert agent.ask_upload("outputs/model", content).json["url"] is None
