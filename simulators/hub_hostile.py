"""Archives that want to do harm, as attackers make them: for clients that must refuse them.

Nothing here harms by lying around: all of it is a few megabytes at most.
"""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import cache

_SYMLINK = (stat.S_IFLNK | 0o777) << 16  # a zip keeps the mode in the upper half
_HONEST = ("honest.txt", b"nothing to see here\n")
BOMB_BYTES = 1 << 30
MANY = 65_000  # about as many as a zip has without its extension for large ones
_ZEROS = bytes(16 << 20)


def hostile_zip(kind: str) -> bytes:
    """Return a zip of a kind in ZIPS."""
    return ZIPS[kind]()


def hostile_tar(kind: str) -> bytes:
    """Return a tar.gz of a kind in TARS."""
    return TARS[kind]()


# ── zip ─────────────────────────────────────────────────────────────────────────────────────────


def _zip(*entries: tuple[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, data in (_HONEST, *entries):
            archive.writestr(zipfile.ZipInfo(name), data)
    return memory.getvalue()


def _zip_link() -> bytes:
    """Return a link to a folder outside, then a file written through it."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        link = zipfile.ZipInfo("out")
        link.create_system, link.external_attr = 3, _SYMLINK
        archive.writestr(link, "../../outside")
        archive.writestr("out/escaped.txt", "written through a link")
    return memory.getvalue()


@cache
def _zip_bomb() -> bytes:
    """Return a gigabyte of nothing in a megabyte."""
    # One stretch is compressed once and repeated: nothing in it refers to what came before.
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(_ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = packed * (BOMB_BYTES // len(_ZEROS)) + packer.flush()
    crc = 0
    for _ in range(BOMB_BYTES // len(_ZEROS)):
        crc = zlib.crc32(_ZEROS, crc)
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr(zipfile.ZipInfo("zeros.bin"), packed)
        entry = archive.infolist()[0]
        entry.compress_type, entry.CRC, entry.file_size = zipfile.ZIP_DEFLATED, crc, BOMB_BYTES
    data = bytearray(memory.getvalue())
    data[8:10] = struct.pack("<H", zipfile.ZIP_DEFLATED)  # what the local header says
    data[14:18] = struct.pack("<I", crc)
    data[22:26] = struct.pack("<I", BOMB_BYTES)
    return bytes(data)


def _zip_overlap() -> bytes:
    """Return many names for one stretch of bytes: https://www.bamsoftware.com/hacks/zipbomb/."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0000.bin", bytes(20 << 20))
        first = archive.infolist()[0]
        for number in range(1, 500):
            other = zipfile.ZipInfo(f"{number:04}.bin")
            for field in ("header_offset", "CRC", "compress_size", "file_size", "compress_type"):
                setattr(other, field, getattr(first, field))
            archive.filelist.append(other)
    return memory.getvalue()


def _zip_lying() -> bytes:
    """Return what is ten bytes by its directory, and ten megabytes in truth."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("small.bin", bytes(10 << 20))
    data = bytearray(memory.getvalue())
    size = struct.pack("<I", 10)
    data[22:26] = size  # of the local header
    at = data.index(b"PK\1\2")
    data[at + 24 : at + 28] = size  # of the directory
    return bytes(data)


def _zip_many() -> bytes:
    # By hand, as zipfile takes seconds. The fields: section 4.3 of
    # https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
    names = [b"%06d" % number for number in range(MANY)]
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 0, 0, 0x21, 0, 0, 0, 6, 0)
    directory = b"".join(
        struct.pack("<4sHHHHHHIIIHH", b"PK\1\2", 20, 20, 0, 0, 0, 0x21, 0, 0, 0, 6, 0)
        + struct.pack("<HHHII", 0, 0, 0, 0, at * (len(local) + 6))
        + name
        for at, name in enumerate(names)
    )
    files = b"".join(local + name for name in names)
    sizes = (0, 0, MANY, MANY, len(directory), len(files), 0)
    return files + directory + struct.pack("<4sHHHHIIH", b"PK\5\6", *sizes)


def _zip_nested() -> bytes:
    """Return a bomb in a zip in a zip."""
    data = _zip_bomb()
    for depth in range(2):
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"inner{depth}.zip", data)
        data = memory.getvalue()
    return data


def _zip_encrypted() -> bytes:
    """Return an entry that says it needs a password."""
    data = bytearray(_zip(("secret.bin", b"x" * 100)))
    at = data.rindex(b"PK\1\2")
    data[at + 8] |= 1
    local = data.rindex(b"PK\3\4")
    data[local + 6] |= 1
    return bytes(data)


def _truncated(make: Callable[[], bytes]) -> bytes:
    data = make()
    return data[: len(data) // 2]


ZIPS: dict[str, Callable[[], bytes]] = {
    "traversal": lambda: _zip(("../../escaped.txt", b"out")),
    "absolute": lambda: _zip(("/tmp/escaped.txt", b"out")),  # noqa: S108 - that is the attack
    "backslash": lambda: _zip(("..\\..\\escaped.txt", b"out")),
    "duplicate": lambda: _zip(("twice.txt", b"one"), ("./twice.txt", b"two"), ("TWICE.txt", b"3")),
    "control": lambda: _zip(("line\nbreak\x1b[31m.txt", b"odd"), ("\u202etxt.exe", b"odd")),
    "symlink": _zip_link,
    "bomb": _zip_bomb,
    "nested": _zip_nested,
    "overlap": _zip_overlap,
    "lying": _zip_lying,
    "many": _zip_many,
    "encrypted": _zip_encrypted,
    "truncated": lambda: _truncated(lambda: _zip(("more.bin", bytes(4096)))),
}


# ── tar ─────────────────────────────────────────────────────────────────────────────────────────


def _tar(*entries: tarfile.TarInfo, data: bytes = b"out") -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w:gz", compresslevel=1) as archive:
        first = tarfile.TarInfo(_HONEST[0])
        first.size = len(_HONEST[1])
        archive.addfile(first, io.BytesIO(_HONEST[1]))
        for entry in entries:
            entry.size = len(data) if entry.isreg() else 0
            archive.addfile(entry, io.BytesIO(data) if entry.isreg() else None)
    return memory.getvalue()


def _entry(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, to
    if kind in {tarfile.CHRTYPE, tarfile.BLKTYPE}:
        entry.devmajor, entry.devminor = 1, 5  # /dev/zero
    return entry


def _tar_bomb() -> bytes:
    entry = tarfile.TarInfo("zeros.bin")
    entry.size = BOMB_BYTES
    # A gzip file may consist of many: https://www.rfc-editor.org/rfc/rfc1952#section-2.2
    parts = (entry.tobuf(), *[_ZEROS] * (BOMB_BYTES // len(_ZEROS)), bytes(1024))
    packed = {part: gzip.compress(part, mtime=0) for part in dict.fromkeys(parts)}
    return b"".join(packed[part] for part in parts)


def _tar_setuid() -> bytes:
    entry = _entry("root-shell")
    entry.mode, entry.uid = 0o6777, 0
    return _tar(entry)


TARS: dict[str, Callable[[], bytes]] = {
    "traversal": lambda: _tar(_entry("../../escaped.txt")),
    "absolute": lambda: _tar(_entry("/tmp/escaped.txt")),  # noqa: S108 - that is the attack
    "symlink": lambda: _tar(_entry("out", tarfile.SYMTYPE, "../../outside"), _entry("out/escaped")),
    "hardlink": lambda: _tar(_entry("passwords", tarfile.LNKTYPE, "/etc/passwd")),
    "device": lambda: _tar(_entry("disk", tarfile.BLKTYPE), _entry("zero", tarfile.CHRTYPE)),
    "fifo": lambda: _tar(_entry("pipe", tarfile.FIFOTYPE)),
    "setuid": _tar_setuid,
    "bomb": _tar_bomb,
    "truncated": lambda: _truncated(lambda: _tar(_entry("more.bin"), data=bytes(range(256)) * 64)),
}
