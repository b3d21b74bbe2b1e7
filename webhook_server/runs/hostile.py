"""Make text from outside harmless to show on GitHub: pure.

Code, branch names, logs and exit messages are written by strangers. What they write shall neither
notify people, nor hide or imitate our own words, nor be taken for an order by a machine.
"""

from __future__ import annotations

import re

_BREAK = "\u200b"  # a space of no width: unseen by people, in the way of machines
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")
# C0 and C1 but tab and line end; marks that turn the reading direction; lone surrogates.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
# Blanks but no ends of lines: else every empty line of a log would read all that follow it again.
_COMMAND = re.compile(r"^([^\S\n]*)(::|##\[)", re.MULTILINE)
_MENTION = re.compile(r"@(?=[A-Za-z0-9])")
# `&#64;ada` becomes `@ada` before GitHub looks for whom to notify.
_SPELT_AT = re.compile(r"&(?=#|commat;)")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|~&$-])")
_LINK = re.compile(r"(https?|ftp)(?=://)|\b(www)(?=\.)", re.IGNORECASE)
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
# What follows the backticks of an opening fence holds none, or all of it is a paragraph: GFM 4.5.
_OPENING = re.compile(r"(`{3,}(?=[^`]*\Z)|~{3,}).*")
_CLOSING = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*")
_FENCE_ANYWHERE = re.compile(r"`{3,}|~{3,}")
_ASK = re.compile(r"^(\s*)/(?=cynthus)", re.IGNORECASE)


def clean(text: str) -> str:
    """Remove colours, control characters and workflow commands; lines stay lines."""
    text = _ANSI.sub("", text).replace("\r\n", "\n")
    # A progress bar draws over its own line: what stood there last is what a person saw.
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    text = _CONTROL.sub("\ufffd", "\n".join(lines))
    return _COMMAND.sub(lambda found: f"{found[1]}{found[2][0]}{_BREAK}{found[2][1:]}", text)


def inline(text: str, limit: int = 1000) -> str:
    """Return text for one line of Markdown: it reads as written and does nothing."""
    text = " ".join(clean(text).split())
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    text = _LINK.sub(lambda found: found[0] + _BREAK, _MENTION.sub("@" + _BREAK, text))
    no_ask = _ASK.sub(lambda found: f"{found[1]}/{_BREAK}", text)  # it may begin a line
    return _MARKDOWN.sub(r"\\\1", no_ask)


def escaped(text: str, limit: int = 1000) -> str:
    """Return text for one line of our own HTML, where no Markdown is read."""
    text = " ".join(clean(text).split())
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    text = _LINK.sub(lambda found: found[0] + _BREAK, _MENTION.sub("@" + _BREAK, text))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def title(text: str, limit: int) -> str:
    """Return text for a title: one line, read as it is, that notifies nobody."""
    text = _MENTION.sub("@" + _BREAK, " ".join(clean(text).split()))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def code(text: str, limit: int = 300) -> str:
    """Return a code span that nothing inside can end."""
    text = " ".join(clean(text).split())[:limit]
    ticks = "`" * (_longest_run(text, "`") + 1)
    return f"{ticks} {text} {ticks}" if text else ""


def fenced(text: str) -> str:
    """Return a code block whose fence is longer than any inside."""
    text = clean(text).strip("\n")
    fence = "`" * max(3, _longest_run(text, "`") + 1)
    return f"{fence}text\n{text}\n{fence}"


def markdown(text: str) -> str:
    """Return a user's Markdown: formatted as written, without HTML, mentions and asks.

    A fence that was left open is closed, so that it swallows nothing of what follows. Only what
    begins a line opens one: an indented fence may be a list's, which ends with it or without.
    """
    out, fence = [], ""
    for line in clean(text).split("\n"):
        if fence:
            out.append(line)
            fence = "" if _closes(fence, line) else fence
            continue
        opening = _OPENING.fullmatch(line)
        fence = opening[1] if opening else ""
        plain = line if opening else _FENCE_ANYWHERE.sub(lambda run: _BREAK.join(run[0]), line)
        no_ask = _ASK.sub(lambda found: f"{found[1]}/{_BREAK}", plain)
        no_sign = _SPELT_AT.sub("&amp;", no_ask)
        out.append(_TAG.sub("&lt;", _MENTION.sub("@" + _BREAK, no_sign)))
    return "\n".join([*out, fence] if fence else out)


def _closes(fence: str, line: str) -> bool:
    found = _CLOSING.fullmatch(line)
    return found is not None and found[1].startswith(fence)


def cut_middle(text: str, limit_bytes: int, note: str = "") -> str:
    """Return text of at most `limit_bytes` in UTF-8, its middle left out, and say so."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit_bytes:
        return text
    # What is left out is counted as if all were: a few bytes more than true never hurt.
    said = f"\n\n… {len(data) - limit_bytes:,} bytes or more are left out here. {note}…\n\n"
    room = max(limit_bytes - len(said.encode()), 0)
    begins, ends = data[: room // 2], data[len(data) - (room - room // 2) :]
    return begins.decode("utf-8", "ignore") + said + ends.decode("utf-8", "ignore")


def cut_end(text: str, limit_bytes: int, note: str) -> str:
    """Return Markdown of ours of about `limit_bytes` in UTF-8; a code block that was cut ends."""
    if len(text.encode("utf-8", "replace")) <= limit_bytes:
        return text
    kept, fence, size = [], "", 0
    for line in text.split("\n"):
        size += len(line.encode("utf-8", "replace")) + 1
        if size > limit_bytes:
            break
        kept.append(line)
        if fence:
            fence = "" if _closes(fence, line) else fence
        elif opening := _OPENING.fullmatch(line):
            fence = opening[1]
    return "\n".join([*kept, *([fence] if fence else []), "", note])


def _longest_run(text: str, character: str) -> int:
    return max((len(run) for run in re.findall(f"{re.escape(character)}+", text)), default=0)
