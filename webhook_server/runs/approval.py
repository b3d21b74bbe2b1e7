"""Say what a repository's policy makes of a run: pure.

It *refuses* what lies beyond a hard line, *lowers* amounts to theirs (the grant), and *holds* what
a person must say yes to. A yes (an approval) is for exactly one commit, one effective spec with its
overrides, one image and one most price: any other of these voids it, and a higher price than
approved does too, so that nothing is approved for one thing and used for another
(https://github.com/runatlantis/atlantis/issues/1508 is what happens otherwise).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Protocol, TypeVar

from cynthus.codec import encode
from cynthus.frozen import replace
from cynthus.money import usd
from cynthus.repository_policy import (
    POLICY_PATH,
    Allowance,
    ApprovalLine,
    RepositoryPolicy,
    Role,
    Verb,
)
from cynthus.spec import GpuNeed, Spec
from webhook_server.runs.model import Approval, Grant, Hold, Run, State
from webhook_server.runs.observations import PolicySeen

#: Room for `/cynthus extend` where the policy names none: one more look at a run that is nearly
#: done. Only beside a `max_cost`, which bounds the instance's own hard end whatever is extended.
DEFAULT_EXTEND = timedelta(hours=2)
_CENT = Decimal("0.01")
Amount = TypeVar("Amount", Decimal, timedelta)


class Approver(Protocol):
    """Whoever says yes."""

    @property
    def id(self) -> int:
        """Return GitHub's number of the account."""

    @property
    def login(self) -> str:
        """Return its name."""


# ── what is refused ─────────────────────────────────────────────────────────────────────────────


def refusal(spec: Spec, seen: PolicySeen, *, provider: str) -> str | None:
    """Return why the policy does not let such a run start, or None when it does.

    `provider` is the one that would lend. Amounts are lowered, never refused: `grant_of`.
    """
    if seen.faults:
        faults = [f"{POLICY_PATH}:{f.line}:{f.column}: {f.text}" for f in seen.faults]
        first = "the repository's policy cannot be used, and nothing that costs starts without it"
        return "\n".join((f"{first}:", *faults))
    return "\n".join(_refusals(spec, seen.policy, provider)) or None


def _refusals(spec: Spec, policy: RepositoryPolicy, provider: str) -> Iterator[str]:
    limits, need = policy.limits, spec.resources
    if limits.providers is not None and provider not in limits.providers:
        yield _beyond("resources/provider", "limits/providers", limits.providers, provider)
    if limits.gpus is not None:
        allowed = tuple(_gpu_text(*entry) for entry in limits.gpus)
        most = dict(limits.gpus)
        for gpu in need.gpu:
            if gpu.count > most.get(gpu.type, 0):
                found = _gpu_text(gpu.type, gpu.count)
                yield _beyond("resources/gpu", "limits/gpus", allowed, found)
    if limits.nodes is not None and need.nodes > limits.nodes:
        line = (f"at most {limits.nodes}",)
        yield _beyond("resources/nodes", "limits/nodes", line, str(need.nodes))


def _beyond(where: str, line: str, allowed: Sequence[str], found: str) -> str:
    these = ", ".join(allowed) or "none"
    return (
        f"{where}: should be what the repository's policy allows ({these}), found {found}."
        f" Change it, or have `{line}` changed in {POLICY_PATH} of the default branch."
    )


def _gpu_text(kind: str, count: int) -> str:
    return kind if count == 1 else f"{kind}:{count}"


# ── what is lowered ─────────────────────────────────────────────────────────────────────────────


def grant_of(spec: Spec, policy: RepositoryPolicy, *, fork: bool) -> Grant:
    """Return what the policy leaves of the spec's wishes; of a fork's the lesser of both limits."""
    limits, need = policy.limits, spec.resources
    costs = [limits.max_cost_usd, policy.forks.max_cost_usd if fork else None]
    durations = [limits.max_duration, policy.forks.max_duration if fork else None]
    grant = Grant(
        max_cost_usd=_lowered(need.max_cost_usd, costs),
        max_duration=_lowered(need.max_duration, durations),
        # A machine that waits would wait for the fork's next commit, which nobody has approved.
        keep_warm=_lowered(spec.keep_warm, [limits.keep_warm, timedelta(0) if fork else None]),
    )
    room = timedelta(0) if fork else _room(granted(spec, grant), policy)
    return replace(grant, extend=room)


def _lowered(wanted: Amount | None, lines: Sequence[Amount | None]) -> Amount | None:
    """Return the lowest line where more is wanted, or where no end is; else None."""
    most = min((line for line in lines if line is not None), default=None)
    return most if most is not None and (wanted is None or wanted > most) else None


def _room(spec: Spec, policy: RepositoryPolicy) -> timedelta:
    """Return how much `/cynthus extend` may add in all: never past a line that is silent about it.

    What the policy grants by name may pass its `max_duration`; what nobody granted may not.
    """
    need = spec.resources
    room = policy.limits.extend
    if room is None:
        room = DEFAULT_EXTEND if need.max_cost_usd is not None else timedelta(0)
        if policy.limits.max_duration is not None:
            room = min(room, policy.limits.max_duration - need.max_duration)
    asks = policy.approval.duration
    if asks is not None and need.max_duration <= asks:  # else it is approved, and its cap holds
        room = min(room, asks - need.max_duration)
    return max(timedelta(0), room)


_AS_WISHED = Grant()


def granted(spec: Spec, grant: Grant) -> Spec:
    """Return the spec with what was granted of its wishes."""
    if grant == _AS_WISHED:  # nearly always, and asked four times a pass
        return spec
    need = spec.resources
    need = replace(
        need,
        max_cost_usd=need.max_cost_usd if grant.max_cost_usd is None else grant.max_cost_usd,
        max_duration=need.max_duration if grant.max_duration is None else grant.max_duration,
    )
    keep_warm = spec.keep_warm if grant.keep_warm is None else grant.keep_warm
    return replace(spec, resources=need, keep_warm=keep_warm)


def lowered(grant: Grant, *, fork: bool) -> tuple[str, ...]:
    """Say what was lowered, for the run's notices."""
    line = "`limits` or `forks`" if fork else "`limits`"
    found: list[tuple[str, str]] = []
    if grant.max_cost_usd is not None:
        found.append(("resources/max_cost", usd(grant.max_cost_usd)))
    if grant.max_duration is not None:
        found.append(("resources/max_duration", str(grant.max_duration)))
    if grant.keep_warm is not None:
        found.append(("keep_warm", str(grant.keep_warm)))
    whose = f"the repository's policy allows ({line} in {POLICY_PATH})"
    return tuple(f"{where}: {most} at most, as {whose}" for where, most in found)


# ── what a person must say yes to ───────────────────────────────────────────────────────────────


def hold_for(run: Run, spec: Spec, policy: RepositoryPolicy, need_usd: Decimal) -> Hold | None:
    """Return what the run must wait for a person for, were there no approval; None: nothing.

    `spec` is what was granted of it; `need_usd` the most that it may come to cost in all.
    """
    lines = tuple(_lines(spec, policy.approval, need_usd))
    reasons = (*_own_reasons(run, need_usd), *lines)
    if not reasons:
        return None
    allowance = policy.approval.by if lines else policy.allowance(Verb.APPROVE)
    cap = need_usd.quantize(_CENT, ROUND_CEILING)  # as people are shown it
    return Hold(reasons=reasons, cap_usd=cap, who=_who(allowance))


def approver(run: Run, policy: RepositoryPolicy) -> Allowance:
    """Return who may say yes to a held run, by the policy as it stands now.

    Beyond a line of `approval` it is whoever that names; for a fork's commit alone whoever may
    ask for `approve`.
    """
    if run.spec is None or run.hold is None:
        return policy.allowance(Verb.APPROVE)
    spec = granted(run.spec, grant_of(run.spec, policy, fork=run.origin.fork))
    crossed = any(_lines(spec, policy.approval, run.hold.cap_usd))
    return policy.approval.by if crossed else policy.allowance(Verb.APPROVE)


def _own_reasons(run: Run, need_usd: Decimal) -> Iterator[str]:
    if run.origin.fork:
        yield "its commit comes from a fork"
    if run.approval is not None and need_usd > run.approval.cap_usd:
        yield (
            f"it was approved for {usd(run.approval.cap_usd)} in all, and may come to cost"
            f" {usd(need_usd)} now"
        )


def _lines(spec: Spec, line: ApprovalLine, need_usd: Decimal) -> Iterator[str]:
    if line.cost_usd is not None and need_usd > line.cost_usd:
        yield f"it may come to cost {usd(need_usd)}, more than {usd(line.cost_usd)}"
    longest = spec.resources.max_duration
    if line.duration is not None and longest > line.duration:
        yield f"it may take {longest}, longer than {line.duration}"
    asked = [need for need in spec.resources.gpu if need.type in line.gpus]
    if asked:
        yield f"it asks for {_gpus(asked)}"


def _gpus(needs: Sequence[GpuNeed]) -> str:
    return ", ".join(_gpu_text(need.type, need.count) for need in needs)


def _who(allowance: Allowance) -> str:
    # Plain text, unlike `rights.who_may`: a reason is made harmless where it is shown.
    roles = [role.value for role in Role if role.reaches(allowance.role)]
    enough = " or ".join(filter(None, [", ".join(roles[:-1]), roles[-1]]))
    return f"{enough}; or {', '.join(allowance.people)}" if allowance.people else enough


# ── the yes ─────────────────────────────────────────────────────────────────────────────────────


_LATER = frozenset({"encrypt_to"})


def effective_digest(spec: Spec) -> str:
    """Return the SHA-256 of all that a spec means, overrides included, in hex.

    Every field counts, those of a later version too; what the file looks like does not. A key that
    came after approvals were kept counts where it is set: a new server must not void them.
    """
    value = encode(spec)
    found = {name: value[name] for name in value if name not in _LATER or value[name] is not None}
    text = json.dumps(found, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def covers(approval: Approval, run: Run, need_usd: Decimal) -> bool:
    """Say whether the approval is for exactly this run, at what it may come to cost."""
    return is_for(approval, run) and need_usd <= approval.cap_usd


def is_for(approval: Approval, run: Run) -> bool:
    """Say whether the approval is for exactly this commit, effective spec and image."""
    return (
        run.spec is not None
        and approval.commit_sha == run.key.commit_sha
        and approval.spec_sha256 == effective_digest(run.spec)
        and approval.image in {None, run.image}
    )


def bound(approval: Approval | None, image: str) -> Approval | None:
    """Bind an approval that was given before there was an image to the first that arrived."""
    if approval is None or approval.image is not None:
        return approval
    return replace(approval, image=image)


def approve(run: Run, by: Approver, at: datetime) -> Approval | str:
    """Return the yes to what the run waits for now, or why there is nothing to say yes to.

    Whether the person may say so is asked before: `approver`.
    """
    if run.state is State.FINISHED:
        return f"the run {run.id} has ended; ask for a new one."
    if run.hold is None or run.spec is None:
        if run.approval is not None:
            return f"the run {run.id} was approved by {run.approval.by} already."
        return f"the run {run.id} waits for nobody's approval."
    return Approval(
        by=by.login,
        by_id=by.id,
        at=at,
        commit_sha=run.key.commit_sha,
        spec_sha256=effective_digest(run.spec),
        image=run.image,
        cap_usd=run.hold.cap_usd,
    )


def approve_commit(
    commit_sha: str, spec: Spec, grant: Grant, by: Approver, at: datetime
) -> Approval | str:
    """Return the yes to a run that does not exist yet, as a fork's needs it; or why none can be.

    `spec` is the effective one, with its overrides. The first image that arrives is bound then.
    """
    cap = granted(spec, grant).resources.max_cost_usd
    if cap is None:
        return (
            "resources/max_cost: should be set, since the price of this run is not known before it"
            " is built, found nothing. Write one such as `max_cost: 5.00`."
        )
    return Approval(
        by=by.login,
        by_id=by.id,
        at=at,
        commit_sha=commit_sha,
        spec_sha256=effective_digest(spec),
        image=None,
        cap_usd=cap,
    )
