"""Alert rules: each asks for metrics that exist, and has a runbook of commands that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cynthus.cli import SUBCOMMANDS
from docs.generate_metrics import PAGE, metrics_page
from tests.unit.test_logs import calls
from webhook_server.metrics import REGISTRY, MetricKind, family_of
from webhook_server.settings import Settings

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
PARTS = ("What it means", "How to see it", "What to do", "When it is over")
_NAME = re.compile(r"\b(?:cynthus|process)_[a-z0-9_]+")
_SERVER_VARIABLES = {f"CYNTHUS_{name.upper()}" for name in vars(Settings())}


def rules() -> list[dict[str, Any]]:
    found = yaml.safe_load((ROOT / "deploy" / "alerts.yaml").read_text("utf-8"))
    return [rule for group in found["groups"] for rule in group["rules"]]


ALERTS = pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])


@ALERTS
def test_a_rule_is_whole(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"Cynthus[A-Z][A-Za-z]+", rule["alert"])
    assert re.fullmatch(r"[0-9]+[smh]", rule["for"])
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{rule['alert']}.md")


@ALERTS
def test_a_rule_asks_for_metrics_of_the_registry_as_what_they_are(rule: dict[str, Any]) -> None:
    expression = rule["expr"]
    names = _NAME.findall(expression)
    assert names or expression.startswith("up{")
    for name in names:
        metric = family_of(name)
        grows = re.search(rf"(?:rate|increase)\({name}[\[{{]", expression)
        assert bool(grows) == (metric.kind is not MetricKind.GAUGE), name
    for name, inner in re.findall(r"((?:cynthus|process)_[a-z0-9_]+)\{([^}]*)\}", expression):
        labels = set(re.findall(r"([a-z]+)=", inner))
        assert labels <= {*family_of(name).labels}


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(names)


@ALERTS
def test_a_runbook_says_what_to_do_with_what_exists(rule: dict[str, Any]) -> None:
    text = (RUNBOOKS / f"{rule['alert']}.md").read_text("utf-8")
    assert text.startswith(f"# {rule['alert']}\n")
    assert f"Severity: {rule['labels']['severity']}. `{rule['expr']}`" in text
    assert [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")] == [
        *PARTS
    ]
    for name in _NAME.findall(text):
        assert family_of(name)
    for command in re.findall(r"`cynthus ([a-z]+)", text):
        assert command in SUBCOMMANDS
    assert set(re.findall(r"CYNTHUS_[A-Z_]+", text)) <= _SERVER_VARIABLES
    for page in re.findall(r"\]\(([^)]+\.md)\)", text):
        assert (RUNBOOKS / page).is_file()
    for page in re.findall(r"\b([a-z_]+\.md)\b", text):
        assert (ROOT / "docs" / page).is_file()


@ALERTS
def test_a_runbook_quotes_lines_that_the_server_writes(rule: dict[str, Any]) -> None:
    text = (RUNBOOKS / f"{rule['alert']}.md").read_text("utf-8")
    written = [str(ast.literal_eval(call.args[0])) for _, call in calls()]
    for quoted in re.findall(r"Lines `([^`]+)`", text):
        words = quoted.partition("=")[0].rpartition(" ")[0] if "=" in quoted else quoted
        assert any(one.startswith(words) for one in written), quoted


def test_what_nobody_is_woken_by_is_shown_all_the_same() -> None:
    assert PAGE.read_text("utf-8") == metrics_page()
    assert all(f"`{name}`" in metrics_page() for name in REGISTRY)
