"""Show Markdown as GitHub does: tables, folded parts, no comments, no other HTML of strangers."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup

# What a sticky comment is made of, without any attribute but `open`. GitHub lets more through:
# https://github.github.com/gfm/#disallowed-raw-html-extension-
_PASSED = re.compile(
    r"</?(?:details|summary|code|sub|sup|kbd|br|b|i)>|<details open(?:=\"\")?>", re.IGNORECASE
)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def render(text: str | None) -> Markup:
    """Return Markdown as HTML in which nothing of its author's can run or load."""
    return Markup(_READER.render(text or ""))  # noqa: S704 - `_passed` escapes every other tag


def _passed(raw: str) -> str:
    """Return raw HTML with the known tags as they are, comments gone and the rest as text."""
    out, at = "", 0
    raw = _COMMENT.sub("", raw)
    for tag in _PASSED.finditer(raw):
        out += html.escape(raw[at : tag.start()]) + tag[0]
        at = tag.end()
    return out + html.escape(raw[at:])


def _raw(_: RendererHTML, tokens: Sequence[Token], at: int, *_more: Any) -> str:
    return _passed(tokens[at].content)


def _reader() -> MarkdownIt:
    reader = MarkdownIt("js-default", {"breaks": True, "html": True})
    reader.enable("table").enable("strikethrough")
    for kind in ("html_block", "html_inline"):
        reader.add_render_rule(kind, _raw)
    return reader


_READER = _reader()
