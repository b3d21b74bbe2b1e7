"""Say what one attempt shall do, from the run alone: pure."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from cynthus.wire import Gang, Work
from webhook_server.runs.approval import granted
from webhook_server.runs.forks import cache_scope
from webhook_server.runs.limits import extended_by
from webhook_server.runs.model import Attempt, Run
from webhook_server.runs.pinning import to_stage
from webhook_server.runs.policy import policy_of

# Shorter than the time after which the server gives a silent attempt up (120 s): the agent has
# stopped the command before anybody could think of a replacement.
SILENCE_LIMIT = timedelta(seconds=90)
STOP_GRACE = timedelta(seconds=10)  # what `docker stop` grants, which programs are written for
# Where a gang meets, torchrun's own default and the numbers after it, all below those that Linux
# gives to clients: two gangs of plain processes on one machine must not share one.
# https://docs.pytorch.org/docs/stable/elastic/run.html
_FIRST_PORT, _PORTS = 29500, 500
_NONE: Mapping[str, str] = MappingProxyType({})
_LONGEST_PATH_BYTES = 1024  # with /workspace before it well under Linux's PATH_MAX of 4096


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the server's settings allow every attempt."""

    max_duration: timedelta
    log_bytes: int
    output_bytes: int
    output_files: int
    hubs: Mapping[str, str] = field(default_factory=dict)  # addresses by kind of source


def find_member(run: Run, instance: str) -> tuple[Attempt, int] | None:
    """Return the attempt that an instance belongs to, with its rank."""
    for attempt in run.attempts:
        for member in attempt.members:
            if member.name == instance:
                return attempt, member.rank
    return None


def work_for(  # noqa: PLR0913, PLR0917 - each is of another origin
    run: Run,
    attempt: Attempt,
    rank: int,
    secrets: Mapping[str, str],
    limits: Limits,
    now: datetime,
    hub_secrets: Mapping[str, str] = _NONE,
) -> Work:
    """Return one instance's work; `secrets` holds the values of `forks.secret_names`.

    `hub_secrets` holds those of `forks.hub_secret_names`, which the command does not see.

    Raises: ValueError for secrets of a fork's run, whoever handed them over.
    """
    spec = run.spec
    if spec is None or run.image is None:
        raise ValueError(f"run {run.id} has an attempt without spec or image")
    if (secrets or hub_secrets) and run.origin.fork:
        raise ValueError(f"run {run.id} is of a fork's commit, which gets no secrets")
    need = spec.resources
    return Work(
        run_id=run.id,
        attempt=attempt.number,
        name=spec.name,
        image=run.image,
        command=spec.run,
        env={**dict(spec.env), **_own_env(run, attempt)},
        secrets=dict(secrets),
        cpu=need.cpu,
        memory_bytes=need.memory_bytes,
        disk_bytes=need.disk_bytes,
        gpu_count=attempt.offer.gpu_count,
        outputs=tuple(output.path for output in spec.outputs),
        encrypt_to=spec.encrypt_to,
        deadline_s=_left(run, limits, now).total_seconds(),
        silence_limit_s=SILENCE_LIMIT.total_seconds(),
        stop_grace_s=STOP_GRACE.total_seconds(),
        log_limit_bytes=limits.log_bytes,
        output_limit_bytes=limits.output_bytes,
        output_limit_files=limits.output_files,
        gang=_gang(run, attempt, rank),
        keep_warm_s=_keep_warm(run, attempt).total_seconds(),
        minimum_driver=run.environment.about.minimum_driver if run.environment else None,
        data=to_stage(run.datasets or (), limits.hubs),
        hub_secrets=dict(hub_secrets),
        repository_id=cache_scope(run),
    )


def _gang(run: Run, attempt: Attempt, rank: int) -> Gang | None:
    nodes = len(attempt.members)
    if nodes == 1:
        return None
    port = _FIRST_PORT + zlib.crc32(f"{run.id}-{attempt.number}".encode()) % _PORTS
    return Gang(rank=rank, nodes=nodes, port=port)


def _keep_warm(run: Run, attempt: Attempt) -> timedelta:
    """Return how long the agent asks for more: whether it may is decided at its end."""
    able = policy_of(attempt.offer.provider).powers.keep_warm
    alone = len(attempt.members) == 1 and run.key.repository_id != 0
    if run.spec is None or not able or not alone or run.origin.fork:
        return timedelta(0)
    return granted(run.spec, run.grant).keep_warm


def rank_path(rank: int, path: str) -> str:
    """Return where an output of one instance lies: those of rank 0 are the run's own."""
    return path if rank == 0 else f"rank-{rank}/{path}"


def rank_fault(rank: int | None, path: str) -> str | None:
    """Return why rank 0 of a gang may not name an output so, or None when it may."""
    if rank == 0 and re.fullmatch(r"rank-\d+", path.partition("/")[0]):
        return "path: should not begin with rank-<n>, where the others' files lie. Rename it."
    return None


def _own_env(run: Run, attempt: Attempt) -> dict[str, str]:
    # Folders ($CYNTHUS_OUTPUTS …) are the agent's to say: it knows where the workspace lies.
    return {
        "CYNTHUS_RUN_ID": run.id,
        "CYNTHUS_ATTEMPT": str(attempt.number),
        "CYNTHUS_REPOSITORY": run.repository,
        "CYNTHUS_COMMIT": run.key.commit_sha,
        "CYNTHUS_REF": run.ref,
    }


def _left(run: Run, limits: Limits, now: datetime) -> timedelta:
    assert run.spec is not None  # noqa: S101 - work_for has looked
    wanted = granted(run.spec, run.grant).resources.max_duration + extended_by(run)
    longest = min(wanted, limits.max_duration)
    started = [attempt.started_at for attempt in run.attempts if attempt.started_at]
    return max(longest - (now - min(started, default=now)), timedelta(0))


def path_fault(path: str) -> str | None:
    """Return why `path` cannot name an output, or None when it can."""
    if not path or path.startswith("/") or path.endswith("/"):
        return "path: should be a file relative to /workspace. Send it without a leading slash."
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "path: should have no empty part, `.` or `..`. Send the plain path."
    if any(ord(c) < 0x20 or ord(c) == 0x7F or 0xD800 <= ord(c) <= 0xDFFF for c in path):  # noqa: PLR2004 - control characters, halves of UTF-16 pairs
        return "path: should have no control characters. Rename the file."
    if len(path.encode()) > _LONGEST_PATH_BYTES:
        return f"path: should have at most {_LONGEST_PATH_BYTES} bytes. Rename the file."
    return None
