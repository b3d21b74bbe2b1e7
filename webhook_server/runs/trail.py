"""Say who did what, why, by which right: the deeds that the trail keeps, as data.

A **deed** is one thing that was done or refused. An **authority** is who acts, on whose word, and
what proves the right to it. The trail joins both, in the transaction of the effect itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class ActorKind(StrEnum):
    """What kind of somebody acts."""

    PERSON = "person"  #: somebody on GitHub
    JOB = "job"  #: a job of GitHub Actions, by its token
    OPERATOR = "operator"  #: whoever holds this server's own token
    AGENT = "agent"  #: our program on an instance
    SERVER = "server"  #: the server, by its own rules


class Means(StrEnum):
    """What a right rests on."""

    EVENT = "event"  #: GitHub's signature: GitHub itself let the sender do what it tells of
    ROLE = "role"  #: the role that GitHub named when it was asked
    TOKEN = "token"  #: a job's OIDC token  # noqa: S105 - a word, no secret
    RUN_TOKEN = "run_token"  #: the token of this one run  # noqa: S105 - as above
    OPERATOR = "operator"  #: the operator's own token, session, or this machine
    RULE = "rule"  #: none of somebody's: the server keeps its rules


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who acts; the id is GitHub's and counts, the name is for people."""

    kind: ActorKind
    name: str
    id: int | None = None


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What proves the right to act."""

    means: Means
    ref: str = ""  # a delivery's id, a token's id (jti)
    asked: str = ""  # by which question a role was found
    role: str | None = None
    policy: str | None = None  # digest of the repository policy that the role was held against
    sha: str | None = None  # the commit that the right was for
    at: datetime | None = None  # when it was found


@dataclass(frozen=True, kw_only=True)
class Authority:
    """Under what a deed is done."""

    actor: Actor
    source: str  # what made them act: a delivery, a comment's line, a button, a door
    proof: Proof


#: What is done when nobody asked for it.
SERVER = Authority(
    actor=Actor(kind=ActorKind.SERVER, name="server"),
    source="the loop",
    proof=Proof(means=Means.RULE),
)


class DeedVerb(StrEnum):
    """What was done."""

    START = "start"  #: a run was accepted
    IMAGE = "image"  #: a run was told its image, or that none will come
    CANCEL = "cancel"
    APPROVE = "approve"
    EXTEND = "extend"  #: more time was asked for
    GRANT = "grant"  #: more time, or an approval, was taken up by the run
    ORDER = "order"  #: an instance's name was saved, to be ordered
    CREATE = "create"  #: what the provider answered to the order
    DELETE = "delete"  #: the provider took a deletion
    GONE = "gone"  #: the provider said "not found"
    SWEEP = "sweep"  #: something that no record knows was deleted
    GIVE_BACK = "give_back"  #: what was kept warm will be deleted
    END = "end"  #: a run reached its outcome
    RELEASE = "release"  #: outputs were published
    WITHDRAW = "withdraw"  #: a release is gone
    POLICY = "policy"  #: another policy was read
    VOID = "void"  #: a push made the policy that was read count no more
    SET_UP = "set_up"  #: a GitHub App became this server's
    FORGET = "forget"  #: it is no more
    SIGN_IN = "sign_in"
    SIGN_OUT = "sign_out"
    COLLECT = "collect"  #: cached data was given up, as somebody asked
    PURGE = "purge"  #: a repository's bytes were removed
    ASK = "ask"  #: a comment or a button, carried out or refused


@dataclass(frozen=True, kw_only=True)
class Deed:
    """One thing that was done or refused."""

    verb: DeedVerb
    repository_id: int = 0  # 0: none on GitHub
    run_id: str | None = None
    subject: str = ""  # an instance's name, pull/…, an App
    done: bool = True  # False: refused, and `text` says why
    text: str = ""
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    once: str | None = None  # a key under which it is kept once, however often it is told


@dataclass(frozen=True, kw_only=True)
class TrailRow:
    """One line of the trail, as it is kept."""

    seq: int
    at: datetime
    authority: Authority
    deed: Deed


# ── the oracle: nothing starts without a proof ──────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Started:
    """What a run executes, as its own record says."""

    run_id: str
    repository_id: int
    commit_sha: str
    image: str | None = None


#: Whose word may start a run of a repository on GitHub.
_MAY_START = frozenset({Means.EVENT, Means.ROLE, Means.TOKEN})


def unproven(runs: Iterable[Started], rows: Iterable[TrailRow]) -> list[str]:
    """Return a sentence for each run whose start, or whose orders, the trail does not prove.

    Invariant I14: each start has one line that names event, role or token, the commit, and the
    time; the commit is the run's; and each order names the image that the run was told.
    """
    kept = [row for row in rows if row.deed.done and row.deed.run_id is not None]
    return [fault for run in runs for fault in _faults(run, kept)]


def _faults(run: Started, rows: Iterable[TrailRow]) -> Iterable[str]:
    mine = [row for row in rows if row.deed.run_id == run.run_id]
    starts = [row for row in mine if row.deed.verb is DeedVerb.START]
    if len(starts) != 1:
        yield f"run {run.run_id}: should have one start in the trail, found {len(starts)}"
        return
    yield from _start_faults(run, starts[0])
    for row in mine:
        if row.deed.verb is DeedVerb.ORDER:
            yield from _order_faults(run, row)


def _start_faults(run: Started, row: TrailRow) -> Iterable[str]:
    name, proof = f"run {run.run_id}", row.authority.proof
    if row.deed.repository_id != run.repository_id:
        yield f"{name}: is of repository {run.repository_id}, started in {row.deed.repository_id}"
    if row.deed.after.get("commit_sha") != run.commit_sha:
        yield f"{name}: is of {run.commit_sha}, started at {row.deed.after.get('commit_sha')}"
    if run.repository_id == 0:  # no repository on GitHub: the operator's own
        if proof.means is not Means.OPERATOR:
            yield f"{name}: should be the operator's, found {proof.means}"
        return
    if proof.means not in _MAY_START:
        yield f"{name}: should rest on an event, a role or a token, found {proof.means}"
    if proof.at is None:
        yield f"{name}: its proof has no time"
    if proof.means is Means.ROLE and proof.role is None:
        yield f"{name}: its proof names no role"
    if proof.means in {Means.EVENT, Means.TOKEN} and not proof.ref:
        yield f"{name}: its proof names no {proof.means}"


def _order_faults(run: Started, row: TrailRow) -> Iterable[str]:
    after = row.deed.after
    if after.get("commit_sha") != run.commit_sha:
        yield f"run {run.run_id}: {row.deed.subject} was ordered for {after.get('commit_sha')}"
    if run.image is not None and after.get("image") != run.image:
        yield f"run {run.run_id}: {row.deed.subject} was ordered with image {after.get('image')}"
