"""Which lines of a comment are asks: Markdown read only as far as it can hide a line. Pure.

A line counts when it begins with `/cynthus`, at most three spaces before it, and GitHub shows it
as plain text: not in code, a quote, an HTML comment or block, or an element that folds or sets
code. Where this reader cannot be sure what GitHub shows, the lines do not count: until the next
blank line when a paragraph left something open (a backtick, a tag, a bracket), to the comment's
end when more than a paragraph may be swallowed.
https://github.github.com/gfm/ (blocks: 4.4 to 4.7, 5.1 to 5.3; spans: 6.3, 6.10)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

# Nobody writes so much by hand before an ask; what is read stays below 50 ms for any body.
MOST_LINES = 2000
# A longer line is prose or was pasted: what it leaves open is not looked for, but assumed.
_LONGEST_READ = 1000
_TAB = 4

# Only these end a line in Markdown; Python's own list has more. GFM 2.1, "line ending".
_LINE_END = re.compile(r"\r\n|\n|\r")
_MARKED = re.compile(r" {0,3}/cynthus(?![^ \t])")
_MARKED_ANYWHERE = re.compile(r"(?:\A|[\r\n]) {0,3}/cynthus(?![^ \t\r\n])")

_ITEMS = r"(?:(?:[-*+]|[0-9]{1,9}[.)]) +)*"  # list items that begin on the line
_FENCE = re.compile(rf"(?P<lead> *{_ITEMS})(?P<fence>`{{3,}}(?=[^`]*\Z)|~{{3,}})")
_CLOSING = re.compile(r" *(`{3,}|~{3,}) *")
_QUOTE = re.compile(rf" *{_ITEMS}>(?: {{0,3}}>)*")
_ANGLE = re.compile(rf" *{_ITEMS}<")
# GFM 4.6: blocks of the first kind end with their own tag, those of the sixth with a blank line.
_RAW = re.compile(r" ?<(pre|script|style|textarea)(?=[\s>]|\Z)", re.IGNORECASE)
_RAW_END = re.compile(r"</(pre|script|style|textarea)>", re.IGNORECASE)
_BLOCK = re.compile(
    r" ?</?(?:blockquote|center|details|div|d[dlt]|h[1-6r]|li|ol|p|section|summary"
    r"|t(?:able|body|d|foot|h|head|r)|ul)(?=[\s>]|/>|\Z)",
    re.IGNORECASE,
)
# What stands in these is folded away, struck out, quoted, or shown as code.
_HIDING = re.compile(
    r"<(?P<end>/?)(?P<name>blockquote|code|del|details|iframe|kbd|math|noembed|noframes|noscript"
    r"|option|plaintext|pre|q|s|samp|script|select|strike|style|summary|svg|template|textarea"
    r"|title|tt|var|xmp)(?=[\s/>]|\Z)",
    re.IGNORECASE,
)
# A browser reads no tag in these but their own end: one that is not a block may swallow much.
_SWALLOWING = frozenset(
    ("iframe", "noembed", "noframes", "noscript", "plaintext", "script", "style", "textarea")
) | {"title", "xmp"}
_WHOLE_TAG = re.compile(r"""</?[A-Za-z][^<>"']*(?:"[^"<>]*"[^<>"']*|'[^'<>]*'[^<>"']*)*>""")
_TAG_START = re.compile(r"<[A-Za-z/]")
_DECLARATION = re.compile(r"<\?|<!(?!--)[A-Za-z\[]|<!--+>")  # the last: HTML and GFM differ
# Text and tags without attributes: no quotation marks in which a tag would be none.
_PLAIN_TAGS = re.compile(r"[^<>`\\]*(?:</?[A-Za-z][A-Za-z0-9]*(?: open)?>[^<>`\\]*)*")
_TICKS = re.compile(r"`+")
# Struck text whose signs surely belong together: GFM 6.5, and "flanking" in 6.4.
_STRUCK = re.compile(r"~~\w(?:[^~]*[^~\s])?~~(?=[\s.,;:!?)]|\Z)")
# What a comment in a paragraph may not be in every version of Markdown.
_DOUBTFUL_COMMENT = re.compile(r"\A-?>|--|-\Z")


def holds_an_ask(body: str) -> bool:
    """Say whether any line looks like an ask, before anything is asked or read further."""
    return _MARKED_ANYWHERE.search(body) is not None


def ask_lines(body: str) -> Iterator[str]:
    """Yield the lines that count, in their order. Never raises; time is bounded for any text."""
    if not holds_an_ask(body):
        return
    reading = _Reading()
    for line in _LINE_END.split(body, maxsplit=MOST_LINES)[:MOST_LINES]:
        if reading.take(line):
            yield line
        if reading.lost:
            return


@dataclass(frozen=True)
class _Fence:
    """An open fence: what closes it, the column it began in, whether a list item's marker did."""

    mark: str
    column: int
    listed: bool

    def closed_by(self, line: str) -> bool:
        closing = _CLOSING.fullmatch(line)
        return closing is not None and closing[1].startswith(self.mark)


@dataclass
class _Reading:
    """What is open where the reader stands."""

    lost: bool = False  # nothing below counts
    fence: _Fence | None = None
    comment: bool = False  # an HTML comment that is a block
    raw: str = ""  # the name of a raw element
    html: bool = False  # an HTML block, until a blank line
    perhaps_html: bool = False  # that, or a paragraph
    quoted: bool = False  # a quote, and what lazily goes on with it, until a blank line
    quoted_html: bool = False  # perhaps a block of HTML in it
    span: bool = False  # the paragraph left something open
    hiding: Counter[str] = field(default_factory=Counter)  # open elements

    def take(self, line: str) -> bool:
        """Read one line; return whether it is an ask that GitHub shows as plain text."""
        if "\t" in line:
            line = line.expandtabs(_TAB)
        if not line.strip(" "):
            self._blank()
            return False
        if self.comment:
            self._in_comment(line)
        elif self.raw:
            self._in_raw(line)
        elif self.fence is not None and self._in_fence(line, self.fence):
            pass
        elif self.html or self.perhaps_html:
            self._in_html(line)
        elif not self._begins_block(line):
            return self._paragraph(line)
        return False

    def _blank(self) -> None:
        if not self.comment and not self.raw and self.fence is None:
            self.html = self.perhaps_html = self.quoted = self.quoted_html = self.span = False

    # ── inside blocks ───────────────────────────────────────────────────────────────────────────

    def _in_comment(self, line: str) -> None:
        _, end, rest = line.rpartition("-->")
        if end:
            self.comment = False
            self.lost = "<" in rest

    def _in_raw(self, line: str) -> None:
        end = _RAW_END.search(line)
        self._read_tags(line[: end.start()] if end is not None else line, block=True)
        if end is not None:
            self.lost = self.lost or end[1].lower() != self.raw or "<" in line[end.end() :]
            self.hiding[self.raw] -= 1
            self.raw = ""

    def _in_fence(self, line: str, fence: _Fence) -> bool:
        """Return whether the line belongs to the fence; False when its list item has ended.

        A fence further right than column 1 may be in a list item or not, and the two end
        differently: it is followed only as long as both readings agree.
        """
        indent = len(line) - len(line.lstrip(" "))
        closing = fence.closed_by(line)
        sure = fence.column < 2  # noqa: PLR2004 - no item's text begins before column 2
        if closing and indent < _TAB if sure else closing and indent == fence.column:
            self.fence, self.quoted, self.span = None, False, not sure
        elif sure or (indent >= fence.column and not closing):
            pass
        elif indent < 2 and not closing and (fence.listed or fence.column >= _TAB):  # noqa: PLR2004 - as above
            # If it never was one, its backticks are a paragraph's.
            self.fence, self.span = None, self.span or not fence.listed
            return False
        else:
            self.lost = True
        return True

    def _in_html(self, line: str) -> None:
        if self.perhaps_html and _FENCE.match(line):
            self.lost = True
        self._read_tags(line, block=True)

    # ── what begins here ────────────────────────────────────────────────────────────────────────

    def _begins_block(self, line: str) -> bool:
        fence = _FENCE.match(line)
        if fence is not None:
            self._open_fence(fence)
            return True
        quote = _QUOTE.match(line)
        if quote is not None:
            self._quote(line[quote.end() :])
            return True
        if _ANGLE.match(line):
            self._open_html(line)
            return True
        return False

    def _open_fence(self, found: re.Match[str]) -> None:
        lead = found["lead"]
        # Only a list that counts from 1 may interrupt a paragraph; five spaces make it code.
        unsure = re.search(r"[0-9]", lead.replace("1.", "").replace("1)", ""))
        if (unsure or re.search(r"\S {5}", lead)) is not None:
            self.lost = True
        # Four spaces before the marker, and it may be a paragraph's text.
        listed = bool(lead.strip()) and not lead.startswith(" " * _TAB)
        self.fence = _Fence(found["fence"], len(lead), listed=listed)

    def _quote(self, text: str) -> None:
        self.quoted = True
        self.quoted_html = bool(text.strip()) and (self.quoted_html or bool(_ANGLE.match(text)))
        self._read_tags(text, block=self.quoted_html)

    def _open_html(self, line: str) -> None:
        raw = _RAW.match(line)
        if re.match(r" ?<!--", line) and "-->" not in line:
            self.comment = True
        elif raw is not None and not _RAW_END.search(line):
            self.raw = raw[1].lower()
            self._read_tags(line, block=True)
        else:
            self.html = _BLOCK.match(line) is not None
            self.perhaps_html = not self.html
            if re.fullmatch(r" ?(?:<!--[^<>]*--> *)+", line):
                self.perhaps_html = False  # one that ends on its line is a block of its own
            self._read_tags(line, block=True)

    def _paragraph(self, line: str) -> bool:
        hidden = self.quoted or self.span or self.hiding.total() > 0
        self._read_tags(line)
        return not hidden and not self.lost and _MARKED.match(line) is not None

    # ── what a line leaves open ─────────────────────────────────────────────────────────────────

    def _read_tags(self, line: str, *, block: bool = False) -> None:
        """Note what stays open after this line; in a block of HTML there are no code spans."""
        if len(line) > _LONGEST_READ:
            self.span = self.span or any(sign in line for sign in "`<[~")
            self.lost = self.lost or "<" in line
            return
        text = line if block else _without_code(line)
        shown = _without_comments(text, block=block)
        if shown is None or _DECLARATION.search(text):
            self.lost = True
            return
        self._count_elements(shown, block=block)
        tag_open = _TAG_START.search(_WHOLE_TAG.sub("", shown)) is not None
        self.lost = self.lost or (tag_open and block)
        self.span = self.span or tag_open or _leaves_span_open(shown)

    def _count_elements(self, text: str, *, block: bool) -> None:
        indented = text.startswith(" " * _TAB) and not block
        plain = _PLAIN_TAGS.fullmatch(text) is not None and "](" not in text and "]:" not in text
        here: Counter[str] = Counter()
        for tag in _HIDING.finditer(text):
            name = tag["name"].lower()
            if not tag["end"]:
                self.lost = self.lost or (name in _SWALLOWING and name != self.raw)
                self.hiding[name] += 1
                here[name] += 1
            elif plain and not self.span and self.hiding[name] and (here[name] or not indented):
                self.hiding[name] -= 1
                here[name] -= 1


def _without_code(line: str) -> str:
    """Remove the code spans of a line; where a span may be none, they stay."""
    before = line.partition("`")[0]
    if "<" in before or "\\" in line:
        return line
    kept, end, runs = [], 0, list(_TICKS.finditer(line))
    while runs:
        opening = runs.pop(0)
        closing = next((n for n, run in enumerate(runs) if len(run[0]) == len(opening[0])), None)
        if closing is None:
            continue
        kept.append(line[end : opening.start()])
        end = runs[closing].end()
        del runs[: closing + 1]
    return "".join([*kept, line[end:]])


def _without_comments(line: str, *, block: bool) -> str | None:
    """Remove the HTML comments of a line; None where one may not end on it."""
    kept, end = [], 0
    while (begin := line.find("<!--", end)) >= 0:
        kept.append(line[end:begin])
        closing = line.find("-->", begin + 4)
        doubtful = _DOUBTFUL_COMMENT.search(line[begin + 4 : closing]) or "\\" in line[:begin]
        if closing < 0 or (doubtful and not block):
            return None
        end = closing + 3
    return "".join([*kept, line[end:]])


def _leaves_span_open(text: str) -> bool:
    """Say whether code, struck text, a link's label or its title may go on in the next line."""
    link_open = "](" in text and ")" not in text.rpartition("](")[2]
    struck_open = "~~" in text and "~~" in _STRUCK.sub("", text)
    label_open = text.count("[") > text.count("]")
    return "`" in text or "]:" in text or link_open or label_open or struck_open
