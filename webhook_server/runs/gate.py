"""Judge a run's metrics by the gates of its spec: pure."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite

from cynthus.spec import Gate, Relation
from webhook_server.runs.hostile import inline
from webhook_server.runs.model import GateLine
from webhook_server.runs.observations import GateSeen

_HOLDS: Mapping[Relation, Callable[[Decimal, Decimal], bool]] = {
    Relation.AT_LEAST: operator.ge,
    Relation.AT_MOST: operator.le,
    Relation.ABOVE: operator.gt,
    Relation.BELOW: operator.lt,
    Relation.EQUAL: operator.eq,
}
_WORDS = {
    Relation.AT_LEAST: "at least",
    Relation.AT_MOST: "at most",
    Relation.ABOVE: "above",
    Relation.BELOW: "below",
    Relation.EQUAL: "exactly",
}


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """Every gate with what was found, in the spec's order."""

    lines: tuple[GateLine, ...]

    @property
    def failed(self) -> tuple[GateLine, ...]:
        """Return the gates that are not met; none: the run has passed."""
        return tuple(line for line in self.lines if not line.passed)


def judge(gates: Sequence[Gate], seen: GateSeen) -> GateResult:
    """Judge each gate. What was not measured is not met; what has no baseline yet passes."""
    return GateResult(lines=tuple(_judged(gate, seen) for gate in gates))


def _judged(gate: Gate, seen: GateSeen) -> GateLine:
    found, wanted = _decimal(seen.metrics.get(gate.metric)), _wanted(gate, seen)
    told = GateLine(
        text=gate.text,
        found=None if found is None else float(found),
        wanted=None if wanted is None else float(wanted),
        passed=False,
    )
    if found is None:
        told_of = gate.metric in seen.metrics
        return _noted(told, "is no finite number" if told_of else "the run told no such metric")
    if wanted is None:
        return _noted(told, _no_baseline(gate, seen), passed=True)
    return _noted(told, "", passed=_HOLDS[gate.relation](found, wanted))


def _noted(line: GateLine, note: str, *, passed: bool = False) -> GateLine:
    return GateLine(text=line.text, found=line.found, wanted=line.wanted, passed=passed, note=note)


def _decimal(value: float | None) -> Decimal | None:
    # By the digits that people see: 0.9 - 0.01 is 0.89, as binary floats it is not always.
    return None if value is None or not isfinite(value) else Decimal(repr(value))


def _wanted(gate: Gate, seen: GateSeen) -> Decimal | None:
    if gate.baseline is None:
        return gate.offset
    before = _decimal((seen.baseline or {}).get(gate.baseline))
    return None if before is None else before * gate.factor + gate.offset


def _no_baseline(gate: Gate, seen: GateSeen) -> str:
    if seen.baseline is None:
        return "there is no release of the default branch yet"
    return f"the baseline has no {gate.baseline}"


# ── for people ──────────────────────────────────────────────────────────────────────────────────


def failure_text(result: GateResult) -> str:
    """Say in one sentence which gate is not met: metric, found, wanted."""
    first, *others = result.failed
    more = f" (and {len(others)} more)" if others else ""
    return f"the gate `{first.text}` is not met: {_found_text(first)}{more}"


def _found_text(line: GateLine) -> str:
    return line.note or f"found {line.found:.6g}, wanted {_wanted_text(line)}"


def _wanted_text(line: GateLine) -> str:
    if line.wanted is None:
        return "—"
    relation = next(one for one in Relation if f" {one} " in line.text)
    return f"{_WORDS[relation]} {line.wanted:.6g}"


def table(lines: Sequence[GateLine], baseline_run: str | None = None) -> str:
    """Return the gates as a Markdown table, and whose result they were compared with.

    Nothing where there are none.
    """
    if not lines:
        return ""
    rows = [
        f"| {'passed' if line.passed else '**not met**'} | {inline(line.text, 200)} |"
        f" {'—' if line.found is None else f'{line.found:.6g}'} | {_wanted_text(line)} |"
        f" {inline(line.note, 200)} |"
        for line in lines
    ]
    told = ["", f"The baseline is run {inline(baseline_run, 20)}."] if baseline_run else []
    head = ["### Gate", "| | gate | found | wanted | |", "|---|---|---:|---:|---|"]
    return "\n".join([*head, *rows, *told])
