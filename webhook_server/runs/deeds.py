"""Say which deeds a changed run amounts to: pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from cynthus.codec import encode
from webhook_server.runs.lending import Fate, Gone
from webhook_server.runs.model import Approval, Attempt, Extension, Run, RunDraft, State
from webhook_server.runs.observations import (
    CancelWish,
    CreateSeen,
    ImageArrived,
    PolicySeen,
    ProviderSeen,
)
from webhook_server.runs.trail import Deed, DeedVerb


def start(draft: RunDraft) -> Deed:
    """Return the deed that a run was accepted."""
    approval = draft.approval
    after = {
        "commit_sha": draft.key.commit_sha,
        "spec_path": draft.key.spec_path,
        "trigger": draft.key.trigger,
        "ref": draft.ref,
        "overrides": dict(draft.origin.overrides),
        "fork": draft.origin.fork,
        "approved_usd": None if approval is None else str(approval.cap_usd),
    }
    return Deed(
        verb=DeedVerb.START,
        repository_id=draft.key.repository_id,
        run_id=draft.id,
        after=after,
        text=draft.repository,
    )


def image(repository_id: int, run_id: str, arrived: ImageArrived) -> Deed:
    """Return the deed that a run was told its image, or that none will come."""
    return Deed(
        verb=DeedVerb.IMAGE,
        repository_id=repository_id,
        run_id=run_id,
        text=arrived.failure or "",
        after={"image": arrived.image},
    )


def wished(repository_id: int, run_id: str, wish: CancelWish | Extension) -> Deed:
    """Return the deed that somebody wants a run to end, or to have more time."""
    if isinstance(wish, CancelWish):
        after: dict[str, Any] = {"superseded": wish.superseded}
        verb = DeedVerb.CANCEL
    else:
        after = {"key": wish.key, "more_s": wish.more.total_seconds()}
        verb = DeedVerb.EXTEND
    return Deed(
        verb=verb,
        repository_id=repository_id,
        run_id=run_id,
        text=f"asked for by {wish.by}",
        after=after,
    )


def approved(repository_id: int, run_id: str, before: Approval | None, given: Approval) -> Deed:
    """Return the deed that somebody said yes to a run."""
    return Deed(
        verb=DeedVerb.APPROVE,
        repository_id=repository_id,
        run_id=run_id,
        text=f"approved by {given.by}",
        before=_terms(before),
        after=_terms(given),
    )


def of_save(before: Run, run: Run) -> list[Deed]:
    """Return the deeds of a saved decision, in their order."""
    return [*_grants(before, run), *_orders(before, run), *_end(before, run)]


def _of(run: Run, verb: DeedVerb, **values: Any) -> Deed:
    return Deed(verb=verb, repository_id=run.key.repository_id, run_id=run.id, **values)


def _grants(before: Run, run: Run) -> Iterable[Deed]:
    if run.approval is not None and run.approval != before.approval:
        yield _of(
            run,
            DeedVerb.GRANT,
            subject="approval",
            text=f"approved by {run.approval.by}",
            before=_terms(before.approval),
            after=_terms(run.approval),
        )
    for one in run.extensions[len(before.extensions) :]:
        yield _of(
            run,
            DeedVerb.GRANT,
            subject="extension",
            text=f"asked for by {one.by}",
            after={"key": one.key, "more_s": one.more.total_seconds()},
        )


def _terms(given: Approval | None) -> Mapping[str, Any]:
    if given is None:
        return {}
    return {
        "by": given.by,
        "by_id": given.by_id,
        "at": given.at.isoformat(),
        "commit_sha": given.commit_sha,
        "spec_sha256": given.spec_sha256,
        "image": given.image,
        "cap_usd": str(given.cap_usd),
    }


def _orders(before: Run, run: Run) -> Iterable[Deed]:
    for attempt in run.attempts[len(before.attempts) :]:
        for member in attempt.members:
            yield _of(run, DeedVerb.ORDER, subject=member.name, after=_order(run, attempt))


def _order(run: Run, attempt: Attempt) -> Mapping[str, Any]:
    offer = attempt.offer
    return {
        "attempt": attempt.number,
        "commit_sha": run.key.commit_sha,
        "spec_sha256": run.spec_sha256,
        "image": run.image,
        "provider": offer.provider,
        "place": offer.place,
        "machine": offer.machine,
        "spot": offer.spot,
        "usd_per_hour": str(offer.usd_per_hour),
    }


def _end(before: Run, run: Run) -> Iterable[Deed]:
    if run.state is State.FINISHED and before.state is not State.FINISHED:
        outcome = run.outcome.value if run.outcome else None
        after = {"outcome": outcome, "cost_usd": str(run.cost_usd)}
        yield _of(run, DeedVerb.END, text=run.reason.text, after=after)


# ── instances ───────────────────────────────────────────────────────────────────────────────────


def created(repository_id: int, run_id: str, name: str, seen: CreateSeen) -> Deed:
    """Return the deed that an instance was ordered of its provider, with the answer."""
    return Deed(
        verb=DeedVerb.CREATE,
        repository_id=repository_id,
        run_id=run_id,
        subject=name,
        text=seen.detail,
        after={"answer": seen.outcome.value},
    )


def ended(
    repository_id: int,
    run_id: str,
    name: str,
    seen: tuple[ProviderSeen | None, ProviderSeen],
) -> list[Deed]:
    """Return the deeds that a provider's newest word amounts to: it was told before, and now.

    Deletions and questions are repeated every few seconds; only what is new is a deed.
    """
    before, now = seen
    verbs = []
    if now.fate is Fate.ENDING and (before is None or before.fate is not Fate.ENDING):
        verbs.append(DeedVerb.DELETE)
    if now.gone is Gone.ABSENT and (before is None or before.gone is not Gone.ABSENT):
        verbs.append(DeedVerb.GONE)
    return [
        Deed(
            verb=verb,
            repository_id=repository_id,
            run_id=run_id,
            subject=name,
            text=now.detail,
            after={"fate": now.fate.value if now.fate else None},
        )
        for verb in verbs
    ]


def given_back(repository_id: int, run_id: str, machine: str) -> Deed:
    """Return the deed that an instance which waited for a next run waits no longer."""
    return Deed(
        verb=DeedVerb.GIVE_BACK, repository_id=repository_id, run_id=run_id, subject=machine
    )


def swept(provider: str, name: str) -> Deed:
    """Return the deed that something which no record knows is about to be deleted."""
    return Deed(verb=DeedVerb.SWEEP, subject=name, text=f"lent by {provider}, in no record")


# ── what is shown and kept ──────────────────────────────────────────────────────────────────────


def released(repository_id: int, run_id: str, url: str | None, note: str | None) -> Deed:
    """Return the deed that outputs were published, or that GitHub refused them for good."""
    return Deed(
        verb=DeedVerb.RELEASE,
        repository_id=repository_id,
        run_id=run_id,
        done=url is not None,
        text=note or "",
        after={"url": url},
        once=f"release/{run_id}/{'done' if url is not None else 'refused'}",  # saved more often
    )


def withdrawn(repository_id: int, run_id: str, note: str) -> Deed:
    """Return the deed that a published release is no more."""
    return Deed(verb=DeedVerb.WITHDRAW, repository_id=repository_id, run_id=run_id, text=note)


def policy_read(repository_id: int, before: PolicySeen | None, seen: PolicySeen) -> list[Deed]:
    """Return the deed that another policy holds from now on; none: it says the same."""
    was = None if before is None else policy_digest(before)
    now = policy_digest(seen)
    if was == now:
        return []
    faults = "; ".join(f"{one.line}:{one.column}: {one.text}" for one in seen.faults)
    return [
        Deed(
            verb=DeedVerb.POLICY,
            repository_id=repository_id,
            done=not seen.faults,
            text=faults or ("" if seen.found else "there is no such file: the defaults hold"),
            before={"sha256": was},
            after={"sha256": now},
        )
    ]


def policy_void(repository_id: int, sha: str) -> Deed:
    """Return the deed that a push made the policy which was read count no more."""
    return Deed(verb=DeedVerb.VOID, repository_id=repository_id, after={"commit_sha": sha})


def policy_digest(seen: PolicySeen) -> str:
    """Name what a policy says, whenever it was read."""
    told = {"policy": encode(seen.policy), "found": seen.found, "faults": encode(seen.faults)}
    return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
