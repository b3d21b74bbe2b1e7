"""A repository's policy file: what it means, what is wrong with it and where, and its schema."""

# ruff: noqa: E501 - lists of cases read better on one line

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cynthus.cli_validate import faults_of
from cynthus.errors import UserError
from cynthus.nodes import Faults
from cynthus.policyfile import is_policy, parse
from cynthus.policyreader import KEYS
from cynthus.repository_policy import (
    DEFAULT_RIGHTS,
    POLICY_PATH,
    Allowance,
    RepositoryPolicy,
    Role,
    Superseded,
    Verb,
)
from cynthus.schema import check, load
from cynthus.specfile import read_tree
from docs.generate import POLICY_EXAMPLE, POLICY_PAGE, policy_page
from tests.examples import examples
from tests.unit.test_spec_schema import _objects, plain

SCHEMA = load("cynthus_policy")
RIGHT = "version: 1\n"


def read(text: str) -> RepositoryPolicy:
    return parse((RIGHT + text).encode(), POLICY_PATH)


def faults(text: str) -> list[str]:
    with pytest.raises(UserError) as raised:
        read(text)
    return [str(fault) for fault in raised.value.faults]


# ── what it means ───────────────────────────────────────────────────────────────────────────────


def test_what_is_left_out_has_its_default() -> None:
    assert read("") == RepositoryPolicy()
    assert read("").allowance(Verb.DESTROY) == DEFAULT_RIGHTS[Verb.DESTROY]


def test_the_example_means_what_its_comments_say() -> None:
    policy = parse(POLICY_EXAMPLE.read_bytes(), POLICY_PATH)
    assert policy.allowance(Verb.CANCEL) == Allowance(role=Role.MAINTAIN, people=("ada", "bob"))
    assert policy.limits.gpus == (("l4", 1), ("a100", 2))
    assert policy.limits.monthly_budget_usd == Decimal(500)
    assert policy.limits.extend == timedelta(hours=2)
    assert policy.approval.by == Allowance(role=Role.MAINTAIN)
    assert policy.superseded.branch is Superseded.FINISH
    assert policy.forks.max_duration == timedelta(hours=1)
    assert policy.bots == ("renovate[bot]",)


def test_no_gpus_is_not_the_same_as_any() -> None:
    assert read("limits: {gpus: []}").limits.gpus == ()
    assert read("limits: {}").limits.gpus is None


def test_nothing_may_wait_or_be_added() -> None:
    limits = read("limits: {keep_warm: 0, extend: 0}").limits
    assert (limits.keep_warm, limits.extend) == (timedelta(0), timedelta(0))


# ── what is wrong ───────────────────────────────────────────────────────────────────────────────

WRONG = [
    ("rights: {cancle: read}", '2:10: rights: should be a known key, found "cancle". Did you mean `cancel`?'),
    ("rights: {run: owner}", "rights/run: should be `read`, `triage`, `write`, `maintain` or `admin`"),
    ("rights: {run: none}", "rights/run: should be `read`"),
    ("rights: {logs: off}", "rights/logs: should be `read`"),
    ("rights: {run: [write]}", "rights/run: should be a role such as `write`, or a group"),
    ("rights: {run: {people: [ada]}}", "rights/run/role: should be present"),
    ('rights: {run: {role: write, people: ["@ada"]}}', "rights/run/people/0: should be the name of an account"),
    ("rights: {run: {role: write, people: [ada, ada]}}", "rights/run/people/1: should be an entry of its own"),
    ("limits: {budget: 3}", "Did you mean `monthly_budget`?"),
    ("limits: {cost: 3}", "Did you mean `max_cost`?"),
    ("max_cost: 3", "Write `max_cost` under `limits`"),
    ("limits: {max_cost: $5}", "limits/max_cost: should be US dollars above zero"),
    ('limits: {max_cost: "5.00"}', "Write `max_cost: 5.00`, without quotes or sign"),
    ("limits: {max_cost: 0}", "limits/max_cost: should be US dollars above zero"),
    ("limits: {max_duration: 90}", "Write `90m` for minutes"),
    ("limits: {max_duration: 12:30}", "limits/max_duration: should be a length of time"),
    ("limits: {gpus: l4}", "limits/gpus: should be a list of GPUs"),
    ("limits: {gpus: [L4]}", "Write one such as `l4`"),
    ('limits: {gpus: [l4, "l4:2"]}', "limits/gpus/1: should be a GPU type of its own"),
    ("limits: {live_runs: 0}", "limits/live_runs: should be a whole number from 1 to 10000"),
    ("limits: {nodes: 0x2}", "limits/nodes: should be a whole number"),
    ("limits: {providers: []}", "limits/providers: should be a list of 1 to 32 providers"),
    ("limits: {keep_warm: 8d}", "at most 7d"),
    ("approval: {by: {role: yes}}", "approval/by/role: should be `read`"),
    ("approval: {gpus: [\"l4:2\"]}", "approval/gpus/0: should be a GPU type"),
    ("superseded: {branch: stop}", "superseded/branch: should be `cancel`, `finish` or `keep`"),
    ("forks: {secrets: yes}", "forks: should be a known key"),
    ("retention: {days: 1.5}", "retention/days: should be a whole number"),
    ("bots: [renovate]", "bots/0: should be the name of a bot's account"),
    ("limits: {nodes: 1, nodes: 2}", "limits: should be a key of its own"),
    ("limits: &x {nodes: 1}", "should have no anchor"),
    ("approval:\n  <<: {cost: 1.00}", "Merge keys are not read"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "found"), WRONG, ids=[text for text, _ in WRONG])
def test_each_fault_is_told_with_its_place_and_what_to_do(text: str, found: str) -> None:
    told = faults(text)
    assert any(found in fault for fault in told), told
    assert all(fault.startswith(f"{POLICY_PATH}:") for fault in told)


def test_all_faults_of_a_file_are_told_together() -> None:
    assert len(faults("limits: {nodes: 0, gpus: 1}\nbots: x\nforks: {a: 1}")) == 4


@pytest.mark.parametrize("text", ["", "[]", "version: 2", "version: '1'", "limits: {}"])
def test_a_file_that_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse(text.encode(), POLICY_PATH)


def test_an_empty_file_is_told_what_to_write() -> None:
    with pytest.raises(
        UserError, match=r"should hold a policy, found nothing\. Write `version: 1`"
    ):
        parse(b"", POLICY_PATH)


def test_validate_knows_a_policy_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "cynthus-policy.yml"
    file.write_text(RIGHT)
    assert faults_of(str(file)) == ()
    file.write_text(RIGHT + "name: digits\n")
    [fault] = faults_of(str(file))
    assert (fault.line, fault.column) == (2, 1)
    assert is_policy(POLICY_PATH)
    assert not is_policy("cynthus.yaml")


# ── its schema ──────────────────────────────────────────────────────────────────────────────────


def judged(text: str) -> Any:
    """Return the value that an editor would check; None where it is no plain YAML."""
    found = Faults("f")
    tree = read_tree(text.encode(), found)
    return plain(tree) if tree is not None and not found.found else None


def test_the_schema_and_the_reader_know_the_same_keys() -> None:
    found = {where: tuple(schema["properties"]) for where, schema in _objects(SCHEMA)}
    assert found == KEYS


def test_every_property_has_a_description_and_examples_that_fit_it() -> None:
    for where, schema in _objects(SCHEMA):
        assert schema["additionalProperties"] is False
        for key, rule in schema["properties"].items():
            assert rule.get("description", "").endswith("."), (where, key)
            validator = Draft202012Validator({**rule, "$defs": SCHEMA["$defs"]})
            assert rule["examples"]
            assert all(validator.is_valid(example) for example in rule["examples"]), (where, key)


def test_the_schema_s_defaults_are_the_code_s() -> None:
    rights = SCHEMA["properties"]["rights"]["properties"]
    defaults = {verb.value: DEFAULT_RIGHTS[verb].role.value for verb in Verb}
    assert {key: rule["default"] for key, rule in rights.items()} == defaults
    rules = SCHEMA["properties"]["superseded"]["properties"]
    text = "".join(f"  {key}: {rule['default']}\n" for key, rule in rules.items())
    assert read(f"superseded:\n{text}") == RepositoryPolicy()
    forks = SCHEMA["properties"]["forks"]["properties"]
    text = "".join(f"  {key}: {rule['default']}\n" for key, rule in forks.items())
    assert read(f"forks:\n{text}") == RepositoryPolicy()


def test_the_schema_takes_the_example() -> None:
    assert check("cynthus_policy", judged(POLICY_EXAMPLE.read_text())) == []


VALUES = [
    *("1", "0", "-1", "2.5", "20.00", "1e3", "0x1F", "~", "yes", "none", "write", "admin", "cancel"),
    *("keep", "2h", "1h30m", "8d", "0s", "12:30", '"2h"', "[]", "[l4]", '["a100:2", l4]', "[l4, l4]"),
    *("[gcp]", "[GCP]", "[ada]", '["renovate[bot]"]', "{}", "{role: read}", "{role: none}"),
    *("{role: write, people: [ada]}", "{people: [ada]}", "{role: write, extra: 1}", "text", '""'),
]  # fmt: skip
PLACES = [(section, key) for section, keys in KEYS.items() for key in (*keys, "unknown")]


@settings(deadline=None, derandomize=True, max_examples=examples(800))
@given(st.sampled_from(PLACES), st.sampled_from(VALUES))
def test_whatever_the_reader_takes_the_schema_takes(place: tuple[str, str], value: str) -> None:
    section, key = place
    text = f"{section}: {{{key}: {value}}}" if section else f"{key}: {value}"
    if section == "allowance":
        text = f"approval: {{by: {{role: write, {key}: {value}}}}}"
    try:
        read(text)
    except UserError:
        return
    found = judged(RIGHT + text)
    assert found is not None
    assert check("cynthus_policy", found) == [], text


@settings(deadline=None, derandomize=True, max_examples=examples(150))
@given(st.text(alphabet="abn:-?[]{},&*!|>'\"%@`#~<=\\ \t\n\r\x00.0128_/éa\ufeff", max_size=120))
def test_any_text_is_a_policy_or_a_user_error(text: str) -> None:
    with suppress(UserError):  # anything else that is raised fails the test
        assert isinstance(parse(text.encode(), POLICY_PATH), RepositoryPolicy)


def test_the_page_is_what_the_schema_says() -> None:
    assert POLICY_PAGE.read_text("utf-8") == policy_page(), "run `make docs`"
