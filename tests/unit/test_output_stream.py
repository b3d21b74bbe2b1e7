"""Output becomes bounded, masked, harmless log text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cynthus.wire import LOG_CHUNK_BYTES
from runner_images.agent.masking import HIDDEN, Masks
from runner_images.agent.outbox import MEMORY_LIMIT_BYTES, Outbox
from runner_images.agent.output_stream import LINE_LIMIT, OutputStream

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def an_outbox(tmp_path: Path) -> Iterator[Callable[..., Outbox]]:
    made: list[Outbox] = []

    def make(log_limit_bytes: int = 1 << 30, folder: Path = tmp_path) -> Outbox:
        spool = folder / f"spool{len(made)}"
        made.append(Outbox(spool, log_limit_bytes=log_limit_bytes, now=lambda: NOON))
        return made[-1]

    yield make
    for outbox in made:
        outbox.close()


Maker = Callable[..., Outbox]


def taken(outbox: Outbox, kind: str = "log") -> list[dict[str, object]]:
    events = []
    while batch := outbox.take(LOG_CHUNK_BYTES):
        events += batch
    return [event["body"] for event in events if event["kind"] == kind]


def text_of(outbox: Outbox) -> str:
    return "".join(str(body["text"]) for body in taken(outbox))


def shown(outbox: Outbox, *blocks: bytes, secrets: tuple[str, ...] = ()) -> str:
    stream = OutputStream(outbox, Masks(secrets))
    for block in blocks:
        stream.feed(block)
    stream.close()
    return text_of(outbox)


CASES = {
    "lines": ((b"one\ntw", b"o\n"), "one\ntwo\n"),
    "no last newline": ((b"one\ntwo",), "one\ntwo\n"),
    "windows ends": ((b"one\r\ntwo\r", b"\n"), "one\ntwo\n"),
    "progress bar": ((b" 1%\r 2%\r", b" 3%\r100%\n"), "100%\n"),
    "split character": (("é".encode()[:1], "é".encode()[1:] + b"\n"), "é\n"),
    "no utf-8": ((b"a\xff\xfeb\n",), "a��b\n"),
    "nul and bell": ((b"a\0b\x07c\n",), "abc\n"),
    "title and clipboard": ((b"\x1b]0;title\x07\x1b]52;c;aGk=\x07text\n",), "text\n"),
    "cursor and screen": ((b"\x1b[2J\x1b[1;1Htext\x1bc\n",), "text\n"),
    "colours stay": ((b"\x1b[31mred\x1b[0m\n",), "\x1b[31mred\x1b[0m\n"),
    "c1 controls": (("\x9b2Jtext\n".encode(),), "2Jtext\n"),
    "empty": ((), ""),
    "only a newline": ((b"\n",), "\n"),
}


@pytest.mark.parametrize(("blocks", "text"), CASES.values(), ids=CASES.keys())
def test_bytes_become_text(an_outbox: Maker, blocks: tuple[bytes, ...], text: str) -> None:
    assert shown(an_outbox(), *blocks) == text


@pytest.mark.case("A8")
def test_a_secret_split_at_any_byte_is_hidden(an_outbox: Maker) -> None:
    data = b"token=s3cret-v\xc3\xa4lue!\nnext\n"
    for cut in range(len(data)):
        found = shown(an_outbox(), data[:cut], data[cut:], secrets=("s3cret-välue",))
        assert found == f"token={HIDDEN}!\nnext\n"


def test_a_secret_across_the_split_of_a_long_line_is_hidden(an_outbox: Maker) -> None:
    secret = "s3cret-value-that-is-long"
    for before in range(LINE_LIMIT - 40, LINE_LIMIT + 10):
        data = b"x" * before + secret.encode() + b"y" * 100 + b"\n"
        blocks = [data[i : i + 1000] for i in range(0, len(data), 1000)]
        found = shown(an_outbox(), *blocks, secrets=(secret,))
        joined = found.replace(" [line continues]\n", "")
        assert HIDDEN in joined
        assert "s3cret" not in joined
        assert joined.count("x") == before


@pytest.mark.case("A7")
def test_a_line_of_500_mb_is_split_and_never_kept_in_memory(an_outbox: Maker) -> None:
    outbox = an_outbox(log_limit_bytes=1 << 20)
    stream = OutputStream(outbox, Masks(["s3cret-value"]))
    block = b"x" * 65536
    for _ in range(500 * 16):
        stream.feed(block)
        assert len(stream._open) <= LINE_LIMIT + len(block)
    stream.close()
    outbox.finish_log()
    found = text_of(outbox)
    assert "log limit of 1048576 bytes reached" in found
    assert "more bytes of log were left out" in found
    assert len(found) < 2 << 20


@pytest.mark.case("R12")
def test_a_flood_of_lines_stays_in_bounded_memory_and_in_order(an_outbox: Maker) -> None:
    outbox = an_outbox()
    stream = OutputStream(outbox, Masks())
    lines = b"".join(b"%07d\n" % number for number in range(1_000_000))
    for start in range(0, len(lines), 65536):
        stream.feed(lines[start : start + 65536])
        assert outbox._memory_bytes <= MEMORY_LIMIT_BYTES
    stream.close()
    assert text_of(outbox).encode() == lines


def test_masks_added_by_the_output_hide_what_follows(an_outbox: Maker) -> None:
    found = shown(an_outbox(), b"::add-mask::swordfish\nit is swordfish\n")
    assert found == f"it is {HIDDEN}\n"


def test_events_are_masked_too(an_outbox: Maker) -> None:
    outbox = an_outbox()
    stream = OutputStream(outbox, Masks(["swordfish"]))
    stream.feed(b"::error file=swordfish.py::swordfish\n::phase::swordfish\n")
    events = outbox.take(LOG_CHUNK_BYTES)
    assert "swordfish" not in str(events)
    assert [e["kind"] for e in events] == ["log", "annotation", "log", "phase"]


def test_a_newer_progress_replaces_one_that_was_not_sent(an_outbox: Maker) -> None:
    outbox = an_outbox()
    stream = OutputStream(outbox, Masks())
    stream.feed(b"".join(b"::progress::0.%d\n" % number for number in range(1, 100)))
    assert taken(outbox, "progress") == [{"value": 0.99}]


def test_no_heartbeat_carries_more_than_its_share(an_outbox: Maker) -> None:
    outbox = an_outbox()
    outbox.log("é" * 1_000_000)
    while batch := outbox.take(LOG_CHUNK_BYTES):
        assert sum(len(str(e["body"]["text"]).encode()) for e in batch) <= LOG_CHUNK_BYTES


def test_a_full_disk_costs_log_and_never_the_run(an_outbox: Maker, tmp_path: Path) -> None:
    outbox = an_outbox(folder=tmp_path / "absent")
    for _ in range(100):
        outbox.log("x" * 32768)
    events = outbox.take(1 << 30) + outbox.take(1 << 30)
    assert any("were left out while the server was away" in str(e["body"]) for e in events)
