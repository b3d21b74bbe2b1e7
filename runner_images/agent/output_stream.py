"""Turn the bytes that a command writes into masked log text with the events it asked for."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import Any

from cynthus.wire import EventKind
from runner_images.agent.commands import Listener
from runner_images.agent.masking import Masks
from runner_images.agent.outbox import Outbox

LINE_LIMIT = 16 * 1024  # characters; GitHub's own log shows no longer lines either
SPLIT_MARK = " [line continues]\n"
# What a terminal would act on beyond colours: cursor moves, titles, clipboard (OSC 52), bells.
# Colours (CSI … m) stay: the log's reader shows or drops them.
_UNSAFE = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC … BEL or ST
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?"  # DCS, SOS, PM, APC
    r"|\x1b\[[0-?]*[ -/]*[@-ln-~]"  # every CSI but `m`
    r"|\x1b(?![\[\]PX^_])."  # two-character escapes
    r"|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f\x80-\x9f]"  # C0 but tab and newline, C1
)
_SUSPECT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # one class: fast enough for every block


class OutputStream:
    """One command's output, standard output and standard error as they were written."""

    def __init__(
        self,
        outbox: Outbox,
        masks: Masks,
        heard: Callable[[EventKind, dict[str, Any]], None] | None = None,
    ) -> None:
        self._outbox = outbox
        self._heard = heard
        self._masks = masks
        self._listener = Listener(masks.add)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._open = ""  # the line that has no end yet
        self._long = False  # its beginning was already shown

    def feed(self, data: bytes) -> None:
        """Take the next bytes, split anywhere."""
        text = self._open + self._decoder.decode(data)
        end = text.rfind("\n") + 1
        self._open = text[end:]
        if end:
            self._whole_lines(text[:end])
        self._overwrite()
        if len(self._open) > LINE_LIMIT:
            self._show_part()

    def close(self) -> None:
        """Take the end of the output."""
        rest = self._open + self._decoder.decode(b"", final=True)
        self._open = ""
        if rest or self._long:
            self._whole_lines(rest + "\n")

    def _whole_lines(self, text: str) -> None:
        if self._long:
            rest, _, text = text.partition("\n")
            self._log(rest + "\n")
            self._long = False
        lines = text.split("\n")[:-1]
        # Nearly all output has no commands: then one pass over the block replaces one per line.
        if "::" not in text and "\r" not in text and max(map(len, lines), default=0) <= LINE_LIMIT:
            self._log(text)
            return
        for line in lines:
            self._line(line)

    def _line(self, line: str) -> None:
        last = line.rstrip("\r").rpartition("\r")[2]  # what a terminal would show in the end
        if len(last) > LINE_LIMIT:
            self._log_split(last)
            return
        heard = self._listener.hear(last) if "::" in last else None
        if heard is None:
            self._log(last + "\n")
            return
        if heard.shown is not None:
            self._log(heard.shown + "\n")
        if heard.kind is not None:
            self._event(heard.kind, heard.body)

    def _log(self, text: str) -> None:
        if self._outbox.log_is_full:  # counted only: a flood costs no masking
            self._outbox.leave_out(len(text))
            return
        self._outbox.log(_harmless(self._masks.hide(text)))

    def _log_split(self, line: str) -> None:
        hidden = _harmless(self._masks.hide(line))
        pieces = (hidden[i : i + LINE_LIMIT] for i in range(0, len(hidden), LINE_LIMIT))
        self._outbox.log(SPLIT_MARK.join(pieces) + "\n")

    def _event(self, kind: EventKind, body: dict[str, object]) -> None:
        if kind is not EventKind.MASK:  # the server needs that one as it is: it hides it too
            hide: Callable[[object], object] = lambda v: (  # noqa: E731 - one use, two lines
                _harmless(self._masks.hide(v)) if isinstance(v, str) else v
            )
            body = {key: hide(value) for key, value in body.items()}
        self._outbox.add(kind, body)
        if self._heard is not None:
            self._heard(kind, body)

    def _overwrite(self) -> None:
        """Forget what a progress bar has already overwritten: text before a carriage return."""
        kept, _, last = self._open.rpartition("\r")
        if last and kept and not self._long:
            self._open = last

    def _show_part(self) -> None:
        if self._outbox.log_is_full and self._long:
            self._outbox.leave_out(len(self._open))
            self._open = ""
            return
        shown, self._open = self._masks.hide_ready(self._open)
        if shown:
            self._outbox.log(_harmless(shown) + SPLIT_MARK)
            self._long = True


def _harmless(text: str) -> str:
    return _UNSAFE.sub("", text) if _SUSPECT.search(text) else text
