"""The doctor waits for nobody for ever, hides no finding behind another, and says what to do."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cynthus.cli_doctor import _code
from cynthus.errors import Transient
from cynthus.local_checks import engine_finding, python_finding, spec_finding
from cynthus.wire_doctor import Finding, Verdict, fail, ok, warn
from tests.builders import APP_KEYS as KEYS
from tests.builders import NOON
from tests.builders import STORED_APP as APP
from webhook_server.doctor.examine import Check, examine
from webhook_server.doctor.outside import clock_finding
from webhook_server.settings import Secret, Settings
from webhook_server.settings_faults import half_set
from webhook_server.stores.app_store import with_app

SECOND = timedelta(seconds=1)


# ── examining ───────────────────────────────────────────────────────────────────────────────────


def test_a_check_that_hangs_or_breaks_hides_no_other() -> None:
    for_ever = threading.Event()

    def hangs() -> Sequence[Finding]:
        for_ever.wait()
        return ()

    def refuses() -> Sequence[Finding]:
        raise Transient("the database does not answer.")

    def breaks() -> Sequence[Finding]:
        raise ZeroDivisionError

    checks = [
        Check(name="hangs", look=hangs, remedy="Wait."),
        Check(name="refuses", look=refuses, remedy="Look."),
        Check(name="breaks", look=breaks, remedy="Tell."),
        Check(
            name="well",
            look=lambda: (ok("well", "fine"), warn("well", "or not", "See.")),
            remedy="",
        ),
    ]
    found = examine(checks, limit_s=0.5)
    for_ever.set()
    assert [(one.name, one.verdict) for one in found] == [
        ("hangs", Verdict.FAIL),
        ("refuses", Verdict.FAIL),
        ("breaks", Verdict.FAIL),
        ("well", Verdict.OK),
        ("well", Verdict.WARN),
    ]
    assert (found[1].found, found[1].remedy) == ("the database does not answer.", "Look.")


@pytest.mark.parametrize(
    ("github_after_s", "verdict"),
    [
        (0.5, Verdict.OK),
        (-29, Verdict.OK),
        (31, Verdict.OK),
        (33, Verdict.FAIL),
        (-33, Verdict.FAIL),
    ],
)
def test_clocks_may_differ_by_half_a_minute(github_after_s: float, verdict: Verdict) -> None:
    # GitHub's answer took two seconds, within which nothing is known.
    github = NOON + timedelta(seconds=github_after_s)
    assert clock_finding("clock", github, NOON, NOON + 2 * SECOND).verdict is verdict


def test_a_clock_that_is_not_told_is_no_fault_of_ours() -> None:
    assert clock_finding("clock", None, NOON, NOON).verdict is Verdict.WARN


# ── settings and the stored App ─────────────────────────────────────────────────────────────────


def test_a_stored_app_completes_settings_that_name_none() -> None:
    settings, remarks = with_app(Settings(), APP, KEYS)
    assert remarks == ()
    assert settings.github_configured
    assert (settings.github_app_id, settings.allowed) == ("7", ("5",))
    assert settings.github_private_key == "a pem"
    assert settings.webhook_secret == "s" * 40


def test_the_environment_wins_and_what_differs_is_told() -> None:
    said = replace(Settings(), allowed=("acme",), webhook_secret=Secret("e" * 40))
    settings, remarks = with_app(said, APP, KEYS)
    assert (settings.allowed, settings.webhook_secret) == (("acme",), "e" * 40)
    assert [remark.partition(" ")[0] for remark in remarks] == [
        "CYNTHUS_WEBHOOK_SECRET",
        "CYNTHUS_ALLOWED",
    ]
    assert "e" * 40 not in str(remarks)


def test_an_app_of_the_environment_is_served_whole() -> None:
    said = replace(Settings(), github_app_id="8", github_private_key=Secret("another pem"))
    settings, [remark] = with_app(said, APP, None)
    assert settings == said
    assert "names App 8, set-up made App 7" in remark
    assert with_app(replace(said, github_app_id="7"), APP, None)[1] == ()


def test_an_app_without_its_keys_is_not_served() -> None:
    settings, [remark] = with_app(Settings(), APP, None)
    assert not settings.github_configured
    assert "GitHub is not served" in remark


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"webhook_secret": Secret("w" * 24)}, "CYNTHUS_WEBHOOK_SECRET is set without"),
        ({"gcp_project": "p"}, "nothing is lent from Google Cloud"),
        ({"gcp_service_account": "a@b"}, "Name the project"),
        ({"blob_days": 3}, "nothing is deleted"),
    ],
)
def test_settings_that_do_nothing_alone_are_told(change: dict[str, object], told: str) -> None:
    [line] = half_set(replace(Settings(), **change))  # type: ignore[arg-type]
    assert told in line
    assert list(half_set(Settings())) == []


# ── this machine ────────────────────────────────────────────────────────────────────────────────


def test_an_old_python_fails() -> None:
    assert python_finding((3, 10)).verdict is Verdict.FAIL
    assert python_finding((3, 11)).verdict is Verdict.OK


@pytest.mark.parametrize("address", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1", "odd"])
def test_a_missing_engine_is_told_with_its_address(address: str) -> None:
    finding = engine_finding(address)
    assert finding.verdict is Verdict.WARN
    assert address in finding.found


def test_a_spec_is_looked_at_where_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "cynthus.yaml"
    assert spec_finding(path).verdict is Verdict.WARN
    path.write_text("version: 1\nname: digits\nrum: python train.py\n")
    bad = spec_finding(path)
    assert bad.verdict is Verdict.FAIL
    assert "cynthus.yaml:" in bad.found
    path.write_text("version: 1\nname: digits\nrun: python train.py\n")
    assert spec_finding(path).found == "cynthus.yaml describes 'digits'"


def test_the_exit_code_tells_the_worst() -> None:
    fine, odd, bad = ok("a", "b"), warn("a", "b", "c"), fail("a", "b", "c")
    assert _code([fine, odd], away=False) == 0
    assert _code([fine, bad], away=False) == 1
    assert _code([fine, bad], away=True) == 3
