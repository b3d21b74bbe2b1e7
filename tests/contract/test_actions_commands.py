"""Lines and env files of a step mean what they mean to GitHub's runner."""

from __future__ import annotations

import re

import pytest

from simulators.actions_commands import (
    Annotation,
    Command,
    FileCommandError,
    Masks,
    StopState,
    annotation,
    parse_command,
    parse_env_file,
)

# Left: what npm @actions/core 3.0.1 writes; right: what it was asked to write.
WRITTEN_BY_ACTIONS_CORE = [
    ("::error::plain", Command("error", {}, "plain")),
    ("::error::50%25 of%0Atwo%0D%0Alines", Command("error", {}, "50% of\ntwo\r\nlines")),
    ("::warning title=a%3Ab%2Cc,file=x.py::m",
     Command("warning", {"title": "a:b,c", "file": "x.py"}, "m")),
    ("::notice file=a.py,line=1,endLine=2,col=3,endColumn=4::x",
     Command("notice", {"file": "a.py", "line": "1", "endLine": "2", "col": "3",
                        "endColumn": "4"}, "x")),
    ("::error title=%25250A::%250A", Command("error", {"title": "%250A"}, "%0A")),
    ("::group::A title", Command("group", {}, "A title")),
    ("::endgroup::", Command("endgroup", {}, "")),
    ("::add-mask::s3cret", Command("add-mask", {}, "s3cret")),
    ("::debug::a::b", Command("debug", {}, "a::b")),
]  # fmt: skip


@pytest.mark.parametrize(("line", "command"), WRITTEN_BY_ACTIONS_CORE)
def test_a_command_is_read_as_it_was_meant(line: str, command: Command) -> None:
    assert parse_command(line) == command


@pytest.mark.parametrize("line", ["plain", "a ::error::b", ":: error", "::error", ":error::x", ""])
def test_other_lines_are_no_commands(line: str) -> None:
    assert parse_command(line) is None


@pytest.mark.parametrize("line", ["::unknown::x", "::phase::train", "::metric name=a::1"])
def test_a_command_that_the_runner_does_not_know_is_ordinary_output(line: str) -> None:
    assert StopState().read(line) is None


def test_spaces_before_a_command_do_not_hide_it() -> None:
    assert parse_command("   ::notice::x") == Command("notice", {}, "x")


def test_between_stop_commands_and_its_word_nothing_is_understood() -> None:
    state = StopState()
    lines = ["::stop-commands::w0rd", "::error::no", "::endgroup::", "::w0rd::", "::error::yes"]
    heard = [state.read(line) for line in lines]
    assert [command.name if command else None for command in heard] == [
        "stop-commands", None, None, None, "error",
    ]  # fmt: skip


def test_an_annotation_stands_where_the_command_says() -> None:
    command = parse_command("::error file=a.py,line=3,col=5,endColumn=9,title=T::wrong")
    assert command is not None
    assert annotation(command) == Annotation(
        path="a.py",
        start_line=3,
        end_line=3,
        start_column=5,
        end_column=9,
        annotation_level="failure",
        title="T",
        message="wrong",
    )


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("::warning::x", (".github", 1, 1, None)),
        ("::warning file=a::x", ("a", 1, 1, None)),
        ("::warning file=a,line=4,endLine=6,col=2::x", ("a", 4, 6, None)),
        ("::warning file=a,line=4,endLine=2::x", ("a", 4, 4, None)),
        ("::warning file=a,line=-4,col=x::x", ("a", 1, 1, None)),
        ("::warning file=a,line=99999999999999::x", ("a", 1, 1, None)),
    ],
)
def test_a_place_that_makes_no_sense_is_corrected(line: str, place: tuple[object, ...]) -> None:
    command = parse_command(line)
    assert command is not None
    made = annotation(command)
    assert (made.path, made.start_line, made.end_line, made.start_column) == place
    assert "start_column" not in made.json()


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("", []),
        ("a=1\n", [("a", "1")]),
        ("a=1\n\nb=x=y\n", [("a", "1"), ("b", "x=y")]),
        ("a=\n", [("a", "")]),
        ("a=b<<c\n", [("a", "b<<c")]),
        ("a<<E\none\n\ntwo=2\nE\nb=3\n", [("a", "one\n\ntwo=2"), ("b", "3")]),
        ("a<<E\nE\n", [("a", "")]),
        ("a<<E=F\nx\nE=F\n", [("a", "x")]),
        ("a=1\r\nb=2\r\n", [("a", "1"), ("b", "2")]),
    ],
)
def test_an_env_file_is_read(text: str, entries: list[tuple[str, str]]) -> None:
    assert parse_env_file(text) == entries


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing\n", "Invalid format 'nothing'"),
        ("=x\n", "Invalid format '=x'. Name must not be empty"),
        ("<<E\nx\nE\n", "Name must not be empty and delimiter must not be empty"),
        ("a<<\nx\n", "Name must not be empty and delimiter must not be empty"),
        ("a<<E\nx\n", "Invalid value. Matching delimiter not found 'E'"),
    ],
)
def test_a_broken_env_file_is_refused_in_the_runners_words(text: str, message: str) -> None:
    with pytest.raises(FileCommandError, match=re.escape(message)):
        parse_env_file(text)


@pytest.mark.parametrize(
    "shown",
    ["a pa$$ b", "cGEkJA==", "pa%24%24", 'first"line', 'first\\"line', "second"],
)
def test_a_mask_hides_a_value_its_lines_and_its_usual_forms(shown: str) -> None:
    masks = Masks()
    masks.add("pa$$")
    masks.add('first"line\nsecond')
    assert "***" in masks.hide(shown)


def test_a_longer_mask_is_hidden_whole() -> None:
    masks = Masks()
    masks.add("abc")
    masks.add("abcdef")
    assert masks.hide("x abcdef y") == "x *** y"


def test_an_empty_mask_hides_nothing() -> None:
    masks = Masks()
    masks.add("")
    masks.add(" \n ")
    assert masks.hide("a b") == "a b"
