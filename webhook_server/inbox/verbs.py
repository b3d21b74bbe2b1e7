"""Carry out one ask by its verb, for somebody whose right to it was checked."""

from __future__ import annotations

from typing import assert_never

from webhook_server.inbox.asked import Asked, Done
from webhook_server.inbox.changes import Changes
from webhook_server.inbox.parts import InboxParts
from webhook_server.inbox.starts import Starts
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
)


class Verbs:
    """All that can be asked for."""

    def __init__(self, parts: InboxParts) -> None:
        self._parts = parts
        self.starts = Starts(parts)
        self.changes = Changes(parts, self.starts)

    def carry_out(self, asked: Asked, ask: Ask) -> Done:
        """Do what is asked; safe to repeat by `asked.key`.

        Raises: Declined; Transient.
        """
        match ask:
            case AskRun() | AskSweep() | AskRetry() | AskReproduce():
                return self._start(asked, ask)
            case AskCancel() | AskExtend() | AskApprove() | AskDestroy():
                return self._change(asked, ask)
            case AskPlan() | AskStatus() | AskLogs() | AskWhy() | AskCompare() | AskHelp():
                return Done(text=self._parts.answer(self._parts, asked, ask))
            case _:
                assert_never(ask)

    def _start(self, asked: Asked, ask: AskRun | AskSweep | AskRetry | AskReproduce) -> Done:
        match ask:
            case AskRun():
                return self.starts.run(asked, ask)
            case AskSweep():
                return self.starts.sweep(asked, ask)
            case AskRetry():
                return self.starts.retry(asked, ask)
            case AskReproduce():
                return self.starts.reproduce(asked, ask)
            case _:
                assert_never(ask)

    def _change(self, asked: Asked, ask: AskCancel | AskExtend | AskApprove | AskDestroy) -> Done:
        match ask:
            case AskCancel():
                return self.changes.cancel(asked, ask)
            case AskExtend():
                return self.changes.extend(asked, ask)
            case AskApprove():
                return self.changes.approve(asked, ask)
            case AskDestroy():
                return self.changes.destroy(asked)
            case _:
                assert_never(ask)
