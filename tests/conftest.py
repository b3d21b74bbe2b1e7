"""What every test stands on: no network but loopback."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Generator
from typing import Any

import pytest

_LOCAL_NAMES = {"localhost", ""}


def _loopback(address: Any) -> bool:
    if isinstance(address, (str, bytes)):
        return True  # a unix socket
    host = address[0]
    if host in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _guard(event: str, args: tuple[Any, ...]) -> None:
    """Refuse a connection that leaves this machine: https://docs.python.org/3/library/audit_events.html."""
    if event == "socket.connect" and not _loopback(args[1]):
        raise RuntimeError(f"tests talk to loopback only, not to {args[1]!r}")
    if event == "socket.getaddrinfo" and isinstance(args[0], str) and args[0] not in _LOCAL_NAMES:
        try:
            ipaddress.ip_address(args[0])
        except ValueError:
            if args[0] != socket.gethostname():
                raise RuntimeError(f"tests look up no outside name, not {args[0]!r}") from None


sys.addaudithook(_guard)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything can be installed nothing is skipped, but for what needs a GPU."""
    report = yield
    if report.skipped and os.environ.get("CI") and "NVIDIA" not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {report.longrepr}"
    return report
