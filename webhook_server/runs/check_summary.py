"""Write the summary and the text of a run's check run, foreign words made harmless: pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from webhook_server.runs import check_facts, gate, staging_lines
from webhook_server.runs.attempts import kept_notice, table
from webhook_server.runs.feed_facts import Feed
from webhook_server.runs.headline import number
from webhook_server.runs.hostile import clean, code, cut_middle, fenced, inline, markdown
from webhook_server.runs.model import Cause, Run
from webhook_server.runs.sizing import Advice
from webhook_server.runs.spark import sparkline

# https://docs.github.com/rest/checks/runs#create-a-check-run
TEXT_LIMIT = 65_535  # of `summary` and of `text`; counted here in bytes, which is never less
_SUMMARY_LIMIT = 40_000  # of the user's own Markdown: our tables stay visible above it
_LOG_LIMIT = 60_000
_METRICS = 40  # rows of the table; metrics.json has them all
_NOTICES = 20
# A hub's page in our own sentence about data, made of the hub's address and of names that were
# read by the spec's grammar; a link in anybody else's words does nothing (`hostile.inline`).
_PAGE = re.compile(r" Visit (https?://[A-Za-z0-9.:-]{1,255}/[A-Za-z0-9._/-]{1,255}) with ")
_FAULTS = 50  # lines; the annotations have them all


@dataclass(frozen=True, kw_only=True)
class Around:
    """What a check run tells beside its run and its feed; whoever shows it looks it up."""

    original: Run | None = None  # the run that this one reproduces
    advice: Advice | None = None
    sections: tuple[str, ...] = ()  # Markdown of ours: how it differs from the original


def summary(run: Run, feed: Feed, around: Around, url: str) -> str:
    """Return what a person reads first: why, what to do, how it goes, what it costs."""
    parts = [
        _reason(run),
        check_facts.hold(run),
        check_facts.asking(run),
        staging_lines.staging(run, feed.staging),
        _notices(run, feed),
        _faults(run),
        gate.table(run.gate_lines, run.baseline_run),
        _advice(around.advice),
        *around.sections,
        _metrics(feed),
        check_facts.timeline(feed),
        table(run, feed.marks),
        check_facts.use(run, feed),
        check_facts.cost(run, feed),
        check_facts.origin(run, around.original),
        check_facts.made(run),
        _links(run, url),
        _own(feed, url),
    ]
    whole = "\n\n".join(part for part in parts if part)
    return cut_middle(whole, TEXT_LIMIT, f"See {url} ")


def log_text(feed: Feed, url: str) -> str:
    """Return the end of the log, in a fence that nothing inside can end."""
    if not feed.log_tail:
        return ""
    log = cut_middle(clean(feed.log_tail), _LOG_LIMIT)
    return cut_middle(f"### End of the log\n\n{fenced(log)}", TEXT_LIMIT, f"See {url} ")


def _reason(run: Run) -> str:
    told = f"**{run.state.value}** — {inline(run.reason.text)}"
    page = _PAGE.search(run.reason.text) if run.reason.cause is Cause.DATA else None
    return f"{told}\n\nThe page to visit: {page[1]}" if page else told


def _notices(run: Run, feed: Feed) -> str:
    found = dict.fromkeys((*run.notices, *feed.notices))
    found |= dict.fromkeys(note for note in (run.release_note, kept_notice(run)) if note)
    return "\n".join(f"> {inline(text)}" for text in list(found)[:_NOTICES])


def _faults(run: Run) -> str:
    lines = [
        f"- {code(f'{run.key.spec_path}:{fault.line}:{fault.column}')} {inline(fault.text)}"
        for fault in run.spec_faults[:_FAULTS]
    ]
    return "\n".join(["### The spec cannot be used", *lines]) if lines else ""


def _advice(advice: Advice | None) -> str:
    return f"### A cheaper machine would do\n{inline(advice.text)}" if advice else ""


def _metrics(feed: Feed) -> str:
    rows = [
        f"| {inline(name, 60)} | {number(values[-1])} | {sparkline(values)} |"
        for name, values in list(feed.metrics.items())[:_METRICS]
        if values
    ]
    if not rows:
        return ""
    return "\n".join(["### Metrics", "| metric | last | course |", "|---|---:|---|", *rows])


def _links(run: Run, url: str) -> str:
    links = [
        ("live view", url),
        ("workflow run", run.workflow_run_url),
        ("release", run.release_url),
    ]
    return " · ".join(f"[{text}]({link})" for text, link in links if _is_link(link))


def _is_link(url: str | None) -> bool:
    return bool(url) and str(url).startswith(("https://", "http://")) and not _breaks(str(url))


def _breaks(url: str) -> bool:
    return any(character in "()<>[]\\\"' \t\r\n`" or ord(character) < ord("!") for character in url)


def _own(feed: Feed, url: str) -> str:
    # Last of all: whatever a user's Markdown leaves open ends with the page.
    if not feed.summary:
        return ""
    own = cut_middle(feed.summary, _SUMMARY_LIMIT, f"See {url} ")
    return f"### Summary\n\n{markdown(own)}"
