"""Another reader of Markdown: what GitHub shows outside of code, quotes and folds."""

from __future__ import annotations

from html.parser import HTMLParser

from markdown_it import MarkdownIt

HIDING = {
    *("blockquote", "code", "del", "details", "kbd", "pre", "s", "script", "style", "summary"),
}
VOID = {"br", "hr", "img", "input"}


class Shown(HTMLParser):
    """Collects the text that a browser shows outside of what hides."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        self.end_node()
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.end_node()
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if not HIDING & set(self.open):
            self.text += data

    def end_node(self) -> None:
        """Note that what follows stands in another element."""


class Nodes(Shown):
    """The same text, where an unprintable sign parts what stands in different elements."""

    def end_node(self) -> None:
        self.text += "\x00"


MARKDOWN = MarkdownIt("commonmark").enable(["strikethrough", "table"])  # GitHub's own


def shown_by_github(body: str, page: Shown | None = None) -> str:
    """Return the text that a reader of the comment sees outside of what hides."""
    page = page or Shown()
    page.feed(MARKDOWN.render(body))
    page.close()
    return page.text
