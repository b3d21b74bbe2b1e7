"""State how a release came to be, in the words of in-toto and SLSA: pure.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
https://slsa.dev/spec/v1.0/provenance
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cynthus.codec import encode
from cynthus.source_parts import source_parts
from cynthus.wire_data import Dataset, SourceKind
from webhook_server.runs.environments import image_digest
from webhook_server.runs.model import Attempt, Run

PROVENANCE = "provenance.intoto.jsonl"
#: What this kind of build is, and what its parameters mean.
BUILD_TYPE = "https://github.com/cynthus/cynthus/blob/main/docs/releases.md#build-type-run-v1"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One file that the statement is about."""

    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Builder:
    """Who made the release: this server."""

    url: str  # its public address
    version: str
    github_url: str  # where the repository is seen by people


def statement(run: Run, subjects: Sequence[Subject], builder: Builder) -> bytes:
    """Return the statement as one line of JSON; the same run and files give the same bytes."""
    content = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": one.name, "digest": {"sha256": one.sha256}} for one in subjects],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": _asked(run),
                "internalParameters": _chosen(run),
                "resolvedDependencies": [*_dependencies(run, builder)],
            },
            "runDetails": {
                "builder": {"id": builder.url, "version": {"cynthus": builder.version}},
                "metadata": _times(run, builder),
                "byproducts": [_byproduct("cost_usd", format(run.cost_usd, "f"))],
            },
        },
    }
    return json.dumps(encode(content), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _asked(run: Run) -> dict[str, Any]:
    """Return what people control: a verifier has to agree with each of these."""
    return {
        "repository": {"id": run.key.repository_id, "name": run.repository},
        "commit": run.key.commit_sha,
        "ref": run.ref,
        "trigger": run.key.trigger,
        "pull_request": run.pull_request,
        "spec": {"path": run.key.spec_path, "sha256": run.spec_sha256},
        "overrides": dict(run.origin.overrides),
        "asked_by": run.origin.asked_by,
        "fork": run.origin.fork,
    }


def _chosen(run: Run) -> dict[str, Any]:
    """Return what the server decided by itself."""
    return {
        "attempts": [_attempt(attempt) for attempt in run.attempts],
        "approval": approval(run),
    }


def approval(run: Run) -> dict[str, Any] | None:
    """Return who said yes to the run, when, and to which price; None: nobody had to."""
    if run.approval is None:
        return None
    return {"by": run.approval.by, "at": run.approval.at, "cap_usd": run.approval.cap_usd}


def _attempt(attempt: Attempt) -> dict[str, Any]:
    offer = attempt.offer
    return {
        "number": attempt.number,
        "provider": offer.provider,
        "place": offer.place,
        "machine": offer.machine,
        "gpu": f"{offer.gpu_type}:{offer.gpu_count}" if offer.gpu_type else None,
        "driver": offer.driver or None,
        "spot": offer.spot,
        "nodes": len(attempt.members),
        "lost": attempt.lost,
    }


def _dependencies(run: Run, builder: Builder) -> Iterator[dict[str, Any]]:
    yield {
        "uri": f"git+{builder.github_url}/{run.repository}@{run.ref or run.key.commit_sha}",
        "digest": {"gitCommit": run.key.commit_sha},
    }
    yield {"name": run.key.spec_path, "digest": {"sha256": run.spec_sha256}}
    digest = image_digest(run.image)
    if digest:
        yield {"name": "image", "uri": f"oci://{run.image}", "digest": _digest(digest)}
    if run.environment is not None:
        about = run.environment.about
        if about.base_digest:
            yield {
                "name": "base",
                "uri": f"oci://{about.base}",
                "digest": _digest(about.base_digest),
            }
        if about.lock_sha256:
            yield {"name": "requirements.lock", "digest": {"sha256": about.lock_sha256}}
    for one in run.datasets or ():
        yield {"name": f"data/{one.name}", **_dataset(one)}


def _dataset(one: Dataset) -> dict[str, Any]:
    """Return what data a run stood on; a digest is only what names the bytes themselves.

    https://github.com/in-toto/attestation/blob/main/spec/v1/digest_set.md
    """
    parts = source_parts(one.source)
    which = {"include": one.include, "exclude": one.exclude, "subset": one.subset, "key": one.key}
    told: dict[str, Any] = {"uri": one.source, "annotations": {**which, "unpack": one.unpack}}
    match one.kind:
        case SourceKind.HF:
            told["uri"] = f"hf://{parts.shelf}/{parts.name}@{one.revision}"
            told["digest"] = {"gitCommit": one.revision}
        case SourceKind.HTTPS:
            told["digest"] = {"sha256": one.revision}
        case SourceKind.KAGGLE | SourceKind.GS:
            told["annotations"]["revision"] = one.revision
    return told


def _digest(text: str) -> dict[str, str]:
    kind, _, digits = text.partition(":")
    return {kind: digits}


def _times(run: Run, builder: Builder) -> dict[str, Any]:
    # The end of the last attempt, not of the run: a second try of a release says the same.
    ended = [attempt.ended_at for attempt in run.attempts if attempt.ended_at is not None]
    return {
        "invocationId": f"{builder.url}/runs/{run.id}",
        "startedOn": run.created_at,
        "finishedOn": max(ended, default=None),
    }


def _byproduct(name: str, text: str) -> dict[str, str]:
    # A descriptor needs one of uri, digest and content:
    # https://github.com/in-toto/attestation/blob/main/spec/v1/resource_descriptor.md
    content = base64.b64encode(text.encode()).decode()
    return {"name": name, "mediaType": "text/plain", "content": content}
