"""Carry out one command; what was seen doing it is stored and wakes the run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from webhook_server.auth.tokens import enrol_secret
from webhook_server.providers.provider import (
    InstanceNotFound,
    Misconfigured,
    NoCapacity,
    NothingFits,
    Provider,
    ProviderRefusal,
    QuotaExceeded,
)
from webhook_server.runs.commands import (
    AskProvider,
    CloseAttempt,
    Command,
    CreateInstance,
    DeleteInstance,
    Meet,
    Prolong,
    StopWork,
)
from webhook_server.runs.lending import CoolDown, Denial, Fate, Gone, Offer, Order, Refusal, Scope
from webhook_server.runs.observations import CreateOutcome, CreateSeen, ProviderSeen
from webhook_server.runs.places import cooled_place
from webhook_server.runs.policy import CLOUD, Policy
from webhook_server.stores.cool_down_store import CoolDownStore
from webhook_server.stores.instance_store import InstanceStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Hands:
    """All that can be acted with."""

    instances: InstanceStore
    cool_downs: CoolDownStore
    providers: Mapping[str, Provider]
    policies: Mapping[str, Policy]  # by provider; absent: a cloud's
    server_key: bytes
    now: Callable[[], datetime]


def perform(hands: Hands, command: Command) -> CreateSeen | ProviderSeen | None:
    """Carry out the command; return what was seen, after storing it.

    Safe to repeat. A provider's refusal is something seen and never raised.
    """
    match command:
        case CreateInstance():
            return _create(hands, command.order)
        case DeleteInstance():
            return _delete(hands, command)
        case AskProvider():
            return _ask(hands, command)
        case StopWork():
            hands.instances.request_stop(command.name, command.reason)
            return None
        case Meet():
            hands.instances.meet(command.name, command.rendezvous)
            return None
        case Prolong():
            hands.instances.prolong(command.name, command.deadline_at)
            return None
        case CloseAttempt():
            hands.instances.close(command.name, hands.now())
            return None
        case _:
            assert_never(command)


def name_of(command: Command) -> str:
    """Return the name of the instance that a command is about."""
    return command.order.name if isinstance(command, CreateInstance) else command.name


def _create(hands: Hands, order: Order) -> CreateSeen | None:
    # The decision may be old: a paused thread must not create for an attempt that was given up.
    if hands.instances.observe(order.name).closed_at is not None:
        return None
    seen = _created(hands, order)
    if seen.refusal is not None:  # before the run is woken: its next pick must know
        _cool(hands, order.offer, seen.refusal)
    hands.instances.record_create(order.name, seen)
    log.info(
        "instance ordered run=%s attempt=%d name=%s answer=%s usd_per_hour=%s detail=%s",
        order.run_id,
        order.attempt,
        order.name,
        seen.outcome,
        order.offer.usd_per_hour,
        seen.detail,
    )
    return seen


def _created(hands: Hands, order: Order) -> CreateSeen:
    provider = hands.providers.get(order.offer.provider)
    if provider is None:
        detail = _unknown(order.offer.provider)
        return CreateSeen(outcome=CreateOutcome.UNKNOWN, at=hands.now(), detail=detail)
    try:
        instance = provider.create(order, enrol_secret(hands.server_key, order.name))
    except ProviderRefusal as error:
        refusal = _refusal(error)  # none: no answer, so it may or may not exist
        outcome = CreateOutcome.UNKNOWN if refusal is None else CreateOutcome.REFUSED
        return CreateSeen(outcome=outcome, at=hands.now(), detail=str(error), refusal=refusal)
    return CreateSeen(outcome=CreateOutcome.CREATED, at=hands.now(), detail=instance.detail)


def _refusal(error: ProviderRefusal) -> Refusal | None:
    """Return what an order's refusal means, or None when nothing is known."""
    match error:
        case NoCapacity():
            return Refusal(
                denial=Denial.NO_CAPACITY,
                text=str(error),
                scope=error.scope,
                elsewhere=error.elsewhere,
            )
        case QuotaExceeded():
            return Refusal(denial=Denial.QUOTA, text=str(error), scope=error.scope)
        case Misconfigured() | NothingFits():
            return Refusal(denial=Denial.MISCONFIGURED, text=str(error), scope=Scope.EVERYWHERE)
        case _:
            return None


def _cool(hands: Hands, offer: Offer, refusal: Refusal) -> None:
    """Leave the place alone for a while, all runs and replicas alike."""
    if refusal.denial is Denial.MISCONFIGURED:
        return  # it would be refused anywhere, and at any time
    policy, now = hands.policies.get(offer.provider, CLOUD), hands.now()
    entry = CoolDown(
        provider=offer.provider,
        place=cooled_place(offer, refusal),
        machine=offer.machine,
        spot=offer.spot,
        until=now + policy.cool_down,
        denial=refusal.denial,
        text=refusal.text,
    )
    hands.cool_downs.record(entry, now, policy.longest_cool_down)


def _delete(hands: Hands, command: DeleteInstance) -> ProviderSeen | None:
    provider = hands.providers.get(command.provider)
    if provider is None:
        return _saw(hands, command.name, Gone.UNKNOWN, _unknown(command.provider))
    asked_at = hands.now()
    try:
        provider.delete(command.machine or command.name)
    except InstanceNotFound as error:
        return _absent(hands, command.name, asked_at, error)
    except ProviderRefusal as refusal:
        log.warning("deletion refused name=%s detail=%s", command.name, refusal)
        return _saw(hands, command.name, Gone.UNKNOWN, str(refusal))
    seen = ProviderSeen(gone=Gone.PRESENT, asked_at=asked_at, alive=False, fate=Fate.ENDING)
    hands.instances.record_provider(command.name, seen)  # what can be deleted was there
    return seen


def _ask(hands: Hands, command: AskProvider) -> ProviderSeen:
    provider = hands.providers.get(command.provider)
    if provider is None:
        return _saw(hands, command.name, Gone.UNKNOWN, _unknown(command.provider))
    # The time of the question, not of the answer: "not found" is true of no later moment.
    asked_at = hands.now()
    try:
        instance = provider.get(command.machine or command.name)
    except InstanceNotFound as error:
        return _absent(hands, command.name, asked_at, error)
    except ProviderRefusal as error:
        refusal = _refusal(error)
        if refusal is not None and command.offer is not None:
            _cool(hands, command.offer, refusal)
        return _saw(hands, command.name, Gone.UNKNOWN, str(error), refusal=refusal)
    seen = ProviderSeen(
        gone=Gone.PRESENT,
        asked_at=asked_at,
        detail=instance.detail,
        alive=instance.alive,
        fate=instance.fate,
    )
    hands.instances.record_provider(command.name, seen)
    return seen


def _absent(hands: Hands, name: str, asked_at: datetime, error: InstanceNotFound) -> ProviderSeen:
    detail = str(error) if error.fate is not None else ""  # otherwise it says "not found" again
    seen = ProviderSeen(
        gone=Gone.ABSENT,
        asked_at=asked_at,
        detail=detail,
        fate=error.fate,
        heard_at=hands.now(),
    )
    hands.instances.record_provider(name, seen)
    return seen


def _saw(
    hands: Hands, name: str, gone: Gone, detail: str = "", *, refusal: Refusal | None = None
) -> ProviderSeen:
    seen = ProviderSeen(gone=gone, asked_at=hands.now(), detail=detail, refusal=refusal)
    hands.instances.record_provider(name, seen)
    return seen


def _unknown(provider: str) -> str:
    return f"this server has no provider {provider!r}"
