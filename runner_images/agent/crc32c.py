"""Compute CRC32C, which Cloud Storage has of every object: RFC 3720, appendix B.4."""

from __future__ import annotations

from functools import cache

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, its bits reversed
_ONES = 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """Return the checksum; about a second for each 10 MB."""
    table, crc = _table(), _ONES
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ _ONES


@cache
def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)  # noqa: PLW2901 - a shift register
        table.append(value)
    return tuple(table)
