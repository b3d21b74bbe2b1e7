"""What a run is, what is seen of it, what may be ordered for it: data only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from cynthus.spec import Resources, Spec
from cynthus.wire import AgentState, Exit, Output
from webhook_server.runs.budget import BudgetSeen


class State(StrEnum):
    """Where a run stands; GitHub's `status`."""

    BUILDING = "building"  #: waiting for the Action's image
    QUEUED = "queued"  #: waiting for an instance
    PROVISIONING = "provisioning"  #: an instance is ordered; its agent has not enrolled
    RUNNING = "running"  #: the agent is there: pulling, then running the command
    COLLECTING = "collecting"  #: the command has ended; outputs are on their way
    RELEASING = "releasing"  #: the instance is being given back, the release is being made
    FINISHED = "finished"  #: nothing of it exists any more but the record


class Outcome(StrEnum):
    """How a run ended; GitHub's `conclusion`."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    OVER_BUDGET = "over_budget"
    INFRASTRUCTURE = "infrastructure"


class Cause(StrEnum):
    """The class of a reason."""

    ACCEPTED = "accepted"
    SPEC = "spec"  #: cynthus.yaml cannot be used
    BUILD = "build"  #: no image came, or the build failed
    EXIT = "exit"  #: the command ended by itself
    OUT_OF_MEMORY = "out_of_memory"
    CANCELLED = "cancelled"
    MAX_DURATION = "max_duration"
    MAX_COST = "max_cost"
    BUDGET = "budget"  #: the repository's or the owner's month has too little left
    NO_CAPACITY = "no_capacity"
    REFUSED = "refused"  #: the provider said no for good (quota, settings)
    BOOT = "boot"  #: the agent did not come in time
    SILENT = "silent"  #: the agent fell silent
    GONE = "gone"  #: the instance vanished
    PREEMPTED = "preempted"
    INSTANCE = "instance"  #: the agent reports a fault of the instance
    OUTPUTS = "outputs"  #: outputs could not be collected
    SERVER = "server"  #: our own fault; the run was parked
    PROGRESS = "progress"  #: an ordinary step forward


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a run is where it is: a class for machines, a sentence for people."""

    cause: Cause
    text: str


@dataclass(frozen=True, kw_only=True)
class RunKey:
    """What makes two requests the same run. `repository_id` 0: a folder on this machine."""

    repository_id: int
    commit_sha: str
    spec_path: str
    trigger: str  # cynthus.wire.trigger_for, "rerun/<check run id>", "local/<id>"


@dataclass(frozen=True, kw_only=True)
class SpecFault:
    """One fault of the spec file, for an annotation on its line."""

    line: int
    column: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a provider could lend now."""

    provider: str
    place: str  # zone, node or "this machine"
    machine: str  # the vendor's machine type
    gpu_type: str | None
    gpu_count: int
    cpu: int
    memory_bytes: int
    usd_per_hour: Decimal
    spot: bool = False
    price_source: str = ""  # where the price is from and of when; "": certain
    quota: str = ""  # "3 of 8 NVIDIA_L4_GPUS free"; "": not asked or not told


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a provider is asked to create; the name makes it safe to repeat."""

    name: str  # cynthus-<run>-<attempt>
    run_id: str
    attempt: int
    repository_id: int
    offer: Offer
    need: Resources
    max_life: timedelta  # the provider's own hard end of the instance
    rank: int = 0  # among the instances of a gang
    labels: tuple[tuple[str, str], ...] = ()  # the spec's own, copied to what is lent


class Gone(StrEnum):
    """What the provider said when it was asked for the instance."""

    PRESENT = "present"
    ABSENT = "absent"  #: "not found", a complete answer
    UNKNOWN = "unknown"  #: the provider could not be asked


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try of a run on one instance. What the loop has decided about it, never what is seen."""

    number: int
    instance: str
    offer: Offer
    ordered_at: datetime
    last_try_at: datetime  #: saved before every create; deletion waits from here
    max_life: timedelta  #: the provider's own hard end, counted from the creation
    create_answered: bool = False  #: every create of it was answered for certain
    started_at: datetime | None = None  #: first sign of the agent
    stop_at: datetime | None = None  #: when we asked the agent to stop
    stop_reason: str | None = None
    stop_cause: Cause | None = None  #: decides the outcome of a stopped run
    ended_at: datetime | None = None  #: its agent reported the end, or it was given up
    reason: Reason | None = None  #: why it ended
    lost: bool = False  #: ended by an infrastructure cause
    exit: Exit | None = None
    gone_at: datetime | None = None  #: the provider said "not found" and the grace has passed


@dataclass(frozen=True, kw_only=True)
class Run:
    """One request to execute a spec at a commit. Immutable; `decide` returns the next one."""

    id: str  # 12 lower-case letters and digits, beginning with a letter
    key: RunKey
    repository: str  # owner/name, for people; the key has the id that counts
    number: int  # counts the runs of this spec name in this repository
    spec: Spec | None  # None: it could not be read
    spec_sha256: str
    spec_faults: tuple[SpecFault, ...] = ()
    ref: str = ""
    event: str = ""
    default_branch: str = ""
    pull_request: int | None = None
    workflow_run_url: str | None = None
    state: State
    state_since: datetime
    reason: Reason
    outcome: Outcome | None = None  #: set once, when the end is certain; shown from `finished` on
    created_at: datetime
    finished_at: datetime | None = None
    image: str | None = None
    attempts: tuple[Attempt, ...] = ()
    outputs: tuple[Output, ...] | None = None  #: None: not collected
    wants_release: bool = False
    release_url: str | None = None
    release_note: str | None = None  #: why there is no release although one was wanted
    not_before: datetime | None = None  #: while queued: no new attempt earlier than this
    cost_usd: Decimal = Decimal(0)
    notices: tuple[str, ...] = ()

    @property
    def attempt(self) -> Attempt | None:
        """Return the newest attempt."""
        return self.attempts[-1] if self.attempts else None


def deserves_release(run: Run) -> bool:
    """Say whether there is something to release, and somebody who wants it."""
    stored = [output for output in run.outputs or () if output.left_out is None]
    return run.wants_release and run.outcome is Outcome.SUCCEEDED and bool(stored)


@dataclass(frozen=True, kw_only=True)
class RunDraft:
    """What the webhook or the Action knows of a run that may not exist yet."""

    id: str  # used only if the key is new
    key: RunKey
    repository: str
    ref: str
    event: str
    default_branch: str
    pull_request: int | None
    workflow_run_url: str | None
    spec: Spec | None  # None: it could not be read, and `spec_faults` says why
    spec_text: str
    spec_faults: tuple[SpecFault, ...] = ()
    wants_release: bool = False


# ── observations: what is seen outside ──────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class CancelWish:
    """Somebody with the right to do so wants the run to end."""

    by: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class ImageArrived:
    """The Action's run request: exactly one of the two is set."""

    image: str | None
    failure: str | None


@dataclass(frozen=True, kw_only=True)
class AgentSeen:
    """The newest facts the agent reported; moments are the server's."""

    enrolled_at: datetime
    heartbeat_at: datetime
    state: AgentState
    engine: str
    exit: Exit | None = None
    outputs: tuple[Output, ...] | None = None
    preempted: bool = False


@dataclass(frozen=True, kw_only=True)
class ProviderSeen:
    """What the provider said of the newest attempt's instance, and when it was asked."""

    gone: Gone
    asked_at: datetime
    detail: str = ""
    alive: bool = True  #: False: it exists but executes nothing


class CreateOutcome(StrEnum):
    """How the newest create was answered."""

    CREATED = "created"
    NO_CAPACITY = "no_capacity"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class CreateSeen:
    """The answer to the newest create of the newest attempt."""

    outcome: CreateOutcome
    at: datetime
    detail: str = ""


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
class Observations:
    """All that `decide` may know besides the run and the time. Of the newest attempt only."""

    cancel: CancelWish | None = None
    image: ImageArrived | None = None
    offers: tuple[Offer, ...] | None = None  # asked only while queued; None: could not be asked
    offers_detail: str = ""
    offers_refusal: str | None = None  # the provider said no for good, and why
    agent: AgentSeen | None = None
    provider: ProviderSeen | None = None
    create: CreateSeen | None = None
    release: ReleaseSeen | None = None
    budgets: tuple[BudgetSeen, ...] = ()  # asked only with offers
    listening_since: datetime | None = None  # heartbeats before it may have had nobody to hear them


# ── commands: what may be done outside ──────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class CreateInstance:
    """Order the instance; safe to repeat by its name."""

    order: Order


@dataclass(frozen=True, kw_only=True)
class DeleteInstance:
    """Give the instance back; repeated until the provider says "not found"."""

    provider: str
    name: str


@dataclass(frozen=True, kw_only=True)
class AskProvider:
    """Ask whether the instance exists; the answer is the next pass's `ProviderSeen`."""

    provider: str
    name: str


@dataclass(frozen=True, kw_only=True)
class StopWork:
    """Tell the agent, with its next heartbeat's answer, to stop the command."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class CloseAttempt:
    """Refuse (410) whatever this instance's agent still sends."""

    name: str


Command = CreateInstance | DeleteInstance | AskProvider | StopWork | CloseAttempt


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to save, then what to do, then when to look again (None: when something happens)."""

    run: Run
    commands: tuple[Command, ...] = ()
    look_again_at: datetime | None = None
    commitment_usd: Decimal | None = None  # what the run may come to cost; None: as it was
    budgets: tuple[BudgetSeen, ...] = ()  # saved only while each of them allows that
