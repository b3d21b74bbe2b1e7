"""The sticky comment tells what was answered and how runs stand, and can order nothing itself."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cynthus.repository_policy import Verb
from cynthus.spec import Resources
from tests.builders import IMAGE, NOON, a_key, a_run, a_spec, an_attempt, an_offer
from webhook_server.runs.comment_reader import asks_of
from webhook_server.runs.hostile import fenced, inline
from webhook_server.runs.model import Cause, Hold, Origin, Outcome, Reason, Run, State, SweepPart
from webhook_server.runs.pull import Pull, Reply
from webhook_server.runs.sticky import BODY_LIMIT, RunLine, comment, marker_of


def url_of(run_id: str) -> str:
    return f"https://cynthus.test/runs/{run_id}"


def a_reply(number: int = 1, **changes: Any) -> Reply:
    given: dict[str, Any] = {
        "key": f"comment/{number}/0",
        "at": NOON + timedelta(minutes=number),
        "by": "ada",
        "verb": Verb.STATUS,
        "asked": "/cynthus status",
        "refused": False,
        "text": f"answer {number}",
    }
    return Reply(**(given | changes))


def a_pull(*replies: Reply) -> Pull:
    return Pull(repository_id=7, number=5, repository="acme/vision", replies=replies)


def a_line(state: State = State.FINISHED, **changes: Any) -> RunLine:
    given: dict[str, Any] = {"outcome": Outcome.SUCCEEDED} if state is State.FINISHED else {}
    return RunLine(run=a_run(state, **(given | changes)))


def shown(*replies: Reply, lines: tuple[RunLine, ...] = ()) -> str:
    return comment(a_pull(*replies), lines, url_of)


def rows(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.startswith("| ")]


# ── answers ─────────────────────────────────────────────────────────────────────────────────────


def test_the_newest_answer_is_open_and_older_ones_are_folded_newest_first() -> None:
    text = shown(a_reply(1), a_reply(2, by="bob"), a_reply(3, refused=True))
    assert text.startswith(f"{marker_of(a_pull())}\n### Cynthus\n\n**ada** was refused")
    assert "Answer 3" in text.partition("<details>")[0]
    assert text.index("Answer 3") < text.index("answer 2") < text.index("answer 1")
    assert text.count("<details>") == text.count("</details>") == 2
    assert "<summary>bob: <code>/cynthus status</code> (answered)</summary>" in text


def test_a_long_history_loses_its_oldest_answers_and_says_so() -> None:
    replies = [a_reply(n, text=f"answer {n}\n" + fenced("é" * 4_000)) for n in range(1, 21)]
    text = shown(*replies, lines=(a_line(),))
    assert 50_000 < len(text.encode()) <= BODY_LIMIT
    assert all(f"answer {n}\n" in text for n in (20, 14))
    assert "answer 1\n" not in text
    assert "Earlier answers are left out here" in text
    assert "/cynthus help" in text  # what stands below stays


def test_one_answer_that_is_too_long_ends_its_code_block() -> None:
    text = shown(a_reply(text="the log:\n" + fenced("line\n" * 50_000)), lines=(a_line(),))
    answer = text.partition("the log:")[2]
    assert answer.index("```text") < answer.index("\n```\n") < answer.index("The rest is left out")
    assert len(rows(text)) == 2


# ── runs ────────────────────────────────────────────────────────────────────────────────────────


def test_each_run_has_its_commit_state_cost_and_links() -> None:
    priced = a_spec(resources=Resources(max_cost_usd=Decimal(5)))
    done = RunLine(
        run=a_run(
            State.FINISHED,
            id="arun1",
            outcome=Outcome.SUCCEEDED,
            spec=priced,
            cost_usd=Decimal("0.42"),
            release_url="https://github.test/r",
        ),
        check_url="https://github.test/c",
    )
    live = a_line(State.RUNNING, id="arun2", number=2, spec=priced)
    [_, first, second] = rows(shown(a_reply(), lines=(done, live)))
    assert first == (
        "| ` digits #1 ` | ` bbbbbbb ` | succeeded | $0.42 of $5.00 | [check](https://github.test/c)"
        " · [live view](https://cynthus.test/runs/arun1) · [release](https://github.test/r) |"
    )
    assert second.startswith(
        "| ` digits #2 ` | ` bbbbbbb ` | running on small in here | at most $5"
    )


def test_states_are_told_in_words() -> None:
    hold = Hold(reasons=("it may cost $9",), cap_usd=Decimal(9), who="maintain or admin")
    failed = Reason(cause=Cause.EXIT, text="the command ended with exit code 3")
    cases = [
        (a_line(State.BUILDING), "building"),
        (a_line(State.QUEUED, hold=hold), "waits for approval by maintain or admin"),
        (a_line(State.QUEUED, attempts=(an_attempt(1), an_attempt(2))), "queued (attempt 2)"),
        (
            a_line(outcome=Outcome.FAILED, reason=failed),
            "failed: the command ended with exit code 3",
        ),
        (a_line(outcome=Outcome.OVER_BUDGET, reason=failed), "over budget: the command"),
    ]
    for line, words in cases:
        [_, row] = rows(shown(a_reply(), lines=(line,)))
        assert f"| {words}" in row


def aged(line: RunLine) -> RunLine:
    return replace(line, run=replace(line.run, cost_usd=line.run.cost_usd + 1))


def test_ten_runs_are_shown_and_the_text_does_not_follow_the_clock() -> None:
    lines = tuple(a_line(State.RUNNING, id=f"arun{n}", number=n) for n in range(30, 0, -1))
    text = shown(a_reply(), lines=lines)
    assert [row[2:13] for row in rows(text)[1:]] == [
        f"` digits #{n}"[:11] for n in range(30, 20, -1)
    ]
    assert text == shown(a_reply(), lines=tuple(aged(line) for line in lines))


# ── sweeps ──────────────────────────────────────────────────────────────────────────────────────


def a_part(index: int, metrics: dict[str, float], **changes: Any) -> RunLine:
    origin = Origin(
        overrides=(("lr", f"1e-{index}"),), sweep=SweepPart(id="comment/9/0", index=index, count=3)
    )
    given = {"id": f"asweep{index}", "number": index + 1, "origin": origin} | changes
    return replace(a_line(**given), metrics=metrics)


def test_a_sweep_is_a_table_of_its_own_with_the_best_marked() -> None:
    lines = (
        a_part(2, {"val_loss": 0.25, "accuracy": float("nan"), "seen": 3.0}),
        a_part(0, {"val_loss": 0.5, "accuracy": 0.75, "seen": 9.0}),
        a_part(1, {"val_loss": 0.125, "accuracy": 0.5, "seen": 1.0}),
        a_part(3, {"val_loss": 0.001}, outcome=Outcome.FAILED),
    )
    text = shown(a_reply(), lines=lines)
    assert "**Sweep of ` digits `**, 3 runs" in text
    head, *found = rows(text)
    assert head == "| run | ` lr ` | ` val_loss ` | ` accuracy ` | ` seen ` | where it stands |  |"
    assert [row.split(" | ")[:5] for row in found] == [
        ["| ` #1 `", "` 1e-0 `", "0.5", "**0.75** (best)", "9"],
        ["| ` #2 `", "` 1e-1 `", "**0.125** (best)", "0.5", "1"],
        ["| ` #3 `", "` 1e-2 `", "0.25", "nan", "3"],
        ["| ` #4 `", "` 1e-3 `", "0.001", "", ""],
    ]


# ── what strangers write ────────────────────────────────────────────────────────────────────────

_HOSTILE = st.one_of(
    st.text(max_size=80),
    st.sampled_from(
        (
            "/cynthus run",
            "\n/cynthus approve bbbbbbb\n",
            "```\n/cynthus run\n```",
            "--> <!-- @octocat",
            "</details>\r\n/cynthus destroy",
            "x\u2028/cynthus run",
            "x\x85/cynthus run",
            "| a | b |\n/CYNTHUS run",
            "@acme/admins <img src=x onerror=alert(1)>",
        )
    ),
)
_ASKS = re.compile(r"(?im)^\s*/cynthus\b")
_MENTIONS = re.compile(r"(?<![`\w\\])@[A-Za-z0-9]")


def a_hostile_run(text: str) -> Run:
    key = a_key(spec_path=text[:60] or "cynthus.yaml")
    offer = an_offer(machine=text, place=text)
    return a_run(
        State.RUNNING,
        key=key,
        spec=None,
        image=IMAGE,
        reason=Reason(cause=Cause.EXIT, text=text),
        attempts=(an_attempt(offer=offer),),
        origin=Origin(overrides=(("env", text),)),
        release_url=f"https://github.test/{text}",
    )


@pytest.mark.case("C5")
@settings(max_examples=60, deadline=None)
@given(_HOSTILE, _HOSTILE)
@example("@0", "`")
def test_nothing_in_it_is_an_ask_a_mention_or_foreign_html(one: str, other: str) -> None:
    replies = (
        a_reply(1, by=one, asked=other, text=f"{inline(one)}\n\n{fenced(other)}"),
        a_reply(2, by=other, asked=one, text=fenced(one)),
    )
    swept = replace(a_hostile_run(one), origin=a_part(1, {}).run.origin)
    lines = (RunLine(run=a_hostile_run(other)), RunLine(run=swept, metrics={one: 0.5, other: 2.0}))
    text = comment(a_pull(*replies), lines, url_of)
    assert asks_of(text) == ()
    assert not any(_ASKS.match(line) for line in text.splitlines())
    unescaped = re.sub(r"\\[\\`]", "", text)  # a sign that stands for itself opens no code
    outside_code = re.sub(r"(?s)(`+)(?!`).*?(?<!`)\1(?!`)|\]\([^)\s]*\)", "", unescaped)
    assert not _MENTIONS.search(outside_code)
    tags = set(re.findall(r"(?<!\\)<(/?[a-z]+)", outside_code, re.IGNORECASE))
    assert tags <= {"details", "/details", "summary", "/summary", "code", "/code", "sub", "/sub"}
    assert outside_code.count("<!--") == 1
