"""The five verbs that every place which lends instances answers to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cynthus.errors import CynthusError
from cynthus.spec import Resources
from webhook_server.runs.model import Offer, Order


class ProviderRefusal(CynthusError):  # noqa: N818 - refusals read as what they are
    """Any answer of a provider but the wanted one."""


class InstanceNotFound(ProviderRefusal):
    """No instance of this name exists: a complete answer, never a guess."""


class NoCapacity(ProviderRefusal):
    """The place has none to lend at present."""


class NothingFits(ProviderRefusal):
    """The place never has what is needed; the text names it, and what there is."""


class QuotaExceeded(ProviderRefusal):
    """The account may not have more; the text names the quota."""


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


class Provider(Protocol):
    """A place that lends instances. Verbs are safe to repeat; they never log, retry or sleep."""

    name: str

    def offers(self, need: Resources) -> list[Offer]:
        """Return what could be lent now, best first.

        Raises: NothingFits when waiting would not help, NoCapacity when it would.
        """

    def create(self, order: Order, enrol_secret: str) -> Instance:
        """Lend an instance that enrols under `order.name`; same name twice: the same instance."""

    def get(self, name: str) -> Instance:
        """Return the instance; raises InstanceNotFound."""

    def list(self) -> list[Instance]:
        """Return every instance with this control plane's mark, or raise: never a part of them."""

    def delete(self, name: str) -> None:
        """Begin to give it back; raises InstanceNotFound once it is gone."""
