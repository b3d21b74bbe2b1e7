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
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if not HIDING & set(self.open):
            self.text += data


MARKDOWN = MarkdownIt("commonmark").enable(["strikethrough", "table"])  # GitHub's own


def shown_by_github(body: str) -> str:
    page = Shown()
    page.feed(MARKDOWN.render(body))
    page.close()
    return page.text
