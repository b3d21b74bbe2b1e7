"""A layer is the same everywhere, is what tar and gzip read, and holds the tree."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from action.failures import BuildFailed
from action.image import compress, layer, tar_entry
from action.image.layer import Layer
from action.image.tar_entry import Entry
from action.source import source
from action.source.ignore import Ignore

NFC, NFD = "é", "e\u0301"


def packed(root: Path, folder: Path, **how: compress.Compression) -> Layer:
    folder.mkdir(exist_ok=True)
    return layer.pack(source.select(root, ".", Ignore(), limits=None), folder, **how)


def a_tree(root: Path) -> Path:
    """Make a tree with one of each kind of name."""
    for name in ("sub/deep", "empty", "x" * 120, f"{NFC}/{NFD}"):
        (root / name).mkdir(parents=True)
    files = {
        "Case": b"1",
        "case": b"2",
        NFC + ".py": b"composed",
        NFD + ".py": b"decomposed",
        "sub/deep/zeros": bytes(1000),
        "sub/exact": b"a" * 512,
        "sub/none": b"",
        "new\nline": b"n",
        "x" * 120 + "/" + "y" * 200: b"long",
        os.fsdecode(b"caf\xe9"): b"latin-1",
        "-rf": b"dash",
        "run.sh": b"#!/bin/sh\n",
    }
    for name, content in files.items():
        (root / name).write_bytes(content)
    (root / "run.sh").chmod(0o755)
    os.link(root / "Case", root / "hard")
    links = {"link": "sub/exact", "up": "sub/../Case", f"{NFC}/l": f"./{NFD}", "broken": "z" * 150}
    for name, target in links.items():
        (root / name).symlink_to(target)
    return root


# Computed once; another value means that images of unchanged sources change.
DIFF_ID = "sha256:8dfaaef27da0454896650bdee2871a8c6a6e80f511b7202dc575a6b20728dd3c"


def test_a_tree_gives_the_same_archive_on_every_machine(tmp_path: Path) -> None:
    assert packed(a_tree(tmp_path / "tree"), tmp_path / "out").diff_id == DIFF_ID


def test_owners_times_masks_and_locale_leave_no_trace(tmp_path: Path) -> None:
    root = a_tree(tmp_path / "tree")
    before = packed(root, tmp_path / "out")
    for path in (root, *root.rglob("*")):
        os.utime(path, ns=(1, 10**18), follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(0o700 if os.access(path, os.X_OK) and path.stat().st_mode & 0o100 else 0o600)
        if os.geteuid() == 0:
            os.chown(path, 1234, 4321, follow_symlinks=False)
    script = (
        "import os, sys; from pathlib import Path; from action.image import layer;"
        "from action.source import ignore, source;"
        "os.umask(0o077); s = source.select(Path(sys.argv[1]), '.', ignore.Ignore(), limits=None);"
        "print(layer.pack(s, Path(sys.argv[2])).digest)"
    )
    words = (sys.executable, "-X", "utf8=0", "-c", script, str(root), str(tmp_path))
    surroundings = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": os.getcwd()}
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=surroundings)
    assert done.stdout.strip() == before.digest


def test_the_layer_says_what_it_is(tmp_path: Path) -> None:
    made = packed(a_tree(tmp_path / "tree"), tmp_path / "out")
    raw = made.path.read_bytes()
    archive = gzip.decompress(raw)
    assert made.compression == "gzip"
    assert (made.size_bytes, made.unpacked_bytes) == (len(raw), len(archive))
    assert made.digest == "sha256:" + hashlib.sha256(raw).hexdigest()
    assert made.diff_id == "sha256:" + hashlib.sha256(archive).hexdigest()
    assert list((tmp_path / "out").iterdir()) == [made.path]  # nothing else was written


def test_even_an_empty_source_has_the_folders_that_a_run_needs(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with tarfile.open(packed(tmp_path / "tree", tmp_path / "out").path) as archive:
        found = [(m.name, m.uid, m.gid, oct(m.mode), m.mtime, m.isdir()) for m in archive]
    assert found == [
        ("home", 0, 0, "0o755", 318211200, True),
        ("home/workload", 1000, 1000, "0o755", 318211200, True),
        ("workspace", 1000, 1000, "0o755", 318211200, True),
    ]


def test_modes_are_of_two_kinds_and_all_is_the_workloads(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    for mode in (0o600, 0o644, 0o666, 0o700, 0o755, 0o4755, 0o640, 0o611):
        (root / f"{mode:o}").touch()
        (root / f"{mode:o}").chmod(mode)
    with tarfile.open(packed(root, tmp_path / "out").path) as archive:
        members = archive.getmembers()[3:]
    assert {m.name[10:]: f"{m.mode:o}" for m in members} == {
        "600": "644",
        "644": "644",
        "666": "644",
        "700": "755",
        "755": "755",
        "4755": "755",
        "640": "644",
        "611": "644",
    }
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {
        (1000, 1000, "", "", tar_entry.MTIME)
    }


# ── others read it ──────────────────────────────────────────────────────────────────────────────


def described(root: Path) -> dict[bytes, tuple[str, bytes]]:
    """Return every path below a folder with its kind and what it holds."""
    found: dict[bytes, tuple[str, bytes]] = {}
    top = os.fsencode(root)
    for above, folders, files in os.walk(top):
        for name in folders + files:
            path = above + b"/" + name
            if os.path.islink(path):
                what = ("link", os.readlink(path))
            elif os.path.isdir(path):
                what = ("folder", b"")
            else:
                with open(path, "rb") as file:
                    what = (f"file {os.stat(path).st_mode & 0o100:o}", file.read())
            found[path.removeprefix(top)] = what
    return found


def unpack_by_tar(made: Layer, target: Path) -> None:
    words = ("tar", "--extract", "--gzip", "--file", str(made.path), "--directory", str(target))
    done = subprocess.run(words, check=True, capture_output=True, env={"LC_ALL": "C", **os.environ})
    # GNU tar knows no names that are no UTF-8; it says so, and keeps their bytes all the same.
    assert all(b"keyword 'hdrcharset'" in line for line in done.stderr.splitlines())


def unpack_by_python(made: Layer, target: Path) -> None:
    with tarfile.open(made.path, encoding="utf-8", errors="surrogateescape") as archive:
        archive.extractall(target, filter="data")


UNPACKERS = pytest.mark.parametrize("unpack", [unpack_by_tar, unpack_by_python])


@UNPACKERS
def test_unpacked_it_is_the_tree(unpack: Callable[[Layer, Path], None], tmp_path: Path) -> None:
    root = a_tree(tmp_path / "tree")
    made = packed(root, tmp_path / "out")
    (tmp_path / "unpacked").mkdir()
    unpack(made, tmp_path / "unpacked")
    assert described(tmp_path / "unpacked/workspace") == described(root)
    assert sorted(os.listdir(tmp_path / "unpacked")) == ["home", "workspace"]


names = st.binary(min_size=1, max_size=120).filter(
    lambda name: not set(name) & {0, 0x2F} and name not in {b".", b".."}
)
trees = st.dictionaries(
    st.lists(names, min_size=1, max_size=4).map(tuple),
    st.one_of(st.binary(max_size=1100), st.integers(0, 400_000)),
    max_size=6,
)


# No deadline: machines are shared. The same examples every time: a failure must repeat.
@settings(deadline=None, derandomize=True, max_examples=60)
@given(trees)
def test_any_tree_comes_out_as_it_went_in(tree: dict[tuple[bytes, ...], bytes | int]) -> None:
    with tempfile.TemporaryDirectory() as place:
        root, out = Path(place) / "tree", Path(place) / "out"
        root.mkdir()
        for parts, content in tree.items():
            path = os.fsencode(root) + b"/" + b"/".join(parts)
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "xb") as file:
                    file.write(
                        random.Random(content).randbytes(content)
                        if isinstance(content, int)
                        else content
                    )
            except (FileExistsError, NotADirectoryError):
                continue  # a file stands where another's folder should be
        selection = source.select(root, ".", Ignore(), limits=None)
        made = packed(root, out)
        with tarfile.open(made.path, encoding="utf-8", errors="surrogateescape") as archive:
            found = {m.name: (archive.extractfile(m) or io.BytesIO()).read() for m in archive}
        expected = {
            f"workspace/{item.path}": (root / item.path).read_bytes()
            if item.kind == "file"
            else b""
            for item in selection.items
        }
        assert {n: c for n, c in found.items() if n.startswith("workspace/")} == expected


# ── headers ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size_bytes", [0, 8**11 - 1, 8**11, 12_345_678_901])
def test_a_header_can_say_any_size(size_bytes: int) -> None:
    entry = Entry(name=b"big", kind=tar_entry.FILE, mode=0o644, size_bytes=size_bytes)
    with tarfile.open(fileobj=io.BytesIO(tar_entry.header(entry))) as archive:
        assert archive.next().size == size_bytes


@pytest.mark.parametrize("length", [1, 90, 99, 100, 101, 255, 968, 969, 970, 4000, 9990])
def test_a_header_can_say_any_name(length: int) -> None:
    """Also where the length of a record gets a digit more by counting itself."""
    name, target = "n" * length, "t" * length
    entry = Entry(name=name.encode(), kind=tar_entry.LINK, mode=0o777, target=target.encode())
    with tarfile.open(fileobj=io.BytesIO(tar_entry.header(entry) + tar_entry.END)) as archive:
        found = archive.next()
    assert (found.name, found.linkname) == (name, target)


# ── compression ─────────────────────────────────────────────────────────────────────────────────


def gzipped(data: bytes, threads: int, step: int = 100_000) -> bytes:
    out = io.BytesIO()
    work = compress.Gzip(out.write, threads)
    for at in range(0, len(data), step):
        work.write(data[at : at + step])
    work.finish()
    return out.getvalue()


def text_of(size_bytes: int) -> bytes:
    chance = random.Random(size_bytes)
    words = [chance.randbytes(chance.randint(2, 9)).hex().encode() for _ in range(2000)]
    return b" ".join(chance.choice(words) for _ in range(size_bytes // 8))[:size_bytes]


BLOCK = compress.BLOCK_BYTES


@pytest.mark.parametrize("size_bytes", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 1_000_000])
def test_gzip_is_one_member_and_the_same_by_any_number_of_threads(size_bytes: int) -> None:
    data = text_of(size_bytes)
    made = gzipped(data, 1)
    assert {gzipped(data, threads, step) for threads in (2, 7) for step in (999, 10**7)} == {made}
    reader = zlib.decompressobj(31)
    assert reader.decompress(made) == data
    assert (reader.eof, reader.unused_data) == (True, b"")


def test_gzips_own_program_finds_no_fault(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzipped(text_of(1_000_000), 3))
    subprocess.run(("gzip", "--test", str(tmp_path / "a.gz")), check=True)


def test_cutting_into_blocks_costs_next_to_nothing() -> None:
    data = text_of(2_000_000)
    assert len(gzipped(data, 2)) < 1.002 * len(zlib.compress(data, compress.LEVEL))


def test_memory_is_bounded_whatever_the_size(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    with (root / "large").open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    made = packed(root, tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made.unpacked_bytes > 64 << 20
    assert peak < (4 << 20) + (os.cpu_count() or 1) * (1 << 20)


def test_zstd_is_used_where_python_has_it_and_gzip_where_not(tmp_path: Path) -> None:
    root = a_tree(tmp_path / "tree")
    plain = packed(root, tmp_path / "out")
    made = packed(root, tmp_path / "out2", compression="zstd")
    magic = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}[made.compression]
    assert made.path.read_bytes().startswith(magic)
    assert made.diff_id == plain.diff_id


def test_another_compressors_stream_arrives_whole() -> None:
    """zlib's own object has the two methods of zstd's, which not every Python has."""
    out = io.BytesIO()
    work = compress._Zstd(out.write, zlib.compressobj())
    work.write(b"a" * 1000)
    work.write(b"b")
    work.finish()
    work.close()
    assert zlib.decompress(out.getvalue()) == b"a" * 1000 + b"b"


def test_progress_is_told_up_to_the_last_byte(tmp_path: Path) -> None:
    root = a_tree(tmp_path / "tree")
    selection = source.select(root, ".", Ignore())
    told: list[int] = []
    layer.pack(selection, tmp_path, told=told.append)
    assert told == sorted(told)
    assert told[-1] == selection.size_bytes


# ── sources that change ─────────────────────────────────────────────────────────────────────────


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(1, 1))


def link(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "change",
    [grow, rewrite, link, pipe, Path.unlink, lambda path: path.write_bytes(b"")],
    ids=["grown", "rewritten", "a link", "a pipe", "gone", "cut off"],
)
@pytest.mark.parametrize("size_bytes", [10, 300_000])
def test_a_file_that_changes_meanwhile_is_named(
    change: Callable[[Path], object], size_bytes: int, tmp_path: Path
) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "data\n").write_bytes(b"x" * size_bytes)
    selection = source.select(root, ".", Ignore())
    change(root / "data\n")
    with pytest.raises(
        BuildFailed, match=r"^data\\n: should stay as it is while the image is made"
    ):
        layer.pack(selection, tmp_path)


def test_a_full_disk_is_the_callers_to_tell(tmp_path: Path) -> None:
    root = a_tree(tmp_path / "tree")
    selection = source.select(root, ".", Ignore())
    (tmp_path / "out").mkdir()
    (tmp_path / "out/source-layer").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        layer.pack(selection, tmp_path / "out")
