"""A provider whose instances are entries of a dict; it refuses, loses answers and delays on order.

For tests of what stands above providers. Faults are queues: each call takes the next one.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

from cynthus.spec import Resources
from tests.builders import an_offer
from webhook_server.providers.provider import (
    Instance,
    InstanceNotFound,
    ProviderUnavailable,
)
from webhook_server.runs.lending import Offer, Order


class AnswerLost:
    """The call takes effect, but its answer does not arrive."""


class EffectLate:
    """The answer is lost and the instance appears later, when the test says so."""


class FakeProvider:
    def __init__(self, now: Callable[[], datetime], name: str = "fake") -> None:
        self.name = name
        self.instances: dict[str, Instance] = {}
        self.created: list[tuple[datetime, str]] = []
        self.lifetimes: dict[str, list[datetime | None]] = {}
        self.late: list[str] = []
        self.lent: list[Offer] = [an_offer(provider=name)]
        self.faults: dict[str, deque[Any]] = defaultdict(deque)
        self.poison: set[str] = set()  # run ids whose handling raises what nobody expects
        self._now = now

    def fail(self, verb: str, *faults: Any) -> None:
        self.faults[verb].extend(faults)

    def _fault(self, verb: str) -> Any:
        fault = self.faults[verb].popleft() if self.faults[verb] else None
        if isinstance(fault, Exception):
            raise fault
        return fault

    def offers(self, need: Resources) -> list[Offer]:  # noqa: ARG002 - it lends one kind
        self._fault("offers")
        return list(self.lent)

    def create(self, order: Order, enrol_secret: str) -> Instance:
        if order.run_id in self.poison:
            raise RuntimeError("nobody expects this")
        assert enrol_secret.startswith("cye_")
        fault = self._fault("create")
        if isinstance(fault, EffectLate):
            self.late.append(order.name)
            raise ProviderUnavailable("no answer")
        self.appear(order.name)
        if isinstance(fault, AnswerLost):
            raise ProviderUnavailable("no answer")
        return self.instances[order.name]

    def appear(self, name: str) -> None:
        if name not in self.instances:
            self.instances[name] = Instance(name=name, place="here", alive=True)
            self.created.append((self._now(), name))

    def get(self, name: str) -> Instance:
        self._fault("get")
        if name not in self.instances:
            raise InstanceNotFound(name)
        return self.instances[name]

    def list(self) -> list[Instance]:
        self._fault("list")
        return list(self.instances.values())

    def delete(self, name: str) -> None:
        self._fault("delete")
        if name not in self.instances:
            raise InstanceNotFound(name)
        del self.instances[name]
