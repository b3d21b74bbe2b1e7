"""The messages of `cynthus doctor`: what was looked at, what was found, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How something is."""

    OK = "ok"
    WARN = "warn"  # it works, and may not for long or not in full
    FAIL = "fail"  # something cannot work


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""  # empty: nothing is to be done


@dataclass(frozen=True, kw_only=True)
class DoctorView:
    """GET /api/v1/doctor: everything that was looked at, in one order."""

    findings: tuple[Finding, ...]


def ok(name: str, found: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(name=name, verdict=Verdict.OK, found=found)


def warn(name: str, found: str, remedy: str) -> Finding:
    """Return that something works, and should be seen to."""
    return Finding(name=name, verdict=Verdict.WARN, found=found, remedy=remedy)


def fail(name: str, found: str, remedy: str) -> Finding:
    """Return that something cannot work."""
    return Finding(name=name, verdict=Verdict.FAIL, found=found, remedy=remedy)
