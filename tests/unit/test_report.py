"""How a run looks on GitHub."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cynthus.money import usd
from cynthus.wire import Output
from tests.builders import NOON, a_run, a_spec, an_attempt
from tests.examples import examples
from webhook_server.runs.attempts import span
from webhook_server.runs.check_summary import TEXT_LIMIT, Around, summary
from webhook_server.runs.comment_reader import asks_of
from webhook_server.runs.feed_facts import Feed, Moment
from webhook_server.runs.headline import TITLE_LIMIT
from webhook_server.runs.hostile import clean, code, cut_middle, fenced, inline, markdown
from webhook_server.runs.model import (
    Approval,
    Cause,
    Extension,
    GateLine,
    Hold,
    Origin,
    Outcome,
    Reason,
    SpecFault,
    State,
)
from webhook_server.runs.report import BATCH, check_run
from webhook_server.runs.sizing import Advice
from webhook_server.runs.spark import sparkline
from webhook_server.runs.standing import conclusion_of, name_of, status_of

URL = "https://cynthus.test/runs/arun00000001"
LATER = NOON + timedelta(minutes=3, seconds=12)


def test_the_title_says_all_in_one_line() -> None:
    run = replace(
        a_run(State.RUNNING), attempts=(an_attempt(started_at=NOON),), cost_usd=Decimal("0.041")
    )
    feed = Feed(phase="train", progress=0.35, metrics={"loss": (0.9, 0.42)})
    assert check_run(run, feed, url=URL, now=LATER).title == (
        "running · train · 35% · small here · $0.20 · at most 23 h left"
    )


def test_a_finished_run_says_how_it_ended() -> None:
    reason = Reason(cause=Cause.EXIT, text="the command ended with exit code 3.")
    run = replace(a_run(State.FINISHED), outcome=Outcome.FAILED, reason=reason, finished_at=LATER)
    found = check_run(run, Feed(), url=URL, now=LATER + timedelta(days=1))
    assert found.title == "failed: the command ended with exit code 3 · 3m12s · $0.00"
    assert (found.status, found.conclusion, found.completed_at) == ("completed", "failure", LATER)
    assert found.actions == ()


@pytest.mark.parametrize("state", State)
def test_only_a_finished_run_has_a_conclusion(state: State) -> None:
    run = replace(a_run(state), outcome=Outcome.SUCCEEDED)  # certain, but not shown before the end
    found = check_run(run, Feed(), url=URL, now=LATER)
    assert (found.conclusion is not None) == (state is State.FINISHED)
    assert (status_of(state) == "completed") == (state is State.FINISHED)
    names = [action["identifier"] for action in found.actions]
    assert names == ([] if state is State.FINISHED else ["cancel", "extend"])


def test_every_outcome_has_githubs_word() -> None:
    assert [conclusion_of(outcome) for outcome in Outcome] == [
        "success",
        "failure",
        "cancelled",
        "timed_out",
        "action_required",
        "failure",
    ]


def test_a_run_without_a_readable_spec_has_a_name_and_its_faults_on_their_lines() -> None:
    faults = (SpecFault(line=4, column=2, text="resources/gpu: should be known, found x."),)
    run = replace(a_run(State.FINISHED), spec=None, spec_faults=faults, outcome=Outcome.FAILED)
    found = check_run(run, Feed(), url=URL, now=LATER)
    assert name_of(run) == "cynthus"
    [note] = found.annotations
    assert (note.path, note.line, note.column, note.level) == ("cynthus.yaml", 4, 2, "failure")
    assert "cynthus.yaml:4:2" in found.summary


def test_the_clock_alone_changes_no_digest_but_news_does() -> None:
    run, feed = a_run(State.RUNNING), Feed(phase="train")
    first = check_run(run, feed, url=URL, now=NOON)
    assert first.digest == check_run(run, feed, url=URL, now=LATER).digest
    for other in (
        replace(feed, phase="test"),
        replace(feed, progress=0.5),
        replace(feed, log_tail="x"),
    ):
        assert check_run(run, other, url=URL, now=NOON).digest != first.digest
    more = replace(feed, annotations=({"text": "x"},))
    assert check_run(run, more, url=URL, now=NOON).digest != first.digest
    advised = Around(advice=Advice(text="Take less."))
    assert check_run(run, feed, url=URL, now=NOON, around=advised).digest != first.digest


def test_what_was_sent_before_the_advice_came_keeps_its_place() -> None:
    feed = Feed(annotations=({"text": "mine", "file": "a.py", "line": 2},))
    advice = Advice(text="The GPU was busy 3 % of the time.", gpu="t4", line=4)
    found = check_run(a_run(), feed, url=URL, now=LATER, around=Around(advice=advice))
    first, second = found.annotations
    assert first.message == "mine"
    assert (second.path, second.line, second.level) == ("cynthus.yaml", 4, "notice")
    assert second.message.endswith("Write instead:\n\n    gpu: t4")
    assert "### A cheaper machine would do\nThe GPU was busy 3 % of the time." in found.summary


def test_gates_and_comparisons_stand_before_the_tables() -> None:
    missed = GateLine(text="accuracy >= 0.9", found=0.5, wanted=0.9, passed=False)
    around = Around(sections=("### Beside digits #3\nthe same",))
    feed = Feed(metrics={"loss": (1.0,)})
    run = a_run(gate_lines=(missed,), baseline_run="base")
    text = check_run(run, feed, url=URL, now=LATER, around=around).summary
    places = [text.index(part) for part in ("**not met**", "### Beside digits #3", "### Metrics")]
    assert places == sorted(places)
    assert "The baseline is run base." in text


HOSTILE = (
    "@octocat `x` <!-- cynthus-run:zzz --> <script>alert(1)</script> ![x](https://evil.example/x)"
    " | cell | \n::error::boo\n##[group]x\n```\n~~~\n\x1b[31mred\x1b[0m \u202egnp.exe \x00 \ud800"
    "\n/cynthus run\n  /CYNTHUS approve 1234567"
)


def everywhere(text: str) -> tuple[str, ...]:
    run = replace(
        a_run(State.FINISHED),
        outcome=Outcome.FAILED,
        reason=Reason(cause=Cause.EXIT, text=text),
        notices=(text,),
        image=text,
        workflow_run_url=text,
        release_url="javascript:alert(1)",
        release_note=text,
        attempts=(an_attempt(reason=Reason(cause=Cause.EXIT, text=text)),),
        outputs=(Output(path=text, size_bytes=1, sha256="0" * 64, left_out=text),),
        spec_faults=(SpecFault(line=0, column=0, text=text),),
        origin=Origin(
            asked_by=text,
            overrides=((text, text),),
            reproduces=text,
            retries=text,
            fork=True,
        ),
        approval=Approval(
            by=text,
            by_id=1,
            at=NOON,
            commit_sha=text,
            spec_sha256=text,
            image=text,
            cap_usd=Decimal(1),
        ),
        gate_lines=(
            GateLine(text=f"{text} >= 1", found=None, wanted=None, passed=True, note=text),
        ),
        extensions=(Extension(key=text, by=text, at=NOON, more=timedelta(hours=1)),),
    )
    held = replace(
        run,
        state=State.QUEUED,
        hold=Hold(reasons=(text, text), cap_usd=Decimal(1), who=text),
        pull_request=7,
    )
    feed = Feed(
        phase=text,
        metrics={text: (1.0, 2.0)},
        summary=text,
        notices=(text + "2",),
        annotations=({"file": text, "line": -1, "level": text, "text": text, "title": text},),
        timeline=(Moment(at=NOON, text=text),),
        log_tail=text,
    )
    around = Around(original=run, advice=Advice(text=text, gpu=text, line=1))
    shown = [check_run(one, feed, url=URL, now=LATER, around=around) for one in (run, held)]
    for found in shown:
        json.dumps(found.body(0)).encode()
        assert len(found.title) <= TITLE_LIMIT
        assert len(found.name) <= 100
    return tuple(t for found in shown for t in (found.title, found.name, found.summary, found.text))


@pytest.mark.case("A10")
def test_hostile_text_neither_notifies_nor_hides_nor_commands() -> None:
    for text in everywhere(HOSTILE):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e\ud800]", text)
        assert not re.search(r"(?m)^\s*(::|##\[)", text)
    assert [asks_of(part) for part in everywhere(HOSTILE) if asks_of(part)] == []
    for outside in map(not_code, everywhere(HOSTILE)):
        assert "@octocat" not in outside
        assert "javascript:" not in outside
        assert not re.search(r"(?mi)^\s*/cynthus", outside)
    for outside in map(not_code, everywhere(HOSTILE)[2::4]):  # titles and names are no Markdown
        assert not re.search(r"(?<!\\)<(!--|script)", outside)
        assert "](https://evil" not in outside.partition("### Summary")[0]


def not_code(text: str) -> str:
    """Return Markdown without its code: that does nothing."""
    fenceless = re.sub(r"(?ms)^ {0,3}(`{3,}|~{3,})[^\n]*\n.*?^ {0,3}\1[`~]*\s*$", "", text)
    return re.sub(r"(`+) .*? \1", "", fenceless)


@pytest.mark.case("A10")
def test_a_log_cannot_leave_its_fence() -> None:
    block = fenced("a\n````\n```\nb")
    assert block.startswith("`````text\n")
    assert block.endswith("\n`````")


@settings(max_examples=examples(200), deadline=None)
@given(st.text() | st.text(alphabet="/cynthus run`~\n >-*#@<!", max_size=80))
@example("/cynthus")
def test_no_text_breaks_a_report(text: str) -> None:
    for part in everywhere(text):
        assert len(part.encode()) <= TEXT_LIMIT
        assert asks_of(part) == ()
        assert not re.search(r"@[A-Za-z0-9]", not_code(part))


@given(st.text(alphabet="`~ab \n", max_size=60))
def test_a_code_span_and_a_fence_hold_anything(text: str) -> None:
    ticks = code(text)
    if ticks:
        fence = re.match(r"`+", ticks)
        assert fence
        inside = ticks[len(fence[0]) : -len(fence[0])]
        assert not re.search(rf"(?<!`){fence[0]}(?!`)", inside)
    block = fenced(text).split("\n")
    assert block[0].removesuffix("text") == block[-1]
    assert block[-1] not in [line.strip() for line in block[1:-1]]


def test_a_users_markdown_keeps_its_form_and_closes_what_it_opened() -> None:
    text = markdown("# Result\n\n**0.98** by @ada <b>x</b>\n```py\nx < y\n")
    assert text.startswith("# Result\n\n**0.98** by @\u200bada &lt;b>x&lt;/b>")
    assert text.endswith("x < y\n\n```")


def test_a_progress_bar_shows_what_was_drawn_last() -> None:
    assert clean("10%\r50%\r100%\nnext\r\n") == "100%\nnext\n"


@pytest.mark.parametrize("line", ["\n", " \n", "\r\n", "\x1b]\n", "::\n", "/cynthus \n"])
def test_a_log_without_words_costs_no_more_than_one_with(line: str) -> None:
    # A square of the lines shows: 60,000 of them would take minutes.
    began_s = time.process_time()
    for shown in (clean, fenced, inline, markdown):
        shown(line * 60_000)
    assert time.process_time() - began_s < 5


def test_the_page_of_a_gate_can_be_visited_and_no_other_address() -> None:
    page = "https://huggingface.co/datasets/acme/demo"
    told = f"data/x: acme/demo is open only to those who accepted. Visit {page} with your account."
    asked = a_run(State.FINISHED, reason=Reason(cause=Cause.DATA, text=told))
    assert f"The page to visit: {page}" in summary(asked, Feed(), Around(), "u")
    said = a_run(State.FINISHED, reason=Reason(cause=Cause.EXIT, text=told))
    assert page not in summary(said, Feed(), Around(), "u")


def test_links_in_plain_text_are_no_links() -> None:
    assert "https://" not in inline("see https://evil.example and www.evil.example")


@pytest.mark.case("A10")
@pytest.mark.parametrize("size", [10, TEXT_LIMIT - 1, TEXT_LIMIT, TEXT_LIMIT + 1, 400_000])
@pytest.mark.parametrize("sign", ["a", "é", "€", "😀"])
def test_long_text_is_cut_from_its_middle_on_character_boundaries(size: int, sign: str) -> None:
    text = "begin" + sign * size + "end"
    cut = cut_middle(text, TEXT_LIMIT, "See there. ")
    assert len(cut.encode()) <= TEXT_LIMIT
    assert cut.startswith("begin")
    assert cut.endswith("end")
    if len(text.encode()) > TEXT_LIMIT:
        assert "left out here. See there." in cut
    else:
        assert cut == text


@pytest.mark.case("G4")
def test_a_huge_run_stays_within_githubs_limits() -> None:
    run = replace(
        a_run(State.RUNNING),
        attempts=tuple(an_attempt(n, started_at=NOON) for n in range(1, 500)),
        notices=tuple(f"notice {n} " + "x" * 2000 for n in range(100)),
    )
    feed = Feed(
        metrics={f"metric {n}": tuple(float(i) for i in range(1000)) for n in range(200)},
        summary="s" * 500_000,
        log_tail="l" * 500_000,
        annotations=tuple({"text": "x" * 100_000, "file": "a.py", "line": 1} for _ in range(120)),
        timeline=tuple(Moment(at=NOON, text="x") for _ in range(5000)),
    )
    found = check_run(run, feed, url=URL, now=LATER)
    assert len(found.summary.encode()) <= TEXT_LIMIT
    assert len(found.text.encode()) <= TEXT_LIMIT
    batches = [found.body(sent)["output"].get("annotations", []) for sent in (0, BATCH, 2 * BATCH)]
    assert [len(batch) for batch in batches] == [50, 50, 20]
    assert all(len(note["message"].encode()) < 65_536 for batch in batches for note in batch)
    assert len(found.actions) <= 3
    assert all(len(a["label"]) <= 20 and len(a["description"]) <= 40 for a in found.actions)


@pytest.mark.parametrize(
    ("file", "path", "line"),
    [
        ("train.py", "train.py", 3),
        ("/workspace/src/train.py", "src/train.py", 3),
        ("/etc/passwd", "cynthus.yaml", 1),
        ("../x", "cynthus.yaml", 1),
        ("", "cynthus.yaml", 1),
        (None, "cynthus.yaml", 1),
        (7, "cynthus.yaml", 1),
    ],
)
def test_annotations_point_into_the_repository_only(file: object, path: str, line: int) -> None:
    feed = Feed(annotations=({"file": file, "line": 3, "level": "warning", "text": "x"},))
    [note] = check_run(a_run(), feed, url=URL, now=LATER).annotations
    assert (note.path, note.line) == (path, line)


@pytest.mark.parametrize(
    ("values", "sign"),
    [
        ((1.0,), ""),
        ((1.0, 1.0), "▁▁"),
        ((0.0, 1.0), "▁█"),
        ((3.0, 2.0, 1.0), "█▅▁"),
        (tuple(range(2400)), "▁▁▂▂▂▃▃▃▃▄▄▄▅▅▅▆▆▆▆▇▇▇██"),
    ],
)
def test_a_sparkline_shows_the_course(values: tuple[float, ...], sign: str) -> None:
    assert sparkline(values) == sign


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (192, "3m12s"), (3600, "1h00m"), (90_000, "1d1h"), (-5, "0s")],
)
def test_durations_read_well(seconds: int, text: str) -> None:
    assert span(timedelta(seconds=seconds)) == text


def test_money_is_never_rounded_down_to_nothing() -> None:
    assert usd(Decimal("0.0001")) == "$0.01"
    assert usd(Decimal(0)) == "$0.00"


def test_a_spec_name_names_the_check() -> None:
    assert name_of(replace(a_run(), spec=a_spec(name="vision"))) == "cynthus/vision"
