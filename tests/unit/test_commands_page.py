"""The page about commands says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from cynthus.overrides import OVERRIDABLE
from cynthus.repository_policy import DEFAULT_RIGHTS
from webhook_server.runs.ask_grammar import FORMS, MOST_LINES
from webhook_server.runs.asks import AskLogs, AskRun, Misread
from webhook_server.runs.comment_reader import asks_of, written

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "commands.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if "|" in line
]
BLOCKS = re.findall(r"^```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_every_command_is_a_row_with_its_right() -> None:
    rows = [(row[0], row[2]) for row in ROWS if row[0].startswith("`/cynthus")]
    assert rows == [(f"`{form}`", DEFAULT_RIGHTS[verb].role.value) for verb, form in FORMS.items()]


def test_every_override_is_a_row() -> None:
    rows = [row for row in ROWS if len(row) == 2 and row[0].startswith("`")]
    assert rows == [[f"`{key}`", meaning] for key, meaning in OVERRIDABLE]


def test_every_example_is_read_as_it_stands() -> None:
    first, last = BLOCKS
    for line in first.splitlines():
        (found,) = asks_of(line)
        assert not isinstance(found.ask, Misread), line
        assert asks_of(written(found.ask))[0].ask == found.ask
    assert [line.ask for line in asks_of(last)] == [AskRun(overrides=(("gpu", "a100"),))]


def test_numbers_are_those_of_the_code() -> None:
    assert f"{AskLogs.last} lines, at most {MOST_LINES};" in PAGE
