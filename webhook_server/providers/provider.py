"""The five verbs that every place which lends instances answers to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Protocol, runtime_checkable

from cynthus.errors import CynthusError
from cynthus.spec import Resources
from webhook_server.runs.lending import Fate as Fate  # noqa: PLC0414 - words of this contract
from webhook_server.runs.lending import Offer, Order
from webhook_server.runs.lending import Scope as Scope  # noqa: PLC0414


class ProviderRefusal(CynthusError):  # noqa: N818 - refusals read as what they are
    """Any answer of a provider but the wanted one."""


class InstanceNotFound(ProviderRefusal):
    """No instance of this name exists: a complete answer, never a guess."""

    def __init__(self, text: str, *, fate: Fate | None = None) -> None:
        super().__init__(text)
        self.fate = fate  # why it is gone, where the provider keeps a record


class NoCapacity(ProviderRefusal):
    """The place has none to lend at present."""

    def __init__(
        self, text: str, *, scope: Scope = Scope.ZONE, elsewhere: tuple[str, ...] = ()
    ) -> None:
        super().__init__(text)
        self.scope = scope
        self.elsewhere = elsewhere  # zones that, says the provider, have it


class NothingFits(ProviderRefusal):
    """The place never has what is needed; the text names it, and what there is."""


class QuotaExceeded(ProviderRefusal):
    """The account may not have more; the text names the quota."""

    def __init__(self, text: str, *, scope: Scope = Scope.EVERYWHERE) -> None:
        super().__init__(text)
        self.scope = scope


class ProviderUnavailable(ProviderRefusal):
    """The provider did not answer, or not completely: nothing is known."""


class Misconfigured(ProviderRefusal):
    """Our own settings or rights are wrong; the text says which."""


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One lent instance as its provider tells it."""

    name: str
    place: str
    alive: bool  # False: it exists but executes nothing (stopped, its agent died)
    detail: str = ""  # in the provider's words
    fate: Fate = Fate.RUNNING
    kind: str = "instance"  # or "disk", "address": what an instance may leave behind, and costs
    usd_per_hour: Decimal | None = None  # None: the provider does not know
    vendor_id: str = ""  # the vendor's own number, which an identity token names


class Provider(Protocol):
    """A place that lends instances. Verbs are safe to repeat; they never log, retry or sleep."""

    name: str

    def offers(self, need: Resources) -> list[Offer]:
        """Return what could be lent now, best first.

        Raises: NothingFits when waiting would not help, NoCapacity when it would.
        """

    def create(self, order: Order, enrol_secret: str) -> Instance:
        """Lend an instance that enrols under `order.name`; same name twice: the same instance.

        Returns as soon as the provider has taken the order: whether it could be met is then told
        by `get`, so that nobody waits in a call.
        """

    def get(self, name: str) -> Instance:
        """Return the instance; raises InstanceNotFound.

        Raises also NoCapacity, QuotaExceeded or Misconfigured when the order of this name was
        taken and could not be met: then nothing executes, and `delete` clears what is left.
        """

    def list(self) -> list[Instance]:
        """Return every instance with this control plane's mark, and what such left behind.

        Raises when the answer is not complete: never a part of them.
        """

    def delete(self, name: str) -> None:
        """Begin to give back the instance and all that came with it.

        Raises: InstanceNotFound once nothing of it is left.
        """


@runtime_checkable
class PriceKeeper(Protocol):
    """A provider that also keeps a list of prices, which grows old."""

    def refresh_prices(self, today: date) -> int:
        """Fetch the prices anew and keep them; return how many there are. Safe to repeat.

        Raises: ProviderUnavailable, and then the old ones stay.
        """
