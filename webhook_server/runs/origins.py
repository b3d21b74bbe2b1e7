"""Say whom and what a run comes from, as labels with values for people: pure."""

from __future__ import annotations

from collections.abc import Iterator

from cynthus.money import usd
from webhook_server.runs import pinning
from webhook_server.runs.attempts import span
from webhook_server.runs.model import Run
from webhook_server.runs.standing import reproduced

OVERRIDE = "instead of the file's value"
_SHOWN = 20  # overrides, datasets, extensions

#: A label and a value; the value is a stranger's text, to be shown as such.
Fact = tuple[str, str]


def origin_facts(run: Run, original: Run | None) -> tuple[Fact, ...]:
    """Return what is to be told; of a run that a push or its Action started, its data alone.

    `original` is the run that this one reproduces.
    """
    return (*_asked(run, original), *_changed(run), *_data(run), *_people(run))


def _asked(run: Run, original: Run | None) -> Iterator[Fact]:
    origin = run.origin
    if origin.asked_by:
        yield "asked for by", origin.asked_by
    if origin.sweep is not None:
        yield "of a sweep", f"run {origin.sweep.index + 1} of {origin.sweep.count}"
    if origin.reproduces:
        yield "reproduces", reproduced(run, original)
    if origin.retries:
        yield "runs again", origin.retries
    if origin.fork:
        yield "a fork's commit", "no secrets, caches of its own, lower limits"


def _changed(run: Run) -> Iterator[Fact]:
    for key, value in run.origin.overrides[:_SHOWN]:
        yield OVERRIDE, f"{key}={value}"


def _data(run: Run) -> Iterator[Fact]:
    for one in (run.datasets or ())[:_SHOWN]:
        yield f"data {one.name}", pinning.fact(one)


def _people(run: Run) -> Iterator[Fact]:
    if run.approval is not None:
        at = f"{run.approval.at:%Y-%m-%d %H:%M} UTC"
        yield "approved by", f"{run.approval.by}, {at}, up to {usd(run.approval.cap_usd)}"
    for extension in run.extensions[:_SHOWN]:
        at = f"{extension.at:%Y-%m-%d %H:%M} UTC"
        yield "more time", f"{span(extension.more)} by {extension.by}, {at}"
