"""What a run is, and its attempts: data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from cynthus.spec import Spec
from cynthus.wire import Exit, Output
from cynthus.wire_data import Dataset
from cynthus.wire_image import EnvironmentView
from webhook_server.runs.lending import Offer, Refusal


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
    PREEMPTED = "preempted"  #: its owner took the instance back
    HOST_ERROR = "host_error"  #: the machine under the instance failed
    STOPPED = "stopped"  #: somebody stopped the instance, or it stopped itself
    SUSPENDED = "suspended"  #: somebody suspended the instance
    INSTANCE = "instance"  #: the agent reports a fault of the instance
    OUTPUTS = "outputs"  #: outputs could not be collected
    SERVER = "server"  #: our own fault; the run was parked
    PROGRESS = "progress"  #: an ordinary step forward
    APPROVAL = "approval"  #: a person must say yes first
    POLICY = "policy"  #: the repository's policy does not allow it
    SUPERSEDED = "superseded"  #: a newer commit, or the pull request's end
    DATA = "data"  #: what the spec's `data` names cannot be had, or not yet
    GATE = "gate"  #: a metric missed what the spec demands of it


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
class Verdict:
    """How an attempt ends; `outcome` None: by an infrastructure cause, so try again."""

    outcome: Outcome | None
    reason: Reason
    last_resort: Outcome = Outcome.INFRASTRUCTURE  # the outcome when no attempt is left


@dataclass(frozen=True, kw_only=True)
class Member:
    """One instance of an attempt. What the loop has decided and noted of it."""

    name: str
    rank: int = 0
    last_try_at: datetime  #: saved before every create; deletion waits from here
    create_answered: bool = False  #: its one create was answered, or the instance was seen
    seen_at: datetime | None = None  #: its provider told of it; an agent's word proves less
    provided_at: datetime | None = None  #: its provider said, for the first time, that it executes
    started_at: datetime | None = None  #: first sign of its agent
    quiet_at: datetime | None = None  #: from here on nothing of the run executes on it
    gone_at: datetime | None = None  #: the provider said "not found" and the grace has passed


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try of a run, on one instance or on a gang of them, all in one place."""

    number: int
    offer: Offer
    ordered_at: datetime
    max_life: timedelta  #: the provider's own hard end, counted from the creation
    members: tuple[Member, ...]  #: by rank; never empty
    started_at: datetime | None = None  #: first sign of its first agent
    stop_at: datetime | None = None  #: when its agents were to stop
    ending: Verdict | None = None  #: why they were: the first cause decides, not what follows
    ended_at: datetime | None = None  #: its agents reported the end, or it was given up
    reason: Reason | None = None  #: why it ended
    lost: bool = False  #: ended by an infrastructure cause
    exit: Exit | None = None  #: of a gang the first failure, or else rank 0's
    refusal: Refusal | None = None  #: why its order was not met
    kept_until: datetime | None = None  #: its instance waits for the repository's next run

    @property
    def instance(self) -> str:
        """Return the name of its first instance."""
        return self.members[0].name

    def machine(self, member: Member) -> str:
        """Return its provider's name of an instance: another's, when that was taken over."""
        return self.offer.warm or member.name

    @property
    def gone_at(self) -> datetime | None:
        """Return when the last of its instances was gone; None: one may exist."""
        moments = [member.gone_at for member in self.members if member.gone_at is not None]
        return max(moments) if len(moments) == len(self.members) else None

    @property
    def living(self) -> tuple[Member, ...]:
        """Return the instances that are not confirmed gone."""
        return tuple(member for member in self.members if member.gone_at is None)


def instance_names(run_id: str, number: int, nodes: int) -> tuple[str, ...]:
    """Name an attempt's instances: the same order always has the same name."""
    if nodes == 1:
        return (f"cynthus-{run_id}-{number}",)
    return tuple(f"cynthus-{run_id}-{number}-{rank}" for rank in range(nodes))


@dataclass(frozen=True, kw_only=True)
class EnvironmentKept:
    """What a run remembers of its environment; lock and SBOM lie beside it, by `id`."""

    id: str  # SHA-256 of the owner with all that was told: another owner's is another one
    owner_id: int  # GitHub's number of the repository's owner; 0: there is no repository
    about: EnvironmentView


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What the repository's policy leaves of the spec's wishes; None: as the spec says."""

    max_cost_usd: Decimal | None = None
    max_duration: timedelta | None = None
    keep_warm: timedelta | None = None
    extend: timedelta | None = None  # how much `/cynthus extend` may add in all


@dataclass(frozen=True, kw_only=True)
class Approval:
    """A person's yes to exactly this: another commit, spec, image or price needs another one."""

    by: str  # login
    by_id: int
    at: datetime
    commit_sha: str
    spec_sha256: str  # of the effective spec, overrides included: `approval.effective_digest`
    image: str | None  # None: it was given before there was one; the first one is bound then
    cap_usd: Decimal  # what all attempts together may cost at most


@dataclass(frozen=True, kw_only=True)
class Hold:
    """Why a run waits for a person, and for whom. Its check run is `action_required` meanwhile."""

    reasons: tuple[str, ...]
    cap_usd: Decimal  # what an approval allows it to cost
    who: str  # "maintain or admin; or ada, bob"


@dataclass(frozen=True, kw_only=True)
class Extension:
    """More time, as somebody with the right to it asked."""

    key: str  # as Reply.key: a repeat adds nothing
    by: str
    at: datetime
    more: timedelta


@dataclass(frozen=True, kw_only=True)
class SweepPart:
    """Which run of a sweep this is."""

    id: str  # the key of the line that asked for it
    index: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Whom and what a run comes from, beyond its key."""

    asked_by: str | None = None  # login of the person whose comment or button it was
    overrides: tuple[tuple[str, str], ...] = ()  # key=value on top of the file; in `Run.spec` too
    sweep: SweepPart | None = None
    reproduces: str | None = None  # run id
    retries: str | None = None  # run id
    fork: bool = False  # a stranger's commit: no secrets, caches of its own, lower limits
    wants_build: bool = False  # no workflow run makes its image by itself: one must be asked for


@dataclass(frozen=True, kw_only=True)
class GateLine:
    """One gate of the spec, judged."""

    text: str  # as the spec says it, in its normal form
    found: float | None  # None: the run told no such number
    wanted: float | None  # None: there is no baseline to make it from
    passed: bool
    note: str = ""  # why it was judged without both numbers


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
    environment: EnvironmentKept | None = None  #: what the image consists of; None: not told
    datasets: tuple[Dataset, ...] | None = None  #: its data, pinned once; None: not yet
    attempts: tuple[Attempt, ...] = ()
    #: None: not collected. Those of a lost attempt stand here until a later one has brought some.
    outputs: tuple[Output, ...] | None = None
    outputs_attempt: int = 0  #: which attempt made them; 0: the newest
    outputs_partial: bool = False  #: its command did not end well, or not all has arrived
    wants_release: bool = False
    release_url: str | None = None
    release_note: str | None = None  #: why there is no release although one was wanted
    not_before: datetime | None = None  #: while queued: every offer is cooling until then
    cost_usd: Decimal = Decimal(0)
    notices: tuple[str, ...] = ()
    origin: Origin = field(default_factory=Origin)
    grant: Grant = field(default_factory=Grant)  # what the policy left, when it was last looked at
    hold: Hold | None = None  # only while queued
    approval: Approval | None = None  # the one that counts; None: none was needed, or is there
    extensions: tuple[Extension, ...] = ()  # those taken up, with what was granted of each
    baseline_run: str | None = None  # whose metrics its gates were compared with
    gate_lines: tuple[GateLine, ...] = ()  # how its gates were judged; none before that

    @property
    def attempt(self) -> Attempt | None:
        """Return the newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def living(self) -> tuple[Member, ...]:
        """Return the instances of all attempts that are not confirmed gone."""
        return tuple(member for attempt in self.attempts for member in attempt.living)


def deserves_release(run: Run) -> bool:
    """Say whether there is something to release, and somebody who wants it."""
    stored = [output for output in run.outputs or () if output.left_out is None]
    wanted = run.wants_release and not run.origin.fork
    return wanted and run.outcome is Outcome.SUCCEEDED and bool(stored)


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
    origin: Origin = field(default_factory=Origin)
    approval: Approval | None = None  # given before the run existed: a fork's commit
    datasets: tuple[Dataset, ...] | None = None  # those of the run that it repeats
