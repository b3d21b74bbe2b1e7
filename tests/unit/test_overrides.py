"""`key=value` on top of a file."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cynthus.errors import Fault, UserError
from cynthus.overrides import OVERRIDABLE, apply
from cynthus.spec import GpuNeed, Spec, Spot
from cynthus.specfile import parse
from cynthus.specreader import KEYS
from tests.examples import examples
from tests.fixtures.bad_specs import CASES, MARKER, RIGHT

FILE = b"""\
version: 1
name: digits
run: python train.py
resources: {gpu: {type: l4, count: 2}, cpu: 4}
env: {EPOCHS: '3', LR: '0.1', learning_rate: '1', lr_decay: '2', LR_DECAY: '3'}
"""
PLAIN = parse(FILE, "cynthus.yaml")


def applied(*overrides: str, text: bytes = FILE) -> Spec:
    pairs = [override.partition("=") for override in overrides]
    return apply(text, "cynthus.yaml", [(key, value) for key, _, value in pairs])


def faults(*overrides: str, text: bytes = FILE) -> tuple[Fault, ...]:
    with pytest.raises(UserError) as caught:
        applied(*overrides, text=text)
    assert caught.value.faults
    return caught.value.faults


def with_resources(**changes: Any) -> Spec:
    return replace(PLAIN, resources=replace(PLAIN.resources, **changes))


def with_env(**changes: str) -> Spec:
    return replace(PLAIN, env=tuple({**dict(PLAIN.env), **changes}.items()))


SET: list[tuple[str, Spec]] = [
    ("gpu=t4", with_resources(gpu=(GpuNeed("t4"),))),
    ("gpu=t4,l4:2", with_resources(gpu=(GpuNeed("t4"), GpuNeed("l4", 2)))),
    ("resources.gpu=t4", with_resources(gpu=(GpuNeed("t4"),))),
    ("resources/cpu=8", with_resources(cpu=8)),
    ("memory=32GB", with_resources(memory_bytes=32 * 10**9)),
    ("disk=1TB", with_resources(disk_bytes=10**12)),
    ("nodes=2", with_resources(nodes=2)),
    ("spot=true", with_resources(spot=Spot.ALWAYS)),
    ("provider=gcp", with_resources(provider="gcp")),
    ("places=us-central1", with_resources(places=("us-central1",))),
    ("places=us-central1,us-west4", with_resources(places=("us-central1", "us-west4"))),
    ("max_duration=1h30m", with_resources(max_duration=timedelta(minutes=90))),
    ("max_cost=5.00", with_resources(max_cost_usd=Decimal("5.00"))),
    ("attempts=1", replace(PLAIN, retry=replace(PLAIN.retry, attempts=1))),
    ("retry/attempts=1", replace(PLAIN, retry=replace(PLAIN.retry, attempts=1))),
    ("keep_warm=10m", replace(PLAIN, keep_warm=timedelta(minutes=10))),
    ("EPOCHS=5", with_env(EPOCHS="5")),
    ("epochs=5", with_env(EPOCHS="5")),
    ("env.EPOCHS=5", with_env(EPOCHS="5")),
    ("env/epochs=5", with_env(EPOCHS="5")),
    ("learning-rate=1e-3", with_env(learning_rate="1e-3")),
    ("LR=yes", with_env(LR="yes")),
    ("LR=", with_env(LR="")),
    ("LR=a=b # c: [d]", with_env(LR="a=b # c: [d]")),
    ("LR_DECAY=9", with_env(LR_DECAY="9")),
]


@pytest.mark.parametrize(("override", "spec"), SET, ids=[text for text, _ in SET])
def test_an_override_sets_one_thing_and_leaves_the_rest(override: str, spec: Spec) -> None:
    assert applied(override) == spec


def test_overrides_go_together_and_need_no_section_in_the_file() -> None:
    spec = applied("gpu=l4", "max_cost=2", "attempts=2", text=RIGHT.encode())
    assert spec.resources.gpu == (GpuNeed("l4"),)
    assert spec.resources.max_cost_usd == Decimal(2)
    assert spec.retry.attempts == 2
    assert applied() == PLAIN


WRONG: list[tuple[str, str]] = [
    ("gpus=l4", "Did you mean `gpu`?"),
    ("max-costs=5", "Did you mean `max_cost`?"),
    ("epoch=5", "Did you mean `EPOCHS`?"),
    ("env.epoch=5", "Did you mean `EPOCHS`?"),
    ("env.gpu=5", "Write one of gpu, cpu"),
    ("resources.gpus=5", "Did you mean `gpu`?"),
    ("frobnicate=5", "an entry of `env` (EPOCHS, LR,"),
    ("lR_decay=5", "Write `lr_decay` or `LR_DECAY`"),
    ("resources=5", "Write one of gpu, cpu"),
    ("retry.on_exit=75", "Write one of gpu, cpu"),
    ("=5", "a key that can be set"),
    ("name=x", "It says which run this is"),
    ("version=2", "It says which run this is"),
    ("run=rm -rf /", "What is executed, and with what, is the commit's"),
    ("secrets=TOKEN", "What is executed, and with what, is the commit's"),
    ("src=../..", "Another image has to be built"),
    ("image=evil", "Another image has to be built"),
    ("image.base=evil", "Another image has to be built"),
    ("image/dockerfile=x", "Another image has to be built"),
    ("data=hf://x", "What is read and kept is the commit's"),
    ("outputs.path=/etc", "What is read and kept is the commit's"),
    ("checkpoint=x", "What is read and kept is the commit's"),
    ("labels.team=x", "It says which run this is"),
    ("triggers.push=x", "a rule for all runs of the commit"),
    ("gate=x", "a rule for all runs of the commit"),
    ("gpu=", "found nothing"),
    ("gpu=l4,", "found nothing"),
    ("gpu=l4,l4", "in the list already"),
    ("places=", "found nothing"),
    ("places=a,,b", "found nothing"),
    ("LR=\x1b[31m", "found the character U+001B"),
    ("LR=a\u202eb", "found the character U+202E"),
    ("LR=\ud800", "found the character U+D800"),
    ("LR=" + "x" * 40_000, "at most 32768 bytes"),
]


@pytest.mark.case("C9")
@pytest.mark.parametrize(("override", "words"), WRONG, ids=[text[:30] for text, _ in WRONG])
def test_c9_what_may_not_be_set_is_refused_by_its_key(override: str, words: str) -> None:
    found = faults(override)
    assert words in found[0].message
    assert {(fault.line, fault.where) for fault in found} == {(0, override.partition("=")[0])}


_PLAIN_CASE = re.compile(
    rf"(?:(?:resources|retry): {{)?(\w+): (?:{MARKER}|\[{MARKER})([^'\"\[\]{{}},\n]*)\]?}}?\n"
)
SAME = [
    (found[1], found[2], text)
    for text, _, _ in CASES
    if (found := _PLAIN_CASE.fullmatch(text)) is not None
    and found[1] in {key for key, _ in OVERRIDABLE}
    and not (found[1] == "places" and "[" not in text)  # one place is a list of one
]


@pytest.mark.case("S2")
def test_s2_an_override_is_judged_with_the_files_own_words() -> None:
    assert len(SAME) > 150
    for key, value, case in SAME:
        with pytest.raises(UserError) as caught:
            parse((RIGHT + case.replace(MARKER, "")).encode(), "cynthus.yaml")
        (said,) = caught.value.faults
        (found,) = faults(f"{key}={value}", text=RIGHT.encode())
        assert (found.where, found.message) == (key, said.message), case


def test_all_faults_are_told_together_in_the_order_of_the_overrides() -> None:
    found = faults("nodes=0", "cpu=x", "frob=1", "gpu=L4")
    assert [fault.where for fault in found] == ["nodes", "cpu", "frob", "gpu"]
    assert str(found[0]).startswith("nodes: should be a whole number from 1 to 256")


def test_one_thing_is_set_once() -> None:
    (found,) = faults("EPOCHS=4", "env.epochs=5")
    assert found.where == "env.epochs"
    assert "Remove it, or `EPOCHS`" in found.message


def test_a_wrong_file_is_told_by_its_lines_before_any_override() -> None:
    found = faults("frob=1", text=FILE + b"src: 3\n")
    assert [(fault.line, fault.where) for fault in found] == [(6, "src")]


@pytest.mark.parametrize("override", ["SECRET=hunter2" + "x" * 40_000, "SECRET=hunter2\x00"])
def test_a_value_of_the_environment_is_never_told(override: str) -> None:
    (found,) = faults(override, text=(RIGHT + "env: {SECRET: ''}\n").encode())
    assert "hunter2" not in found.message


def test_every_key_of_the_file_is_overridable_or_refused_with_a_reason() -> None:
    known = {key for key, _ in OVERRIDABLE}
    for key in KEYS[""]:
        if key in known:
            continue
        (found,) = faults(f"{key}=0")
        assert "Edit the file and push" in found.message or "Write one of" in found.message
    assert set(KEYS["resources"]) < known


steady = settings(
    deadline=None,
    derandomize=True,
    max_examples=examples(200),
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
ANY_KEY = st.sampled_from([*(key for key, _ in OVERRIDABLE), "LR", "env.LR", "x"]) | st.text(
    max_size=8
)


def outcome(pairs: list[tuple[str, str]]) -> Spec | UserError:
    """Apply; anything raised but a UserError fails the test."""
    try:
        return apply(FILE, "cynthus.yaml", pairs)
    except UserError as error:
        return error


@steady
@given(st.lists(st.tuples(ANY_KEY, st.text(max_size=12)), max_size=4))
def test_nothing_is_changed_but_what_may_be(pairs: list[tuple[str, str]]) -> None:
    found = outcome(pairs)
    if isinstance(found, UserError):
        assert {fault.line for fault in found.faults} == {0}
        assert all(line.isprintable() for line in str(found).split("\n"))
        return
    kept = replace(
        PLAIN,
        resources=found.resources,
        env=found.env,
        retry=replace(PLAIN.retry, attempts=found.retry.attempts),
        keep_warm=found.keep_warm,
    )
    assert found == kept
    assert [name for name, _ in found.env] == [name for name, _ in PLAIN.env]
