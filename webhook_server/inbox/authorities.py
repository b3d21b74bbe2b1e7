"""Say under whose authority a delivery, or one thing that somebody asked for, is carried out."""

from __future__ import annotations

from datetime import datetime

from webhook_server.acting import authority
from webhook_server.inbox.asked import Asked, Standing
from webhook_server.intents import Person
from webhook_server.runs.deeds import policy_digest
from webhook_server.runs.trail import Actor, ActorKind, Authority, Means, Proof
from webhook_server.stores.delivery_store import Delivery

_ASKED = "GitHub's permission of a collaborator"


def of_delivery(delivery: Delivery, sender: Person | None) -> Authority:
    """Return the authority of a signed delivery: GitHub let its sender do what it tells of."""
    actor = Actor(kind=ActorKind.SERVER, name="GitHub")
    if sender is not None:
        actor = Actor(kind=ActorKind.PERSON, name=sender.login, id=sender.id)
    proof = Proof(means=Means.EVENT, ref=delivery.guid, at=delivery.received_at)
    return Authority(actor=actor, source=f"{delivery.event} {delivery.guid}", proof=proof)


def of_standing(by: Standing, now: datetime) -> Authority:
    """Return the authority of somebody whose role was looked up while this delivery is handled."""
    proof = Proof(
        means=Means.ROLE,
        ref=authority().proof.ref,  # the delivery that is being handled
        asked=_ASKED,
        role=by.role.value,
        policy=policy_digest(by.policy),
        sha=by.pull.sha if isinstance(by, Asked) else None,
        at=now,
    )
    actor = Actor(kind=ActorKind.PERSON, name=by.by.login, id=by.by.id)
    return Authority(actor=actor, source=by.key, proof=proof)
