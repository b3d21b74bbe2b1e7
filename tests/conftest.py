"""What every test stands on: no network but loopback, long files first, nothing left at the end."""

from __future__ import annotations

import gc
import ipaddress
import os
import signal
import socket
import sys
import uuid
from collections import Counter, defaultdict
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.leftovers import leftovers

_TESTS = Path(__file__).parent
# Thousands of programs are started here: each would compile anew what it imports of ours, and each
# worker write the asserts of every test anew, where an environment forbids to keep the outcome.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Ten thousand tests and what they import stay to the end: looking for garbage among them, at every
# 700 objects, was a fifth of the time of collecting them and of the tests that compute.
gc.set_threshold(50_000)
# In the environment of all that the tests start; workers of xdist have it from their controller.
_MARK = os.environ.setdefault("PYTEST_RUN_OF_CYNTHUS", uuid.uuid4().hex)
_LOCAL_NAMES = {"localhost", ""}
# `make test` hands whole files out in this order: what takes minutes first, so that no worker is
# left alone with it at the end; then from what waits for programs to what computes.
_LONGEST = (
    "flow/test_kill_at_any_moment.py",
    "flow/test_google_cloud.py",
    "flow/test_pytorch.py",
    "flow/test_push_to_release.py",
    "contract/test_actions_runner.py",
    "action/test_end_to_end.py",
    "flow/test_boot_machines.py",
    "flow/test_asks.py",
    "flow/test_cynthus_run.py",
    "simulation/test_seeds_1.py",
    "simulation/test_seeds_4.py",
    "simulation/test_seeds_2.py",
    "simulation/test_seeds_3.py",
    "contract/test_github_rules.py",
    "flow/test_pull_comments.py",
    "flow/test_setup.py",
    "engine/test_histories.py",
    "action/test_jobs.py",
    "action/test_environment.py",
)
_FOLDERS = (
    "chaos",
    "flow",
    "action",
    "contract",
    "doors",
    "stores",
    "simulation",
    "engine",
    "fuzz",
    "unit",
)

# No deadline and no health check by the clock: machines are shared. The same examples every time,
# kept nowhere: a change is refused for what it breaks. LONG=1 looks for others.
settings.register_profile(
    "shared machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not os.environ.get("LONG"),
    database=None,
)
settings.load_profile("shared machine")

# A shell that starts the tests in the background has them, and their programs, ignore signals.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, then those with slow tests, then folder by folder; all whole."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    places = {path: (_length(path), -slow[path], _folder(path)) for path in {i.path for i in items}}
    items.sort(key=lambda item: (places[item.path], item.path))


def pytest_collection_finish() -> None:
    """Leave what has been collected out of every search for garbage."""
    gc.freeze()


def _length(path: Path) -> int:
    name = path.relative_to(_TESTS).as_posix()
    return _LONGEST.index(name) if name in _LONGEST else len(_LONGEST)


def _folder(path: Path) -> int:
    folder = path.relative_to(_TESTS).parts[0]
    return _FOLDERS.index(folder) if folder in _FOLDERS else len(_FOLDERS)


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


_SPENT: defaultdict[str, float] = defaultdict(float)  # seconds by file, of all workers
_SHOWN = 40  # files: beyond these none takes more than a few seconds


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up what each file takes."""
    _SPENT[report.nodeid.partition("::")[0]] += report.duration


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show after a whole run where its time went: what grows unseen is not cut back."""
    if len(_SPENT) < _SHOWN:
        return
    terminalreporter.section("longest files, seconds of a worker")
    longest = sorted(_SPENT.items(), key=lambda one: -one[1])[:_SHOWN]
    for name, seconds in longest:
        terminalreporter.write_line(f"{seconds:7.1f}  {name}")
    terminalreporter.write_line(f"{sum(_SPENT.values()):7.1f}  all {len(_SPENT)}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the whole run when something of it still runs or is mounted after its last test."""
    if hasattr(session.config, "workerinput"):
        return  # a worker of xdist: its controller looks, once all have ended
    found = leftovers(str(session.config._tmp_path_factory.getbasetemp()), _MARK)
    if found:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        reporter.section("left on the machine", red=True)
        reporter.write("\n".join([*found, ""]))
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
