"""Choose among a provider's offers: which one is asked next, or until when none is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from webhook_server.runs.lending import CoolDown, Denial, Offer, Refusal, Scope
from webhook_server.runs.model import Attempt, Cause, Run

# After so many instances that were taken back the cheap ones cost more than they save; a user who
# allows others (`spot: prefer`) gets one that stays.
PREEMPTIONS = 2
_PLACES_SHOWN = 8  # a sentence of forty zones is read by nobody


def pick(run: Run, offers: Sequence[Offer], cooling: Sequence[CoolDown]) -> Offer | None:
    """Choose the offer to try next, or None while every one of them cools down.

    The provider's order decides, but for: places that a refusal named go first; the place that
    took an instance back goes last; after some of those, what stays goes before what may be taken.
    """
    free = [offer for offer in offers if cool_down(offer, cooling) is None]
    return min(free, key=lambda offer: _rank(run, offer), default=None)


def _rank(run: Run, offer: Offer) -> tuple[bool, int, bool]:
    taken = [attempt for attempt in run.attempts if _was_preempted(attempt)]
    # The number of the attempt, not a mere flag: of two such places the one longer ago.
    here = [a.number for a in taken if offer.spot and a.offer.place == offer.place]
    tired = offer.spot and len(taken) >= PREEMPTIONS
    return tired, max(here, default=0), not _is_hinted(run, offer)


def _was_preempted(attempt: Attempt) -> bool:
    return attempt.reason is not None and attempt.reason.cause is Cause.PREEMPTED


def _is_hinted(run: Run, offer: Offer) -> bool:
    """Say whether the newest refusal said that this place has what it had not."""
    newest = run.attempt
    if newest is None or newest.refusal is None or offer.machine != newest.offer.machine:
        return False
    return offer.place in newest.refusal.elsewhere


def cool_down(offer: Offer, cooling: Sequence[CoolDown]) -> CoolDown | None:
    """Return the cool-down that an offer is under, the longest of several."""
    over = [entry for entry in cooling if _covers(entry, offer)]
    return max(over, key=lambda entry: entry.until, default=None)


def _covers(entry: CoolDown, offer: Offer) -> bool:
    same = (entry.provider, entry.machine, entry.spot) == (
        offer.provider,
        offer.machine,
        offer.spot,
    )
    return same and entry.place in {offer.place, region_of(offer.place), EVERYWHERE}


EVERYWHERE = "*"  # in place of a cool-down's place


def region_of(place: str) -> str:
    """Return a zone's region: `us-central1-a` is in `us-central1`; any other place is its own.

    https://cloud.google.com/compute/docs/regions-zones#identifying_a_region_or_zone
    """
    region, dash, zone = place.rpartition("-")
    return region if dash and len(zone) == 1 and zone.isalpha() else place


def cooled_place(offer: Offer, refusal: Refusal) -> str:
    """Return the place that a refusal of this offer closes for a while."""
    match refusal.scope:
        case Scope.ZONE:
            return offer.place
        case Scope.REGION:
            return region_of(offer.place)
        case Scope.EVERYWHERE:
            return EVERYWHERE


def first_free_at(offers: Sequence[Offer], cooling: Sequence[CoolDown]) -> datetime:
    """Return when the first of the offers may be asked for again; each of them cools down."""
    return min(entry.until for offer in offers if (entry := cool_down(offer, cooling)))


def quota_text(run: Run, offers: Sequence[Offer], cooling: Sequence[CoolDown]) -> str | None:
    """Return the quotas' texts, when they close every place and this run has met one itself."""
    if not any(a.refusal and a.refusal.denial is Denial.QUOTA for a in run.attempts):
        return None
    entries = [cool_down(offer, cooling) for offer in offers]
    if any(entry is None or entry.denial is not Denial.QUOTA for entry in entries):
        return None
    return "; ".join(dict.fromkeys(entry.text for entry in entries if entry is not None))


def tried_text(offers: Sequence[Offer], cooling: Sequence[CoolDown]) -> str:
    """Say which places have refused."""
    places = list(dict.fromkeys(o.place for o in offers if cool_down(o, cooling)))
    more = f" and {len(places) - _PLACES_SHOWN} more" if len(places) > _PLACES_SHOWN else ""
    return f"no capacity in {', '.join(places[:_PLACES_SHOWN])}{more}"
