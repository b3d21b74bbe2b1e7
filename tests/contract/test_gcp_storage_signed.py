"""V4 signed URLs against the simulated Cloud Storage: signatures are really checked."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
import requests
from google.auth.credentials import Signing
from google.cloud import storage
from google.oauth2 import service_account

from tests.contract.gcp_cloud import Cloud, a_cloud

STEP = 256 << 10
DATA = random.Random(5).randbytes(2 * STEP + 10)


@pytest.fixture(scope="module")
def module_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with a_cloud(tmp_path_factory.mktemp("gcp")) as cloud:
        yield cloud


@pytest.fixture
def cloud(module_cloud: Cloud) -> Iterator[Cloud]:
    """Return the module's cloud; what the test sent is judged when it ends."""
    yield module_cloud
    module_cloud.simulator.sim("DELETE", "/faults")
    assert module_cloud.problems() == []


@pytest.fixture
def bucket(cloud: Cloud) -> storage.Bucket:
    return cloud.bucket()


@pytest.fixture(scope="module")
def signer(module_cloud: Cloud) -> service_account.Credentials:
    return module_cloud.signer()


def signed(blob: storage.Blob, signer: Any, method: str = "GET", **more: Any) -> str:
    """Return a signed URL made by Google's own library."""
    life = more.pop("expiration", timedelta(minutes=5))
    url: str = blob.generate_signed_url(
        version="v4",
        method=method,
        expiration=life,
        credentials=signer,
        api_access_endpoint=blob.client._connection.API_BASE_URL,
        **more,
    )
    return url


def code(answer: requests.Response) -> tuple[int, str]:
    """Return the status and the code of an XML error."""
    return answer.status_code, answer.text.partition("<Code>")[2].partition("</Code>")[0]


def crc32c(data: bytes) -> str:
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def put(url: str, data: bytes, **headers: str) -> requests.Response:
    return requests.put(
        url, data=data, headers={k.replace("_", "-"): v for k, v in headers.items()}, timeout=60
    )


def test_what_one_signed_url_puts_another_gets(
    bucket: storage.Bucket, signer: service_account.Credentials
) -> None:
    blob = bucket.blob("outputs/run 1/ü+model.pt")
    done = put(signed(blob, signer, "PUT", content_type="text/x"), DATA, content_type="text/x")
    assert (done.status_code, done.content) == (200, b"")
    assert f"crc32c={crc32c(DATA)}" in done.headers["x-goog-hash"]
    assert done.headers["ETag"] == f'"{hashlib.md5(DATA).hexdigest()}"'
    name = {"response_disposition": 'attachment; filename="m.pt"', "response_type": "image/x"}
    found = requests.get(signed(blob, signer, **name), timeout=60)
    assert found.content == DATA
    assert found.headers["Content-Disposition"] == 'attachment; filename="m.pt"'
    assert found.headers["Content-Type"] == "image/x"
    part = requests.get(signed(blob, signer), headers={"Range": "bytes=1-3"}, timeout=60)
    assert (part.status_code, part.content) == (206, DATA[1:4])
    head = requests.head(signed(blob, signer), timeout=60)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(DATA)))
    blob.reload()
    assert (blob.content_type, blob.crc32c) == ("text/x", crc32c(DATA))
    assert requests.delete(signed(blob, signer, "DELETE"), timeout=60).status_code == 204
    assert code(requests.get(signed(blob, signer), timeout=60)) == (404, "NoSuchKey")


def test_any_change_of_a_signed_url_breaks_it(
    cloud: Cloud, bucket: storage.Bucket, signer: service_account.Credentials
) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"secret")
    bucket.blob("b").upload_from_string(b"other")
    url = signed(blob, signer)
    localhost = url.replace("127.0.0.1", "localhost")
    more = url.replace("X-Goog-Expires=300", "X-Goog-Expires=301")
    nobody = url.replace("signer%40", "nobody%40")
    for forged in [url.replace("/a?", "/b?"), localhost, more, nobody, f"{url}&generation=1"]:
        assert code(requests.get(forged, timeout=60)) == (403, "SignatureDoesNotMatch"), forged
    for method in ["PUT", "DELETE"]:
        refused = requests.request(method, url, timeout=60)
        assert code(refused) == (403, "SignatureDoesNotMatch")
    for bad in [
        url.replace("X-Goog-Expires=300", "X-Goog-Expires=604801"),
        url.replace("RSA", "HMAC"),
    ]:
        assert code(requests.get(bad, timeout=60)) == (400, "AuthorizationQueryParametersError")
    assert requests.get(url, timeout=60).content == b"secret"


def test_signed_headers_must_come_as_signed_and_no_others(
    bucket: storage.Bucket, signer: service_account.Credentials
) -> None:
    url = signed(bucket.blob("a"), signer, "PUT", headers={"x-goog-if-generation-match": "0"})
    assert code(put(url, b"x")) == (400, "MalformedSecurityHeader")
    assert code(put(url, b"x", x_goog_if_generation_match="5")) == (403, "SignatureDoesNotMatch")
    loose = {"x_goog_if_generation_match": "0", "x_goog_meta_a": "b"}
    assert code(put(url, b"x", **loose)) == (403, "AccessDenied")
    assert put(url, b"x", x_goog_if_generation_match="0").status_code == 200
    assert code(put(url, b"y", x_goog_if_generation_match="0")) == (412, "PreconditionFailed")
    assert bucket.blob("a").download_as_bytes() == b"x"


def test_bytes_are_held_against_the_signed_checksum(
    bucket: storage.Bucket, signer: service_account.Credentials
) -> None:
    hashes = f"crc32c={crc32c(b'right')}"
    url = signed(bucket.blob("a"), signer, "PUT", headers={"x-goog-hash": hashes})
    assert code(put(url, b"wrong", x_goog_hash=hashes)) == (400, "BadDigest")
    assert list(bucket.list_blobs()) == []
    assert put(url, b"right", x_goog_hash=hashes).status_code == 200
    md5 = base64.b64encode(hashlib.md5(b"right").digest()).decode()
    plain = signed(bucket.blob("b"), signer, "PUT")
    assert code(put(plain, b"wrong", content_md5=md5)) == (400, "BadDigest")


def test_the_signed_length_range_holds(
    bucket: storage.Bucket, signer: service_account.Credentials
) -> None:
    bounds = {"x-goog-content-length-range": "2,4"}
    url = signed(bucket.blob("a"), signer, "PUT", headers=bounds)
    assert code(put(url, b"x", x_goog_content_length_range="2,4")) == (400, "EntityTooSmall")
    assert code(put(url, b"xxxxx", x_goog_content_length_range="2,4")) == (400, "EntityTooLarge")
    assert put(url, b"xxx", x_goog_content_length_range="2,4").status_code == 200


def test_a_sha256_is_part_of_the_signature_and_checked_only_when_switched_on(
    cloud: Cloud, bucket: storage.Bucket, signer: service_account.Credentials
) -> None:
    digest = hashlib.sha256(b"right").hexdigest()
    url = signed(bucket.blob("a"), signer, "PUT", headers={"x-goog-content-sha256": digest})
    assert put(url, b"wrong", x_goog_content_sha256=digest).status_code == 200
    cloud.simulator.post("/settings", {"storage_checks_sha256": True})
    try:
        refused = put(url, b"wrong", x_goog_content_sha256=digest)
        assert code(refused) == (400, "XAmzContentSHA256Mismatch")
        assert put(url, b"right", x_goog_content_sha256=digest).status_code == 200
    finally:
        cloud.simulator.post("/settings", {"storage_checks_sha256": False})


def test_a_resumable_upload_begins_with_a_signed_url_and_goes_on_without(
    cloud: Cloud, bucket: storage.Bucket, signer: service_account.Credentials
) -> None:
    blob = bucket.blob("large file")
    wish = {"x-goog-resumable": "start", "x-goog-if-generation-match": "0"}
    url = signed(blob, signer, "POST", content_type="text/x", headers=wish)
    begun = requests.post(url, headers={"Content-Type": "text/x", **wish}, timeout=60)
    assert begun.status_code == 201
    session = begun.headers["Location"]
    first = put(session, DATA[:STEP], content_range=f"bytes 0-{STEP - 1}/{len(DATA)}")
    assert (first.status_code, first.headers["Range"]) == (308, f"bytes=0-{STEP - 1}")
    cloud.simulator.fault("upload_cut", {"bucket": bucket.name}, bytes=100)
    with pytest.raises(requests.ConnectionError):
        put(session, DATA[STEP:], content_range=f"bytes {STEP}-{len(DATA) - 1}/{len(DATA)}")
    asked = put(session, b"", content_range=f"bytes */{len(DATA)}")
    assert (asked.status_code, asked.headers["Range"]) == (308, f"bytes=0-{STEP - 1}")
    last = put(session, DATA[STEP:], content_range=f"bytes {STEP}-{len(DATA) - 1}/{len(DATA)}")
    assert (last.status_code, last.content) == (200, b"")
    blob.reload()
    assert (blob.crc32c, blob.content_type) == (crc32c(DATA), "text/x")
    again = requests.post(url, headers={"Content-Type": "text/x", **wish}, timeout=60)
    assert code(again) == (412, "PreconditionFailed")


def test_the_length_range_holds_for_a_resumable_upload_too(
    bucket: storage.Bucket, signer: service_account.Credentials
) -> None:
    wish = {"x-goog-resumable": "start", "x-goog-content-length-range": "1,5"}
    url = signed(bucket.blob("a"), signer, "POST", headers=wish)
    session = requests.post(url, headers=wish, timeout=60).headers["Location"]
    assert code(put(session, b"123456", content_range="bytes 0-5/6")) == (400, "EntityTooLarge")
    assert requests.delete(session, timeout=60).status_code == 410


def test_a_url_ends_when_it_says(tmp_path: Path) -> None:
    with a_cloud(tmp_path) as cloud:
        blob = cloud.bucket().blob("a")
        blob.upload_from_string(b"x")
        url = signed(blob, cloud.signer(), expiration=timedelta(seconds=100))
        assert requests.get(url, timeout=60).status_code == 200
        cloud.simulator.post("/clock", advance_s=101)
        assert code(requests.get(url, timeout=60)) == (400, "ExpiredToken")
        early = signed(
            blob,
            cloud.signer(),
            expiration=datetime.now(UTC) + timedelta(days=7),
        )
        cloud.simulator.post("/clock", advance_s=-3600)
        assert code(requests.get(early, timeout=60)) == (403, "AccessDenied")


class SignBlob(Signing):
    """Signs by `signBlob` at an address of our choice, as a server without a key file must."""

    def __init__(self, url: str, email: str) -> None:
        self._url = url
        self._email = email

    def sign_bytes(self, message: bytes) -> bytes:
        answer = requests.post(
            f"{self._url}/v1/projects/-/serviceAccounts/{self._email}:signBlob",
            json={"payload": base64.b64encode(message).decode()},
            timeout=60,
        )
        answer.raise_for_status()
        return base64.b64decode(answer.json()["signedBlob"])

    @property
    def signer_email(self) -> str:
        return self._email

    @property
    def signer(self) -> None:
        return None


def test_a_signature_by_sign_blob_is_as_good_as_one_by_a_key_file(
    cloud: Cloud, bucket: storage.Bucket
) -> None:
    email = cloud.simulator.post("/service-accounts", {"name": "server"})["email"]
    bucket.blob("a").upload_from_string(b"x")
    url = signed(bucket.blob("a"), SignBlob(cloud.url, email))
    assert requests.get(url, timeout=60).content == b"x"


def test_a_key_taken_away_signs_no_more_and_a_registered_one_does(
    cloud: Cloud, bucket: storage.Bucket
) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from google.auth.crypt import RSASigner

    bucket.blob("a").upload_from_string(b"x")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem, public = (
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )
    wish = {"email": "own@example.org", "public_key": public.decode()}
    registered = cloud.simulator.post("/keys", wish)
    own = service_account.Credentials(
        RSASigner.from_string(pem.decode()), "own@example.org", f"{cloud.url}/token"
    )
    url = signed(bucket.blob("a"), own)
    assert requests.get(url, timeout=60).content == b"x"
    cloud.simulator.sim("DELETE", "/keys", registered)
    assert code(requests.get(url, timeout=60)) == (403, "SignatureDoesNotMatch")


def test_a_signer_that_lost_its_permission_is_refused(
    cloud: Cloud, bucket: storage.Bucket, signer: service_account.Credentials
) -> None:
    bucket.blob("a").upload_from_string(b"x")
    url = signed(bucket.blob("a"), signer)
    cloud.simulator.fault("denied", {"principal": "signer@.*"})
    assert code(requests.get(url, timeout=60)) == (403, "AccessDenied")
    assert requests.get(url, timeout=60).status_code == 200


def test_what_belongs_to_no_bucket_is_refused_in_xml(
    cloud: Cloud, bucket: storage.Bucket, signer: service_account.Credentials
) -> None:
    absent = cloud.storage().bucket("cynthus-absent").blob("a")
    assert code(requests.get(signed(absent, signer), timeout=60)) == (404, "NoSuchBucket")
    missing = signed(bucket.blob("a"), signer, "PUT")
    long = signed(bucket.blob("x" * 1025), signer, "PUT")
    assert put(long, b"x").status_code == 400
    acl = signed(bucket.blob("a"), signer, "PUT", headers={"x-goog-acl": "public-read"})
    assert put(acl, b"x", x_goog_acl="public-read").status_code == 400
    assert put(missing, b"x").status_code == 200
