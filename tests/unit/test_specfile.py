"""Reading `cynthus.yaml`: what is refused, where, and in which words."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from cynthus.errors import UserError
from cynthus.spec import spec_from_json, spec_to_json
from cynthus.specfile import LARGEST_FILE, parse
from tests.fixtures.bad_specs import CASES, MARKER, RIGHT, WHOLE

GOOD = Path(__file__).parent.parent / "fixtures" / "good_specs"


def faults_of(text: bytes, path="cynthus.yaml"):
    with pytest.raises(UserError) as caught:
        parse(text, path)
    assert caught.value.faults
    return caught.value.faults


def placed(case: str) -> tuple[bytes, tuple[int, int]]:
    """Return a case's text without its marker, and where the marker stood."""
    before, _, after = case.partition(MARKER)
    place = (before.count("\n") + 1, len(before) - before.rfind("\n"))
    return (before + after).encode("utf-8", "surrogatepass"), place


def short(case: str) -> str:
    text = case.removeprefix(RIGHT)
    return re.sub(r"(.)\1{20,}", r"\1…", text)[:90]


ALL = [*WHOLE, *((RIGHT + text, where, words) for text, where, words in CASES)]


@pytest.mark.case("S1", "A17", "P15")
@pytest.mark.parametrize(("case", "where", "words"), ALL, ids=[short(case[0]) for case in ALL])
def test_a_wrong_spec_has_exactly_the_fault_that_was_made(case, where, words):
    text, place = placed(case)
    faults = faults_of(text)
    assert [(f.line, f.column, f.where) for f in faults] == [(*place, where)], faults
    assert words in faults[0].message


@pytest.mark.parametrize("path", sorted(GOOD.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_good_spec_has_the_expected_normal_form_and_comes_back_from_it(path):
    spec = parse(path.read_bytes(), path.name)
    normal = spec_to_json(spec)
    assert normal == json.loads(path.with_suffix(".json").read_text())
    assert spec_from_json(json.loads(json.dumps(normal))) == spec


def test_all_faults_of_a_file_are_reported_together_and_in_order():
    text = b"name: A\nrun: 3\nimage: {bse: x}\nresources: {cpu: 0, memory: 1}\nenv: {A: 1}\n"
    found = [(fault.line, fault.where) for fault in faults_of(text)]
    assert found == [
        (1, "version"),
        (1, "name"),
        (2, "run"),
        (3, "image"),
        (4, "resources/cpu"),
        (4, "resources/memory"),
        (5, "env/A"),
    ]


def test_what_stands_before_broken_yaml_is_still_checked_and_nothing_is_called_missing():
    faults = faults_of(b"version: 2\nname: A\nenv: {A: 'x\n")
    assert [fault.line for fault in faults] == [1, 2, 4]
    assert "began on line 3" in faults[2].message


def test_characters_that_are_refused_hide_no_other_fault():
    faults = faults_of(b"version: 1\nname: a\x00b\nrun: x\nsrc: /a\nenv: {A: '\xff'}\n")
    assert [(fault.line, fault.where) for fault in faults] == [(2, ""), (4, "src"), (5, "")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"\xff\xfev\x00", "found UTF-16"),
        ("version: 1\n".encode("utf-32"), "found UTF-16 or UTF-32"),
        (RIGHT.encode() + b"# \xe9\n", "found the byte 0xe9"),
        (RIGHT.encode() + b"# \xed\xa0\x80\n", "found the byte 0xed"),
        (RIGHT.encode() + b"# \xc0\xaf\n", "found the byte 0xc0"),
        (b"#" * (LARGEST_FILE + 1), f"found {LARGEST_FILE + 1} bytes"),
    ],
)
def test_a_file_that_is_no_small_utf8_text_is_refused(text, words):
    assert words in faults_of(text)[0].message


def test_a_file_of_exactly_the_largest_size_is_read():
    text = RIGHT.encode() + b"#"
    assert parse(text + b"x" * (LARGEST_FILE - len(text)), "f").name == "digits"


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "[{a: ", "? "])
def test_nesting_is_refused_from_the_first_place_that_is_too_deep(opening):
    faults = faults_of((RIGHT + "src:\n " + opening * 10_000)[:LARGEST_FILE].encode())
    assert any("nested at most 20 deep" in fault.message for fault in faults)


def test_faults_are_bounded_in_number():
    text = "".join(f"k{n}: x\n" for n in range(5000))
    assert len(faults_of(text.encode())) == 200


def _slow_texts():
    full = LARGEST_FILE - 200
    yield "nested flow", "[" * full
    yield "nested groups", "{a: " * (full // 4)
    yield "keys", "".join(f"k{n}: x\n" for n in range(full // 9))
    yield "same key", "a: x\n" * (full // 5)
    yield "near keys", "".join(f"max_duratio{n}: x\n" for n in range(full // 18))
    yield "digits", "src: " + "1" * full
    yield "underscores", "src: 1" + "_" * full
    yield "sixties", "src: 1" + ":1" * (full // 2)
    yield "dashes", "image: {base: '" + "a-" * (full // 2) + "'}"
    yield "underlined image", "image: {base: 'a" + "_" * full + "'}"
    yield "spaces", "src: 'a" + " " * full + "b'"
    yield "marker", "image: {packages: ['a; " + "(" * full + "']}"
    yield "clauses", "image: {packages: ['a" + ">=1," * (full // 4) + "']}"
    yield "slashes", "src: '" + "/" * full + "'"
    yield "user info", "src: '" + "//" * (full // 2) + "'"
    yield "ands", "&a " * (full // 3)
    yield "stars", "- *a\n" * (full // 5)
    yield "escapes", 'src: "' + "\\x41" * (full // 4) + '"'
    yield "controls", "# " + "\x01" * full
    yield "documents", "---\n" * (full // 4)
    yield "list", "outputs:\n" + "- {path: a}\n" * (full // 12)
    yield "block", "run: |\n" + " x\n" * (full // 3)
    yield "question marks", "? " * (full // 2)
    yield "long key", "a" * full + ": x"


@pytest.mark.case("S1")
@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in _slow_texts()])
def test_no_text_takes_long(text):
    # The slowest takes 0.5 s of CPU, nearly all of it PyYAML's scanner. Of three tries the best:
    # two hardware threads share one core, so that work beside this one can double its CPU time.
    for _ in range(3):
        started = time.process_time()
        faults_of((RIGHT + text).encode())
        took_s = time.process_time() - started
        if took_s < 1.0:
            break
    assert took_s < 1.0
