"""Archives of a hub's files, written to disk once and served from there."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from collections.abc import Mapping
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any

from simulators.hub_content import Content, Seed

_MOMENT = (2024, 1, 2, 3, 4, 6)  # the same files make the same archive
_LARGEST_COMPRESSED = 1 << 20  # compressing gigabytes of noise would only take time


def zip_of(files: Mapping[str, Content], path: Path) -> Content:
    """Write a zip, as Kaggle gives one for a dataset or a competition."""
    partial = path.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w") as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _MOMENT)
            entry.external_attr = 0o644 << 16
            entry.compress_type = _compression(content)
            entry.file_size = content.size  # zip64 must be chosen before the first byte
            with archive.open(entry, "w") as target:
                for piece in content.pieces():
                    target.write(piece)
    partial.replace(path)
    return Content(path)


def _compression(content: Content) -> int:
    stored = isinstance(content.source, Seed) or content.size > _LARGEST_COMPRESSED
    return zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED


def tar_of(files: Mapping[str, Content], path: Path) -> Content:
    """Write a tar.gz, as Kaggle gives one for a version of a model."""
    partial = path.with_suffix(".partial")
    with (
        partial.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = content.size
            archive.addfile(entry, BufferedReader(_Stream(content)))
    partial.replace(path)
    return Content(path)


class _Stream(RawIOBase):
    """A content as a file that is read from front to back."""

    def __init__(self, content: Content) -> None:
        self._pieces = content.pieces()
        self._rest: bytes | memoryview = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
