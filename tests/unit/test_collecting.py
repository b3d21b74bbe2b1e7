"""The agent's collector against a control plane that keeps what it is given."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyrage
import pytest

from cynthus.packing import FIRST_FILES, SMALL_BYTES, PackedFile, unpack
from cynthus.wire import Output
from runner_images.agent.door import Door, Unanswered
from runner_images.agent.encrypting import Encryption
from runner_images.agent.masking import Masks
from runner_images.agent.measuring import Guard, Measured
from runner_images.agent.outputs import TOLD_LIMIT, Collector, Limits
from runner_images.agent.workload import CannotStart, Found
from tests.fake_control_plane import TOKEN, ControlPlane, a_work

LARGE = os.urandom(1 << 20) * 9
ENOUGH = Limits(files=100_000, total_bytes=1 << 30)


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    with ControlPlane(a_work()) as found:
        yield found


def collected(
    plane: ControlPlane, *found: Found, limits: Limits = ENOUGH, **more: Any
) -> tuple[Output, ...]:
    masks = Masks(more.pop("secrets", ()))
    over = threading.Event()
    doors = lambda: Door(plane.url, token=TOKEN)  # noqa: E731
    return Collector(doors, masks, limits, over=over, **more).collect(found)


def on_disk(path: Path, content: bytes, name: str = "outputs/large") -> Found:
    path.write_bytes(content)
    return Found(path=name, size_bytes=len(content), again=lambda: path.open("rb"))


def streamed(content: bytes, name: str = "outputs/large") -> Found:
    again: Callable[[], BinaryIO] = lambda: io.BytesIO(content)  # noqa: E731
    return Found(path=name, size_bytes=len(content), content=again(), again=again)


def small(number: int, content: bytes = b"x") -> Found:
    return Found(path=f"outputs/{number:06}", size_bytes=len(content), content=io.BytesIO(content))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("from_disk", [True, False])
def test_a_large_file_is_hashed_while_it_is_sent(
    plane: ControlPlane, tmp_path: Path, from_disk: bool
) -> None:
    found = on_disk(tmp_path / "f", LARGE) if from_disk else streamed(LARGE)
    [output] = collected(plane, found)
    assert (output.left_out, output.sha256) == (None, sha256(LARGE))
    assert plane.blobs == {"outputs/large": LARGE}
    assert [path.name for path in tmp_path.iterdir()] == (["f"] if from_disk else [])


@pytest.mark.case("A13")
@pytest.mark.parametrize("from_disk", [True, False])
def test_what_is_read_again_after_a_cut_is_measured_once(tmp_path: Path, from_disk: bool) -> None:
    found = on_disk(tmp_path / "f", LARGE) if from_disk else streamed(LARGE)
    again = found.again
    assert again is not None
    guard = Guard(Masks(), lambda: 1.0, "no time")
    with contextlib.closing(Measured(again(), len(LARGE), guard, again)) as measured:
        first = measured.read(5000)
        measured.seek(1000)  # the store has kept less than was sent
        assert measured.read(4000) == first[1000:]
        with pytest.raises(Unanswered):
            measured.seek(5001)  # it claims more than it was given
        while measured.read(1 << 20):
            pass
        assert measured.complete
        assert measured.sha256 == sha256(LARGE)
        assert measured.md5 == hashlib.md5(LARGE, usedforsecurity=False).hexdigest()


def test_a_large_file_is_sent_again_after_a_fault(plane: ControlPlane) -> None:
    plane.fail_puts = 2
    [output] = collected(plane, streamed(LARGE))
    assert output.left_out is None
    assert plane.blobs == {"outputs/large": LARGE}


@pytest.mark.case("A12")
def test_beyond_the_first_files_small_ones_are_packed_and_all_are_there(
    plane: ControlPlane,
) -> None:
    contents = {f"outputs/{n:06}": b"%d" % n * (n % 7) for n in range(2000)}
    files = [
        Found(path=path, size_bytes=len(content), content=io.BytesIO(content))
        for path, content in contents.items()
    ]
    outputs = collected(plane, *files)
    assert [output.left_out for output in outputs if output.left_out] == []
    packs = [output for output in outputs if output.packed]
    assert sum(pack.packed for pack in packs) == 2000 - FIRST_FILES
    assert len(outputs) == FIRST_FILES + len(packs) == len(plane.blobs)
    for pack in packs:
        assert sha256(plane.blobs[pack.path]) == pack.sha256
        for about, content in unpack(io.BytesIO(plane.blobs.pop(pack.path))):
            plane.blobs[about.path] = content.read(100)
            assert sha256(plane.blobs[about.path]) == about.sha256
    assert plane.blobs == contents


@pytest.mark.case("A13")
def test_a_file_that_changes_once_is_read_again_and_one_that_never_rests_is_left_out(
    plane: ControlPlane, tmp_path: Path
) -> None:
    for size in (1000, SMALL_BYTES + 1000):
        for times, reason in ((1, None), (99, "it changed each time it was read")):
            path = tmp_path / f"{size}-{times}"
            path.write_bytes(b"a" * size)
            left = [times]

            def opened(path: Path = path, left: list[int] = left) -> BinaryIO:
                file = path.open("rb")
                if left[0]:
                    left[0] -= 1
                    with path.open("ab") as writing:
                        writing.write(b"b")  # after it was opened, at the latest after its stat
                    os.utime(path, ns=(left[0], left[0]))
                    return _WrittenMeanwhile(file, path)
                return file

            [output] = collected(plane, Found(path="f", size_bytes=size, again=opened))
            assert output.left_out == reason
            if reason is None:
                assert plane.blobs["f"] == path.read_bytes()


class _WrittenMeanwhile(io.FileIO):
    """A file that somebody appends to at the first read."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(os.dup(file.fileno()))
        file.close()
        self._path, self._written = path, False

    def read(self, size: int | None = -1, /) -> bytes:  # type: ignore[override]
        if not self._written:
            self._written = True
            with self._path.open("ab") as writing:
                writing.write(b"c")
        return super().read(size) or b""


@pytest.mark.case("A8")
@pytest.mark.parametrize("size", [1000, SMALL_BYTES + (1 << 20)])
def test_a_file_that_holds_a_secret_never_becomes_a_blob(plane: ControlPlane, size: int) -> None:
    secret = "hunter2hunter2"
    content = b"x" * (size - 7) + secret.encode() + b"x" * 10
    [output] = collected(plane, streamed(content), secrets=[secret])
    assert output.left_out == "it holds the value of a secret"
    across = b"x" * ((1 << 20) - 7) + secret.encode() + b"x" * size
    [output] = collected(plane, streamed(across), secrets=[secret])
    assert output.left_out == "it holds the value of a secret"
    assert plane.blobs == {}


def test_names_of_ours_and_what_is_beyond_the_limits_are_left_out(plane: ControlPlane) -> None:
    own = Found(path=".cynthus/packed-0001.tar", size_bytes=1, content=io.BytesIO(b"x"))
    outputs = collected(
        plane, own, small(1), small(2, b"123"), small(3), limits=Limits(files=2, total_bytes=3)
    )
    assert {output.path: output.left_out for output in outputs} == {
        own.path: "names in .cynthus are not yours",
        "outputs/000001": None,
        "outputs/000002": "outputs larger than 3 bytes together",
        "outputs/000003": None,
    }


def test_a_long_list_of_what_was_left_out_is_an_output_itself(plane: ControlPlane) -> None:
    files = [Found(path=f"p{n}", left_out="a named pipe") for n in range(TOLD_LIMIT + 5)]
    outputs = collected(plane, *files)
    assert len([output for output in outputs if output.left_out]) == TOLD_LIMIT + 1
    assert outputs[-1].left_out == "and 5 more were left out: .cynthus/left-out.jsonl"
    lines = plane.blobs[".cynthus/left-out.jsonl"].decode().splitlines()
    assert lines[0] == '{"path": "p0", "bytes": 0, "why": "a named pipe"}'
    assert len(lines) == TOLD_LIMIT + 5


# ── encryption ──────────────────────────────────────────────────────────────────────────────────

KEY = pyrage.x25519.Identity.generate()


@pytest.fixture
def encryption(tmp_path: Path) -> Iterator[Encryption]:
    found = Encryption(str(KEY.to_public()), tmp_path)
    yield found
    found.close()


def test_what_leaves_the_instance_is_for_the_owner_of_the_key_alone(
    plane: ControlPlane, encryption: Encryption
) -> None:
    plane.fail_puts = 1
    files = [small(1, b"weights"), small(2, b""), streamed(LARGE)]
    outputs = collected(plane, *files, encryption=encryption)
    wanted = {"outputs/000001": b"weights", "outputs/000002": b"", "outputs/large": LARGE}
    assert {output.path for output in outputs} == {f"{path}.age" for path in wanted}
    for output in outputs:
        stored, plain = plane.blobs[output.path], wanted[output.path.removesuffix(".age")]
        assert pyrage.decrypt(stored, [KEY]) == plain
        assert (output.size_bytes, output.sha256) == (len(stored), sha256(stored))
        assert (output.plain_size_bytes, output.plain_sha256) == (len(plain), sha256(plain))


def test_a_secret_is_found_before_it_is_encrypted(
    plane: ControlPlane, encryption: Encryption
) -> None:
    found = streamed(LARGE + b"hunter2hunter2")
    [output] = collected(plane, found, secrets=["hunter2hunter2"], encryption=encryption)
    assert output.left_out == "it holds the value of a secret"
    assert plane.blobs == {}


def test_a_key_that_is_none_stops_the_attempt_before_its_command(tmp_path: Path) -> None:
    Encryption(str(KEY.to_public()), tmp_path).check(lambda: False)
    with pytest.raises(CannotStart, match="should be an age recipient"):
        Encryption("age1" + "q" * 58, tmp_path).check(lambda: False)


def test_an_archive_is_encrypted_as_a_whole(plane: ControlPlane, encryption: Encryption) -> None:
    files = [small(n) for n in range(FIRST_FILES + 3)]
    outputs = collected(plane, *files, encryption=encryption)
    [pack] = [output for output in outputs if output.packed]
    assert (pack.path, pack.packed) == (".cynthus/packed-0001.tar.age", 3)
    plain = pyrage.decrypt(plane.blobs[pack.path], [KEY])
    about, _ = next(unpack(io.BytesIO(plain)))
    assert about == PackedFile(path="outputs/000500", size_bytes=1, sha256=sha256(b"x"))
