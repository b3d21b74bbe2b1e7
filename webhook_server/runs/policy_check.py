"""Show a commit's policy file as a check run, with every fault on its line: pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cynthus.codec import encode
from cynthus.money import usd
from cynthus.repository_policy import POLICY_PATH, RepositoryPolicy
from webhook_server.runs.annotations import Annotation
from webhook_server.runs.hostile import clean, inline
from webhook_server.runs.model import SpecFault
from webhook_server.runs.observations import PolicySeen
from webhook_server.runs.report import CheckRun
from webhook_server.runs.rights import who_may

CHECK_NAME = "cynthus/policy"
_MESSAGE_LIMIT = 8_000  # GitHub takes 64 KB; a person reads the first lines


@dataclass(frozen=True, kw_only=True)
class PolicyShown:
    """A commit's policy file, as far as its check run tells of it."""

    sha: str
    seen: PolicySeen
    counts: bool  # it is what the repository stands under now


def policy_check(shown: PolicyShown, *, external_id: str, now: datetime) -> CheckRun:
    """Return the check run; it is complete from the beginning, and the same for equal files."""
    digest = hashlib.sha256(json.dumps(_told(shown), sort_keys=True).encode()).hexdigest()
    faults = shown.seen.faults
    return CheckRun(
        name=CHECK_NAME,
        head_sha=shown.sha,
        external_id=external_id,
        details_url="",
        status="completed",
        conclusion="failure" if faults else "success",
        started_at=now,
        completed_at=now,
        title=_title(shown),
        summary=_summary(shown),
        text="",
        annotations=tuple(_annotation(fault) for fault in faults),
        actions=(),
        digest=digest,
    )


def _told(shown: PolicyShown) -> object:
    # All but the moment at which it was read.
    return encode((shown.sha, shown.seen.policy, shown.seen.found, shown.seen.faults, shown.counts))


def _title(shown: PolicyShown) -> str:
    faults = len(shown.seen.faults)
    if faults:
        return "1 fault: nothing that costs starts" if faults == 1 else f"{faults} faults"
    if not shown.seen.found:
        return "removed: the defaults hold"
    return "in force" if shown.counts else "fine; in force once it is merged"


def _summary(shown: PolicyShown) -> str:
    lines = [_standing(shown), ""]
    if shown.seen.faults:
        lines += [f"- line {fault.line}: {inline(fault.text)}" for fault in shown.seen.faults]
    else:
        lines += ["| line | says |", "|---|---|"]
        lines += [f"| {name} | {text} |" for name, text in _lines(shown.seen.policy)]
    return "\n".join(lines)


def _standing(shown: PolicyShown) -> str:
    branch = "the default branch"
    if shown.seen.faults and shown.counts:
        return f"{POLICY_PATH} cannot be used: until it is mended, nothing that costs starts here."
    if shown.seen.faults:
        return f"{POLICY_PATH} cannot be used. On {branch} it would let nothing start that costs."
    if shown.counts:
        return f"{POLICY_PATH} of {branch} is what runs of this repository stand under."
    return f"Only {POLICY_PATH} of {branch} counts: this one takes effect there."


def _lines(policy: RepositoryPolicy) -> Iterator[tuple[str, str]]:
    """Yield the lines that people look for first; the whole is in the file."""
    limits, approval = policy.limits, policy.approval
    most = limits.max_cost_usd
    yield "cost of one run", "no limit" if most is None else f"at most {usd(most)}"
    month = limits.monthly_budget_usd
    yield "cost of a month", "the server's limit" if month is None else f"at most {usd(month)}"
    longest = limits.max_duration
    yield "time of one run", "the spec's" if longest is None else f"at most {longest}"
    gpus = "all" if limits.gpus is None else ", ".join(f"{t}:{n}" for t, n in limits.gpus) or "none"
    yield "GPUs", gpus
    asks = [f"beyond {usd(approval.cost_usd)}"] if approval.cost_usd is not None else []
    asks += [f"longer than {approval.duration}"] if approval.duration is not None else []
    asks += [f"with {', '.join(approval.gpus)}"] if approval.gpus else []
    by = f" (by {who_may(approval.by)})"
    yield "needs approval", "; ".join([*(ask + by for ask in asks), "what comes from forks"])


def _annotation(fault: SpecFault) -> Annotation:
    return Annotation(
        path=POLICY_PATH,
        line=max(fault.line, 1),
        column=fault.column if fault.column > 0 else None,
        level="failure",
        message=clean(fault.text).strip()[:_MESSAGE_LIMIT] or "(no text)",
        title="The policy cannot be used",
    )
