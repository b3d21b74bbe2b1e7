"""All data of a run is pinned in the time of a pass; a hub that is away stops nobody else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from cynthus.errors import Transient
from cynthus.spec import DataSource
from cynthus.wire_data import Dataset
from tests.builders import a_key, a_run, a_spec
from webhook_server.runs.model import Origin, Run, State
from webhook_server.runs.observations import DataSeen
from webhook_server.runs.pinning import bind
from webhook_server.sources import pins as pins_module
from webhook_server.sources.hub_http import HubAway
from webhook_server.sources.pins import AWAY_S, PASS_S, OnBehalf, Pins
from webhook_server.sources.source import Asked, SourceGated, SourceNotFound
from webhook_server.stores.secret_protocol import SecretUnreadable, SecretValue


@dataclass
class FakeSource:
    """Pins everything to one revision; what it is told to raise it raises first."""

    takes_s: float = 0.0
    raises: list[Exception] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    now: float = 0.0
    during: Callable[[], object] = lambda: None

    def pin(self, asked: Asked) -> Dataset:
        self.asked.append(asked)
        self.now += self.takes_s
        self.during()
        if self.raises:
            raise self.raises.pop(0)
        return bind(asked.entry, "5" * 40)

    def clock(self) -> float:
        return self.now


@dataclass
class FakeSecrets:
    """Has what it was given, by repository and name."""

    values: dict[tuple[int, str], str] = field(default_factory=dict)
    raises: Exception | None = None

    def get(self, repository_id: int, name: str, version: str = "") -> SecretValue | None:
        if self.raises is not None:
            raise self.raises
        text = self.values.get((repository_id, name))
        return None if text is None else SecretValue(text=text, version=version)

    def set(self, repository_id: int, name: str, value: str) -> None:
        self.values[repository_id, name] = value

    def names(self, repository_id: int) -> list[str]:
        return sorted(name for owner, name in self.values if owner == repository_id)

    def remove(self, repository_id: int, name: str) -> bool:
        return self.values.pop((repository_id, name), None) is not None

    def close(self) -> None:
        """Do nothing: nothing is kept."""


def entry(number: int, source: str = "hf://datasets/a/b") -> DataSource:
    return DataSource(name=f"d{number}", source=source, mount=f"/data/d{number}")


def a_waiting(number: int = 1, **changes: Any) -> Run:
    entries = tuple(entry(n) for n in range(number))
    return a_run(State.QUEUED, **({"spec": a_spec(data=entries)} | changes))


def test_all_datasets_of_a_run_come_in_the_order_of_its_spec() -> None:
    source = FakeSource()
    seen = Pins({"hf": source}, FakeSecrets()).of_run(a_waiting(3))
    assert seen.datasets is not None
    assert [one.name for one in seen.datasets] == ["d0", "d1", "d2"]


def test_one_fault_does_not_hide_another() -> None:
    gated = SourceGated("data/d0", "datasets/a/b", "https://hub.test/a/b", "an account of yours")
    source = FakeSource(raises=[gated, SourceNotFound("data/d1: is not there.")])
    seen = Pins({"hf": source}, FakeSecrets()).of_run(a_waiting(3))
    assert seen.fault == f"{gated}\ndata/d1: is not there."


def test_the_repositorys_own_tokens_are_used_and_nobody_elses() -> None:
    source = FakeSource()
    secrets = FakeSecrets({(7, "HF_TOKEN"): "ours", (8, "HF_TOKEN"): "theirs", (7, "X"): "x"})
    pins = Pins({"hf": source}, secrets)
    pins.of_run(a_waiting())
    pins.of_run(a_waiting(id="arun00000002", key=a_key(repository_id=8)))
    pins.of_run(a_waiting(id="arun00000003", origin=Origin(fork=True)))
    told = [(dict(one.tokens), one.stranger) for one in source.asked]
    assert told == [({"HF_TOKEN": "ours"}, False), ({"HF_TOKEN": "theirs"}, False), ({}, True)]
    assert "ours" not in repr(source.asked[0])


def test_a_secret_that_cannot_be_read_is_waited_for() -> None:
    secrets = FakeSecrets(raises=SecretUnreadable("HF_TOKEN: the server's key has changed."))
    seen = Pins({"hf": FakeSource()}, secrets).of_run(a_waiting())
    assert seen == DataSeen(detail="HF_TOKEN: the server's key has changed.")


def test_what_takes_longer_than_a_pass_goes_on_with_the_next_one() -> None:
    source = FakeSource(takes_s=PASS_S / 2)
    pins = Pins({"hf": source}, FakeSecrets(), source.clock)
    first = pins.of_run(a_waiting(3))
    assert first == DataSeen(detail="2 of its datasets are pinned, the others follow")
    second = pins.of_run(a_waiting(3))
    assert second.datasets is not None
    assert len(source.asked) == 3, "what is pinned is not asked for again"


def test_a_plan_looks_anew_each_time() -> None:
    source = FakeSource()
    pins = Pins({"hf": source}, FakeSecrets())
    spec = a_spec(data=(entry(0),))
    for _ in range(2):
        assert pins.of_spec(spec, OnBehalf(repository_id=7)).datasets is not None
    assert len(source.asked) == 2


def test_a_hub_that_does_not_answer_is_left_alone_for_a_while_by_all_runs() -> None:
    hf, kaggle = FakeSource(raises=[HubAway("the hub does not answer.")]), FakeSource()
    pins = Pins({"hf": hf, "kaggle": kaggle}, FakeSecrets(), hf.clock)
    assert pins.of_run(a_waiting()).detail == "data/d0: the hub does not answer."
    for _ in range(5):
        assert pins.of_run(a_waiting(id="arun00000002")).detail == "the hub does not answer."
    assert len(hf.asked) == 1
    other = a_spec(data=(entry(0, "kaggle://datasets/a/b"),))
    assert pins.of_run(a_waiting(id="arun00000003", spec=other)).datasets is not None
    hf.now += AWAY_S
    assert pins.of_run(a_waiting()).datasets is not None


def test_what_one_repository_is_refused_for_now_keeps_nobody_else_waiting() -> None:
    source = FakeSource(raises=[Transient("429: too many requests of this token.")])
    pins = Pins({"hf": source}, FakeSecrets(), source.clock)
    assert pins.of_run(a_waiting()).detail == "data/d0: 429: too many requests of this token."
    assert pins.of_run(a_waiting(id="arun00000002")).datasets is not None


def test_most_passes_of_the_loop_are_left_for_runs_that_need_no_hub() -> None:
    source = FakeSource()
    pins = Pins({"hf": source}, FakeSecrets())
    seen: list[DataSeen] = []

    def deeper() -> None:
        number = len(source.asked)
        if number <= pins_module.MOST_AT_ONCE:
            seen.append(pins.of_run(a_waiting(id=f"arun0000001{number}")))

    source.during = deeper
    assert pins.of_run(a_waiting()).datasets is not None
    waits = [one for one in seen if one.detail]
    assert [one.detail for one in waits] == ["its data is looked up once other runs' is"]
    assert len(source.asked) == pins_module.MOST_AT_ONCE
    source.during = lambda: None
    assert pins.of_run(a_waiting(id="arun00000099")).datasets is not None, "its room is free again"


@pytest.mark.parametrize("spec", [None, a_spec()])
def test_a_run_without_data_asks_nobody(spec: Any) -> None:
    source = FakeSource()
    assert Pins({"hf": source}, FakeSecrets()).of_run(a_waiting(spec=spec)).datasets == ()
    assert source.asked == []
