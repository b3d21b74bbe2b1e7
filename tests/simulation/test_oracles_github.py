"""Each oracle is silent about a good history, and speaks about one that is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.builders import NOON
from tests.simulation.github import CheckRow, Sent, Shown
from tests.simulation.github_history import Beat, GithubHistory, Published, RunSeen
from tests.simulation.oracles_github import (
    ORACLES,
    Oracle,
    acked_is_durable,
    attackers_are_quoted,
    beats_are_their_own,
    checks_equal_runs,
    ends_are_authorised,
    image_of,
    judge,
    live,
    nothing_waits,
    once_by_meaning,
    one_comment_a_pull,
    releases_are_whole,
    starts_are_authorised,
    tenants_are_strangers,
)

SHA, OTHER = "a" * 40, "b" * 40
SPEC = "version: 1\nname: digits\nrun: python train.py\n"
FILES = {"cynthus.yaml": SPEC.encode()}
SECOND = timedelta(seconds=1)


def shown(what: str, id: int = 0, repository_id: int = 7, at: Any = NOON, **detail: Any) -> Shown:  # noqa: A002
    return Shown(at=at, what=what, repository_id=repository_id, id=id, detail=detail)


def a_check(id: int = 51, **changes: Any) -> CheckRow:  # noqa: A002
    given = {"status": "completed", "conclusion": "success", "known_at": NOON}
    told = {"head_sha": SHA, "name": "cynthus/digits", "external_id": "r1"}
    return CheckRow(id=id, **(given | told | changes))


RUN = RunSeen(
    id="r1",
    repository_id=7,
    sha=SHA,
    trigger="push",
    created_at=NOON + 2 * SECOND,
    ordered_at=NOON + 9 * SECOND,
    image=image_of(7, SHA),
    spec_text=SPEC,
    outputs=(("model", 3, "c" * 64),),
)
ASKED = replace(
    RUN, id="r2", trigger="comment/60/0", event="issue_comment", asked_by="ada", outputs=()
)
MANIFEST = {
    "run": {"id": "r1"},
    "files": [{"path": "model", "size_bytes": 3, "sha256": "c" * 64}],
    "own_files": [{"name": "log.txt", "size_bytes": 5, "sha256": "d" * 64}],
}
ASSETS = {"model": (3, "c" * 64), "log.txt": (5, "d" * 64)}
GOOD = GithubHistory(
    log=(
        shown("pushed", sha=SHA, branch="main", by="ada"),
        shown("comment.created", 60, body="/cynthus run", ours=False, by="ada", number=1),
        shown("role.told", login="ada", role="write", at=NOON + SECOND),
        shown("check_run.created", 51, external_id="r1", output={"summary": "see [it](/runs/r1)"}),
        shown("comment.created", 61, body="run /runs/r2", ours=True, by="us", number=1),
        shown("release.published", 70, tag="cynthus/digits/1", files=ASSETS),
    ),
    deliveries=(
        Sent(id=1, guid="g1", event="push", body=b"{}", delivered_at=NOON, status=202),
        Sent(id=2, guid="g2", event="push", body=b"{}", delivered_at=NOON, status=503),
    ),
    check_runs=((7, a_check()), (7, a_check(52, external_id="r2"))),
    commits={(7, SHA): FILES, (7, OTHER): FILES, (8, SHA): FILES},
    runs=(RUN, ASKED),
    stored={"g1": "done"},
    published=(Published(subject="r1", kind="check_run", state="done"),),
    beats=(Beat(at=NOON, instance="i1", token_of="i1", closed=False),),
    manifests={70: MANIFEST},
)


def with_runs(*runs: RunSeen) -> GithubHistory:
    return replace(GOOD, runs=runs)


def with_log(*more: Shown) -> GithubHistory:
    return replace(GOOD, log=(*GOOD.log, *more))


def without(what: str) -> GithubHistory:
    return replace(GOOD, log=tuple(one for one in GOOD.log if one.what != what))


def with_checks(*rows: CheckRow) -> GithubHistory:
    return replace(GOOD, check_runs=tuple((7, row) for row in rows))


def published(**detail: Any) -> Shown:
    return shown("release.published", 70, **({"tag": "cynthus/digits/1"} | detail))


def adv(text: str) -> GithubHistory:
    return with_log(shown("comment.updated", 61, body=text, ours=True))


R2 = a_check(52, external_id="r2")
BAD: list[tuple[Oracle, str, GithubHistory]] = [
    (checks_equal_runs, "no check run", with_checks(R2)),
    (checks_equal_runs, "left in_progress", with_checks(a_check(status="in_progress"), R2)),
    (checks_equal_runs, "says failure", with_checks(a_check(conclusion="failure"), R2)),
    (
        checks_equal_runs,
        "contradict",
        with_checks(a_check(50, conclusion="failure"), a_check(), R2),
    ),
    (
        nothing_waits,
        "still to be shown",
        replace(
            GOOD, published=(Published(subject="r1", kind="release", state="pending", due=True),)
        ),
    ),
    (acked_is_durable, "not stored", replace(GOOD, stored={})),
    (acked_is_durable, "is pending", replace(GOOD, stored={"g1": "pending"})),
    (once_by_meaning, "started 2 runs", with_runs(RUN, replace(RUN, id="r3"))),
    (once_by_meaning, "started 2 runs", with_runs(ASKED, replace(ASKED, id="r3", sha=OTHER))),
    (
        once_by_meaning,
        "1 asks and started 2",
        with_runs(ASKED, replace(ASKED, id="r3", trigger="comment/60/1")),
    ),
    (
        one_comment_a_pull,
        "has 2 comments",
        with_log(shown("comment.created", 62, body="", ours=True, by="us", number=1)),
    ),
    (
        beats_are_their_own,
        "the token of i2",
        replace(GOOD, beats=(Beat(at=NOON, instance="i1", token_of="i2", closed=False),)),
    ),
    (
        beats_are_their_own,
        "after it was closed",
        replace(GOOD, beats=(Beat(at=NOON, instance="i1", token_of="i1", closed=True),)),
    ),
    (
        tenants_are_strangers,
        "is shown in repository 8",
        with_log(shown("check_run.created", 53, repository_id=8, external_id="r1")),
    ),
    (
        tenants_are_strangers,
        "tells of run r1",
        with_log(shown("comment.updated", 63, repository_id=8, body="see /runs/r1", ours=True)),
    ),
    (
        tenants_are_strangers,
        "of another repository",
        with_runs(RUN, replace(ASKED, repository_id=8, retries="r1")),
    ),
    (starts_are_authorised, "never said may run", without("role.told")),
    (
        starts_are_authorised,
        "never said may run",
        with_runs(replace(ASKED, created_at=NOON + timedelta(minutes=30))),
    ),
    (
        starts_are_authorised,
        "nobody approved",
        with_runs(replace(ASKED, fork=True, approved_sha=OTHER)),
    ),
    (
        starts_are_authorised,
        "its approval does not name",
        with_runs(replace(ASKED, fork=True, approved_sha=SHA)),
    ),
    (starts_are_authorised, "nobody with the right brought", without("pushed")),
    (
        starts_are_authorised,
        "nobody with the right brought",
        replace(
            GOOD,
            log=(shown("pull.headed", 1, sha=SHA, fork=True), *without("pushed").log),
        ),
    ),
    (starts_are_authorised, "which its repository has not", replace(GOOD, commits={})),
    (
        starts_are_authorised,
        "a spec that its commit has not",
        with_runs(replace(RUN, spec_text=SPEC + "#")),
    ),
    (
        starts_are_authorised,
        "the image of another commit",
        with_runs(replace(RUN, image=image_of(7, OTHER))),
    ),
    (
        ends_are_authorised,
        "ended by eve",
        with_runs(replace(RUN, cancelled_by="eve on GitHub")),
    ),
    (attackers_are_quoted, "a mention", adv("cynthusadv1 @team")),
    (attackers_are_quoted, "HTML", adv('cynthusadv1 <img src="cynthusadv1">')),
    (attackers_are_quoted, "a link", adv("[cynthusadv1](http://cynthusadv1.test)")),
    (attackers_are_quoted, "an order", adv("/cynthus run cynthusadv1")),
    (releases_are_whole, "without a manifest", replace(GOOD, manifests={})),
    (releases_are_whole, "not as the manifest says", with_log(published(files={}))),
    (
        releases_are_whole,
        "not among its files",
        with_log(published(files={"log.txt": ASSETS["log.txt"]})),
    ),
    (releases_are_whole, "what its run has made", with_runs(replace(RUN, outputs=()), ASKED)),
    (
        releases_are_whole,
        "changed after",
        with_log(shown("release.changed", 70, tag="cynthus/digits/1")),
    ),
    (releases_are_whole, "published 2 times", with_log(published(files=ASSETS))),
]


def test_a_good_history_has_no_violation() -> None:
    assert judge(GOOD) == []


@pytest.mark.parametrize(("oracle", "said", "history"), BAD)
def test_a_bad_history_is_told_of(oracle: Oracle, said: str, history: GithubHistory) -> None:
    found = list(oracle(history))
    assert [one for one in found if said in one], found


def test_every_oracle_can_speak() -> None:
    assert {oracle for oracle, _, _ in BAD} == set(ORACLES)


def test_a_held_run_that_ended_leaves_its_older_check_run_as_it_was() -> None:
    held = a_check(50, conclusion="action_required")
    assert list(checks_equal_runs(with_checks(held, a_check(), R2))) == []


def test_what_is_refused_for_good_need_not_be_shown() -> None:
    told = (Published(subject="r1", kind="check_run", state="refused"),)
    assert list(checks_equal_runs(replace(with_checks(R2), published=told))) == []


def test_while_faults_go_on_nothing_need_be_shown_yet() -> None:
    open_ = replace(with_checks(a_check(status="queued")), healed=False)
    assert list(checks_equal_runs(open_)) == []


@pytest.mark.parametrize(
    "text",
    [
        "`cynthusadv @team`",
        "```text\ncynthusadv @team\n/cynthus run\n::error::\n```",
        "cynthusadv @\u200bteam \\<img\\> \\[x\\](http\u200b://cynthusadv.test)",
    ],
)
def test_quoted_text_is_not_alive(text: str) -> None:
    assert list(live(text)) == []
