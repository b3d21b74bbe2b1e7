"""What a repository lets its people and runs do: the data of `.github/cynthus-policy.yml`.

The file of the default branch counts; no other branch can widen it, and the server's own limits
win over it. Everything left out has the value below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum

POLICY_PATH = ".github/cynthus-policy.yml"
VERSION = 1


class Role(StrEnum):
    """What GitHub lets a person do in a repository, weakest first.

    https://docs.github.com/organizations/managing-user-access-to-your-organizations-repositories/managing-repository-roles/repository-roles-for-an-organization
    """

    NONE = "none"
    READ = "read"
    TRIAGE = "triage"
    WRITE = "write"
    MAINTAIN = "maintain"
    ADMIN = "admin"

    def reaches(self, least: Role) -> bool:
        """Say whether it is at least the other."""
        order = list(Role)
        return order.index(self) >= order.index(least)


class Verb(StrEnum):
    """What a line `/cynthus …` of a comment can ask for."""

    RUN = "run"
    PLAN = "plan"
    STATUS = "status"
    LOGS = "logs"
    WHY = "why"
    CANCEL = "cancel"
    RETRY = "retry"
    EXTEND = "extend"
    COMPARE = "compare"
    APPROVE = "approve"
    SWEEP = "sweep"
    REPRODUCE = "reproduce"
    DESTROY = "destroy"
    HELP = "help"


class Superseded(StrEnum):
    """What becomes of a live run that a newer commit, or the end of its pull request, outdates."""

    CANCEL = "cancel"
    FINISH = "finish"  #: it ends by itself and says that it is outdated
    KEEP = "keep"  #: nothing is said or done


class CacheReach(StrEnum):
    """Who shares a repository's cached data."""

    REPOSITORY = "repository"  #: its own runs alone
    OWNER = "owner"  #: with those of the owner's other repositories that say so too


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """Who may: whoever has at least the role, and whoever is named."""

    role: Role
    people: tuple[str, ...] = ()  # logins; compared without regard to case, as GitHub does


#: What asks for nothing but an answer needs no more than to see the repository. A log can hold
#: what only its authors should read: it needs as much as starting a run does.
DEFAULT_RIGHTS: Mapping[Verb, Allowance] = {
    Verb.HELP: Allowance(role=Role.READ),
    Verb.STATUS: Allowance(role=Role.READ),
    Verb.PLAN: Allowance(role=Role.READ),
    Verb.WHY: Allowance(role=Role.READ),
    Verb.COMPARE: Allowance(role=Role.READ),
    Verb.LOGS: Allowance(role=Role.WRITE),
    Verb.RUN: Allowance(role=Role.WRITE),
    Verb.CANCEL: Allowance(role=Role.WRITE),
    Verb.RETRY: Allowance(role=Role.WRITE),
    Verb.EXTEND: Allowance(role=Role.WRITE),
    Verb.APPROVE: Allowance(role=Role.WRITE),
    Verb.SWEEP: Allowance(role=Role.WRITE),
    Verb.REPRODUCE: Allowance(role=Role.WRITE),
    Verb.DESTROY: Allowance(role=Role.MAINTAIN),
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Hard lines: amounts are lowered to them, anything else beyond them is refused."""

    providers: tuple[str, ...] | None = None  # None: all that the server has
    gpus: tuple[tuple[str, int], ...] | None = None  # type and most of it a node; None: all
    nodes: int | None = None
    max_cost_usd: Decimal | None = None  # of one run, all attempts
    max_duration: timedelta | None = None
    monthly_budget_usd: Decimal | None = None  # of the repository
    keep_warm: timedelta | None = None
    extend: timedelta | None = None  # how far `/cynthus extend` may go; None: the server's default
    live_runs: int | None = None  # at once, of the repository; the others wait in the queue
    sweep: int = 16  # runs of one sweep: what fits a comment's table, and a mistyped range does not


@dataclass(frozen=True, kw_only=True)
class ApprovalLine:
    """A run beyond any of these waits until somebody of `by` has approved it."""

    cost_usd: Decimal | None = None  # the most that it may come to cost
    duration: timedelta | None = None
    gpus: tuple[str, ...] = ()  # types that always wait
    by: Allowance = field(default_factory=lambda: Allowance(role=Role.MAINTAIN))


@dataclass(frozen=True, kw_only=True)
class SupersededRules:
    """What a newer commit, or the pull request's end, does to live runs."""

    pull_request: Superseded = Superseded.CANCEL  # a newer head
    branch: Superseded = Superseded.FINISH  # a newer push to the same branch: work in progress
    closed: Superseded = Superseded.CANCEL  # merged ones too: the branch has its own runs
    draft: Superseded = Superseded.KEEP


@dataclass(frozen=True, kw_only=True)
class ForkLimits:
    """What a run of a fork's commit gets once it was approved: less of everything, no secrets."""

    max_cost_usd: Decimal = Decimal(2)  # a T4 or an L4 for two hours: enough to try a change
    max_duration: timedelta = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Which releases stay; None: all. The newest of each name always stays."""

    releases: int | None = None  # newest of each name
    days: int | None = None


@dataclass(frozen=True, kw_only=True)
class DataRules:
    """What holds for the data of its runs."""

    cache: CacheReach = CacheReach.REPOSITORY


@dataclass(frozen=True, kw_only=True)
class RepositoryPolicy:
    """One `.github/cynthus-policy.yml`, with its defaults filled in."""

    version: int = VERSION
    rights: tuple[tuple[Verb, Allowance], ...] = ()  # what differs from DEFAULT_RIGHTS
    limits: Limits = field(default_factory=Limits)
    approval: ApprovalLine = field(default_factory=ApprovalLine)
    superseded: SupersededRules = field(default_factory=SupersededRules)
    forks: ForkLimits = field(default_factory=ForkLimits)
    retention: Retention = field(default_factory=Retention)
    data: DataRules = field(default_factory=DataRules)
    bots: tuple[str, ...] = ()  # logins of bots whose commands count; all others are ignored

    def allowance(self, verb: Verb) -> Allowance:
        """Return who may ask for this."""
        return dict(self.rights).get(verb, DEFAULT_RIGHTS[verb])
