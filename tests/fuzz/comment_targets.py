"""Fuzz targets for what people write on GitHub, and for what we show there of others' words."""

from __future__ import annotations

import html
import re

from markdown_it import MarkdownIt

from simulators.actions_commands import parse_command
from tests.markdown_reader import Nodes, shown_by_github
from webhook_server.runs import hostile
from webhook_server.runs.ask_grammar import read_ask
from webhook_server.runs.asks import Misread
from webhook_server.runs.comment_lines import ask_lines
from webhook_server.runs.comment_reader import MOST_ASKS, asks_of, written

_LINE_END = re.compile(r"\r\n|\n|\r")  # GFM 2.1
_ASKED = re.compile(r"( *[^ ]{0,2}/cynthus)(?= |\Z)")
_MENTION = re.compile("@[A-Za-z0-9]")
_SPANS = MarkdownIt("commonmark").enable(["strikethrough", "table"])


def comment(data: bytes) -> None:
    """No line counts that GitHub does not show as plain text; nothing counts inside code."""
    body = data.decode("utf-8", "replace")
    found = asks_of(body)
    assert len(found) <= MOST_ASKS + 1
    assert all(line.written.isprintable() for line in found)
    _check_shown(body)
    inside = body.replace("`", "'").replace("~", "-")
    assert asks_of(f"````\n{inside}\n````\n") == ()
    assert asks_of("<!--\n" + body.replace(">", ")")) == ()
    assert asks_of("\n".join("> " + line for line in body.splitlines())) == ()


def _check_shown(body: str) -> None:
    """Compare with another reader, which knows the asks by the numbers that they get here."""
    lines = _LINE_END.split(body)
    numbered = "\n".join(
        f"{asked[1]} n{n}." if (asked := _ASKED.match(line)) else line
        for n, line in enumerate(lines)
    )
    found = [line.strip() for line in ask_lines(numbered)]
    shown = shown_by_github(numbered) if found else ""
    assert [line for line in found if line not in shown] == []


def ask(data: bytes) -> None:
    """An ask that is written down and read again is the same ask."""
    line = data.decode("utf-8", "replace")
    found = read_ask(line)
    if isinstance(found, Misread):
        assert asks_of(found.text) == ()
        assert parse_command(found.text) is None
        return
    again = written(found)
    assert "\n" not in again
    assert read_ask(again) == found


def shown_text(data: bytes) -> None:
    """Others' words in our Markdown ask for nothing, notify nobody and order no machine."""
    text = data.decode("utf-8", "replace")
    for made in (
        hostile.clean(text),
        hostile.inline(text),
        hostile.escaped(text),
        hostile.title(text, 100),
        hostile.code(text),
        hostile.fenced(text),
        hostile.markdown(text),
    ):
        assert not any(parse_command(line) for line in made.split("\n"))
        assert "\x1b" not in made
    for quiet in (hostile.inline(text), hostile.fenced(text), hostile.markdown(text)):
        assert asks_of(quiet) == ()
        assert not _MENTION.search(shown_by_github(quiet, Nodes()))
    _check_code(text)
    cut = hostile.cut_middle(text, 64)
    assert len(cut.encode("utf-8", "replace")) <= max(64, 160)


def _check_code(text: str) -> None:
    """Another reader sees one span, or one block, with exactly the text in it."""
    block = _SPANS.parse(hostile.fenced(text))
    assert [token.type for token in block] == ["fence"]
    span = hostile.code(text)
    if span:
        inline = _SPANS.parseInline(f"a {span} b")[0].children or []
        assert [token.type for token in inline] == ["text", "code_inline", "text"]
        rendered = _SPANS.renderInline(f"a {span} b")
        assert rendered == f"a <code>{html.escape(inline[1].content, quote=True)}</code> b".replace(
            "&#x27;", "'"
        )
