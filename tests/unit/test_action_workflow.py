"""Workflow commands, outputs and summaries as GitHub's runner reads them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from action import workflow
from action.workflow import JobConsole, Place, PlainConsole

# What @actions/core prints: packages/core/src/command.ts and its tests.
COMMANDS = [
    (("error", "plain", {}), "::error::plain"),
    (("error", "", {}), "::error::"),
    (("notice", "100% sure", {}), "::notice::100%25 sure"),
    (("error", "a\r\nb", {}), "::error::a%0D%0Ab"),
    (("error", "a:b,c", {"file": "a:b,c"}), "::error file=a%3Ab%2Cc::a:b,c"),
    (("warning", "x", {"file": "f%", "line": 3, "col": None}), "::warning file=f%25,line=3::x"),
    (("error", "%0A", {"title": "x\ny"}), "::error title=x%0Ay::%250A"),
    (("add-mask", "s%cret", {}), "::add-mask::s%25cret"),
    (("group", "Build", {}), "::group::Build"),
]


@pytest.mark.parametrize(("given", "line"), COMMANDS)
def test_commands_are_escaped_as_the_runner_reads_them(
    given: tuple[str, str, dict[str, str | int | None]], line: str
) -> None:
    assert workflow.command(*given) == line


def test_an_annotation_names_its_place() -> None:
    place = Place(file="cynthus.yaml", line=3, column=7, title="image/python")
    line = "::error title=image/python,file=cynthus.yaml,line=3,col=7::no"
    assert workflow.annotation("error", "no", place) == line


def test_an_output_may_contain_anything_but_its_delimiter(tmp_path: Path) -> None:
    assert workflow.output_entry("image", "a\nb=c<<d", "D") == "image<<D\na\nb=c<<d\nD\n"
    with pytest.raises(ValueError, match="delimiter"):
        workflow.output_entry("image", "xDx", "D")
    workflow.write_outputs(tmp_path / "out", {"a": "1"})
    workflow.write_outputs(tmp_path / "out", {"a": "2"})
    delimiters = {line.partition("<<")[2] for line in _lines(tmp_path / "out") if "<<" in line}
    assert len(delimiters) == 2  # a value cannot know it


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_a_summary_is_cut_in_the_middle_and_says_so() -> None:
    text = "A" + "é" * 2000 + "Z"
    cut = workflow.cut_summary(text, 1000)
    assert len(cut.encode()) <= 1000
    assert cut.startswith("A")
    assert cut.endswith("Z")
    assert "cut here" in cut
    assert workflow.cut_summary("short") == "short"


def test_markdown_of_others_does_nothing() -> None:
    hostile = "<img src=x> @all [x](http://y) `a`\n# title | cell"
    shown = workflow.markdown_text(hostile)
    assert not set("<>@[]()`#|\n") - set("#") & set(shown)
    assert "#" not in shown.replace("&#", "")


def test_text_of_others_is_printed_with_commands_switched_off() -> None:
    out = io.StringIO()
    console = JobConsole(out)
    console.say("ours")
    console.quote("::set-output name=a::b")
    console.quote("##[error]no")
    console.say("ours again")
    lines = out.getvalue().splitlines()
    word = lines[1].removeprefix("::stop-commands::")
    assert len(word) == 32
    assert lines == [
        "ours",
        f"::stop-commands::{word}",
        "::set-output name=a::b",
        "##[error]no",
        f"::{word}::",
        "ours again",
    ]


def test_a_sentence_of_ours_that_carries_a_command_is_quoted_too() -> None:
    out = io.StringIO()
    JobConsole(out).say("found `x`\n::error::forged")
    assert out.getvalue().splitlines()[1].startswith("::stop-commands::")


def test_the_word_changes_every_time() -> None:
    out = io.StringIO()
    console = JobConsole(out)
    for _ in range(3):
        console.quote("x")
        console.say("y")
    words = {line for line in out.getvalue().splitlines() if line.startswith("::stop-commands")}
    assert len(words) == 3


@pytest.mark.parametrize("line", ["a\rb", "\x1b[2Jgone", "nul\0", "\u202eevil"])
def test_control_characters_do_not_reach_the_terminal(line: str) -> None:
    for console in (JobConsole(out := io.StringIO()), PlainConsole(out)):
        console.quote(line)
        for told in (console.say, console.notice, console.warning, console.error):
            told(f"it answers {line}")
    assert not set("\r\x1b\0\u202e") & set(out.getvalue())


def test_more_annotations_than_github_keeps_are_printed_as_lines() -> None:
    out = io.StringIO()
    console = JobConsole(out)
    for number in range(12):
        console.error(f"fault {number}", Place(file="f", line=number))
    lines = out.getvalue().splitlines()
    assert len([line for line in lines if line.startswith("::error")]) == 10
    assert lines[-1] == "error: f:11: fault 11"


def test_every_line_of_a_secret_is_masked_and_no_empty_one() -> None:
    out = io.StringIO()
    JobConsole(out).mask("first\n\nsecond\n")
    assert out.getvalue() == "::add-mask::first\n::add-mask::second\n"


def test_a_terminal_hides_masked_values() -> None:
    out = io.StringIO()
    console = PlainConsole(out)
    console.mask("hunter2")
    console.quote("the password is hunter2")
    assert out.getvalue() == "the password is ***\n"
