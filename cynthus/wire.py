"""The messages that cross between programs; `schemas/*.schema.json` is their language-neutral form.

Every message travels as JSON made by `cynthus.codec`: moments ISO 8601 UTC, durations in seconds,
decimals as text. Members may be added; readers ignore what they do not know.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from cynthus.wire_data import CheckpointWork, DatasetWork
from cynthus.wire_image import Environment, EnvironmentView

HEARTBEAT_S = 10  # design: one beat every 10 s with jitter
LOG_CHUNK_BYTES = 256 * 1024  # one heartbeat carries at most this much log: answers stay small


# ── Action or command line → server ─────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """POST /api/v1/runs: please run this spec at this commit with this image.

    Exactly one of `image` and `failure` is given: `failure` says in one sentence why no image
    could be built, and ends the run. Names are for people; the server trusts the token's ids.
    """

    repository_id: int  # 0: no GitHub repository (a folder on this machine)
    repository: str  # owner/name, for people
    commit_sha: str  # 40 hex digits; of a pull request its head
    ref: str  # refs/heads/main, refs/pull/7/merge
    event: str  # GitHub's event name (push, pull_request, workflow_dispatch) or "local"
    trigger: str  # with repository, commit and spec path the run's key: see `trigger_for`
    spec_path: str
    spec_text: str  # the exact text; its SHA-256 is stored with the run
    image: str | None  # name@sha256:…, sha256:… (local engine), or file:///… (process mode)
    failure: str | None = None
    pull_request: int | None = None
    workflow_run_url: str | None = None
    changed_paths: tuple[str, ...] | None = None
    environment: Environment | None = None  # None: not known, such as by an older Action


#: The type of the `repository_dispatch` by which the server asks for a run's image.
DISPATCH_TYPE = "cynthus"
#: The event of it: https://docs.github.com/actions/reference/events-that-trigger-workflows
DISPATCH = "repository_dispatch"


def trigger_for(
    event: str, *, pull_request: int | None, workflow_run_id: str, run_attempt: int = 1
) -> str:
    """Name what caused a run, so that the webhook and the Action name the same run alike.

    A push and a pull request name the event alone (the commit is in the key beside it); anything
    else a person may ask for twice on one commit, so the workflow run's id tells them apart.
    A workflow run that somebody ran again is another wish: its attempt belongs to the name.
    """
    again = f"/{workflow_run_id}.{run_attempt}" if run_attempt > 1 else ""
    if event == "push":
        return f"push{again}"
    if event == "pull_request" and pull_request is not None:
        return f"pull_request/{pull_request}{again}"
    return f"{event}{again or f'/{workflow_run_id}'}"


@dataclass(frozen=True, kw_only=True)
class RunAccepted:
    """The answer: 202."""

    run_id: str
    url: str  # the dashboard's page of the run
    token: str  # reads and cancels this run only


# ── server → command line, Action, dashboard ────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class AttemptView:
    """One try of a run on one instance."""

    number: int
    instance: str
    provider: str
    place: str
    ordered_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    reason: str | None  # why it ended
    usd_per_hour: Decimal  # of one instance
    cost_usd: Decimal
    machine: str = ""
    spot: bool = False
    nodes: int = 1
    cause: str | None = None  # the class of `reason`
    lost_s: float = 0.0  # time that ran for nothing: the attempt was lost
    marks: tuple[Mark, ...] = ()  # the steps of its boot, by rank 0
    warm_run: str | None = None  # its instance had been kept warm by this run


@dataclass(frozen=True, kw_only=True)
class OutputView:
    """One file a run produced."""

    path: str  # relative to /workspace
    size_bytes: int
    sha256: str
    url: str | None  # signed, valid for an hour; None in lists
    partial: bool = False  # the attempt that made it did not succeed: there may be more to it
    attempt: int = 0  # which made it
    packed: int = 0  # so many files lie in it: an archive of ours (docs/outputs.md); 0: a file
    plain_size_bytes: int | None = None  # before it was encrypted; None: it is not
    plain_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class HoldView:
    """Why a run waits for a person, and for whom."""

    reasons: tuple[str, ...]
    cap_usd: Decimal  # what an approval lets it cost, all attempts together
    who: str  # who may approve it


@dataclass(frozen=True, kw_only=True)
class RunView:
    """GET /api/v1/runs/{id}."""

    id: str
    name: str  # the spec's name; empty while the spec could not be read
    repository: str
    commit_sha: str
    trigger: str
    state: str
    outcome: str | None
    cause: str | None
    reason: str | None
    created_at: datetime
    state_since: datetime
    finished_at: datetime | None
    progress: float | None  # 0…1 as the command says
    phase: str | None
    metrics: dict[str, float]  # the last value of each
    cost_usd: Decimal
    image: str | None
    notices: tuple[str, ...]  # e.g. "no Docker engine: ran as a plain process"
    attempts: tuple[AttemptView, ...]
    outputs: tuple[OutputView, ...]
    release_url: str | None
    url: str
    max_cost_usd: Decimal | None = None  # all attempts: the spec's, the policy's or the approval's
    price_source: str = ""  # of the newest attempt: the cost is an estimate by it; "": certain
    environment: EnvironmentView | None = None  # what `image` consists of below the source
    hold: HoldView | None = None  # it waits for a person's yes
    asked_by: str | None = None  # login of the person whose comment or button started it
    overrides: dict[str, str] = field(default_factory=dict)  # instead of the file's values


class EventKind(StrEnum):
    """What an event in a run's feed tells; `body` by kind."""

    STATE = "state"  # {state, outcome, cause, reason, attempt}
    LOG = "log"  # {text}: whole lines where possible, already masked
    PHASE = "phase"  # {name}
    PROGRESS = "progress"  # {value}
    METRIC = "metric"  # {name, step, value}
    ANNOTATION = "annotation"  # {level: notice|warning|failure, file, line, title, text}
    SAMPLE = "sample"  # {cpu_pct, memory_bytes, memory_limit_bytes, disk_bytes, gpus: [...]}
    SUMMARY = "summary"  # {text}: Markdown; the newest replaces the one before
    NOTICE = "notice"  # {text}: what the agent tells the user
    MARK = "mark"  # {name, at}: a step on the way to the first line, e.g. image_pulled
    STAGING = "staging"  # wire_data.StagingView: how far the data is
    MASK = "mask"  # {value}: server only; never stored, never shown


@dataclass(frozen=True, kw_only=True)
class RunEvent:
    """One line of a run's feed: GET /api/v1/runs/{id}/events?after=SEQ, and the stream's data."""

    seq: int
    at: datetime
    attempt: int
    kind: EventKind
    body: dict[str, object]
    rank: int | None = None  # of a gang's instance that says it; its log lines begin with [rank n]


# ── agent ↔ server: /agent/v1 ───────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU as NVML tells it."""

    index: int
    model: str
    memory_bytes: int
    uuid: str = ""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the agent found on its instance."""

    engine: str  # "docker" or "process"
    cpu_count: int
    memory_bytes: int
    disk_free_bytes: int
    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None  # NVIDIA driver version
    address: str | None = None  # under which the other instances of a gang reach this one
    marks: tuple[Mark, ...] = ()  # what happened between boot and now


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A step of the way to the first line of the command, by the instance's own clock: a claim."""

    name: str  # booted, driver_ready, agent_started, image_pulled
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Enrolment:
    """POST /agent/v1/enrol. Safe to repeat with the same nonce; another nonce gets 409."""

    instance: str
    secret: str  # the one-time enrolment secret
    nonce: str  # 32 random hex digits of this agent process
    agent_version: str
    facts: Facts
    #: Google Cloud's signed word on which instance this is; then `secret` is empty.
    identity_token: str | None = None


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one attempt shall do."""

    run_id: str
    attempt: int
    name: str
    image: str  # as in RunRequest.image
    command: str | tuple[str, ...]  # text: bash -eo pipefail
    env: dict[str, str]  # without secrets; CYNTHUS_* included
    secrets: dict[str, str]  # values; masked everywhere
    cpu: int | None
    memory_bytes: int | None
    disk_bytes: int | None
    gpu_count: int
    outputs: tuple[str, ...]  # paths or globs relative to /workspace
    deadline_s: float  # seconds from now until the hard stop
    silence_limit_s: float  # cut off from the server longer than this: stop the work
    stop_grace_s: float  # between SIGTERM and SIGKILL
    log_limit_bytes: int  # more is counted, not sent
    output_limit_bytes: int
    output_limit_files: int
    pids_limit: int = 4096
    shm_bytes: int = 1 << 30
    gang: Gang | None = None
    keep_warm_s: float = 0.0  # after `done` ask for the next work at least this long
    minimum_driver: str | None = None  # the oldest NVIDIA driver that the image's CUDA runs with
    data: tuple[DatasetWork, ...] = ()  # staged before the command starts, read-only
    hub_secrets: dict[str, str] = field(default_factory=dict)  # for staging alone; masked
    checkpoint: CheckpointWork | None = None
    repository_id: int = 0  # whose cache on this instance's disk is used
    encrypt_to: str | None = None  # an age recipient: outputs leave the instance for it alone


@dataclass(frozen=True, kw_only=True)
class Gang:
    """One instance's place among those that execute one attempt together."""

    rank: int  # 0 … nodes - 1: NODE_RANK
    nodes: int  # NNODES
    port: int  # MASTER_PORT, on rank 0


@dataclass(frozen=True, kw_only=True)
class Rendezvous:
    """Where a gang meets: given once every instance is ready."""

    address: str  # MASTER_ADDR: rank 0's
    peers: tuple[str, ...] = ()  # the addresses of all, by rank


@dataclass(frozen=True, kw_only=True)
class Enrolled:
    """The answer to an enrolment."""

    token: str  # bearer of every later call
    work: Work
    heartbeat_s: float = HEARTBEAT_S


class AgentState(StrEnum):
    """Where the agent stands."""

    PREPARING = "preparing"  # pulling the image, making the workspace
    READY = "ready"  # of a gang: prepared, waiting for the rendezvous
    RUNNING = "running"  # the user's command runs
    UPLOADING = "uploading"  # it has ended; outputs are on their way
    DONE = "done"  # everything is reported; nothing of the run executes any more


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How the user's command ended."""

    code: int | None  # None: it never started
    signal: int | None = None
    out_of_memory: bool = False
    stopped: bool = False  # because the server, the deadline or the silence limit said so
    error: str | None = None  # why it never started (image absent, no such command, disk full…)
    infrastructure: bool = False  # `error` is the instance's fault, so another attempt may help


@dataclass(frozen=True, kw_only=True)
class Output:
    """One output file that lies in the blob store, or the reason why it does not."""

    path: str
    size_bytes: int
    sha256: str
    left_out: str | None = None  # why it was not uploaded; then size and digest are what is known
    packed: int = 0  # so many files lie in it: an archive that the agent made; 0: it is a file
    plain_size_bytes: int | None = None  # before it was encrypted; None: it is not
    plain_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class AgentEvent:
    """One event of the attempt, in the order in which it happened."""

    at: datetime  # the agent's clock: a claim
    kind: EventKind
    body: dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """POST /agent/v1/heartbeat (bearer: the attempt's token): I live, and this is new.

    `seq` counts from 1 without gaps for every heartbeat with new content; a repeat of an accepted
    `seq` changes nothing and is answered like the first time. A beat without news repeats nothing
    and carries the next `seq` with empty `events`.
    """

    seq: int
    sent_at: datetime
    state: AgentState
    events: tuple[AgentEvent, ...] = ()
    exit: Exit | None = None  # from `uploading` on
    #: While `uploading` what is stored by now, which may be the last word; from `done` on all.
    outputs: tuple[Output, ...] | None = None
    preempted: bool = False  # the instance's owner takes it back: seconds are left
    maintenance: str | None = None  # the owner's word on host maintenance to come


@dataclass(frozen=True, kw_only=True)
class HeartbeatAnswer:
    """200; instead 410: this attempt is over, stop everything at once; 401: not your token."""

    accepted_seq: int
    stop: str | None = None  # a sentence: stop the command (SIGTERM, grace, SIGKILL), then report
    masks: tuple[str, ...] = field(default=())
    rendezvous: Rendezvous | None = None  # repeated until the agent runs
    deadline_s: float | None = None  # from now, instead of the work's: it was given more time


@dataclass(frozen=True, kw_only=True)
class NextWork:
    """POST /agent/v1/next (bearer: the token of the attempt that is done): may I work on?

    200 with `Enrolled`: another attempt, with a token of its own; 204: not yet, ask again after
    the heartbeat period; 410: this instance is given back.
    """

    instance: str
    nonce: str  # the same 32 hex digits as at the enrolment


@dataclass(frozen=True, kw_only=True)
class UploadAsk:
    """POST /agent/v1/uploads: where may I put this output, or: is it stored?"""

    path: str
    size_bytes: int
    sha256: str  # empty: it is told once all was sent, since it is hashed on the way
    md5: str | None = None  # 32 hex digits; told from the first grant with `confirm` on


@dataclass(frozen=True, kw_only=True)
class UploadGrant:
    """PUT the exact bytes there, with `content-length`; `url` None: they are stored already."""

    url: str | None
    expires_at: datetime  # to begin: what has begun may take longer
    headers: dict[str, str] = field(default_factory=dict)  # to be sent with the PUT: signed
    #: Send `content-range`; after a cut ask with `bytes */SIZE` where to go on (308, `range`).
    resumable: bool = False
    #: What comes is not proven by then: ask again, with both digests, until `url` is None.
    confirm: bool = False
