"""Say what a run left on its server as files to fetch."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

from cynthus.client import Client
from cynthus.errors import Refused
from cynthus.packing import OWN_FOLDER
from cynthus.pulling import Item, Piece
from cynthus.wire import OutputView

_GOOD_FOR_S = 45 * 60.0  # the server signs for an hour; a transfer that has begun may take longer


class RunOutputs:
    """The outputs of a run, by addresses that are asked for again before they are over."""

    def __init__(self, client: Client, run_id: str) -> None:
        self._client, self._run_id = client, run_id
        self._lock = threading.Lock()
        self._urls: dict[str, str | None] = {}
        self._asked_at_s = 0.0

    def items(self) -> list[Item]:
        """Return what to fetch."""
        return [self._item(output) for output in self._ask()]

    def _ask(self) -> tuple[OutputView, ...]:
        outputs = self._client.outputs(self._run_id)
        self._urls = {output.path: output.url for output in outputs}
        self._asked_at_s = time.monotonic()
        return outputs

    def _item(self, output: OutputView) -> Item:
        piece = Piece(size_bytes=output.size_bytes, open=partial(self._open, output.path))
        own = output.path.rpartition(f"{OWN_FOLDER}/")[0] if output.packed else ""
        return Item(
            path=output.path,
            size_bytes=output.size_bytes,
            sha256=output.sha256,
            pieces=(piece,),
            archive=output.packed > 0,
            prefix=own,
            plain_size_bytes=output.plain_size_bytes,
            plain_sha256=output.plain_sha256,
        )

    def _open(self, path: str, at: int) -> tuple[Any, int]:
        with self._lock:
            if time.monotonic() - self._asked_at_s > _GOOD_FOR_S:
                self._ask()
            url = self._urls.get(path)
        if url is None:
            raise Refused(f"{path}: should have an address. Ask for the outputs anew.")
        return self._client.fetch(url, at)
