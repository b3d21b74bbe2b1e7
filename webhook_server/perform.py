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
    Provider,
    ProviderRefusal,
    QuotaExceeded,
)
from webhook_server.runs.model import (
    AskProvider,
    CloseAttempt,
    Command,
    CreateInstance,
    CreateOutcome,
    CreateSeen,
    DeleteInstance,
    Gone,
    Order,
    ProviderSeen,
    StopWork,
)
from webhook_server.stores.instance_store import InstanceStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Hands:
    """All that can be acted with."""

    instances: InstanceStore
    providers: Mapping[str, Provider]
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
        case CloseAttempt():
            hands.instances.close(command.name, hands.now())
            return None
        case _:
            assert_never(command)


def _create(hands: Hands, order: Order) -> CreateSeen | None:
    # The decision may be old: a paused thread must not create for an attempt that was given up.
    if hands.instances.observe(order.name).closed_at is not None:
        return None
    outcome, detail = _created(hands, order)
    seen = CreateSeen(outcome=outcome, at=hands.now(), detail=detail)
    hands.instances.record_create(order.name, seen)
    log.info(
        "instance ordered run=%s attempt=%d name=%s answer=%s usd_per_hour=%s detail=%s",
        order.run_id,
        order.attempt,
        order.name,
        outcome,
        order.offer.usd_per_hour,
        detail,
    )
    return seen


def _created(hands: Hands, order: Order) -> tuple[CreateOutcome, str]:
    provider = hands.providers.get(order.offer.provider)
    if provider is None:
        return CreateOutcome.UNKNOWN, _unknown(order.offer.provider)
    try:
        instance = provider.create(order, enrol_secret(hands.server_key, order.name))
    except NoCapacity as refusal:
        return CreateOutcome.NO_CAPACITY, str(refusal)
    except (QuotaExceeded, Misconfigured) as refusal:
        return CreateOutcome.REFUSED, str(refusal)
    except ProviderRefusal as refusal:  # no answer: it may or may not exist
        return CreateOutcome.UNKNOWN, str(refusal)
    return CreateOutcome.CREATED, instance.detail


def _delete(hands: Hands, command: DeleteInstance) -> ProviderSeen | None:
    provider = hands.providers.get(command.provider)
    if provider is None:
        return _saw(hands, command.name, Gone.UNKNOWN, _unknown(command.provider))
    asked_at = hands.now()
    try:
        provider.delete(command.name)
    except InstanceNotFound:
        return _saw(hands, command.name, Gone.ABSENT, asked_at=asked_at)
    except ProviderRefusal as refusal:
        log.warning("deletion refused name=%s detail=%s", command.name, refusal)
        return _saw(hands, command.name, Gone.UNKNOWN, str(refusal))
    return None


def _ask(hands: Hands, command: AskProvider) -> ProviderSeen:
    provider = hands.providers.get(command.provider)
    if provider is None:
        return _saw(hands, command.name, Gone.UNKNOWN, _unknown(command.provider))
    # The time of the question, not of the answer: "not found" is true of no later moment.
    asked_at = hands.now()
    try:
        instance = provider.get(command.name)
    except InstanceNotFound:
        return _saw(hands, command.name, Gone.ABSENT, asked_at=asked_at)
    except ProviderRefusal as refusal:
        return _saw(hands, command.name, Gone.UNKNOWN, str(refusal))
    seen = ProviderSeen(
        gone=Gone.PRESENT, asked_at=asked_at, detail=instance.detail, alive=instance.alive
    )
    hands.instances.record_provider(command.name, seen)
    return seen


def _saw(
    hands: Hands, name: str, gone: Gone, detail: str = "", *, asked_at: datetime | None = None
) -> ProviderSeen:
    seen = ProviderSeen(gone=gone, asked_at=asked_at or hands.now(), detail=detail)
    hands.instances.record_provider(name, seen)
    return seen


def _unknown(provider: str) -> str:
    return f"this server has no provider {provider!r}"
