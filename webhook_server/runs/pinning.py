"""Bind a run to bytes that do not change: which data it stands on, and whether it fits: pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

from cynthus.frozen import replace
from cynthus.source_parts import source_parts
from cynthus.spec import DataSource, Spec
from cynthus.wire_data import Dataset, DatasetWork, SourceKind
from webhook_server.runs.commands import Decision
from webhook_server.runs.look import Look, finish
from webhook_server.runs.model import Cause, Run
from webhook_server.runs.verdict import failed

_SHOWN = 12  # hex digits: enough to tell two revisions apart
_GB = 10**9


def wanted(run: Run) -> bool:
    """Say whether the run's data is still to be pinned."""
    return run.spec is not None and bool(run.spec.data) and run.datasets is None


def taken(at: Look) -> Look | Decision:
    """Return the look with its data pinned, as far as that is known yet.

    The end of a run whose data cannot be had, or does not fit its disk: now, before anything
    is paid for.
    """
    seen = at.seen.data
    if seen is None or not wanted(at.run):
        return at
    why_not = seen.fault or disk_refusal(at.spec, seen.datasets or ())
    if why_not is not None:
        return finish(replace(at.run, hold=None), failed(Cause.DATA, why_not), at.now)
    return replace(at, run=replace(at.run, datasets=seen.datasets))


def waiting_text(at: Look) -> str:
    """Say why the data is not pinned yet."""
    seen = at.seen.data
    return seen.detail if seen is not None and seen.detail else "its data is being looked up"


# ── one dataset ─────────────────────────────────────────────────────────────────────────────────


def bind(
    entry: DataSource,
    revision: str,
    *,
    include: tuple[str, ...] | None = None,
    size_bytes: int | None = None,
    files: int | None = None,
) -> Dataset:
    """Return an entry bound to a revision; `include`: what its subset means there."""
    patterns = entry.include if include is None else include
    return Dataset(
        name=entry.name,
        source=entry.source,
        mount=entry.mount,
        kind=SourceKind(entry.kind),
        revision=revision,
        key=_key(entry, revision, patterns),
        size_bytes=size_bytes,
        files=files,
        include=patterns,
        exclude=entry.exclude,
        subset=entry.subset,
        unpack=entry.unpack,
    )


def _key(entry: DataSource, revision: str, include: tuple[str, ...]) -> str:
    """Return what names equal bytes in equal places: neither the entry's name nor its mount."""
    parts = source_parts(entry.source)
    name = parts.name.rstrip("/")  # of a prefix: with or without it, the same is meant
    what = [parts.kind, parts.shelf, name, revision]
    which = [sorted(include), sorted(entry.exclude), entry.unpack]
    return hashlib.sha256(json.dumps([*what, *which]).encode()).hexdigest()


def to_stage(datasets: Sequence[Dataset], endpoints: Mapping[str, str]) -> tuple[DatasetWork, ...]:
    """Return what an agent shall stage; `endpoints`: the hubs' addresses by kind."""
    return tuple(
        DatasetWork(
            dataset=one,
            endpoint=endpoints.get(one.kind, ""),
            allow=one.include,
            ignore=one.exclude,
        )
        for one in datasets
    )


# ── what is told of them ────────────────────────────────────────────────────────────────────────


def revision_text(dataset: Dataset) -> str:
    """Say a revision as people compare it."""
    return dataset.revision[:_SHOWN] if len(dataset.revision) > _SHOWN else dataset.revision


def size_text(dataset: Dataset) -> str:
    """Say how much there is; nothing where the hub does not tell."""
    if dataset.size_bytes is None:
        return ""
    files = "" if dataset.files is None else f" in {dataset.files} files"
    return f"{_amount(dataset.size_bytes)}{files if dataset.files != 1 else ' in 1 file'}"


def facts(run: Run) -> Mapping[str, str]:
    """Return by name what each dataset of a run is, as far as it is known."""
    if run.datasets is None:
        return {one.name: one.source for one in (run.spec.data if run.spec else ())}
    return {one.name: fact(one) for one in run.datasets}


def fact(one: Dataset) -> str:
    """Say in a line what a dataset is."""
    size = size_text(one)
    return f"{one.source} at {revision_text(one)}{f', {size}' if size else ''}"


def _amount(size_bytes: int) -> str:
    for unit, name in ((10**12, "TB"), (_GB, "GB"), (10**6, "MB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.3g} {name}"
    return f"{size_bytes} bytes"


def disk_refusal(spec: Spec, datasets: Sequence[Dataset]) -> str | None:
    """Say that the data does not fit the disk that the spec asks for; None: it may.

    What is unpacked is there twice until that is done. What no hub tells is not counted: the agent
    looks again before it fetches.
    """
    disk = spec.resources.disk_bytes
    need = sum(_need_bytes(one) for one in datasets)
    if disk is None or need <= disk:
        return None
    # A tenth more: an image and the command's own files lie there as well.
    fits = math.ceil(need * 1.1 / _GB)
    twice = any(one.unpack and one.size_bytes for one in datasets)
    return (
        f"resources/disk: should hold the data, which takes {_amount(need)}"
        f"{' while archives are unpacked' if twice else ''}, found {_amount(disk)}."
        f" Write `disk: {fits}GB`, or stage less with `include`."
    )


def _need_bytes(one: Dataset) -> int:
    return (one.size_bytes or 0) * (2 if one.unpack else 1)
