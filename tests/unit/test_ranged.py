"""One file comes over HTTP: whole, gone on with after a cut, and never more than was promised."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runner_images.agent.door import TurnedAway, Unanswered
from runner_images.agent.public_http import Opened
from runner_images.agent.ranged import Ways, bring


@dataclass
class Host:
    """A host that answers ranges of what it has, however often, and breaks off when told."""

    content: bytes
    cuts: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @contextmanager
    def opened(self, headers: Mapping[str, str]) -> Iterator[Opened]:
        self.asked.append(headers.get("range", ""))
        first = int(headers.get("range", "bytes=0-")[6:-1])
        if first >= len(self.content):
            yield Opened(status=416, headers={}, body=io.BytesIO())  # type: ignore[arg-type]
            return
        most = self.cuts.pop(0) if self.cuts else len(self.content)
        span = {"content-range": f"bytes {first}-/{len(self.content)}"} if first else {}
        body = io.BytesIO(self.content[first : first + most])
        yield Opened(status=206 if first else 200, headers=span | self.headers, body=body)  # type: ignore[arg-type]

    @property
    def ways(self) -> Ways:
        def pause(_: float) -> bool:
            return len(self.asked) > 40  # the test ends, whatever happens

        return Ways(open=self.opened, told=lambda _: None, sized=lambda _: None, pause=pause)


def test_a_cut_file_goes_on(tmp_path: Path) -> None:
    host = Host(b"0123456789", cuts=[4])
    assert bring(tmp_path / "a", host.ways, 10).size_bytes == 10
    assert host.asked == ["", "bytes=4-"]
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_a_host_that_sends_more_than_was_promised_is_asked_once(tmp_path: Path) -> None:
    host = Host(b"0123456789")
    with pytest.raises(TurnedAway, match="more than the 4 bytes"):
        bring(tmp_path / "a", host.ways, 4)
    assert len(host.asked) == 1


def test_what_lies_there_and_is_too_long_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"of an earlier object")
    host = Host(b"0123")
    assert bring(tmp_path / "a", host.ways, 4).size_bytes == 4
    assert (tmp_path / "a").read_bytes() == b"0123"


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "1_0", "\u0661"])
def test_a_length_that_is_none_is_passed_by(tmp_path: Path, length: str) -> None:
    host = Host(b"0123", headers={"content-length": length})
    assert bring(tmp_path / "a", host.ways).size_bytes == 4


def test_who_says_nothing_is_asked_a_few_times(tmp_path: Path) -> None:
    host = Host(b"0123", cuts=[0] * 40)
    with pytest.raises(Unanswered):
        bring(tmp_path / "a", host.ways, 4)
    assert len(host.asked) == 6
