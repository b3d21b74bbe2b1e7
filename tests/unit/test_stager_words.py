"""What a hub's client says becomes one line, which tells no address' signature and always ends."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from runner_images.agent.stager.words import said
from runner_images.agent.stager_process import Stager
from runner_images.agent.workload import CannotStart


@pytest.mark.case("A1")
def test_a_signed_address_is_told_without_its_signature() -> None:
    text = "502 Bad Gateway for url: https://cdn.test/a/b?X-Goog-Signature=abc&x=1 again\nmore"
    assert said(OSError(text)) == "OSError: 502 Bad Gateway for url: https://cdn.test/a/b again"


def test_an_exception_without_words_is_told_by_its_kind() -> None:
    """As httpx raises its time-outs."""
    assert said(TimeoutError()) == "TimeoutError"
    assert said(TimeoutError("\n")) == "TimeoutError"


def test_a_silent_client_is_ended_at_once(tmp_path: Path) -> None:
    """Nobody waits for what it might still say."""
    (tmp_path / "python").write_text("#!/bin/sh\nexec sleep 20\n")
    (tmp_path / "python").chmod(0o755)
    stop = threading.Event()
    stop.set()
    stager = Stager(
        python=str(tmp_path / "python"),
        scratch=tmp_path / "scratch",
        stopping=stop.is_set,
        look=lambda: time.sleep(0.1),  # by now its output is being read
    )
    begun = time.monotonic()
    with pytest.raises(CannotStart, match="stopped"):
        stager.run({}, lambda _: [])
    assert time.monotonic() - begun < 10
