"""Count and time a provider's verbs from outside: providers themselves count nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cynthus.spec import Resources
from webhook_server import metrics
from webhook_server.providers.provider import (
    Instance,
    InstanceNotFound,
    Misconfigured,
    NoCapacity,
    NothingFits,
    Provider,
    ProviderRefusal,
    QuotaExceeded,
)
from webhook_server.runs.lending import Offer, Order
from webhook_server.traces import span

T = TypeVar("T")

_RESULTS = {
    InstanceNotFound: "not_found",
    NoCapacity: "no_capacity",
    NothingFits: "nothing_fits",
    QuotaExceeded: "quota",
    Misconfigured: "misconfigured",
}


class Metered:
    """A provider whose calls are counted; everything it says or raises goes through unchanged."""

    def __init__(self, inner: Provider) -> None:
        self.inner = inner
        self.name = inner.name

    def offers(self, need: Resources) -> list[Offer]:
        """As the provider's."""
        return self._counted("offers", lambda: self.inner.offers(need))

    def create(self, order: Order, enrol_secret: str) -> Instance:
        """As the provider's."""
        return self._counted("create", lambda: self.inner.create(order, enrol_secret))

    def get(self, name: str) -> Instance:
        """As the provider's."""
        return self._counted("get", lambda: self.inner.get(name))

    def list(self) -> list[Instance]:
        """As the provider's."""
        return self._counted("list", self.inner.list)

    def delete(self, name: str) -> None:
        """As the provider's."""
        self._counted("delete", lambda: self.inner.delete(name))

    def _counted(self, verb: str, call: Callable[[], T]) -> T:
        result, told = "failed", {"provider": self.name, "verb": verb}
        try:
            with metrics.timed(metrics.PROVIDER_SECONDS, **told), span(f"provider {verb}", **told):
                answer = call()
            result = "done"
        except ProviderRefusal as refusal:
            result = _RESULTS.get(type(refusal), "unavailable")
            raise
        finally:
            metrics.METERS.add(metrics.PROVIDER_CALLS, 1, **told, result=result)
        return answer
