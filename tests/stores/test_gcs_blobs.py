"""Blobs on Cloud Storage, by Google's own client: whole, proven, each repository's its own."""

from __future__ import annotations

import hashlib
from contextlib import closing
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from cynthus.errors import Transient
from tests.cloud_fixture import Cloud
from webhook_server.stores.blob_protocol import (
    Announced,
    BlobMismatch,
    DirectPut,
    Receipt,
    blob_key,
)
from webhook_server.stores.gcs_blobs import CHUNK_BYTES, SINGLE_PUT_BYTES

KEY = blob_key(7, "arun", 1, "outputs/model.pt")
SMALL = b"weights of a model " * 1000
LIFE = timedelta(minutes=15)


def announced(content: bytes, *, md5: bool = False) -> Announced:
    return Announced(
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        md5=hashlib.md5(content).hexdigest() if md5 else None,
    )


def received(cloud: Cloud, content: bytes, key: str = KEY) -> None:
    receipt = cloud.blobs().receive(key, announced(content))
    for at in range(0, len(content), 1 << 20):
        receipt.write(content[at : at + (1 << 20)])
    receipt.finish()


def granted(cloud: Cloud, content: bytes, key: str = KEY, **more: bool) -> DirectPut:
    found = cloud.blobs().direct_put(key, announced(content, **more), LIFE)
    assert found is not None
    return found


def put(direct: DirectPut, content: bytes, **headers: str) -> requests.Response:
    return requests.put(direct.url, content, headers={**direct.headers, **headers}, timeout=60)


def read(cloud: Cloud, key: str = KEY) -> bytes:
    found = cloud.blobs().open(key)
    assert found is not None
    with found:
        return found.read()


# ── through this server ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES + 77])
def test_what_is_received_can_be_read_again(cloud: Cloud, size: int) -> None:
    content = (hashlib.sha256(b"seed").digest() * (size // 32 + 1))[:size]
    received(cloud, content)
    blobs = cloud.blobs()
    assert blobs.size(KEY) == size
    assert blobs.has(KEY, announced(content))
    assert read(cloud) == content
    assert blobs.usage("7/arun/1") == (1, size)


@pytest.mark.parametrize("wrong", [SMALL[:-1], SMALL + b"x", b"x" * len(SMALL)])
def test_other_bytes_than_were_announced_leave_nothing(cloud: Cloud, wrong: bytes) -> None:
    receipt = cloud.blobs().receive(KEY, announced(SMALL))
    with pytest.raises(BlobMismatch):
        _write_all(receipt, wrong)
    receipt.abort()
    assert cloud.blobs().size(KEY) is None


def _write_all(receipt: Receipt, content: bytes) -> None:
    receipt.write(content)
    receipt.finish()


def test_other_bytes_are_found_out_before_a_large_upload_is_ended(cloud: Cloud) -> None:
    content = bytes(2 * CHUNK_BYTES)
    receipt = cloud.blobs().receive(KEY, announced(content[:-1] + b"x"))
    receipt.write(content)
    with pytest.raises(BlobMismatch):
        receipt.finish()
    receipt.abort()
    assert cloud.blobs().size(KEY) is None


def test_what_is_replaced_is_replaced_whole(cloud: Cloud) -> None:
    received(cloud, SMALL)
    received(cloud, SMALL[1:])
    assert read(cloud) == SMALL[1:]
    assert not cloud.blobs().has(KEY, announced(SMALL))


def test_of_two_uploads_at_once_the_slower_one_fails_unless_it_brings_the_same(
    cloud: Cloud,
) -> None:
    same, other = (cloud.blobs().receive(KEY, announced(c)) for c in (SMALL, SMALL[1:]))
    for receipt, content in ((same, SMALL), (other, SMALL[1:])):
        receipt.write(content * 1)
    received(cloud, SMALL)
    same.finish()  # 412, and what lies there is what it would have put
    with pytest.raises(Transient, match="another upload was faster"):
        other.finish()
    assert read(cloud) == SMALL


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_passing_refusal_is_tried_again(cloud: Cloud, code: int) -> None:
    cloud.sim.fault("error", {"path": "/storage/v1/"}, code=code, times=2)
    received(cloud, SMALL)
    assert read(cloud) == SMALL


def test_an_upload_whose_last_answer_is_lost_counts_once(cloud: Cloud) -> None:
    cloud.sim.fault("lost", {"path": "/upload/", "method": "PUT"}, effect=True)
    received(cloud, SMALL)
    assert cloud.blobs().usage("7/arun/1") == (1, len(SMALL))


def test_an_upload_that_is_cut_goes_on(cloud: Cloud) -> None:
    content = bytes(2 * CHUNK_BYTES + 5)
    cloud.sim.fault("upload_cut", bytes=CHUNK_BYTES // 2)
    received(cloud, content)
    assert cloud.blobs().has(KEY, announced(content))


# ── past this server ────────────────────────────────────────────────────────────────────────────


def test_a_small_file_is_put_straight_and_counts_once_its_md5_is_told(cloud: Cloud) -> None:
    assert put(granted(cloud, SMALL), SMALL).status_code == 200
    blobs = cloud.blobs()
    assert not blobs.has(KEY, announced(SMALL))  # nobody but the agent has seen its bytes
    assert blobs.has(KEY, announced(SMALL, md5=True))
    assert read(cloud) == SMALL


def test_an_empty_file_is_put_straight(cloud: Cloud) -> None:
    assert put(granted(cloud, b""), b"").status_code == 200
    assert cloud.blobs().has(KEY, announced(b"", md5=True))


def test_other_bytes_of_the_same_size_do_not_count(cloud: Cloud) -> None:
    twisted = b"x" * len(SMALL)
    put(granted(cloud, SMALL), twisted)
    assert not cloud.blobs().has(KEY, announced(SMALL, md5=True))
    # …and the next grant, which knows the MD5, lets Cloud Storage itself refuse them.
    assert put(granted(cloud, SMALL, md5=True), twisted).status_code == 400
    cloud.sim.post("/clock", {"advance_s": 1})  # an object takes one write a second
    assert put(granted(cloud, SMALL, md5=True), SMALL).status_code == 200
    assert cloud.blobs().has(KEY, announced(SMALL, md5=True))


@pytest.mark.parametrize("wrong", [SMALL[:-1], SMALL + b"x"])
def test_another_size_is_refused_by_cloud_storage(cloud: Cloud, wrong: bytes) -> None:
    assert put(granted(cloud, SMALL), wrong).status_code == 400
    assert cloud.blobs().size(KEY) is None


def test_an_address_puts_once(cloud: Cloud) -> None:
    direct = granted(cloud, SMALL)
    assert [put(direct, SMALL).status_code for _ in range(2)] == [200, 412]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/7/arun/", "/8/arun/"),  # another repository's
        ("/arun/", "/brun/"),
        ("/acme-", "/other-"),
        ("X-Goog-Expires=900", "X-Goog-Expires=604800"),
        ("X-Goog-Signature=", "X-Goog-Signature=00"),
    ],
)
def test_an_address_that_was_changed_is_refused(cloud: Cloud, old: str, new: str) -> None:
    direct = granted(cloud, SMALL)
    assert old in direct.url
    forged = DirectPut(url=direct.url.replace(old, new), headers=direct.headers)
    assert put(forged, SMALL).status_code in {400, 403, 404}
    assert cloud.blobs().usage("7/arun/1") == cloud.blobs().usage("8/arun/1") == (0, 0)


@pytest.mark.parametrize(
    "header", ["x-goog-if-generation-match", "x-goog-content-length-range", "x-goog-meta-sha256"]
)
def test_the_terms_of_an_address_cannot_be_changed(cloud: Cloud, header: str) -> None:
    direct = granted(cloud, SMALL)
    assert put(direct, SMALL, **{header: "1,99999"}).status_code == 403
    assert put(direct, SMALL, **{"x-goog-meta-proven-by-server": "sha256"}).status_code == 403
    less = {name: value for name, value in direct.headers.items() if name != header}
    assert put(DirectPut(url=direct.url, headers=less), SMALL).status_code in {400, 403}


def test_an_address_puts_and_does_nothing_else(cloud: Cloud) -> None:
    received(cloud, SMALL)
    url = granted(cloud, SMALL[1:]).url
    headers = granted(cloud, SMALL[1:]).headers
    for ask in (requests.get, requests.delete):
        answer = ask(url, headers=headers, timeout=60)
        assert (answer.status_code, "SignatureDoesNotMatch" in answer.text) == (403, True)
    assert read(cloud) == SMALL


def test_an_address_ends(cloud: Cloud) -> None:
    direct = granted(cloud, SMALL)
    fetch = _fetch_url(cloud)
    later_s = LIFE.total_seconds() + 1
    cloud.sim.post("/clock", {"advance_s": later_s})
    answers = [put(direct, SMALL), requests.get(fetch, timeout=60)]
    cloud.sim.post("/clock", {"advance_s": -later_s})
    assert [(a.status_code, "ExpiredToken" in a.text) for a in answers] == [(400, True)] * 2


def test_no_address_lives_longer_than_cloud_storage_grants(cloud: Cloud) -> None:
    with pytest.raises(ValueError, match="7 days"):
        cloud.blobs().direct_put(KEY, announced(SMALL), timedelta(days=7, seconds=1))


def test_a_large_file_gets_a_session_for_exactly_its_size(cloud: Cloud) -> None:
    content = bytes(SINGLE_PUT_BYTES + 1)
    direct = granted(cloud, content)
    assert direct.resumable
    longer = f"bytes 0-{len(content)}/{len(content) + 1}"
    assert put(direct, content + b"x", **{"content-range": longer}).status_code == 400
    whole = f"bytes 0-{len(content) - 1}/{len(content)}"
    assert put(direct, content, **{"content-range": whole}).status_code == 200
    assert cloud.blobs().has(KEY, announced(content, md5=True))


def test_of_two_sessions_the_second_cannot_end(cloud: Cloud) -> None:
    content = bytes(SINGLE_PUT_BYTES + 1)
    first, second = granted(cloud, content), granted(cloud, content)
    whole = {"content-range": f"bytes 0-{len(content) - 1}/{len(content)}"}
    assert [put(one, content, **whole).status_code for one in (first, second)] == [200, 412]


# ── downloads ───────────────────────────────────────────────────────────────────────────────────


def _fetch_url(cloud: Cloud, key: str = KEY) -> str:
    url = cloud.blobs().direct_url(key, 'attachment; filename="é.pt"', LIFE)
    assert url is not None
    return url


def test_a_download_comes_from_cloud_storage_as_an_attachment(cloud: Cloud) -> None:
    received(cloud, SMALL)
    answer = requests.get(_fetch_url(cloud), timeout=60)
    assert answer.content == SMALL
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["content-type"] == "application/octet-stream"


def test_a_download_can_be_signed_without_a_key_in_this_process(cloud: Cloud) -> None:
    from google.auth.credentials import AnonymousCredentials

    from webhook_server.stores.gcs_blobs import GcsBlobs
    from webhook_server.stores.gcs_signing import IamSigner

    received(cloud, SMALL)
    email = cloud.sim.post("/service-accounts", {"name": "keyless"})["email"]
    signer = IamSigner(AnonymousCredentials(), email, cloud.sim.url)
    blobs = GcsBlobs(cloud.client().bucket(cloud.bucket), "cynthus", signer)
    cloud.open.enter_context(closing(blobs))
    url = blobs.direct_url(KEY, "attachment", LIFE)
    assert url is not None
    assert parse_qs(urlsplit(url).query)["X-Goog-Credential"][0].startswith(email)
    assert requests.get(url, timeout=60).content == SMALL
    with pytest.raises(ValueError, match="12:00:00"):
        blobs.direct_url(KEY, "attachment", timedelta(days=1))


def test_signing_that_is_denied_names_the_role(cloud: Cloud) -> None:
    from google.auth.credentials import AnonymousCredentials

    from webhook_server.stores.gcs_signing import IamSigner

    email = cloud.sim.post("/service-accounts", {"name": "keyless"})["email"]
    cloud.sim.fault("denied", {"api": "iamcredentials"})
    with (
        closing(IamSigner(AnonymousCredentials(), email, cloud.sim.url)) as signer,
        pytest.raises(Transient, match=r"roles/iam\.serviceAccountTokenCreator"),
    ):
        signer.sign_bytes(b"text")


def test_a_block_that_breaks_off_is_asked_for_again(cloud: Cloud) -> None:
    received(cloud, SMALL)
    cloud.sim.fault("download_cut", bytes=100)
    assert read(cloud) == SMALL


def test_bytes_that_changed_on_their_way_are_not_handed_on(cloud: Cloud) -> None:
    received(cloud, SMALL)
    cloud.sim.fault("corrupt", times=-1)
    with pytest.raises(Transient, match="CRC32C"):
        read(cloud)


def test_a_part_can_be_read(cloud: Cloud) -> None:
    content = bytes(range(256)) * 40_000
    received(cloud, content)
    found = cloud.blobs().open(KEY)
    assert found is not None
    with found:
        found.seek(-300, 2)
        assert found.read(100) == content[-300:-200]
        found.seek(5)
        assert found.read(7) == content[5:12]
        assert found.tell() == 12


def test_a_blob_that_is_replaced_while_it_is_read_is_not_mixed(cloud: Cloud) -> None:
    content = bytes(CHUNK_BYTES + 10)
    received(cloud, content)
    found = cloud.blobs().open(KEY)
    assert found is not None
    found.read(10)
    received(cloud, b"x" * len(content))
    with found, pytest.raises(Transient):
        found.read(-1)


# ── what is not there, and bad days ─────────────────────────────────────────────────────────────


def test_what_is_not_there_is_none(cloud: Cloud) -> None:
    blobs = cloud.blobs()
    assert (blobs.size(KEY), blobs.open(KEY), blobs.usage("7/arun/1")) == (None, None, (0, 0))


def test_a_bucket_that_is_gone_says_what_to_do(cloud: Cloud) -> None:
    blobs = cloud.blobs(CYNTHUS_BLOB_URL="gs://nobodys-bucket/cynthus")
    with pytest.raises(Transient, match="cynthus gcp setup-storage"):
        blobs.usage("7/arun/1")


def test_a_lost_permission_names_the_role(cloud: Cloud) -> None:
    cloud.sim.fault("denied", {"api": "storage"}, times=-1)
    with pytest.raises(Transient, match=r"roles/storage\.objectUser"):
        cloud.blobs().size(KEY)


def test_usage_counts_one_attempt_alone_over_many_pages(cloud: Cloud) -> None:
    for number in range(3):
        received(cloud, SMALL, blob_key(7, "arun", 1, f"{number}.pt"))
    received(cloud, SMALL, blob_key(7, "arun", 10, "other.pt"))
    received(cloud, SMALL, blob_key(70, "arun", 1, "other.pt"))
    assert cloud.blobs().usage("7/arun/1") == (3, 3 * len(SMALL))


@pytest.mark.parametrize("key", ["../x", "7/run/1", "7/RUN/1/" + "a" * 64, ""])
def test_only_keys_that_the_server_makes_become_names(cloud: Cloud, key: str) -> None:
    with pytest.raises(ValueError, match="blob key"):
        cloud.blobs().open(key)
