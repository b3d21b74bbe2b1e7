"""Tell on a check run why a run waits, where it comes from, what it uses and costs: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import pairwise, zip_longest

from cynthus.money import of_limit, usd
from webhook_server.runs.attempts import span
from webhook_server.runs.feed_facts import Feed, Moment
from webhook_server.runs.forecast import Left, expected_usd, remaining
from webhook_server.runs.headline import left_text
from webhook_server.runs.hostile import code, fenced, inline, title
from webhook_server.runs.model import Run, State
from webhook_server.runs.origins import OVERRIDE, origin_facts
from webhook_server.runs.outputs import partial_text
from webhook_server.runs.spark import bar, sparkline
from webhook_server.runs.terms import is_held, longest, most_usd, usd_per_hour
from webhook_server.runs.usage import rows

_TIMELINE = 40  # lines: a check run is a page, the feed has all
_SHORTEST = timedelta(seconds=1)
_BAR = 24
_TEXT = 60  # signs of a phase's name: the chart's lines must not wrap
_LEFT_OUT = 20  # outputs that are named
_REASONS = 20  # of a hold: a policy has fewer lines


def hold(run: Run) -> str:
    """Say why a run is held, who may let it go, and what to write for that."""
    if run.hold is None or not is_held(run):
        return ""
    reasons = [f"- {inline(text, 300)}" for text in run.hold.reasons[:_REASONS]]
    most = f"An approval lets this run cost up to {usd(run.hold.cap_usd)}, all attempts together."
    do = f"{inline(run.hold.who, 300)} may approve it: press **Approve**"
    if run.pull_request is not None:
        do += f", or comment {code(f'/cynthus approve {run.key.commit_sha}')}"
    void = "Another commit, spec, image or a higher price needs another approval."
    return "\n".join(["### Waiting for approval", *reasons, "", f"{do}. {most} {void}"])


def asking(run: Run) -> str:
    """Say what can be asked of a live run: GitHub shows buttons on completed check runs only."""
    if run.pull_request is None or run.state is State.FINISHED or is_held(run):
        return ""
    asks = (f"/cynthus {words}" for words in (f"cancel {run.id}", "extend 1h", f"logs {run.id}"))
    return f"To act on it, comment {' or '.join(code(ask) for ask in asks)}."


def origin(run: Run, original: Run | None) -> str:
    """Say who asked for it, on top of which file's values, as part of what."""
    lines = [
        f"- {label}: {code(value, 200) if label == OVERRIDE else inline(value, 200)}"
        for label, value in origin_facts(run, original)
    ]
    return "\n".join(["### Where it comes from", *lines]) if lines else ""


def timeline(feed: Feed) -> str:
    """Return the phases as a chart of bars, each as long as it took beside the longest."""
    moments = list(_lasting(feed.timeline))[-_TIMELINE:]
    if not moments:
        return ""
    took = [(after.at - here.at).total_seconds() for here, after in pairwise(moments)]
    longest_s = max((*took, 1.0))
    lines = [
        _line(moment, bar(seconds / longest_s, _BAR), _length(seconds))
        for moment, seconds in zip(moments, took, strict=False)
    ]
    chart = "\n".join([*lines, _line(moments[-1], "", "")])
    return f"### Timeline (UTC)\n{fenced(chart)}"


def _lasting(moments: Sequence[Moment]) -> Iterator[Moment]:
    """Yield what lasted a second or more, and the newest: refused orders would fill the page."""
    told = ""
    for here, after in zip_longest(moments, moments[1:]):
        lasted = after is None or not timedelta(0) <= after.at - here.at < _SHORTEST
        if lasted and here.text != told:
            told = here.text
            yield here


def _line(moment: Moment, drawn: str, length: str) -> str:
    return f"{moment.at:%H:%M:%S}  {drawn:<{_BAR}} {length:>7}  {title(moment.text, _TEXT)}"


def _length(seconds: float) -> str:
    whole = max(int(seconds), 0)
    if whole >= 3600:  # noqa: PLR2004 - an hour
        return f"{whole // 3600}h{whole // 60 % 60:02}m"
    return f"{whole // 60}m{whole % 60:02}s" if whole >= 60 else f"{whole}s"  # noqa: PLR2004


def use(run: Run, feed: Feed) -> str:
    """Return what the newest attempt uses of its machine as a table; the charts are of 0…all."""
    offer = run.attempt.offer if run.attempt else None
    lines = [
        f"| {row.what} | {row.mean} | {row.peak} | {_course(row.course, row.full)} |"
        for row in rows(feed.usage, cpus=offer.cpu if offer else None)
    ]
    head = ("### Use of the machine", "| | mean | peak | course |", "|---|---:|---:|---|")
    return "\n".join([*head, *lines]) if lines else ""


def _course(values: tuple[float, ...], full: float | None) -> str:
    return sparkline(values, low=0.0, high=full or None)


def cost(run: Run, feed: Feed) -> str:
    """Return what it cost up to the newest news, its rate, and what it will come to."""
    so_far = "" if run.state is State.FINISHED else " so far"
    facts = [f"cost{so_far} {of_limit(run.cost_usd, most_usd(run))}" if run.attempts else ""]
    rate = usd_per_hour(run)
    if rate > 0 and run.state is not State.FINISHED:
        facts.append(f"{usd(rate)} an hour")
    expected = expected_usd(run, feed)
    rest = remaining(feed.headway)
    if expected is not None and rest is not None and feed.headway is not None:
        left = left_text(Left(time=rest, at_most=False))
        facts.append(
            f"about {usd(expected)} in the end ({left} at {feed.headway.newest_at:%H:%M} UTC)"
        )
    most = longest(run)
    if most is not None and run.extensions:
        facts.append(f"at most {span(most)}")
    if run.attempt and run.attempt.offer.price_source:
        facts.append(f"an estimate by {inline(run.attempt.offer.price_source, 120)}")
    return " · ".join(fact for fact in facts if fact)


def made(run: Run) -> str:
    """Return the image and what became of the outputs."""
    facts = [f"image {code(run.image)}"] if run.image else []
    stored = [output for output in run.outputs or () if output.left_out is None]
    if run.outputs is not None:
        count = sum(output.packed or 1 for output in stored)
        facts.append("1 output file" if count == 1 else f"{count} output files")
        facts += [text] if (text := partial_text(run)) else []
    left_out = [output for output in run.outputs or () if output.left_out][:_LEFT_OUT]
    lines = [f"- left out: {code(o.path)}: {inline(o.left_out or '', 200)}" for o in left_out]
    return "\n".join([" · ".join(facts), *lines]).strip()
