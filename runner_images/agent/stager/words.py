"""What the stager's parts say to each other."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


class Tell(Protocol):
    """Tell the agent one thing."""

    def __call__(self, event: str, **body: Any) -> None:
        """Send one line."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request, with the way to answer it."""

    request: dict[str, Any]
    tell: Tell
    skipped: Callable[[], list[str]]  # called once, after the tree was told


class Fault(Exception):  # noqa: N818 - reads as what happened
    """The hub, or the way to it, said no.

    reason: gated, unauthorized, absent, network, disk, client; `page`: where a person can help.
    """

    def __init__(self, reason: str, text: str, page: str | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.page = page


# Hubs redirect to addresses that are signed: whoever has the query has the bytes.
_QUERY = re.compile(r"(https?://[^\s?#'\"]*)[?#][^\s'\"]*")
_TEXT_LENGTH = 300


def said(error: BaseException) -> str:
    """Return an exception's kind and first line, without what an address in it is signed with."""
    first = next(iter(str(error).splitlines()), "")
    kind = type(error).__name__
    shown = _QUERY.sub(r"\1", first)[:_TEXT_LENGTH]
    return f"{kind}: {shown}" if shown else kind
