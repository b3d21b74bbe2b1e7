"""What lies behind the hubs: storage, plain files, faults, limits, hostile archives."""

from __future__ import annotations

import datetime as dt
import hashlib
import http.client
import io
import ipaddress
import json
import ssl
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from simulators.hub_hostile import BOMB_BYTES, MANY, TARS, ZIPS, hostile_tar, hostile_zip
from tests.hub_fixture import SECRET, Hub

SIZE = 2_500_000  # two and a half blocks of the noise


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    hub.make("hf/users", name="ada", token=SECRET)
    large = {"model.bin": {"size": SIZE, "seed": "a"}}
    hub.make("hf/repos", type="model", name="org/net", files=large)
    hub.make("files", path="noise.bin", content={"size": SIZE, "seed": "a"})
    hub.make("files", path="set.zip", content={"zip": {"a.txt": "hello"}})
    yield hub
    hub.stop()


@pytest.fixture(autouse=True)
def fresh(hub: Hub) -> Iterator[None]:
    hub.forget()
    yield
    hub.control("POST", "limits", {"enforced": False})


def fetch(url: str, method: str = "GET", /, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body; follows nothing."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, headers=headers)
        answer = connection.getresponse()
        return answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def signed(hub: Hub) -> str:
    status, headers, _ = fetch(f"{hub.url}/org/net/resolve/main/model.bin", "HEAD")
    assert status == 302
    return headers["location"]


def test_the_noise_of_a_seed_is_the_same_wherever_it_starts(hub: Hub) -> None:
    whole = fetch(f"{hub.url}/files/noise.bin")[2]
    assert len(whole) == SIZE
    again = hub.make("files", path="again.bin", content={"size": SIZE, "seed": "a"})
    assert again["sha256"] == hashlib.sha256(whole).hexdigest()
    part = fetch(f"{hub.url}/files/noise.bin", Range="bytes=1048570-2097160")[2]
    assert part == whole[1048570:2097161]
    other = hub.make("files", path="other.bin", content={"size": SIZE, "seed": "b"})
    assert other["sha256"] != again["sha256"]


@pytest.mark.parametrize(
    ("wanted", "status", "told", "size"),
    [
        ("bytes=0-0", 206, f"bytes 0-0/{SIZE}", 1),
        ("bytes=2499990-", 206, f"bytes 2499990-2499999/{SIZE}", 10),
        ("bytes=-7", 206, f"bytes 2499993-2499999/{SIZE}", 7),
        ("bytes=2499999-9999999", 206, f"bytes 2499999-2499999/{SIZE}", 1),
        (f"bytes={SIZE}-", 416, f"bytes */{SIZE}", None),
        ("bytes=-0", 416, f"bytes */{SIZE}", None),
        ("bytes=0-1,5-6", 200, None, SIZE),  # S3 and Google's storage give everything
        ("items=0-1", 200, None, SIZE),
    ],
)
def test_ranges_at_the_storage(
    hub: Hub, wanted: str, status: int, told: str | None, size: int | None
) -> None:
    found, headers, body = fetch(signed(hub), Range=wanted)
    assert (found, headers.get("content-range")) == (status, told)
    assert size is None or len(body) == size


def test_a_rest_is_only_given_of_what_has_not_changed(hub: Hub) -> None:
    url = f"{hub.url}/files/set.zip"
    _, headers, body = fetch(url)
    assert zipfile.ZipFile(io.BytesIO(body)).read("a.txt") == b"hello"
    etag, moment = headers["etag"], headers["last-modified"]
    for condition, status in ((etag, 206), (moment, 206), ('"other"', 200), ("nonsense", 200)):
        assert fetch(url, "GET", **{"Range": "bytes=10-", "If-Range": condition})[0] == status
    assert fetch(url, "GET", **{"If-None-Match": etag})[0] == 304
    assert fetch(url, "HEAD")[1]["content-length"] == str(len(body))


def test_the_storage_takes_its_signed_addresses_and_nothing_else(hub: Hub) -> None:
    url = signed(hub)
    assert urlsplit(url).hostname != urlsplit(hub.url).hostname
    assert fetch(url)[0] == 200
    assert fetch(url, Authorization=f"Bearer {SECRET}")[0] == 400
    assert fetch(url.replace("Signature=", "Signature=0"))[0] == 403
    assert fetch(url.partition("?")[0])[0] == 403
    assert fetch(url.replace("/org/net/", "/org/other/"))[0] == 403
    hub.control("POST", "clock", {"advance_s": 3601})
    status, _, body = fetch(url)
    hub.control("POST", "clock", {"advance_s": -3601})
    assert status == 403
    assert b"Request has expired" in body


def test_plain_files_redirect_and_ask_for_a_login(hub: Hub) -> None:
    hub.make("files", path="inside", redirect="http://169.254.169.254/computeMetadata/v1/")
    hub.make("files", path="moved", redirect="/files/noise.bin", status=308)
    hub.make("files", path="own", content="mine", authorization="Basic YTpi")
    status, headers, _ = fetch(f"{hub.url}/files/inside")
    assert (status, headers["location"]) == (302, "http://169.254.169.254/computeMetadata/v1/")
    assert fetch(f"{hub.url}/files/moved")[0] == 308
    assert fetch(f"{hub.url}/files/own")[0] == 401
    assert fetch(f"{hub.url}/files/own", Authorization="Basic YTpi")[2] == b"mine"
    assert fetch(f"{hub.url}/files/none")[0] == 404
    hub.control("DELETE", "files", {"path": "own"})
    assert fetch(f"{hub.url}/files/own")[0] == 404


def broken(hub: Hub, kind: str, **wish: Any) -> type[Exception]:
    hub.fault(kind, path="/files/", **wish)
    with pytest.raises((http.client.HTTPException, ConnectionError)) as caught:
        fetch(f"{hub.url}/files/noise.bin")
    return caught.type


def test_transfers_end_early_in_three_ways(hub: Hub) -> None:
    assert broken(hub, "cut", after=1000) is http.client.IncompleteRead
    assert broken(hub, "wrong_length", more=10) is http.client.IncompleteRead
    assert broken(hub, "reset", after=1000) is ConnectionResetError
    assert broken(hub, "drop_answer") is ConnectionResetError
    assert len(fetch(f"{hub.url}/files/noise.bin")[2]) == SIZE


def test_answers_differ_from_the_truth_when_told(hub: Hub) -> None:
    url = f"{hub.url}/files/noise.bin"
    whole = fetch(url)[2]
    hub.fault("corrupt", path="noise")
    hub.fault("no_range", path="noise", times=2)
    other = fetch(url, Range="bytes=5-")[2]
    assert len(other) == SIZE
    assert (other != whole, other[1:] == whole[1:]) == (True, True)
    assert fetch(url, Range="bytes=5-")[0] == 200
    assert fetch(url, Range="bytes=5-")[0] == 206
    hub.fault("error", status=503, method="GET", path="noise", headers={"Retry-After": "7"})
    status, headers, _ = fetch(url)
    assert (status, headers["retry-after"]) == (503, "7")
    hub.fault("slow", path="noise", bytes_per_s=SIZE * 20)
    assert fetch(url)[2] == whole
    kinds = {fault["kind"]: fault["struck"] for fault in hub.control("GET", "faults")}
    assert kinds == {"corrupt": 1, "no_range": 2, "error": 1, "slow": 1}


def test_limits_are_kept_for_each_caller_until_the_window_ends(hub: Hub) -> None:
    hub.control("POST", "limits", {"api": 2})
    url = f"{hub.url}/api/models/org/net"
    first, second, third = (fetch(url) for _ in range(3))
    assert [first[0], second[0], third[0]] == [200, 200, 429]
    assert first[1]["ratelimit"].startswith('"api";r=1;t=')
    assert third[1]["ratelimit-policy"] == '"fixed window";"api";q=2;w=300'
    assert fetch(url, Authorization=f"Bearer {SECRET}")[0] == 200
    assert fetch(f"{hub.url}/org/net/resolve/main/model.bin", "HEAD")[0] == 302
    hub.control("POST", "clock", {"advance_s": 300})
    assert fetch(url)[0] == 200


def test_odd_requests_are_refused_and_leave_nothing(hub: Hub) -> None:
    listing = f"{hub.url}/v1/datasets.DatasetApiService/ListDatasetFiles"
    hub.make("kaggle/datasets", name="ada/odd", files={"a": "a"})
    known = {"ownerSlug": "ada", "datasetSlug": "odd"}
    for name, odd in (("pageSize", "x"), ("datasetVersionNumber", "x"), ("pageToken", "*")):
        assert post(listing, known | {name: odd}) == 400
    assert post(listing, "no object") == 400
    assert post(listing, known) == 200
    tree = f"{hub.url}/api/models/org/net/tree/main"
    assert fetch(f"{tree}?cursor=nonsense")[0] == 400
    assert fetch(f"{tree}?limit=%C2%B2")[0] == 200
    assert fetch(signed(hub).replace("Expires=", "Expires=%C2%B2"))[0] == 403
    for name, wish in (
        ("hf/repos", {"type": "model", "name": "org/odd", "files": {"a": {"hostile": "no"}}}),
        ("hf/repos", {"type": "model", "name": "org/odd", "many": {"count": "x"}}),
        ("kaggle/datasets", {"name": "ada/odder", "files": {"a": 7}}),
        ("faults", {"kind": "unheard of"}),
        ("faults", {"kind": "cut", "path": "("}),
        ("clock", {}),
    ):
        assert post(f"{hub.url}/_sim/{name}", wish) == 400
    made = hub.make("hf/repos", type="model", name="org/odd", files={})
    assert list(made["files"]) == [".gitattributes"]
    assert hub.make("kaggle/datasets", name="ada/odder", files={})["version"] == 1


def post(url: str, body: object) -> int:
    data = json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def test_what_it_does_not_know_is_not_found_and_is_remembered(hub: Hub) -> None:
    paths = (
        "/api/spaces/org/net",
        "/api/models/org/net/discussions",
        "/v1/kernels.KernelsApiService/ListKernels",
        "/org/net/blob/main/model.bin",
        "/",
    )
    for path in paths:
        assert fetch(hub.url + path, "POST" if "Service" in path else "GET")[0] == 404
    assert [line["path"] for line in hub.seen()] == list(paths)
    assert all(line["unknown"] for line in hub.seen())
    fetch(f"{hub.url}/api/models/org/none")
    assert not hub.seen()[-1]["unknown"]  # the address is known, the model is not


def test_the_same_is_served_by_https(tmp_path: Path) -> None:
    """With a certificate that only this test knows."""
    pair = a_certificate()
    (tmp_path / "pair.pem").write_bytes(pair)
    hub = Hub(tmp_path / "state", "--certificate", str(tmp_path / "pair.pem"))
    try:
        told = hub.make("files", path="noise.bin", content={"size": SIZE, "seed": "a"})
        trust = ssl.create_default_context(cadata=pair.decode())
        url = f"{hub.ready['https_url']}/files/noise.bin"
        with urllib.request.urlopen(url, context=trust, timeout=60) as answer:
            assert hashlib.sha256(answer.read()).hexdigest() == told["sha256"]
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(url, timeout=60)
        assert fetch(f"{hub.url}/files/noise.bin")[0] == 200
    finally:
        hub.stop()


def a_certificate() -> bytes:
    """Return a key and a certificate for 127.0.0.1, both as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form, without = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(pem, form, without) + made.public_bytes(pem)


# ── hostile archives: each is what its name says ────────────────────────────────────────────────


def test_every_hostile_zip_is_one() -> None:
    def names(kind: str) -> list[str]:
        return zipfile.ZipFile(io.BytesIO(hostile_zip(kind))).namelist()

    def sizes(kind: str) -> tuple[int, int]:
        data = hostile_zip(kind)
        entries = zipfile.ZipFile(io.BytesIO(data)).infolist()
        return len(data), sum(entry.file_size for entry in entries)

    assert "../../escaped.txt" in names("traversal")
    assert any(name.startswith("/") for name in names("absolute"))
    assert any("\\" in name for name in names("backslash"))
    assert {"twice.txt", "./twice.txt", "TWICE.txt"} <= set(names("duplicate"))
    assert any("\n" in name for name in names("control"))
    assert len(names("many")) == MANY
    assert names("nested") == ["inner1.zip"]
    packed, unpacked = sizes("bomb")
    assert (unpacked, packed < 2_000_000) == (BOMB_BYTES, True)
    packed, unpacked = sizes("overlap")
    assert (unpacked > 9_000_000_000, packed < 100_000) == (True, True)
    link = zipfile.ZipFile(io.BytesIO(hostile_zip("symlink"))).getinfo("out")
    assert link.external_attr >> 28 == 0o12  # S_IFLNK
    assert zipfile.ZipFile(io.BytesIO(hostile_zip("lying"))).getinfo("small.bin").file_size == 10
    with pytest.raises(RuntimeError, match="encrypted"):
        zipfile.ZipFile(io.BytesIO(hostile_zip("encrypted"))).read("secret.bin")
    with pytest.raises(zipfile.BadZipFile):
        names("truncated")
    assert ZIPS.keys() == {
        "absolute", "backslash", "bomb", "control", "duplicate", "encrypted", "lying", "many",
        "nested", "overlap", "symlink", "traversal", "truncated",
    }  # fmt: skip


def test_every_hostile_tar_is_one() -> None:
    def entries(kind: str) -> dict[str, tarfile.TarInfo]:
        with tarfile.open(fileobj=io.BytesIO(hostile_tar(kind))) as archive:
            return {entry.name: entry for entry in archive}

    assert "../../escaped.txt" in entries("traversal")
    assert "/tmp/escaped.txt" in entries("absolute")
    assert entries("symlink")["out"].issym()
    assert entries("hardlink")["passwords"].islnk()
    assert entries("device")["disk"].isblk()
    assert entries("device")["zero"].ischr()
    assert entries("fifo")["pipe"].isfifo()
    assert entries("setuid")["root-shell"].mode == 0o6777
    with tarfile.open(fileobj=io.BytesIO(hostile_tar("bomb"))) as archive:
        first = archive.next()  # to look for a second one would unpack it
    assert first is not None
    assert first.size == BOMB_BYTES
    with pytest.raises((tarfile.ReadError, EOFError)):
        entries("truncated")


def test_a_hub_serves_hostile_archives(hub: Hub) -> None:
    wish = {"hostile": "traversal", "format": "zip"}
    hub.make("files", path="bad.zip", content=wish)
    assert fetch(f"{hub.url}/files/bad.zip")[2] == hostile_zip("traversal")
    wish = {"hostile": "device", "format": "tar"}
    told = hub.make("files", path="bad.tar.gz", content=wish)
    assert told["size"] == len(hostile_tar("device"))
    assert TARS.keys() >= {"device"}
