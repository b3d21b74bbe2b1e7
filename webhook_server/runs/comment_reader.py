"""A comment's text → the asks in it, and an ask → its text. Pure, never raises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import assert_never

from cynthus.repository_policy import Verb
from webhook_server.runs.ask_axes import written_axis
from webhook_server.runs.ask_grammar import MARK, read_ask
from webhook_server.runs.ask_words import quoted
from webhook_server.runs.asks import (
    Ask,
    AskApprove,
    AskCancel,
    AskCompare,
    AskDestroy,
    AskExtend,
    AskHelp,
    AskLogs,
    AskPlan,
    AskReproduce,
    AskRetry,
    AskRun,
    AskStatus,
    AskSweep,
    AskWhy,
    Line,
    Misread,
)
from webhook_server.runs.comment_lines import ask_lines

MOST_ASKS = 10  # of one comment: more is a mistake or an attack, and each costs requests
LONGEST_KEPT = 300  # of what was written: enough to recognise it in a reply
#: What starts runs; a comment may ask for one of these.
STARTING = frozenset({Verb.RUN, Verb.RETRY, Verb.SWEEP, Verb.REPRODUCE})
_TOO_MANY = f"Only the first {MOST_ASKS} lines of a comment count. Write another comment."
_SECOND_START = (
    "One line of a comment may start runs, and one above this does. "
    "Write a comment of its own for this one."
)


def asks_of(body: str) -> tuple[Line, ...]:
    """Return the lines of a comment that are meant for us, in their order.

    Ten count; if there are more, an eleventh says so in their place. Never raises. 65,536
    characters of anything, which is GitHub's limit, take less than 50 ms.
    """
    found: list[Line] = []
    started = False
    for number, text in zip(range(MOST_ASKS + 1), ask_lines(body), strict=False):
        ask = read_ask(text) if number < MOST_ASKS else Misread(text=_TOO_MANY)
        if not isinstance(ask, Misread) and ask.verb in STARTING:
            ask = Misread(verb=ask.verb, text=_SECOND_START) if started else ask
            started = True
        found.append(Line(number=number, written=_kept(text), ask=ask))
    return tuple(found)


def _kept(text: str) -> str:
    """Return the line as it stood there, without what cannot be seen, nor kept in a database."""
    kept = text.replace("\t", " ").strip()[:LONGEST_KEPT]
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in kept)


def written(ask: Ask) -> str:
    """Return the canonical text of an ask: reading it gives the same ask again."""
    return " ".join([MARK, ask.verb.value, *_words(ask)])


def _words(ask: Ask) -> Sequence[str]:
    match ask:
        case AskRun():
            return [*ask.names, *_maybe(ask.sha), *_pairs(ask.overrides)]
        case AskPlan():
            return [*ask.names, *_pairs(ask.overrides)]
        case AskSweep():
            return [*_maybe(ask.name), *(written_axis(key, values) for key, values in ask.axes)]
        case AskApprove():
            return [ask.sha]
        case AskCompare():
            return [ask.left, *_maybe(ask.right)]
        case AskDestroy() | AskHelp():
            return []
        case _:
            return _words_about_one(ask)


def _words_about_one(
    ask: AskStatus | AskLogs | AskWhy | AskCancel | AskRetry | AskExtend | AskReproduce,
) -> Sequence[str]:
    match ask:
        case AskLogs():
            return [*_maybe(ask.target), *_log_options(ask)]
        case AskRetry():
            return [*_maybe(ask.target), *(["--on-demand"] if ask.on_demand else [])]
        case AskExtend():
            return [_duration(ask.more), *_maybe(ask.target)]
        case AskStatus() | AskWhy() | AskCancel() | AskReproduce():
            return _maybe(ask.target)
        case _:
            assert_never(ask)


def _maybe(text: str | None) -> Sequence[str]:
    return [] if text is None else [text]


def _pairs(overrides: Iterable[tuple[str, str]]) -> Sequence[str]:
    # An empty value needs no quotes behind its sign.
    return [f"{key}={quoted(value) if value else ''}" for key, value in overrides]


def _log_options(ask: AskLogs) -> Sequence[str]:
    last = [] if ask.last == AskLogs.last else ["--last", str(ask.last)]
    return last if ask.grep is None else [*last, "--grep", quoted(ask.grep, special="-=")]


def _duration(length: timedelta) -> str:
    seconds = length // timedelta(seconds=1)
    minutes, hours, days = seconds // 60 % 60, seconds // 3600 % 24, seconds // 86400
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (seconds % 60, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)
