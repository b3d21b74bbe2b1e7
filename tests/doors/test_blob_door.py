"""Signed addresses bind one use of one blob; what arrives is whole or not there."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tests.doors.conftest import Site
from webhook_server.auth.blob_urls import GetTerms, PutTerms, get_url, put_url
from webhook_server.stores.blob_protocol import blob_key
from webhook_server.stores.file_blobs import FileBlobs

CONTENT = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
KEY = blob_key(7, "arun", 1, "outputs/model.pt")


def address(site: Site, *, key: str = KEY, size: int = len(CONTENT), life_s: float = 60) -> str:
    expires_at = site.parts.now() + timedelta(seconds=life_s)
    terms = PutTerms(size_bytes=size, sha256=DIGEST)
    return put_url(site.url, site.parts.server_key, key, terms, expires_at)


def fetch_address(site: Site, *, name: str = "model.pt", life_s: float = 60) -> str:
    expires_at = site.parts.now() + timedelta(seconds=life_s)
    return get_url(site.url, site.parts.server_key, KEY, GetTerms(file_name=name), expires_at)


def files(site: Site) -> list[Path]:
    return [p for p in (site.parts.settings.state_dir / "blobs").rglob("*") if p.is_file()]


@pytest.mark.case("D4")
def test_what_is_put_can_be_fetched_as_a_download(site: Site) -> None:
    assert site.ask("PUT", address(site), body=CONTENT).status == 201
    answer = site.ask("GET", fetch_address(site, name='a";\r\nX-Bad: 1 é.pt'))
    assert answer.body == CONTENT
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert "x-bad" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_putting_twice_is_harmless(site: Site) -> None:
    assert [site.ask("PUT", address(site), body=CONTENT).status for _ in range(2)] == [201, 201]
    assert len(files(site)) == 1


def test_an_empty_file_is_a_file(site: Site) -> None:
    terms = PutTerms(size_bytes=0, sha256=hashlib.sha256(b"").hexdigest())
    expires_at = site.parts.now() + timedelta(minutes=1)
    url = put_url(site.url, site.parts.server_key, KEY, terms, expires_at)
    assert site.ask("PUT", url, body=b"").status == 201
    answer = site.ask("GET", fetch_address(site))
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    ("twist", "status"),
    [
        (lambda url: url.replace("size=", "size=1"), 403),
        (lambda url: url.replace(DIGEST, "0" * 64), 403),
        (lambda url: url.replace("expires=", "expires=9"), 403),
        (lambda url: url.replace("/7/", "/8/"), 403),
        (lambda url: url.replace("/arun/", "/brun/"), 403),
        (lambda url: url.rpartition("&signature=")[0], 403),
        (lambda url: url + "x", 403),
        (lambda url: url + "&signature=x", 403),
        (lambda url: url.replace("/blobs/7/", "/blobs/%2e%2e/7/"), 403),
        (lambda url: url.replace("/blobs/", "/blobs//"), 403),
        (lambda url: url.partition("?")[0] + "?" + "a" * 9000, 403),
    ],
)
def test_an_address_that_was_changed_is_refused(
    site: Site, twist: Callable[[str], str], status: int
) -> None:
    assert site.ask("PUT", twist(address(site)), body=CONTENT).status == status
    assert files(site) == []


@pytest.mark.case("A14")
def test_an_address_is_good_for_one_method_and_a_while(site: Site) -> None:
    site.ask("PUT", address(site), body=CONTENT)
    assert site.ask("GET", address(site)).status == 403
    assert site.ask("PUT", fetch_address(site), body=CONTENT).status == 403
    assert site.ask("DELETE", fetch_address(site)).status == 405
    assert site.ask("PUT", address(site, life_s=-1), body=CONTENT).status == 403
    assert site.ask("GET", fetch_address(site, life_s=-1)).status == 403


@pytest.mark.parametrize("body", [CONTENT[:-1], CONTENT + b"x"])
def test_another_size_is_refused_before_it_is_read(site: Site, body: bytes) -> None:
    assert site.ask("PUT", address(site), body=body).status == 422
    assert files(site) == []


@pytest.mark.case("A13")
def test_another_content_of_the_same_size_leaves_nothing(site: Site) -> None:
    assert site.ask("PUT", address(site), body=b"x" * len(CONTENT)).status == 422
    assert files(site) == []


@pytest.mark.case("A13")
def test_an_upload_that_breaks_off_leaves_nothing(site: Site) -> None:
    path = address(site).removeprefix(site.url)
    head = f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", site.port)) as connection:
        connection.sendall(head.encode() + CONTENT[: len(CONTENT) // 2])
    assert site.ask("PUT", address(site), body=CONTENT).status == 201  # after it, in order
    site_files = files(site)
    assert [f.name for f in site_files if ".incoming" not in str(f)] == [KEY.rpartition("/")[2]]


def test_a_length_must_be_told(site: Site) -> None:
    path = address(site).removeprefix(site.url)
    from tests.doors.conftest import raw

    head = (
        f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
        "Connection: close\r\n\r\n0\r\n\r\n"
    )
    assert b" 411 " in raw(site.port, head.encode()).split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("wanted", "status", "first", "last"),
    [
        ("bytes=0-9", 206, 0, 9),
        ("bytes=100-", 206, 100, len(CONTENT) - 1),
        ("bytes=-5", 206, len(CONTENT) - 5, len(CONTENT) - 1),
        ("bytes=5-999999999999", 206, 5, len(CONTENT) - 1),
        ("bytes=0-1,5-6", 200, 0, len(CONTENT) - 1),
        ("lines=1-2", 200, 0, len(CONTENT) - 1),
        ("bytes=-", 200, 0, len(CONTENT) - 1),
    ],
)
def test_a_part_can_be_fetched(site: Site, wanted: str, status: int, first: int, last: int) -> None:
    site.ask("PUT", address(site), body=CONTENT)
    answer = site.ask("GET", fetch_address(site), headers={"Range": wanted})
    assert (answer.status, answer.body) == (status, CONTENT[first : last + 1])
    if status == 206:
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(CONTENT)}"


def test_a_part_that_is_not_there_is_416(site: Site) -> None:
    site.ask("PUT", address(site), body=CONTENT)
    wanted = f"bytes={len(CONTENT)}-"
    assert site.ask("GET", fetch_address(site), headers={"Range": wanted}).status == 416


def test_what_an_earlier_process_left_half_received_is_swept(tmp_path: Path) -> None:
    store = FileBlobs(tmp_path)
    (tmp_path / ".incoming" / "tmp123").write_bytes(CONTENT[:100])
    store.sweep()
    assert list((tmp_path / ".incoming").iterdir()) == []
    assert store.size(KEY) is None


@pytest.mark.case("A16")
@pytest.mark.parametrize(
    "key", ["../x", "7/run/1", "7/run/1/../../x", "7/RUN/1/" + "a" * 64, "", "/"]
)
def test_only_keys_that_the_server_makes_become_paths(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="blob key"):
        FileBlobs(tmp_path).open(key)
