"""Say how two runs differ, for people: results first, what they were made of folded below: pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from math import isfinite

from cynthus.money import usd
from cynthus.wire_data import Dataset
from webhook_server.runs import pinning
from webhook_server.runs.attempts import machine_text, span
from webhook_server.runs.differences import differences
from webhook_server.runs.environments import image_digest
from webhook_server.runs.hostile import inline
from webhook_server.runs.model import Run, State

METRICS = 40  # rows; metrics.json of each release has them all
_FIELDS = 40  # rows of a folded table: a person looks for the one that counts
_PACKAGES = 60  # a change of CUDA alone renames thirty packages
_CELL = 120  # characters of one value
_NAME = 60
_DIGEST = 19  # `sha256:` and twelve digits, as Docker shows images
_NOTHING = "—"
#: Shown in tables of their own, or no difference that means anything.
_ELSEWHERE = ("version", "name", "data")


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two runs, with what is not part of its record."""

    run: Run
    metrics: Mapping[str, float] = field(default_factory=dict)  # last value of each
    lock: str | None = None  # its requirements.lock; None: it has none, or none was told


def comparison(left: Side, right: Side) -> str:
    """Return how `right` differs from `left`, as Markdown of at most about 30 kB."""
    parts = [
        _results(left, right),
        _folded("Spec and overrides", ("field",), _spec_rows(left.run, right.run), left, right),
        _folded("Data", ("source",), _data_rows(left.run, right.run), left, right),
        _folded("Environment", ("part",), _environment_rows(left.run, right.run), left, right),
        _folded("Packages", ("package",), _package_rows(left.lock, right.lock), left, right),
        _folded("Where it ran", ("part",), _place_rows(left.run, right.run), left, right),
    ]
    return "\n\n".join(part for part in parts if part)


# ── results ─────────────────────────────────────────────────────────────────────────────────────

Row = tuple[str, str, str]  # what, left, right: all of them safe to show


def _results(left: Side, right: Side) -> str:
    rows = [
        _row("outcome", outcome_text(left.run), outcome_text(right.run)),
        *_metric_rows(left.metrics, right.metrics),
        _took_row(took(left.run), took(right.run)),
        _cost_row(left.run, right.run),
        _count_row("attempts", len(left.run.attempts), len(right.run.attempts)),
        _row("commit", left.run.key.commit_sha[:10], right.run.key.commit_sha[:10]),
    ]
    hidden = len(left.metrics.keys() | right.metrics.keys()) - METRICS
    more = [f"\n… {hidden} more metrics."] if hidden > 0 else []
    head = f"| | {title(left.run)} | {title(right.run)} | difference |"
    return "\n".join([head, "|---|---:|---:|---:|", *rows, *more])


def title(run: Run) -> str:
    """Return a run's name for a heading, linked to its release where there is one."""
    name = f"{inline(run.spec.name if run.spec else 'run', _NAME)} \\#{run.number}"
    link = run.release_url or ""
    plain = re.fullmatch(r"https?://[^\s()<>\[\]\\\"'`|]{1,300}", link)
    return f"[{name}]({link})" if plain else name


def outcome_text(run: Run) -> str:
    """Return how a run ended, or where it stands."""
    if run.state is not State.FINISHED or run.outcome is None:
        return run.state.value
    return run.outcome.value.replace("_", " ")


def took(run: Run) -> timedelta | None:
    """Return how long its attempts ran together; None: none has both begun and ended."""
    spans = [
        one.ended_at - one.started_at
        for one in run.attempts
        if one.started_at is not None and one.ended_at is not None
    ]
    return sum(spans, timedelta(0)) if spans else None


def _metric_rows(left: Mapping[str, float], right: Mapping[str, float]) -> Iterator[str]:
    names = dict.fromkeys((*right, *left))  # in the order in which the newer run told them
    for name in list(names)[:METRICS]:
        before, after = left.get(name), right.get(name)
        cells = (_number(before), _number(after), difference(before, after))
        yield _line(inline(name, _NAME), *cells)


def difference(before: float | None, after: float | None) -> str:
    """Return `+0.02 (+2.2 %)`; nothing where one of them is missing or is no finite number."""
    if before is None or after is None or not (isfinite(before) and isfinite(after)):
        return ""
    # By decimal digits: people read 0.91 - 0.9 as 0.01, binary floats do not.
    change = Decimal(repr(after)) - Decimal(repr(before))
    if not change:
        return "="
    share = f" ({_percent(float(change) / abs(before))})" if before else ""
    return f"{float(change):+.4g}{share}"


def _percent(share: float) -> str:
    return f"{share * 100:+.3g} %" if isfinite(share) else "…"


def _number(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.6g}"


def _took_row(left: timedelta | None, right: timedelta | None) -> str:
    texts = [_NOTHING if one is None else span(one) for one in (left, right)]
    if left is None or right is None:
        return _line("time", *texts, "")
    more = right - left
    sign = "-" if more < timedelta(0) else "+"
    share = f" ({_percent(more / left)})" if left else ""
    said = f"{sign}{span(abs(more))}{share}" if abs(more) >= timedelta(seconds=1) else "="
    return _line("time", *texts, said)


def _cost_row(left: Run, right: Run) -> str:
    more = right.cost_usd - left.cost_usd
    sign = "-" if more < 0 else "+"
    share = f" ({_percent(float(more / left.cost_usd))})" if left.cost_usd else ""
    # Both are shown in whole cents: a difference of less would contradict what stands beside it.
    same = usd(left.cost_usd) == usd(right.cost_usd)
    said = "=" if same else f"{sign}{usd(abs(more))}{share}"
    return _line("cost", usd(left.cost_usd), usd(right.cost_usd), said)


def _count_row(what: str, left: int, right: int) -> str:
    return _line(what, str(left), str(right), f"{right - left:+d}" if right != left else "=")


def _row(what: str, left: str, right: str) -> str:
    return _line(what, left, right, "=" if left == right else "")


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


# ── what they were made of ──────────────────────────────────────────────────────────────────────


def _folded(what: str, heads: tuple[str, ...], rows: Iterable[Row], left: Side, right: Side) -> str:
    """Return a folded table of what differs; nothing when nothing does."""
    differing = [row for row in rows if row[1] != row[2]]
    if not differing:
        return ""
    names = [f"\\#{side.run.number}" for side in (left, right)]
    if names[0] == names[1]:
        names = [title(side.run) for side in (left, right)]
    differ = "differs" if len(differing) == 1 else "differ"
    limit = _PACKAGES if what == "Packages" else _FIELDS
    shown = [_line(*row) for row in differing[:limit]]
    more = [f"\n… {len(differing) - limit} more."] if len(differing) > limit else []
    return "\n".join(
        [
            f"<details><summary>{what}: {len(differing)} {differ}</summary>",
            "",
            _line(*heads, *names),
            "|---|---|---|",
            *shown,
            *more,
            "",
            "</details>",
        ]
    )


def _values(left: Mapping[str, str], right: Mapping[str, str]) -> Iterator[Row]:
    for name in dict.fromkeys((*left, *right)):
        yield _value_row(name, left.get(name), right.get(name))


def _value_row(name: str, before: str | None, after: str | None) -> Row:
    left, right = (_NOTHING if one is None else inline(one, _CELL) for one in (before, after))
    return inline(name, _NAME), left, right


def _spec_rows(left: Run, right: Run) -> Iterator[Row]:
    for one in differences(left.spec, right.spec):
        if one.path.partition("/")[0] not in _ELSEWHERE:
            yield _value_row(one.path, one.old, one.new)
    yield from _values(
        {f"override {key}": value for key, value in left.origin.overrides},
        {f"override {key}": value for key, value in right.origin.overrides},
    )


def _data_rows(left: Run, right: Run) -> Iterator[Row]:
    yield from _values(_sources(left), _sources(right))


def _sources(run: Run) -> dict[str, str]:
    if run.datasets is None:
        entries = run.spec.data if run.spec is not None else ()
        return {one.name: f"{one.source}, at {one.mount}" for one in entries}
    return {one.name: f"{_pinned(one)}, at {one.mount}" for one in run.datasets}


def _pinned(one: Dataset) -> str:
    which = [f"include {' '.join(one.include)}"] if one.include else []
    which += [f"exclude {' '.join(one.exclude)}"] if one.exclude else []
    which += ["unpacked"] if one.unpack else []
    return ", ".join((f"{one.source} at {pinning.revision_text(one)}", *which))


def _environment_rows(left: Run, right: Run) -> Iterator[Row]:
    yield from _values(_environment(left), _environment(right))


def _environment(run: Run) -> dict[str, str]:
    found = {"image": (image_digest(run.image) or run.image or "")[:_DIGEST]}
    if run.environment is None:
        return {name: text for name, text in found.items() if text}
    about = run.environment.about
    found |= {
        "base": about.base,
        "base digest": about.base_digest[:_DIGEST],
        "python": about.python or "",
        "oldest driver": about.minimum_driver or "",
        "environment": about.key,
    }
    found |= {
        one.name: f"{one.version}{f' (CUDA {one.cuda})' if one.cuda else ''}"
        for one in about.frameworks
    }
    return {name: text for name, text in found.items() if text}


def _place_rows(left: Run, right: Run) -> Iterator[Row]:
    yield from _values(_place(left), _place(right))


def _place(run: Run) -> dict[str, str]:
    if run.attempt is None:
        return {}
    offer = run.attempt.offer
    found = {
        "provider": offer.provider,
        "place": offer.place,
        "machine": machine_text(offer, nodes=len(run.attempt.members)),
        "driver": offer.driver,
        "spot": "yes" if offer.spot else "no",
        "USD per hour": f"{offer.usd_per_hour:f}",
    }
    return {name: text for name, text in found.items() if text}


# ── packages ────────────────────────────────────────────────────────────────────────────────────

# https://packaging.python.org/specifications/dependency-specifiers/ as pip and uv write locks:
# one line a package, `name==version` or `name @ address`, hashes on lines that follow.
_PINNED = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?) ?(?:\[[^\]]{0,200}\])? ?"
    r"(?:==|@) ?([^\s;\\]{1,500})"
)


def packages(lock: str | None) -> dict[str, str]:
    """Return the packages of a lock with their versions; of one for several platforms, all."""
    found: dict[str, dict[str, None]] = {}
    for line in (lock or "").splitlines():
        match = _PINNED.match(line)
        if match is None:
            continue
        name = re.sub(r"[-_.]+", "-", match[1]).lower()  # names are the same by PEP 503
        versions = found.setdefault(name, {})
        versions.pop(match[2], None)  # the last of equal ones stays
        versions[match[2]] = None
    return {name: ", ".join(versions) for name, versions in found.items()}


def _package_rows(left: str | None, right: str | None) -> Iterator[Row]:
    if left is None or right is None:  # nothing is known of one: not that it has no packages
        return
    before, after = packages(left), packages(right)
    both = {name: before.get(name) for name in sorted(before.keys() | after.keys())}
    for name in both:
        yield from _values(
            {name: before[name]} if name in before else {},
            {name: after[name]} if name in after else {},
        )
