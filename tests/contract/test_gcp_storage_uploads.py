"""Uploads to the simulated Cloud Storage: whole, in parts, cut, resumed, given up."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import random
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from google.api_core.exceptions import BadRequest, NotFound, PreconditionFailed
from google.cloud import storage
from google.cloud.storage import transfer_manager
from google.cloud.storage.exceptions import DataCorruption

from tests.contract.gcp_cloud import SOON, Cloud, a_cloud

STEP = 256 << 10
LARGE = 1 << 30
DATA = random.Random(3).randbytes(5 * STEP + 1000)


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


def start(cloud: Cloud, bucket: storage.Bucket, name: str = "a", **headers: str) -> str:
    """Begin a resumable upload by hand and return its session."""
    answer = cloud.call(
        "POST",
        f"/upload/storage/v1/b/{bucket.name}/o?uploadType=resumable&name={name}",
        json={"contentType": "text/plain"},
        headers=headers,
    )
    assert answer.status_code == 200
    return answer.headers["Location"]


def put(session: str, data: bytes, span: str) -> requests.Response:
    return requests.put(session, data=data, headers={"Content-Range": span}, timeout=60)


def test_the_client_uploads_in_one_request_or_in_chunks(bucket: storage.Bucket) -> None:
    for name, chunk in [("one", None), ("small", STEP), ("large", 2 * STEP)]:
        blob = bucket.blob(name, chunk_size=chunk)
        blob.metadata = {"sha256": "x"}
        blob.upload_from_file(io.BytesIO(DATA), content_type="application/x-tar")
        found = bucket.get_blob(name)
        assert (found.size, found.metadata) == (len(DATA), {"sha256": "x"})
        assert found.content_type == "application/x-tar"
        assert found.download_as_bytes(checksum="md5") == DATA


def test_a_stream_of_unknown_length_is_taken(bucket: storage.Bucket) -> None:
    with bucket.blob("log").open("wb", chunk_size=STEP) as file:
        file.write(DATA)
    assert bucket.blob("log").download_as_bytes() == DATA


def test_an_exact_number_of_steps_needs_a_last_word(cloud: Cloud, bucket: storage.Bucket) -> None:
    session = start(cloud, bucket)
    first = put(session, DATA[:STEP], f"bytes 0-{STEP - 1}/*")
    assert (first.status_code, first.headers["Range"]) == (308, f"bytes=0-{STEP - 1}")
    last = put(session, b"", f"bytes */{STEP}")
    assert (last.status_code, last.json()["size"]) == (200, str(STEP))


def test_an_empty_object_is_an_object(cloud: Cloud, bucket: storage.Bucket) -> None:
    bucket.blob("a").upload_from_string(b"")
    assert bucket.blob("a").download_as_bytes() == b""
    session = start(cloud, bucket, "b")
    assert put(session, b"", "bytes */0").json()["crc32c"] == "AAAAAA=="


def test_what_arrived_is_told_and_only_whole_steps_are_kept(
    cloud: Cloud, bucket: storage.Bucket
) -> None:
    session = start(cloud, bucket)
    nothing = put(session, b"", f"bytes */{len(DATA)}")
    assert nothing.status_code == 308
    assert "Range" not in nothing.headers
    odd = STEP + 5
    part = put(session, DATA[:odd], f"bytes 0-{odd - 1}/{len(DATA)}")
    assert part.headers["Range"] == f"bytes=0-{STEP - 1}"
    gap = put(session, DATA[odd:], f"bytes {odd}-{len(DATA) - 1}/{len(DATA)}")
    assert gap.status_code == 400
    assert f"exceeds already uploaded size of {STEP} byte(s)" in gap.json()["error"]["message"]
    # Bytes that are there already are taken once more without harm.
    done = put(session, DATA[STEP // 2 :], f"bytes {STEP // 2}-{len(DATA) - 1}/{len(DATA)}")
    assert done.status_code == 200
    assert bucket.blob("a").download_as_bytes() == DATA


def test_a_part_below_256_kib_is_refused_unless_it_is_the_last(
    cloud: Cloud, bucket: storage.Bucket
) -> None:
    session = start(cloud, bucket)
    answer = put(session, DATA[:1000], f"bytes 0-999/{len(DATA)}")
    assert answer.status_code == 400
    assert "equal or greater than 262144" in answer.json()["error"]["message"]


@pytest.mark.parametrize("span", ["bytes 5-1/10", "bytes 0-9/5", "octets 0-1/2", "bytes a-b/c"])
def test_a_senseless_range_is_refused(cloud: Cloud, bucket: storage.Bucket, span: str) -> None:
    assert put(start(cloud, bucket), b"0123456789", span).status_code == 400


def test_a_declared_length_binds(cloud: Cloud, bucket: storage.Bucket) -> None:
    session = start(cloud, bucket, **{"X-Upload-Content-Length": "10"})
    assert put(session, b"01234", "bytes 0-4/5").status_code == 400
    assert put(session, b"0123456789", "bytes 0-9/10").status_code == 200


def test_a_cut_upload_is_resumed_where_it_broke(cloud: Cloud, bucket: storage.Bucket) -> None:
    session = start(cloud, bucket)
    cloud.simulator.fault("upload_cut", {"object": "a"}, bytes=2 * STEP + 100)
    with pytest.raises(requests.ConnectionError):
        put(session, DATA, f"bytes 0-{len(DATA) - 1}/{len(DATA)}")
    where = put(session, b"", f"bytes */{len(DATA)}")
    assert where.headers["Range"] == f"bytes=0-{2 * STEP - 1}"
    rest = put(session, DATA[2 * STEP :], f"bytes {2 * STEP}-{len(DATA) - 1}/{len(DATA)}")
    assert rest.status_code == 200
    again = put(session, b"", f"bytes */{len(DATA)}")
    assert again.json()["generation"] == rest.json()["generation"]
    assert bucket.blob("a").download_as_bytes() == DATA


def test_the_client_recovers_from_a_cut_by_itself(cloud: Cloud, bucket: storage.Bucket) -> None:
    cloud.simulator.fault("upload_cut", {"object": "a"}, bytes=STEP + 7, times=2)
    blob = bucket.blob("a", chunk_size=2 * STEP)
    blob.upload_from_file(io.BytesIO(DATA), retry=SOON)
    assert blob.download_as_bytes() == DATA
    cloud.simulator.fault("upload_cut", {"bucket": bucket.name}, bytes=10)
    bucket.blob("b").upload_from_string(b"x" * 100, retry=SOON)  # multipart: begun anew
    assert bucket.blob("b").download_as_bytes() == b"x" * 100


def test_half_an_upload_is_no_object(cloud: Cloud, bucket: storage.Bucket) -> None:
    cloud.simulator.fault("upload_cut", {"bucket": bucket.name}, bytes=200)
    with pytest.raises(requests.ConnectionError):
        bucket.blob("a").upload_from_string(DATA, retry=None)
    assert list(bucket.list_blobs()) == []


def test_a_session_survives_a_kill_of_the_service(tmp_path: Path) -> None:
    with a_cloud(tmp_path) as cloud:
        bucket = cloud.bucket()
        session = start(cloud, bucket)
        put(session, DATA[: 2 * STEP], f"bytes 0-{2 * STEP - 1}/{len(DATA)}")
        cloud.simulator.kill()
        cloud.simulator.start()
        where = put(session, b"", f"bytes */{len(DATA)}")
        assert where.headers["Range"] == f"bytes=0-{2 * STEP - 1}"
        put(session, DATA[2 * STEP :], f"bytes {2 * STEP}-{len(DATA) - 1}/{len(DATA)}")
        assert cloud.storage().bucket(bucket.name).blob("a").download_as_bytes() == DATA


def test_a_session_ends_after_a_week(tmp_path: Path) -> None:
    with a_cloud(tmp_path) as cloud:
        session = start(cloud, cloud.bucket())
        cloud.simulator.post("/clock", advance_s=7 * 86400 + 1)
        assert put(session, b"x", "bytes 0-0/1").status_code == 410


def test_a_lost_or_cancelled_session_is_gone(cloud: Cloud, bucket: storage.Bucket) -> None:
    lost, cancelled = start(cloud, bucket, "lost"), start(cloud, bucket, "cancelled")
    cloud.simulator.fault("session_lost", {"object": "lost"})
    assert [put(lost, b"x", "bytes 0-0/1").status_code for _ in range(2)] == [410, 410]
    assert requests.delete(cancelled, timeout=60).status_code == 499
    assert put(cancelled, b"x", "bytes 0-0/1").status_code == 410
    unknown = lost.partition("upload_id=")[0] + "upload_id=nobody"
    assert put(unknown, b"x", "bytes 0-0/1").status_code == 404
    assert list(bucket.list_blobs()) == []


def test_a_precondition_is_checked_at_the_start_and_at_the_end(
    cloud: Cloud, bucket: storage.Bucket
) -> None:
    blob = bucket.blob("a", chunk_size=STEP)
    session = blob.create_resumable_upload_session(if_generation_match=0)
    bucket.blob("a").upload_from_string(b"faster")
    assert put(session, b"slower", "bytes 0-5/6").status_code == 412
    with pytest.raises(PreconditionFailed):
        blob.create_resumable_upload_session(if_generation_match=0)
    assert bucket.blob("a").download_as_bytes() == b"faster"


@pytest.mark.parametrize("chunk", [None, STEP])
def test_bytes_that_differ_from_their_checksum_are_refused(
    cloud: Cloud, bucket: storage.Bucket, chunk: int | None
) -> None:
    wrong = base64.b64encode(b"\0\0\0\1").decode()
    if chunk is None:
        blob = bucket.blob("a")
        blob._patch_property("crc32c", wrong)
        with pytest.raises(BadRequest, match="CRC32C"):
            blob.upload_from_string(b"x", checksum=None)
    else:
        answer = requests.put(
            start(cloud, bucket),
            data=b"x",
            headers={"Content-Range": "bytes 0-0/1", "x-goog-hash": f"crc32c={wrong}"},
            timeout=60,
        )
        assert answer.status_code == 400
    assert list(bucket.list_blobs()) == []


def test_a_corrupted_download_is_noticed_by_the_client(
    cloud: Cloud, bucket: storage.Bucket
) -> None:
    bucket.blob("a").upload_from_string(DATA)
    cloud.simulator.fault("corrupt", {"object": "a"})
    with pytest.raises(DataCorruption):
        bucket.blob("a").download_as_bytes(checksum="crc32c")
    assert bucket.blob("a").download_as_bytes() == DATA


def test_a_cut_download_is_resumed_by_the_client(cloud: Cloud, bucket: storage.Bucket) -> None:
    bucket.blob("a").upload_from_string(DATA)
    cloud.simulator.fault("download_cut", {"object": "a"}, bytes=STEP)
    assert bucket.blob("a").download_as_bytes(retry=SOON) == DATA


def test_503_and_429_are_retried_by_the_client(cloud: Cloud, bucket: storage.Bucket) -> None:
    match = {"verb": r"storage\.objects\..*"}
    cloud.simulator.fault("error", match, times=2)
    cloud.simulator.fault("error", match, code=429, reason="rateLimitExceeded")
    bucket.blob("a").upload_from_string(b"x", retry=SOON)
    assert bucket.blob("a").download_as_bytes() == b"x"


def test_an_upload_whose_answer_was_lost_shows_as_412_to_the_second_try(
    cloud: Cloud, bucket: storage.Bucket
) -> None:
    cloud.simulator.fault("lost", {"verb": r"storage\.objects\.insert"}, effect=True)
    with pytest.raises(PreconditionFailed):
        bucket.blob("a").upload_from_string(b"x", if_generation_match=0, retry=SOON)
    assert bucket.blob("a").download_as_bytes() == b"x"


def test_malformed_uploads_are_refused(cloud: Cloud, bucket: storage.Bucket) -> None:
    place = f"/upload/storage/v1/b/{bucket.name}/o"
    related = {"Content-Type": "multipart/related; boundary=b"}
    body = b'--b\r\nContent-Type: application/json\r\n\r\n{"name": "a"}\r\n--b\r\n\r\nx'
    cases = [
        ("uploadType=multipart", body, related),
        ("uploadType=multipart", body, {"Content-Type": "multipart/related"}),
        ("uploadType=multipart", b"--b\r\n\r\nno json\r\n--b\r\n\r\nx\r\n--b--", related),
        ("uploadType=media", b"x", {}),
        ("uploadType=carrier-pigeon&name=a", b"x", {}),
    ]
    for query, data, headers in cases:
        assert cloud.call("POST", f"{place}?{query}", data=data, headers=headers).status_code == 400
    with pytest.raises(NotFound):
        cloud.storage().bucket("cynthus-nowhere").blob("a").upload_from_string(b"x")
    assert list(bucket.list_blobs()) == []


def test_of_many_who_create_at_once_one_does(cloud: Cloud, bucket: storage.Bucket) -> None:
    place = f"/upload/storage/v1/b/{bucket.name}/o?uploadType=media&name=lock&ifGenerationMatch=0"

    def create(number: int) -> int:
        return cloud.call("POST", place, data=str(number).encode()).status_code

    with ThreadPoolExecutor(8) as pool:
        codes = sorted(pool.map(create, range(8)))
    assert codes == [200] + [412] * 7


@pytest.mark.parametrize(
    "head",
    ["Content-Length: 5000", "Transfer-Encoding: chunked"],
)
def test_a_client_that_leaves_in_the_middle_leaves_nothing(
    cloud: Cloud, bucket: storage.Bucket, head: str
) -> None:
    host, _, port = cloud.url.removeprefix("http://").partition(":")
    body = b"1000\r\n" + b"x" * 100 if "chunked" in head else b"x" * 100
    with socket.create_connection((host, int(port)), timeout=60) as client:
        lines = f"PUT /{bucket.name}/a HTTP/1.1\r\nHost: {host}:{port}\r\n{head}\r\n\r\n"
        client.sendall(lines.encode() + body)
        client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b""
    assert list(bucket.list_blobs()) == []


def test_parts_sent_apart_are_joined(bucket: storage.Bucket, tmp_path: Path) -> None:
    data = random.Random(7).randbytes((11 << 20) + 3)
    source = tmp_path / "source"
    source.write_bytes(data)
    transfer_manager.upload_chunks_concurrently(
        str(source),
        bucket.blob("a"),
        chunk_size=5 << 20,
        max_workers=3,
        worker_type=transfer_manager.THREAD,
        checksum="crc32c",
    )
    found = bucket.get_blob("a")
    assert (found.size, found.md5_hash) == (len(data), None)
    assert found.download_as_bytes(checksum="crc32c") == data


def test_parts_that_do_not_fit_together_are_refused(cloud: Cloud, bucket: storage.Bucket) -> None:
    place = f"/{bucket.name}/a"
    begun = cloud.call("POST", f"{place}?uploads").text
    id_ = begun.partition("<UploadId>")[2].partition("</UploadId>")[0]

    def join(*parts: tuple[int, str]) -> str:
        inner = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>{e}</ETag></Part>" for n, e in parts
        )
        body = f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>"
        answer = cloud.call("POST", f"{place}?uploadId={id_}", data=body)
        return answer.text.partition("<Code>")[2].partition("</Code>")[0]

    tags = [
        cloud.call("PUT", f"{place}?partNumber={n}&uploadId={id_}", data=b"small").headers["ETag"]
        for n in (1, 2)
    ]
    assert join((1, tags[0]), (2, '"other"')) == "InvalidPart"
    assert join((2, tags[1]), (1, tags[0])) == "InvalidPartOrder"
    assert join((1, tags[0]), (2, tags[1])) == "EntityTooSmall"
    assert join() == "MalformedXML"
    zero = cloud.call("PUT", f"{place}?partNumber=0&uploadId={id_}", data=b"x")
    assert zero.status_code == 400
    assert cloud.call("DELETE", f"{place}?uploadId={id_}").status_code == 204
    assert join((1, tags[0])) == "NoSuchUpload"
    assert list(bucket.list_blobs()) == []


@pytest.mark.slow
def test_a_gigabyte_passes_through_without_being_held(
    cloud: Cloud, bucket: storage.Bucket, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:  # sparse but for its end
        file.truncate(LARGE)
        file.seek(-3, os.SEEK_END)
        file.write(b"end")
    bucket.blob("large", chunk_size=64 << 20).upload_from_filename(str(large), checksum="crc32c")
    assert bucket.get_blob("large").size == LARGE
    assert bucket.blob("large").download_as_bytes(start=LARGE - 3) == b"end"
    assert cloud.simulator.process is not None
    status = Path(f"/proc/{cloud.simulator.process.pid}/status").read_text()
    peak_kib = int(status.partition("VmHWM:")[2].split()[0])
    assert peak_kib < 200 << 10  # one in flight is at most a chunk
    bucket.blob("large").delete()
