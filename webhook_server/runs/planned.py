"""All that is known of one spec at a pull request's head, when it is planned: data, and sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from cynthus.spec import Spec
from cynthus.wire_money import OfferView, PlanView
from webhook_server.runs.differences import Difference
from webhook_server.runs.limits import price
from webhook_server.runs.model import EnvironmentKept, Hold, Run, SpecFault


@dataclass(frozen=True, kw_only=True)
class Image:
    """What is known of the image that a run of this spec would have."""

    known: Run | None = None  # a run of this very commit and spec that has one
    before: EnvironmentKept | None = None  # of the newest run of this name that told of it


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the repository's policy says."""

    refusal: str | None = None
    hold: Hold | None = None
    approved_by: str | None = None  # who has said yes to this commit's run
    notices: tuple[str, ...] = ()  # what was lowered
    unread: str | None = None  # why the policy could not be read


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One spec of a head with all that is known of it."""

    path: str
    spec: Spec | None  # with what the policy leaves of it; None: it has faults, or was removed
    faults: tuple[SpecFault, ...] = ()
    changes: tuple[Difference, ...] = ()  # against the base branch
    is_new: bool = False  # the base branch has no such spec
    view: PlanView | None = None
    no_view: str = ""  # why there is none
    image: Image = Image()
    verdict: Verdict = Verdict()
    waits: tuple[timedelta, ...] = ()  # of earlier runs on the machine that would be asked first
    durations: tuple[timedelta, ...] = ()  # of the name's last successes

    @property
    def is_removed(self) -> bool:
        """Say whether the head has this spec no more."""
        return self.spec is None and not self.faults

    @property
    def changed(self) -> bool:
        """Say whether the pull request changes what the spec means."""
        return bool(self.changes or self.faults or self.is_new or self.is_removed)

    @property
    def refusal(self) -> str | None:
        """Return why its run would end at once."""
        return self.verdict.refusal or (self.view.refusal if self.view else None)

    @property
    def first(self) -> OfferView | None:
        """Return the offer that would be tried first."""
        offers = self.view.offers if self.view else ()
        return next((offer for offer in offers if offer.refusal is None), None)


def waits_for_a_person(one: Planned) -> bool:
    """Say whether its run needs a yes that nobody has given yet."""
    return one.verdict.hold is not None and one.verdict.approved_by is None


def machine_of(offer: OfferView) -> str:
    """Return the machine with its GPUs."""
    gpu = f", {offer.gpu_count} {offer.gpu_type}" if offer.gpu_type else ""
    return f"{offer.machine}{gpu}"


def likely_usd(one: Planned) -> Decimal | None:
    """Return what it costs when it takes as long as its like did; None: nobody knows."""
    if one.first is None or one.view is None or not one.durations:
        return None
    longest = timedelta(seconds=one.view.max_duration_s)
    took = min(typical(one.durations), longest)
    likely = price(one.first.usd_per_hour * one.view.nodes, took)
    most = one.view.max_cost_usd
    return likely if most is None else min(likely, most)


def typical(durations: Sequence[timedelta]) -> timedelta:
    """Return the median, the longer of two in the middle: rather late than sorry."""
    return sorted(durations)[len(durations) // 2]
