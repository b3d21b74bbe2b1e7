"""Compare versions of NVIDIA's driver, as far as they are known."""

from __future__ import annotations

import re

_VERSION = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6}){0,3}")


def is_older(driver: str, minimum: str) -> bool:
    """Say whether a driver is certainly older than the minimum; what is no version is not.

    As many numbers are compared as both name: a place that promises the branch 570 may well have
    570.26, which its agent sees for sure.
    """
    if not (_VERSION.fullmatch(driver) and _VERSION.fullmatch(minimum)):
        return False
    has, wants = (tuple(map(int, version.split("."))) for version in (driver, minimum))
    known = min(len(has), len(wants))
    return has[:known] < wants[:known]
