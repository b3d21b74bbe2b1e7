"""What is seen of a run outside, in one pass: data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from cynthus.repository_policy import RepositoryPolicy
from cynthus.wire import AgentState, Exit, Output
from cynthus.wire_data import Dataset
from webhook_server.runs.budget import BudgetSeen
from webhook_server.runs.lending import CoolDown, Fate, Gone, Offer, Refusal
from webhook_server.runs.model import Approval, EnvironmentKept, Extension, SpecFault


@dataclass(frozen=True, kw_only=True)
class CancelWish:
    """Somebody with the right to do so wants the run to end."""

    by: str
    at: datetime
    superseded: bool = False  # not a person's wish but the policy's, for what is outdated


@dataclass(frozen=True, kw_only=True)
class PolicySeen:
    """The repository's policy as it stands on the default branch."""

    policy: RepositoryPolicy
    read_at: datetime
    found: bool = True  # False: there is no such file, and the defaults hold
    faults: tuple[SpecFault, ...] = ()  # it cannot be used: nothing that costs may start


@dataclass(frozen=True, kw_only=True)
class DataSeen:
    """What the hubs said of a run's data: one of these is told."""

    datasets: tuple[Dataset, ...] | None = None  # all of it, in the spec's order
    fault: str | None = None  # some of it cannot be had, and why
    detail: str = ""  # it cannot be looked up now


@dataclass(frozen=True, kw_only=True)
class GateSeen:
    """What the gates of a spec are judged by."""

    metrics: Mapping[str, float]  # the run's last values
    baseline: (
        Mapping[str, float] | None
    )  # of the default branch's last release; None: there is none
    baseline_run: str | None = None


@dataclass(frozen=True, kw_only=True)
class ImageArrived:
    """The Action's run request: exactly one of the two is set."""

    image: str | None
    failure: str | None
    environment: EnvironmentKept | None = None


@dataclass(frozen=True, kw_only=True)
class AgentSeen:
    """The newest facts the agent reported; moments are the server's."""

    enrolled_at: datetime
    heartbeat_at: datetime
    state: AgentState
    engine: str
    address: str | None = None  #: under which the other instances of a gang reach it
    exit: Exit | None = None
    exit_at: datetime | None = None  #: when the exit was heard: the first one of a gang decides
    outputs: tuple[Output, ...] | None = None
    preempted: bool = False
    maintenance: str | None = None


@dataclass(frozen=True, kw_only=True)
class ProviderSeen:
    """What the provider said of one instance, when it was asked and when that was heard."""

    gone: Gone
    asked_at: datetime
    detail: str = ""
    alive: bool = True  #: False: it exists but executes nothing
    fate: Fate | None = None  #: None: the provider does not tell
    refusal: Refusal | None = None  #: its order was taken, and could not be met
    shown: bool = False  #: it told of the instance, now or earlier: "not found" is no delay then
    heard_at: datetime | None = None  #: of "not found"; None: an older server wrote this


class CreateOutcome(StrEnum):
    """How the newest create was answered."""

    CREATED = "created"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class CreateSeen:
    """The answer to the newest create of one instance."""

    outcome: CreateOutcome
    at: datetime
    detail: str = ""
    refusal: Refusal | None = None  #: given with REFUSED


@dataclass(frozen=True, kw_only=True)
class InstanceSeen:
    """All that is seen of one instance."""

    agent: AgentSeen | None = None
    provider: ProviderSeen | None = None
    create: CreateSeen | None = None
    closed: bool = False  #: its agent is refused: one that never enrolled never will
    deadline_at: datetime | None = None  #: what its agent is told instead of its work's deadline


class ReleaseState(StrEnum):
    """Where the release of the outputs stands."""

    PENDING = "pending"
    PUBLISHED = "published"
    REFUSED = "refused"  #: GitHub said no for good; `text` says why


@dataclass(frozen=True, kw_only=True)
class ReleaseSeen:
    """What the publisher reports of the run's release."""

    state: ReleaseState
    url: str | None = None
    text: str | None = None


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One instance that waits for its repository's next run, or has waited."""

    machine: str  # its provider's name of it
    repository_id: int
    offer: Offer
    disk_bytes: int | None  # what its first order asked for
    kept_by: str  # the name under which it worked last: its agent has the token of that one
    run_id: str  # whose spec said to keep it
    since: datetime
    until: datetime
    dies_at: datetime  # its provider's own hard end
    heard_at: datetime  # when its agent asked for work
    taken_by: str | None = None  # the name under which it works now
    ended_at: datetime | None = None  # taken, or its deletion began
    gone_at: datetime | None = None  # the provider said "not found"; never set once it was taken


@dataclass(frozen=True, kw_only=True)
class Observations:
    """All that `decide` may know besides the run and the time."""

    cancel: CancelWish | None = None
    image: ImageArrived | None = None
    data: DataSeen | None = None  # asked until all data is pinned, before anything is ordered
    offers: tuple[Offer, ...] | None = None  # asked only while queued; None: could not be asked
    offers_detail: str = ""
    offers_refusal: str | None = None  # the provider said no for good, and why
    cooling: tuple[CoolDown, ...] = ()  # looked up with the offers
    kept: tuple[Kept, ...] = ()  # what waits for this repository; looked up with the offers
    instances: Mapping[str, InstanceSeen] = field(default_factory=dict)  # all not confirmed gone
    release: ReleaseSeen | None = None
    budgets: tuple[BudgetSeen, ...] = ()  # asked only with offers
    #: Asked only while queued; None with a detail: it cannot be read now; without: no repository.
    policy: PolicySeen | None = None
    policy_detail: str = ""
    live_runs: int = 0  # others of the repository that have an instance; with the policy
    provider: str = ""  # who would lend; with the policy
    approval: Approval | None = None
    extensions: tuple[Extension, ...] = ()  # all that were wished for
    gate: GateSeen | None = (
        None  # asked only once the command has ended well, for a spec with gates
    )
    listening_since: datetime | None = None  # heartbeats before it may have had nobody to hear them

    def of(self, name: str) -> InstanceSeen:
        """Return what is seen of the instance: nothing, when it was not looked at."""
        return self.instances.get(name, InstanceSeen())
