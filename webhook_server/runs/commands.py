"""What a pass decides: the next run, and the commands that may be carried out: data only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from cynthus.wire import Rendezvous
from webhook_server.runs.budget import BudgetSeen
from webhook_server.runs.lending import Offer, Order
from webhook_server.runs.model import Run


@dataclass(frozen=True, kw_only=True)
class CreateInstance:
    """Order the instance; safe to repeat by its name."""

    order: Order


@dataclass(frozen=True, kw_only=True)
class DeleteInstance:
    """Give the instance back; repeated until the provider says "not found"."""

    provider: str
    name: str
    machine: str = ""  # its provider's name, where that is another


@dataclass(frozen=True, kw_only=True)
class AskProvider:
    """Ask whether the instance exists; the answer is the next pass's `ProviderSeen`."""

    provider: str
    name: str
    machine: str = ""  # its provider's name, where that is another
    offer: Offer | None = None  # while it boots: the place that cools down if it cannot be met


@dataclass(frozen=True, kw_only=True)
class StopWork:
    """Tell the agent, with its next heartbeat's answer, to stop the command."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class CloseAttempt:
    """Refuse (410) whatever this instance's agent still sends."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Meet:
    """Tell the agent, with its next heartbeat's answer, where its gang meets."""

    name: str
    rendezvous: Rendezvous


@dataclass(frozen=True, kw_only=True)
class Prolong:
    """Tell the agent, with its next heartbeat's answer, that it has more time."""

    name: str
    deadline_at: datetime


Command = CreateInstance | DeleteInstance | AskProvider | StopWork | CloseAttempt | Meet | Prolong


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to save, then what to do, then when to look again (None: when something happens)."""

    run: Run
    commands: tuple[Command, ...] = ()
    look_again_at: datetime | None = None
    commitment_usd: Decimal | None = None  # what the run may come to cost; None: as it was
    budgets: tuple[BudgetSeen, ...] = ()  # saved only while each of them allows that
    #: Saved only while fewer other runs of the repository than this have instances; None: any.
    live_limit: int | None = None
