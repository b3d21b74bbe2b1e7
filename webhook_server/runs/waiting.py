"""Wait for the image, then for an instance; order it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from cynthus.frozen import replace
from webhook_server.runs import permission, pinning, warm
from webhook_server.runs.approval import bound
from webhook_server.runs.commands import CreateInstance, Decision
from webhook_server.runs.commitment import Purse, next_attempt
from webhook_server.runs.commitment import refusal as money_refusal
from webhook_server.runs.environments import new_enough, too_old_text
from webhook_server.runs.extending import take_up
from webhook_server.runs.lending import Offer, Order
from webhook_server.runs.limits import limit_reached
from webhook_server.runs.look import Look, between, cancelled, clock, finish, soonest, step
from webhook_server.runs.model import Attempt, Cause, Member, Reason, State
from webhook_server.runs.places import first_free_at, pick, quota_text, tried_text
from webhook_server.runs.verdict import failed, lost, stopped


def build(at: Look) -> Decision:
    """Wait for the Action's image; what its data is can be known before."""
    if at.seen.cancel is not None:
        return finish(at.run, cancelled(at, at.seen.cancel), at.now)
    pinned = pinning.taken(at)
    return pinned if isinstance(pinned, Decision) else _build(pinned)


def _build(at: Look) -> Decision:
    run, now, image = at.run, at.now, at.seen.image
    if image is not None and image.image is not None:
        reason = Reason(cause=Cause.PROGRESS, text="waiting for an instance")
        queued = step(run, State.QUEUED, reason, now)
        queued = replace(
            queued,
            image=image.image,
            environment=image.environment,
            approval=bound(queued.approval, image.image),
        )
        return Decision(run=queued, look_again_at=now)
    if image is not None:
        return finish(run, failed(Cause.BUILD, image.failure or "the build failed"), now)
    if at.seen.offers_refusal is not None:  # better now than after an image was built for nothing
        return finish(run, failed(Cause.REFUSED, at.seen.offers_refusal), now)
    late_at = run.created_at + at.policy.build_limit
    if now >= late_at:
        return finish(run, failed(Cause.BUILD, _late_text(at)), now)
    again_at = min(late_at, now + _pause(at)) if pinning.wanted(run) else late_at
    return Decision(run=run, look_again_at=again_at)


def _late_text(at: Look) -> str:
    late = f"no image came within {at.policy.build_limit}"
    if not at.run.origin.wants_build:
        return f"{late}: look at the workflow run"
    return (
        f"{late}, though the repository's workflows were asked for one. A workflow of the default "
        f"branch must have `on: repository_dispatch: types: [cynthus]` and a step that builds "
        f"{at.run.key.spec_path}; docs/action.md has one to copy"
    )


# ── queued ──────────────────────────────────────────────────────────────────────────────────────


def queue(at: Look) -> Decision:
    """Wait for an instance, then order it."""
    now, seen = at.now, at.seen
    if seen.cancel is not None:
        return finish(replace(at.run, hold=None), cancelled(at, seen.cancel), now)
    at = take_up(at)
    run = at.run
    limit = limit_reached(run, at.spec, now, at.policy)
    if limit is not None:
        return finish(run, stopped(limit.cause, limit.text), now)
    if run.not_before is not None and now < run.not_before:
        return Decision(run=run, look_again_at=soonest(at, run.not_before))
    pinned = pinning.taken(at)
    return pinned if isinstance(pinned, Decision) else _queue_pinned(pinned)


def _queue_pinned(at: Look) -> Decision:
    """Go on once it is known what the run stands on."""
    if pinning.wanted(at.run):
        return _wait(at, pinning.waiting_text(at), _pause(at), cause=Cause.DATA)
    if at.seen.policy_detail:
        return _wait_for_policy(at)
    admitted = permission.admit(at)
    return admitted if isinstance(admitted, Decision) else _order_admitted(admitted)


def _order_admitted(at: Look) -> Decision:
    """Order for a run that the repository's policy has nothing against."""
    taken = _take_over(at)
    if taken is not None:
        return taken
    if at.seen.offers_refusal is not None:
        return finish(at.run, failed(Cause.REFUSED, at.seen.offers_refusal), at.now)
    if at.seen.offers:
        return _order_fitting(at, at.seen.offers)
    if at.run.hold is not None:  # its price is not known now; whoever may approve it still may
        return permission.still_held(at, at.run.hold)
    return _wait_for_offers(at)


def _wait_for_policy(at: Look) -> Decision:
    """Wait until it is known what the repository allows: a policy is never guessed."""
    if at.run.hold is not None:
        return permission.still_held(at, at.run.hold)
    return _wait(at, at.seen.policy_detail, _pause(at), cause=Cause.POLICY)


def _order_fitting(at: Look, offers: Sequence[Offer]) -> Decision:
    """Order what runs the environment's CUDA; nothing is ordered where nothing does."""
    environment = at.run.environment
    fitting = new_enough(offers, environment)
    if not fitting and environment is not None:
        text = too_old_text(offers, environment.about)
        return finish(at.run, failed(Cause.REFUSED, text), at.now)
    return _order_payable(at, fitting)


def _take_over(at: Look) -> Decision | None:
    """Take over an instance that waits for this repository, if one fits and can be paid.

    A fork's run never does: the instance was others', and what they cached is there.
    """
    if at.run.origin.fork:
        return None
    life = warm.needed_life(at.run, at.spec, at.now, at.policy)
    purse = Purse(spec=at.spec, budgets=at.seen.budgets, policy=at.policy)
    tried = {attempt.offer.warm for attempt in at.run.attempts}
    waiting = warm.offers(at.seen.kept, at.spec.resources, life=life, now=at.now)
    for offer in new_enough(waiting, at.run.environment):
        attempt = next_attempt(at.run, offer, purse, at.now)
        life_left = warm.remaining(at.seen.kept, offer.warm, at.now)
        attempt = replace(attempt, max_life=life_left)
        useful = offer.warm not in tried and money_refusal(at.run, attempt, purse) is None
        if useful and permission.hold_of(at, attempt) is None and not permission.turn_text(at):
            return _order(at, attempt)
    return None


def _wait_for_offers(at: Look) -> Decision:
    text = "the provider does not answer" if at.seen.offers is None else "no instance is free"
    if at.seen.offers_detail:
        text = f"{text}: {at.seen.offers_detail}"
    return _wait(at, text, _pause(at))


def _pause(at: Look) -> timedelta:
    # As long again as it has waited: 1, 2, 4 … s without a counter.
    waited = at.now - at.run.state_since
    return between(timedelta(seconds=1), waited, at.policy.slowest_offer_look)


def _wait_for_a_free_place(at: Look, offers: Sequence[Offer]) -> Decision:
    """Wait until the first of the places that refused may be asked again."""
    cooling = at.seen.cooling
    quota = quota_text(at.run, offers, cooling)
    if quota is not None:
        return finish(at.run, failed(Cause.REFUSED, quota), at.now)
    free_at = first_free_at(offers, cooling)
    text = f"{tried_text(offers, cooling)}; the next try is at {clock(free_at)}"
    pause = max(timedelta(seconds=1), free_at - at.now)
    waiting = replace(at, run=replace(at.run, not_before=at.now + pause))
    return _wait(waiting, text, pause)


def _wait_for_turn(at: Look, text: str) -> Decision:
    """Wait until fewer runs of the repository have instances: as long as people are waited for."""
    return _wait(at, text, _pause(at), cause=Cause.POLICY, limit=permission.HELD_LIMIT)


def _wait(
    at: Look,
    text: str,
    pause: timedelta,
    *,
    cause: Cause = Cause.NO_CAPACITY,
    limit: timedelta | None = None,
) -> Decision:
    limit = limit or at.policy.capacity_limit
    late_at = at.run.state_since + limit
    if at.now >= late_at:
        return finish(at.run, lost(cause, f"{text} (for {limit})"), at.now)
    waiting = replace(at.run, reason=Reason(cause=cause, text=text))
    return Decision(run=waiting, look_again_at=soonest(at, min(at.now + pause, late_at)))


# ── the order ───────────────────────────────────────────────────────────────────────────────────


def _order_payable(at: Look, offers: Sequence[Offer]) -> Decision:
    """Order the best of the offers that can be paid; say what is missing when none can."""
    run, purse = at.run, Purse(spec=at.spec, budgets=at.seen.budgets, policy=at.policy)
    tries = {offer: next_attempt(run, offer, purse, at.now) for offer in offers}
    refused = {offer: money_refusal(run, attempt, purse) for offer, attempt in tries.items()}
    payable = [offer for offer in offers if refused[offer] is None]
    if not payable:
        why = refused[offers[0]]
        assert why is not None  # noqa: S101 - none of them is payable
        return finish(run, stopped(why.cause, why.text), at.now)
    affordable = {offer: tries[offer] for offer in payable}
    free = permission.permitted(at, affordable)
    if not free:
        return permission.held(at, affordable)
    at = replace(at, run=replace(run, hold=None))
    not_yet = permission.turn_text(at)
    if not_yet is not None:
        return _wait_for_turn(at, not_yet)
    offer = pick(run, free, at.seen.cooling)
    if offer is None:
        return _wait_for_a_free_place(at, free)
    return _order(at, permission.ordered_as(at, offer))


def _order(at: Look, attempt: Attempt) -> Decision:
    """Save the attempt, with the time of the try, before anything is created."""
    run, now = at.run, at.now
    what = _what(attempt.offer, len(attempt.members))
    reason = Reason(cause=Cause.PROGRESS, text=f"waiting for {what}")
    ordered = replace(
        step(run, State.PROVISIONING, reason, now),
        attempts=(*run.attempts, attempt),
        not_before=None,
        hold=None,
    )
    at = replace(at, run=ordered)
    return Decision(
        run=ordered,
        # What waits already is taken by the save itself.
        commands=()
        if attempt.offer.warm
        else tuple(create(at, attempt, member) for member in attempt.members),
        look_again_at=soonest(at, now + at.policy.create_patience),
        budgets=at.seen.budgets,
        live_limit=permission.live_limit(at),
    )


def _what(offer: Offer, nodes: int) -> str:
    machine = offer.machine if nodes == 1 else f"{nodes} x {offer.machine}"
    machine = f"the {machine} that was kept warm" if offer.warm else machine
    return (
        machine
        if offer.machine == offer.place
        else f"{machine} in {offer.place} ({offer.provider})"
    )


def create(at: Look, attempt: Attempt, member: Member) -> CreateInstance:
    """Return the order of one instance; the same one each time that it is repeated."""
    spec = at.spec
    return CreateInstance(
        order=Order(
            name=member.name,
            run_id=at.run.id,
            attempt=attempt.number,
            repository_id=at.run.key.repository_id,
            offer=attempt.offer,
            need=spec.resources,
            max_life=attempt.max_life,
            rank=member.rank,
            labels=spec.labels,
        )
    )
