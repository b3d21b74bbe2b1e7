"""From a push to a release, as far as GitHub sees it: real stores, PyGithub, a simulated GitHub."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from cynthus.repository_policy import RepositoryPolicy, Retention
from cynthus.verifying import verify
from cynthus.wire import EventKind, RunRequest
from tests.builders import an_attempt, an_environment, an_offer
from tests.github_fixture import GithubSimulator, git, github_simulator, one_key, webhook_sink
from tests.github_parts import SPEC, Server, World, a_server
from webhook_server.auth.allowed import Allowed
from webhook_server.auth.fetch import fetch
from webhook_server.auth.oidc import Caller, Forbidden, Lookups, OidcVerifier, authorise
from webhook_server.publish import Places
from webhook_server.runs.decide import decide
from webhook_server.runs.environments import kept
from webhook_server.runs.model import Hold, Origin, Outcome, Run, State
from webhook_server.runs.observations import Observations
from webhook_server.runs.sizing import Advice
from webhook_server.runs.usage import Usage
from webhook_server.stores import environment_store
from webhook_server.stores.environment_store import EnvironmentStore
from webhook_server.stores.publication_store import PublicationKind, PublicationState

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GithubSimulator]:
    with github_simulator(tmp_path_factory.mktemp("github")) as simulator:
        yield simulator


@pytest.fixture
def world(github: GithubSimulator, tmp_path: Path) -> Iterator[World]:
    owner = f"octo{next(_numbers)}"
    github.sim("DELETE", "/faults")
    with webhook_sink() as sink:
        app = github.create_app(webhook_url=sink.url, pem=one_key())
        github.post("/owners", login=owner)
        github.post("/repos", owner=owner, name="digits", open=True)
        github.post("/installations", app_id=app.id, owner=owner)
        with a_server(github, app, owner, tmp_path / "server") as server:
            yield World(github, server, sink, tmp_path)


# ── pushes ──────────────────────────────────────────────────────────────────────────────────────


def test_a_push_becomes_a_run_with_a_check_run(world: World) -> None:
    run = world.a_run()
    assert run.state is State.BUILDING
    assert run.spec is not None
    assert run.spec.name == "digits"
    assert run.ref == "refs/heads/main"
    assert run.wants_release
    world.server.publisher.step()
    [check] = world.check_runs(run.key.commit_sha)
    assert (check.name, check.status, check.external_id) == ("cynthus/digits", "queued", run.id)
    assert check.details_url == f"https://cynthus.test/runs/{run.id}"
    assert check.output.title.startswith("building")


@pytest.mark.case("W8")
def test_the_same_push_under_two_delivery_ids_is_one_run(world: World) -> None:
    world.push({"cynthus.yaml": SPEC})
    delivery = world.pass_on("push")
    world.server.deliver("another-guid", delivery.event, delivery.body)
    assert len(world.server.runs.list(repository_id=None, limit=9, before=None)) == 1


def test_spec_faults_are_annotations_on_their_lines(world: World) -> None:
    run = world.a_run(
        {"cynthus.yaml": SPEC.replace("run: python", "rum: python") + "colour: red\n"}
    )
    assert run.spec is None
    assert run.spec_faults
    world.server.finish(run.id, Outcome.FAILED)
    world.server.publisher.step()
    [check] = world.check_runs(run.key.commit_sha)
    notes = list(check.get_annotations())
    assert check.conclusion == "failure"
    assert {note.path for note in notes} == {"cynthus.yaml"}
    assert any("colour" in note.message for note in notes)
    assert {note.start_line for note in notes} >= {3, 6}


@pytest.mark.case("S5", "S6")
@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"cynthus.yml": SPEC}, "should be named cynthus.yaml"),
        ({"cynthus.yml": SPEC, "cynthus.yaml": SPEC}, "should be the only spec"),
        ({"Cynthus.yaml": SPEC}, "should be named cynthus.yaml, found Cynthus.yaml"),
        ({"CYNTHUS.YML": SPEC, "cynthus.yaml": SPEC}, "should be the only spec, found CYNTHUS.YML"),
        ({"cynthus.yaml": SPEC + "#" * 70_000}, "at most 65536 bytes"),
        (
            {"cynthus.yaml": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"},
            "Git LFS",
        ),
        ({"cynthus.yaml/x": "a folder"}, "found a dir"),
    ],
)
def test_a_spec_that_is_no_ordinary_file_is_said_clearly(
    world: World, files: dict[str, str], words: str
) -> None:
    run = world.a_run(files)
    assert [words in fault.text for fault in run.spec_faults] == [True]


@pytest.mark.case("S5")
def test_a_spec_that_is_a_link_is_said_clearly(world: World) -> None:
    (world.folder / "work").mkdir()
    (world.folder / "work" / "cynthus.yaml").symlink_to("elsewhere.yaml")
    run = world.a_run({"elsewhere.yaml": SPEC})
    assert [fault.text for fault in run.spec_faults] == [
        "should be an ordinary file, found a symlink. Commit the file itself."
    ]


@pytest.mark.parametrize(
    ("files", "more", "note"),
    [
        ({"README.md": "hello"}, {}, "no cynthus.yaml"),
        ({"cynthus.yaml": SPEC}, {"branch": "feature"}, "triggers/push/branches"),
    ],
)
def test_a_push_that_asks_for_nothing_costs_little_and_makes_no_run(
    world: World, files: dict[str, str], more: dict[str, str], note: str
) -> None:
    world.push({"first": "x"})
    world.pass_on("push")
    world.forget_requests()
    world.push(files, **more)
    world.pass_on("push")
    assert world.server.runs.list(repository_id=None, limit=9, before=None) == []


@pytest.mark.case("W17")
def test_a_repository_that_is_not_allowed_makes_no_run_and_no_request(world: World) -> None:
    evil = f"evil-{world.server.owner}"
    world.github.post("/owners", login=evil)
    world.github.post("/repos", owner=evil, name="digits", open=True)
    world.github.post("/installations", app_id=world.server.app.id, owner=evil)
    world.github.push(world.folder / "evil", {"cynthus.yaml": SPEC}, to=f"{evil}/digits")
    world.forget_requests()
    world.pass_on("push")
    assert world.server.api.total_requests() == 0
    assert world.server.runs.list(repository_id=None, limit=9, before=None) == []


def test_a_failing_github_puts_a_delivery_off_and_others_go_on(world: World) -> None:
    world.fault(kind="error", status=502, times=2, match={"path": "contents"})
    sha = world.push({"cynthus.yaml": SPEC})
    world.pass_on("push")
    assert world.server.runs.list(repository_id=None, limit=9, before=None) == []
    for _ in range(3):
        world.server.clock.pass_by(minutes=2)
        world.server.inbox.step()
    [row] = world.server.runs.list(repository_id=None, limit=9, before=None)
    assert row.commit_sha == sha


@pytest.mark.case("G5")
def test_a_delivery_that_never_succeeds_is_parked_where_it_can_be_seen(world: World) -> None:
    world.fault(kind="error", status=500, times=-1, match={"path": "contents"})
    world.push({"cynthus.yaml": SPEC})
    world.pass_on("push")
    for _ in range(5):  # an outage of a day loses nothing
        world.server.clock.pass_by(hours=5)
        world.server.inbox.step()
    assert world.server.deliveries.next_due() is not None
    for _ in range(12):
        world.server.clock.pass_by(hours=8)
        world.server.inbox.step()
    assert world.server.deliveries.next_due() is None
    with world.server.db.read() as connection:
        from sqlalchemy import select

        from webhook_server.stores.tables import deliveries

        query = select(deliveries.c.state).where(deliveries.c.event == "push")
        assert connection.execute(query).scalars().all() == ["parked"]


PULLED = SPEC + "triggers: {push: {branches: [never]}, pull_request: push}\n"


def a_pull(world: World, text: str = PULLED, **more: str) -> tuple[str, int]:
    world.push({"README.md": "hello"})
    sha = world.push({"cynthus.yaml": text}, branch="patch")
    made = world.github.post("/pulls", repo=world.repo, head="patch", title="A patch", **more)
    return sha, int(made["number"])


def runs_of(world: World) -> list[Any]:
    return world.server.runs.list(repository_id=None, limit=9, before=None)


def test_a_pull_request_runs_where_its_spec_says_so(world: World) -> None:
    sha, number = a_pull(world)
    world.pass_on("pull_request.opened")
    [row] = runs_of(world)
    assert (row.commit_sha, row.trigger) == (sha, f"pull_request/{number}")
    assert row.ref == f"refs/pull/{number}/merge"


def test_a_pull_request_waits_for_a_comment_by_default(world: World) -> None:
    a_pull(world, SPEC)
    world.pass_on("pull_request.opened")
    assert runs_of(world) == []


@pytest.mark.case("W11")
def test_w11_a_stale_head_makes_no_run_and_the_newer_one_does(world: World) -> None:
    a_pull(world)
    newer = world.push({"train.py": "print(2)\n"}, branch="patch")
    world.pass_on("pull_request.opened")  # late: the head has moved on
    assert runs_of(world) == []
    world.pass_on("pull_request.synchronize")
    assert [row.commit_sha for row in runs_of(world)] == [newer]


@pytest.mark.case("W11")
def test_w11_a_closed_pull_request_makes_no_run(world: World) -> None:
    _, number = a_pull(world)
    world.github.sim("PATCH", f"/pulls/{world.repo}/{number}", {"state": "closed"})
    world.pass_on("pull_request.opened")
    assert runs_of(world) == []


@pytest.mark.case("O13")
def test_a_fork_makes_no_run(world: World) -> None:
    world.push({"README.md": "hello"})
    owner = f"fork-{world.server.owner}"
    world.github.post("/owners", login=owner)
    fork = f"{owner}/digits"
    world.github.post("/repos", owner=owner, name="digits", open=True, fork_of=world.repo)
    world.github.push(world.folder / "fork", {"cynthus.yaml": PULLED}, to=fork, branch="patch")
    world.github.post("/pulls", repo=world.repo, head="patch", head_repo=fork)
    world.pass_on("pull_request.opened")
    assert runs_of(world) == []


# ── workflow jobs ───────────────────────────────────────────────────────────────────────────────


def a_token(world: World, **wish: Any) -> str:
    job = world.github.post("/workflow_jobs", repo=world.repo, id_token=True, **wish)
    answer = requests.get(
        f"{job['id_token_request_url']}&audience=cynthus",
        headers={"Authorization": f"Bearer {job['id_token_request_token']}"},
        timeout=60,
    )
    return str(answer.json()["value"])


def the_caller(world: World, token: str) -> Caller:
    issuer = f"{world.github.url}/oidc"
    return OidcVerifier(
        issuer=issuer, audience="cynthus", fetch=fetch, now=lambda: datetime.now(UTC)
    ).caller(token)


def the_request(world: World, caller: Caller, **changes: Any) -> RunRequest:
    given: dict[str, Any] = {
        "repository_id": caller.repository_id,
        "repository": world.repo,
        "commit_sha": caller.sha,
        "ref": caller.ref,
        "event": caller.event,
        "trigger": "push",
        "spec_path": "cynthus.yaml",
        "spec_text": SPEC,
        "image": "registry.test/digits@sha256:" + "a" * 64,
    }
    return RunRequest(**(given | changes))


def ask(world: World, caller: Caller, request: RunRequest) -> None:
    server = world.server
    allowed = Allowed((server.owner,), state=server.db.state, keep_state=server.db.keep_state)
    places = Places(server.api, server.repositories, server.clock)
    lookups = Lookups(
        pull_head=places.pull_head,
        default_branch=lambda _: "main",
        waits=server.runs.waits,
    )
    authorise(caller, request, allowed=allowed, lookups=lookups)


@pytest.mark.case("O16")
def test_a_jobs_token_may_ask_for_its_own_commit_only(world: World) -> None:
    sha = world.push({"cynthus.yaml": SPEC})
    caller = the_caller(world, a_token(world, sha=sha, event="push"))
    assert (caller.repository, caller.sha) == (world.repo, sha)
    ask(world, caller, the_request(world, caller))
    with pytest.raises(Forbidden):
        ask(world, caller, the_request(world, caller, commit_sha="b" * 40))


def test_a_pull_requests_token_may_ask_for_the_head_that_github_names(world: World) -> None:
    sha, number = a_pull(world)
    ref = f"refs/pull/{number}/merge"
    merge = git(world.folder / "work", "ls-remote", world.github.git_url(world.repo), ref)[:40]
    caller = the_caller(world, a_token(world, sha=merge, ref=ref, event="pull_request"))
    wish = {"trigger": f"pull_request/{number}", "pull_request": number}
    ask(world, caller, the_request(world, caller, commit_sha=sha, **wish))
    world.push({"train.py": "print(3)\n"}, branch="patch")
    with pytest.raises(Forbidden, match="newest commit"):
        ask(world, caller, the_request(world, caller, commit_sha=sha, **wish))


# ── the check run's life ────────────────────────────────────────────────────────────────────────


def test_a_check_run_follows_its_run_to_the_end(world: World) -> None:
    server, run = world.server, world.a_run()
    server.publisher.step()
    server.to_state(run.id, State.RUNNING)
    server.tell(run.id, EventKind.PHASE, name="train")
    for step in range(5):
        server.tell(run.id, EventKind.METRIC, name="accuracy", step=step, value=0.5 + step / 10)
    server.tell(run.id, EventKind.LOG, text="epoch 1\n```\n@octocat <!-- x -->\n")
    server.publisher.step()
    [check] = world.check_runs(run.key.commit_sha)
    assert check.status == "in_progress"
    assert check.output.title == "running · train · accuracy 0.9"
    assert "▁▃▄▆█" in check.output.summary
    assert "````text" in check.output.text
    server.finish(run.id)
    server.publisher.step()
    [check] = world.check_runs(run.key.commit_sha)
    assert (check.status, check.conclusion) == ("completed", "success")
    row = server.publications.get(run.id, PublicationKind.CHECK_RUN)
    assert row is not None
    assert (row.state, row.due_at) == (PublicationState.DONE, None)


def test_a_held_run_asks_for_a_person_and_goes_on_after_the_yes(world: World) -> None:
    server, run = world.server, world.a_run()
    server.publisher.step()
    hold = Hold(reasons=("it may cost up to $9.00",), cap_usd=Decimal(9), who="admin")
    server.to_state(run.id, State.QUEUED, hold=hold)
    server.publisher.step()
    [check] = world.check_runs(run.key.commit_sha)
    assert (check.status, check.conclusion) == ("completed", "action_required")
    assert check.output.title == "waiting for approval"
    assert "### Waiting for approval" in check.output.summary
    server.to_state(run.id, State.QUEUED, hold=None)
    world.fault(kind="drop_answer", match={"method": "POST", "path": "check-runs"})
    for _ in range(2):
        server.publisher.step()
        server.clock.pass_by(minutes=1)
    # GitHub opens no completed check run again: one of the same name stands in its place.
    [after] = world.check_runs(run.key.commit_sha)
    assert (after.status, after.conclusion, after.name) == ("queued", None, check.name)
    assert after.id > check.id
    every = world.client.get_repo(world.repo).get_commit(run.key.commit_sha)
    assert len(list(every.get_check_runs(filter="all"))) == 2
    row = server.publications.get(run.id, PublicationKind.CHECK_RUN)
    assert row is not None
    assert row.external_id == after.id


def test_a_run_that_goes_on_while_the_word_of_its_hold_is_lost_is_not_left_held(
    world: World,
) -> None:
    server, run = world.server, world.a_run()
    server.publisher.step()
    hold = Hold(reasons=("it may cost up to $9.00",), cap_usd=Decimal(9), who="admin")
    server.to_state(run.id, State.QUEUED, hold=hold)
    world.fault(kind="drop_answer", match={"method": "PATCH", "path": "check-runs"})
    server.publisher.step()
    [held] = world.check_runs(run.key.commit_sha)
    assert held.conclusion == "action_required"
    server.to_state(run.id, State.QUEUED, hold=None)  # what we were told of was sent before both
    server.clock.pass_by(minutes=1)
    server.publisher.step()
    [after] = world.check_runs(run.key.commit_sha)
    assert (after.status, after.conclusion) == ("queued", None)


def test_a_reproduction_has_a_name_of_its_own_and_ends_beside_the_original(world: World) -> None:
    server, original = world.server, world.a_run()
    server.finish(original.id)
    again = world.a_run({"train.py": "print(2)\n"})
    server.to_state(again.id, State.RUNNING, origin=Origin(reproduces=original.id))
    server.publisher.step()
    [check] = world.check_runs(again.key.commit_sha)
    assert check.name == f"cynthus/digits (reproduces digits #{original.number})"
    assert "### Beside" not in check.output.summary
    server.finish(again.id)
    server.publisher.step()
    [check] = world.check_runs(again.key.commit_sha)
    assert "### Beside digits" in check.output.summary
    assert (check.conclusion, check.name[:15]) == ("success", "cynthus/digits ")


def test_the_end_is_shown_first_and_the_advice_is_a_later_edit(world: World) -> None:
    server = world.server
    spec = f"{SPEC}resources:\n  gpu: l4\n"
    run = world.a_run({"cynthus.yaml": spec, "train.py": "print()\n"})
    began = server.clock() - timedelta(hours=1)
    offer = an_offer(gpu_type="l4", gpu_count=1)
    ran = an_attempt(
        offer=offer, ordered_at=began, started_at=began, ended_at=server.clock(), number=1
    )
    gpu = {"utilization_pct": 9, "memory_bytes": 1e9, "memory_total_bytes": 24e9}
    server.tell(run.id, EventKind.SAMPLE, gpus=[gpu])
    server.to_state(run.id, State.RELEASING, outcome=Outcome.SUCCEEDED, attempts=(ran,))
    shown_before: list[str] = []

    def advise(_: Run, usage: Usage) -> Advice:
        assert usage.samples == 1
        [check] = world.check_runs(run.key.commit_sha)
        shown_before.append(check.conclusion)
        return Advice(text="A T4 would do.", gpu="t4")

    server.advise = advise
    server.finish(run.id)
    server.publisher.step()
    [check] = world.check_runs(run.key.commit_sha)
    assert check.conclusion == "success"
    for _ in range(3):
        server.clock.pass_by(seconds=2)
        server.publisher.step()
    assert shown_before == ["success"]
    [check] = world.check_runs(run.key.commit_sha)
    assert "A T4 would do." in check.output.summary
    [remark] = check.get_annotations()
    line = spec.splitlines().index("  gpu: l4") + 1
    assert (remark.path, remark.start_line, remark.annotation_level) == (
        "cynthus.yaml",
        line,
        "notice",
    )
    row = server.publications.get(run.id, PublicationKind.CHECK_RUN)
    assert row is not None
    assert (row.state, row.due_at) == (PublicationState.DONE, None)


def test_what_has_not_changed_is_not_sent_again(world: World) -> None:
    server, run = world.server, world.a_run()
    server.publisher.step()
    server.to_state(run.id, State.RUNNING)
    server.publisher.step()
    before = server.api.total_requests()
    for _ in range(20):
        server.clock.pass_by(minutes=10)
        server.publisher.step()
    assert server.api.total_requests() == before


def test_an_hour_long_run_costs_at_most_15_requests(world: World) -> None:
    server = world.server
    run = world.a_run()
    for state in (State.QUEUED, State.PROVISIONING, State.RUNNING):
        server.publisher.step()
        server.to_state(run.id, state)
        server.clock.pass_by(seconds=20)
    for minute in range(120):
        server.tell(run.id, EventKind.PROGRESS, value=minute / 120)
        server.clock.pass_by(seconds=30)
        server.publisher.step()
    server.run_to_outputs(run.id, {"outputs/model/a.bin": b"x"})
    server.publisher.step()
    server.finish(run.id)
    server.publisher.step()
    [check] = world.check_runs(run.key.commit_sha)
    assert check.conclusion == "success"
    [release] = world.releases()
    assert not release.draft
    counted = {w: times for w, times in server.api.requests.items() if "asset" not in w}
    # Only this test's clock runs ahead of the tokens' own: an hour takes two of them.
    counted["POST /app/installations/{}/access_tokens"] = 2
    assert sum(counted.values()) <= 15, counted


@pytest.mark.case("G6")
def test_a_created_check_run_is_found_again_when_the_answer_was_lost(world: World) -> None:
    server, run = world.server, world.a_run()
    world.fault(kind="drop_answer", match={"method": "POST", "path": "check-runs"})
    server.publisher.step()
    server.clock.pass_by(minutes=1)
    server.publisher.step()
    assert len(world.check_runs(run.key.commit_sha)) == 1


@pytest.mark.case("G6")
def test_a_server_killed_between_create_and_save_makes_no_second_check_run(world: World) -> None:
    server, run = world.server, world.a_run()
    server.publisher.step()
    row = server.publications.get(run.id, PublicationKind.CHECK_RUN)
    assert row is not None
    [claim] = _claim_later(server, run.id)
    lost = replace(claim, external_id=None, sent_digest=None, sent_at=None, due_at=server.clock())
    server.publications.save(lost)
    server.restart()
    server.publisher.step()
    assert len(world.check_runs(run.key.commit_sha)) == 1


def _claim_later(server: Server, run_id: str) -> list[Any]:
    server.to_state(run_id, State.QUEUED)
    return server.publications.claim(1, timedelta(seconds=1), server.clock())


@pytest.mark.case("G5")
@pytest.mark.parametrize("kind", ["error", "truncated_json", "html", "drop_answer"])
def test_no_trouble_of_github_loses_news(world: World, kind: str) -> None:
    server, run = world.server, world.a_run()
    server.publisher.step()
    world.fault(kind=kind, times=3, match={"path": "check-runs"})
    server.finish(run.id)
    for _ in range(6):
        server.publisher.step()
        server.clock.pass_by(minutes=10)
    [check] = world.check_runs(run.key.commit_sha)
    assert (check.status, check.conclusion) == ("completed", "success")


@pytest.mark.case("G2")
@pytest.mark.parametrize(
    ("status", "headers", "minutes"),
    [
        (429, {"retry-after": "120"}, 2),
        (403, {"retry-after": "120"}, 2),
        (403, {"x-ratelimit-remaining": "0"}, 1),
        (429, {}, 1),
    ],
)
def test_githubs_limits_are_kept_to_the_letter(
    world: World, status: int, headers: dict[str, str], minutes: int
) -> None:
    server, run = world.server, world.a_run()
    world.fault(
        kind="error",
        status=status,
        headers=headers,
        match={"path": "check-runs"},
        body={"message": "You have exceeded a secondary rate limit"},
    )
    server.publisher.step()
    before = server.api.total_requests()
    server.clock.pass_by(seconds=minutes * 60 - 15)
    server.publisher.step()
    assert server.api.total_requests() == before
    assert server.waited == []  # nothing sleeps: other installations go on
    server.clock.pass_by(seconds=30)
    server.publisher.step()
    assert len(world.check_runs(run.key.commit_sha)) == 1


@pytest.mark.case("G1")
def test_a_token_that_ended_early_is_renewed_once(world: World) -> None:
    server, run = world.server, world.a_run()
    world.fault(
        kind="error", status=401, body={"message": "Bad credentials"}, match={"path": "check-runs"}
    )
    server.publisher.step()
    assert len(world.check_runs(run.key.commit_sha)) == 1


@pytest.mark.case("G4")
def test_a_refusal_is_noted_and_ends_the_try(world: World) -> None:
    server, run = world.server, world.a_run()
    world.fault(
        kind="error",
        status=422,
        times=-1,
        body={"message": "No commit found for SHA"},
        match={"path": "check-runs"},
    )
    server.publisher.step()
    row = server.publications.get(run.id, PublicationKind.CHECK_RUN)
    assert row is not None
    assert row.state is PublicationState.REFUSED
    assert row.note is not None
    assert "No commit found" in row.note


@pytest.mark.case("G4")
def test_more_than_fifty_annotations_are_sent_in_batches(world: World) -> None:
    server, run = world.server, world.a_run()
    for number in range(120):
        server.tell(
            run.id,
            EventKind.ANNOTATION,
            level="warning",
            file="train.py",
            line=number + 1,
            text=f"remark {number}",
        )
    server.finish(run.id)
    server.publisher.step()
    [check] = world.check_runs(run.key.commit_sha)
    assert check.output.annotations_count == 120
    assert len({note.message for note in check.get_annotations()}) == 120


@pytest.mark.case("W25", "G3")
def test_w25_a_repository_that_is_gone_closes_its_publications_with_a_reason(world: World) -> None:
    server, run = world.server, world.a_run()
    server.publisher.step()
    world.github.sim("DELETE", f"/repos/{world.repo}")
    server.finish(run.id)
    for _ in range(5):
        server.publisher.step()
        server.clock.pass_by(minutes=10)
    row = server.publications.get(run.id, PublicationKind.CHECK_RUN)
    assert row is not None
    assert (row.state, row.due_at) == (PublicationState.REFUSED, None)
    assert row.note


@pytest.mark.case("G8")
def test_g8_after_a_long_outage_every_check_run_is_right(world: World) -> None:
    server = world.server
    runs = [world.a_run({"cynthus.yaml": SPEC, "n": str(number)}) for number in range(5)]
    server.publisher.step()
    world.fault(kind="error", status=503, times=-1, match={"path": "check-runs"})
    for run in runs:
        server.finish(run.id)
    for _ in range(24):
        server.publisher.step()
        server.clock.pass_by(minutes=5)
    world.github.sim("DELETE", "/faults")
    server.clock.pass_by(minutes=7)  # the longest wait between two tries, with its jitter
    server.publisher.step()
    for run in runs:
        [check] = world.check_runs(run.key.commit_sha)
        assert (check.status, check.conclusion) == ("completed", "success")


def test_annotations_are_not_doubled_when_an_answer_was_lost(world: World) -> None:
    server, run = world.server, world.a_run()
    for number in range(70):
        server.tell(
            run.id, EventKind.ANNOTATION, level="notice", file="a.py", line=1, text=f"n{number}"
        )
    world.fault(kind="drop_answer", match={"method": "POST", "path": "check-runs"})
    world.fault(kind="drop_answer", match={"method": "PATCH", "path": "check-runs"})
    server.finish(run.id)
    for _ in range(4):
        server.publisher.step()
        server.clock.pass_by(minutes=10)
    [check] = world.check_runs(run.key.commit_sha)
    assert check.output.annotations_count == 70
    assert check.conclusion == "success"


@pytest.mark.case("G7")
def test_a_late_write_of_a_slow_replica_is_put_right(world: World) -> None:
    server, run = world.server, world.a_run()
    server.publisher.step()
    server.to_state(run.id, State.RUNNING)
    [slow] = server.publications.claim(1, timedelta(seconds=1), server.clock())
    running = server.runs.get(run.id)
    assert running is not None
    server.clock.pass_by(minutes=2)  # its lease has ended; another replica shows the end
    server.finish(run.id)
    server.publisher.step()
    shown = server.publisher._shows[PublicationKind.CHECK_RUN]
    server.publisher._failures.guarded(slow, lambda: shown._show(slow, running))
    [check] = world.check_runs(run.key.commit_sha)
    assert (check.status, check.conclusion) == ("completed", "success")


@pytest.mark.case("G6")
def test_two_replicas_make_one_check_run(world: World) -> None:
    server, run = world.server, world.a_run()
    first = server.publisher
    server.restart()
    threads = [threading.Thread(target=p.step) for p in (first, server.publisher)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(world.check_runs(run.key.commit_sha)) == 1


@pytest.mark.case("W25")
def test_a_renamed_repository_is_followed(world: World) -> None:
    server, run = world.server, world.a_run()
    server.publisher.step()
    world.github.sim("PATCH", f"/repos/{world.repo}", {"name": "numbers"})
    world.pass_on("repository.renamed")
    known = server.repositories.get(run.key.repository_id)
    assert known is not None
    assert known.full_name == f"{server.owner}/numbers"
    server.finish(run.id)
    server.publisher.step()
    row = server.publications.get(run.id, PublicationKind.CHECK_RUN)
    assert row is not None
    assert row.state is PublicationState.DONE


# ── buttons ─────────────────────────────────────────────────────────────────────────────────────


def a_finished_run(world: World) -> tuple[Run, int]:
    server, run = world.server, world.a_run()
    server.publisher.step()
    server.to_state(run.id, State.RUNNING, image="registry.test/digits@sha256:" + "a" * 64)
    server.finish(run.id)
    server.publisher.step()
    [check] = world.check_runs(run.key.commit_sha)
    return run, check.id


def permit(world: World, user: str, permission: str) -> None:
    world.github.post("/users", login=user)
    world.github.sim("PUT", f"/repos/{world.repo}/collaborators/{user}", {"permission": permission})


@pytest.mark.case("C15")
@pytest.mark.parametrize(
    ("permission", "runs"),
    [("admin", 2), ("maintain", 2), ("write", 2), ("triage", 1), ("read", 1)],
)
def test_only_who_may_write_can_run_again(world: World, permission: str, runs: int) -> None:
    run, check_id = a_finished_run(world)
    permit(world, "ada", permission)
    world.github.post(f"/check-runs/{check_id}/press", user="ada")
    world.pass_on("check_run.rerequested")
    rows = world.server.runs.list(repository_id=None, limit=9, before=None)
    assert len(rows) == runs
    if runs == 2:
        assert rows[0].trigger == f"rerun/{check_id}"
        again = world.server.runs.get(rows[0].id)
        assert again is not None
        assert again.key.commit_sha == run.key.commit_sha


@pytest.mark.case("W8", "C16")
def test_a_replayed_button_does_nothing_more(world: World) -> None:
    _, check_id = a_finished_run(world)
    permit(world, "ada", "write")
    world.github.post(f"/check-runs/{check_id}/press", user="ada")
    delivery = world.pass_on("check_run.rerequested")
    world.server.deliver("replayed-under-a-new-id", delivery.event, delivery.body)
    assert len(world.server.runs.list(repository_id=None, limit=9, before=None)) == 2


def test_cancel_ends_a_run(world: World) -> None:
    # GitHub shows buttons on completed check runs only, so the body is made from one of those.
    server, run = world.server, world.a_run()
    server.publisher.step()
    [check] = world.check_runs(run.key.commit_sha)
    permit(world, "ada", "write")
    permit(world, "eve", "read")
    payload = world.pass_on("check_run.created").payload | {
        "action": "requested_action",
        "requested_action": {"identifier": "cancel"},
    }
    for login, wanted in (("eve", None), ("ada", "ada on GitHub")):
        account = world.github.post("/users", login=login)  # there already: GitHub's own number
        user = {"id": account["id"], "login": login, "type": "User"}
        body = json.dumps(payload | {"sender": user}).encode()
        server.deliver(f"pressed-by-{login}", "check_run", body)
        wish = server.runs.wishes(run.id).cancel
        assert (wish and wish.by) == wanted
    assert check.id == payload["check_run"]["id"]


# ── releases ────────────────────────────────────────────────────────────────────────────────────

FILES = {
    "outputs/model/weights.bin": bytes(range(256)) * 500,
    "outputs/model/weights bin": b"another",
    "outputs/model/card.md": b"# model\n",
    "outputs/model/empty": b"",
}


def assert_complete(world: World, run: Run) -> Any:
    """Check the release from outside: every file of the manifest is there, byte for byte."""
    [release] = [release for release in world.releases() if not release.draft]
    assert release.tag_name == f"cynthus/digits/{run.number}"
    assets = {asset.name: asset for asset in release.get_assets()}
    assert {asset.state for asset in assets.values()} == {"uploaded"}
    manifest = json.loads(_download(world, assets["manifest.json"]))
    assert manifest["commit"] == run.key.commit_sha
    for file in manifest["files"]:
        if "left_out" in file:
            continue
        data = _download(world, assets[file["asset"]])
        assert len(data) == file["size_bytes"]
        assert hashlib.sha256(data).hexdigest() == file["sha256"]
    for file in manifest["own_files"]:
        data = _download(world, assets[file["name"]])
        assert hashlib.sha256(data).hexdigest() == file["sha256"]
    return manifest


def _download(world: World, asset: Any) -> bytes:
    token = world.github.integration(world.server.app).get_access_token(world.installation).token
    headers = {"Accept": "application/octet-stream", "Authorization": f"Bearer {token}"}
    answer = requests.get(asset.url, headers=headers, timeout=60)
    answer.raise_for_status()
    return answer.content


def test_a_release_holds_every_output_with_its_digest(world: World) -> None:
    server, run = world.server, world.a_run()
    server.tell(run.id, EventKind.METRIC, name="accuracy", step=1, value=0.9)
    server.tell(run.id, EventKind.LOG, text="hello\n")
    run = server.run_to_outputs(run.id, FILES)
    server.publisher.step()
    manifest = assert_complete(world, run)
    names = [file.get("asset") for file in manifest["files"]]
    assert names == [
        "outputs-model-weights.bin",
        "outputs-model-weights-bin",
        "outputs-model-card.md",
        None,
    ]
    assert {file["name"] for file in manifest["own_files"]} == {
        "cynthus.yaml",
        "metrics.json",
        "log.txt",
        "model-card.md",
    }
    row = server.publications.get(run.id, PublicationKind.RELEASE)
    assert row is not None
    assert row.state is PublicationState.DONE
    assert row.url is not None
    assert "/releases/" in row.url


def test_a_release_carries_what_its_image_consists_of(world: World) -> None:
    server, run_id = world.server, world.a_run().id
    told = an_environment()
    environment = kept(41, told)
    server.db.write(lambda db: environment_store.keep(db, environment, told, server.clock()))
    server.run_to_outputs(run_id, {"requirements.lock": b"the user's own\n"})
    run = server.change(run_id, lambda run: replace(run, environment=environment))
    server.publisher.step()
    manifest = assert_complete(world, run)
    assert manifest["image_digest"] == "sha256:" + "a" * 64
    assert manifest["environment"]["key"] == told.key
    assert manifest["environment"]["base_digest"] == told.base_digest
    own = {file["name"]: file["sha256"] for file in manifest["own_files"]}
    assert own["requirements.lock"] == manifest["environment"]["lock_sha256"]
    assert own["sbom.cdx.json"] == manifest["environment"]["sbom_sha256"]
    assert [file["asset"] for file in manifest["files"]] == ["requirements-2.lock"]


FAULTS: dict[str, list[dict[str, Any]]] = {
    "the draft's answer is lost": [
        {"kind": "drop_answer", "match": {"method": "POST", "path": "releases$"}}
    ],
    "an upload fails and leaves a starter": [
        {"kind": "starter", "match": {"method": "POST", "path": "assets"}}
    ],
    "two uploads fail": [
        {"kind": "error", "status": 502, "times": 2, "match": {"method": "POST", "path": "assets"}}
    ],
    "an upload's answer is lost": [
        {"kind": "drop_answer", "match": {"method": "POST", "path": "assets"}}
    ],
    "the publishing's answer is lost": [
        {"kind": "drop_answer", "match": {"method": "PATCH", "path": "releases/"}}
    ],
    "the token ends": [
        {
            "kind": "error",
            "status": 401,
            "body": {"message": "Bad credentials"},
            "match": {"method": "POST", "path": "assets"},
        }
    ],
}


@pytest.mark.case("A13")
@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("restarting", [False, True])
def test_a_release_is_made_once_and_whole_whatever_breaks(
    world: World, faults: list[dict[str, Any]], restarting: bool
) -> None:
    server, run = world.server, world.a_run()
    for fault in faults:
        world.fault(**fault)
    run = server.run_to_outputs(run.id, FILES)
    for _ in range(6):
        server.publisher.step()
        server.clock.pass_by(minutes=10)
        if restarting:
            server.restart()
    assert len(world.releases()) == 1
    assert_complete(world, run)


def costs_more(run: Run) -> Run:
    last = run.attempts[-1]
    members = tuple(
        replace(one, gone_at=last.ordered_at + timedelta(days=1)) for one in last.members
    )
    attempts = (*run.attempts[:-1], replace(last, members=members))
    return replace(run, attempts=attempts, cost_usd=run.cost_usd + 1)


def test_each_try_of_a_release_makes_the_same_files(world: World) -> None:
    # What a try has asked for may take effect at any later moment, its publishing too.
    server, run = world.server, world.a_run()
    world.fault(kind="error", status=502, match={"method": "PATCH", "path": "releases/"})
    run = server.run_to_outputs(run.id, FILES)
    server.publisher.step()
    [draft] = world.releases()
    assert draft.draft
    made = {asset.name: asset.id for asset in draft.get_assets()}
    # Its machine was still given back: the card would name another cost.
    run = server.change(run.id, costs_more)
    server.clock.pass_by(minutes=10)
    server.publisher.step()
    assert_complete(world, run)
    [release] = world.releases()
    assert {asset.name: asset.id for asset in release.get_assets()} == made


def test_a_commit_that_changes_workflows_gets_its_release_on_the_default_branch(
    world: World,
) -> None:
    world.push({"README.md": "hello"})
    spec = SPEC + "triggers: {push: {branches: [feature]}}\n"
    world.push({"cynthus.yaml": spec, ".github/workflows/x.yml": "on: push\n"}, branch="feature")
    world.pass_on("push")
    world.pass_on("push")
    server = world.server
    [row] = server.runs.list(repository_id=None, limit=9, before=None)
    run = server.run_to_outputs(row.id, FILES)
    server.publisher.step()
    assert_complete(world, run)
    [release] = world.releases()
    assert "changes workflow" in release.body


def test_a_tag_that_is_taken_gives_the_release_the_next_name(world: World) -> None:
    server, run = world.server, world.a_run()
    client = world.client
    mine = client.get_repo(world.repo).create_git_release("cynthus/digits/1", "mine", "mine")
    server.run_to_outputs(run.id, FILES)
    server.publisher.step()
    [release] = [one for one in world.releases() if one.id != mine.id]
    assert (release.tag_name, release.draft) == ("cynthus/digits/1-2", False)
    assert "gh release download cynthus/digits/1-2 " in release.body


def test_the_name_of_a_deleted_immutable_release_is_passed_over(world: World) -> None:
    server, run = world.server, world.a_run()
    world.github.sim("PATCH", f"/repos/{world.repo}", {"immutable_releases": True})
    repository = world.client.get_repo(world.repo)
    repository.create_git_release("cynthus/digits/1", "mine", "mine").delete_release()
    repository.get_git_ref("tags/cynthus/digits/1").delete()
    world.fault(kind="drop_answer", match={"method": "PATCH", "path": "releases/"}, times=2)
    server.run_to_outputs(run.id, FILES)
    for _ in range(4):
        server.publisher.step()
        server.clock.pass_by(minutes=6)
    [release] = world.releases()
    assert (release.tag_name, release.draft) == ("cynthus/digits/1-2", False)
    row = server.publications.get(run.id, PublicationKind.RELEASE)
    assert row is not None
    assert row.state is PublicationState.DONE


def test_a_draft_that_is_deleted_meanwhile_is_made_again(world: World) -> None:
    server, run = world.server, world.a_run()
    run = server.run_to_outputs(run.id, FILES)
    world.fault(kind="error", status=502, match={"method": "POST", "path": "assets"})
    server.publisher.step()
    [draft] = world.releases()
    draft.delete_release()
    server.clock.pass_by(minutes=6)
    server.publisher.step()
    assert_complete(world, run)


def test_a_downloaded_release_can_be_verified(world: World, tmp_path: Path) -> None:
    server, run = world.server, world.a_run()
    server.tell(run.id, EventKind.LOG, text="hello\n")
    server.run_to_outputs(run.id, FILES)
    server.publisher.step()
    [release] = world.releases()
    for asset in release.get_assets():
        (tmp_path / asset.name).write_bytes(_download(world, asset))
    report = verify(tmp_path, None)
    assert report.faults == []
    assert "outputs-model-weights.bin" in report.checked
    line = json.loads((tmp_path / "provenance.intoto.jsonl").read_text())
    assert {one["name"] for one in line["subject"]} == {
        asset.name for asset in release.get_assets()
    } - {"provenance.intoto.jsonl"}


def released(world: World, number: int) -> Run:
    """Bring a run of another commit to its release, as the loop would, and finish it."""
    server = world.server
    run = world.a_run({"cynthus.yaml": SPEC, "n.txt": str(number)})
    server.run_to_outputs(run.id, {"outputs/model/w": b"%d" % number})
    server.publisher.step()
    row = server.publications.get(run.id, PublicationKind.RELEASE)
    assert row is not None
    server.finish(run.id)
    return server.to_state(run.id, State.FINISHED, release_url=row.url)


def looked_at_again(server: Server, run_id: str) -> Run:
    """Let the loop look at a finished run."""
    run = server.runs.get(run_id)
    assert run is not None
    seen = Observations(release=server.publications.release_seen(run_id))
    return decide(run, seen, server.clock()).run


def tags(world: World) -> set[str]:
    refs = world.client.get_repo(world.repo).get_git_matching_refs("tags/")
    return {ref.ref.removeprefix("refs/tags/") for ref in refs}


def test_a_release_that_somebody_deletes_is_told_at_its_run(world: World) -> None:
    server, run = world.server, released(world, 1)
    world.sink.rest(world.github.settled(server.app))
    [release] = world.releases()
    release.delete_release()
    delivery = world.pass_on("release.deleted")
    assert json.loads(delivery.body)["release"]["id"] == release.id
    told = looked_at_again(server, run.id)
    assert told.release_url is None
    assert told.release_note is not None
    assert told.release_note.startswith("its release was deleted by ")
    images = EnvironmentStore(server.db).images_in_use(run.key.repository_id, 10)
    assert images == (), "nothing keeps the image of a run without release"
    row = server.publications.get(run.id, PublicationKind.RELEASE)
    assert row is not None
    assert row.state is PublicationState.REFUSED


def test_a_forged_or_late_word_of_a_deletion_changes_nothing(world: World) -> None:
    server, run = world.server, released(world, 1)
    [release] = world.releases()
    known = server.repositories.get(run.key.repository_id)
    assert known is not None
    body = {
        "action": "deleted",
        "release": {"id": release.id},
        "repository": {
            "id": known.id,
            "full_name": known.full_name,
            "default_branch": "main",
            "owner": {"id": known.owner_id},
        },
        "installation": {"id": world.installation},
    }
    server.deliver("forged", "release", json.dumps(body).encode())
    assert looked_at_again(server, run.id).release_url == run.release_url


def test_older_releases_go_with_their_tags_as_the_policy_says(world: World) -> None:
    server = world.server
    runs = [released(world, 1)]
    foreign = world.client.get_repo(world.repo).create_git_release("mine", "mine", "mine")
    runs += [released(world, 2)]
    marked = next(one for one in world.releases() if one.tag_name == "cynthus/digits/2")
    marked.update_release(marked.name, "now it is mine")
    rules = RepositoryPolicy(retention=Retention(releases=1))
    server.policy = rules
    runs += [released(world, 3), released(world, 4)]
    server.publisher.step()
    left = {release.tag_name for release in world.releases()}
    # The second is somebody's own by now, as the foreign one; the third was the baseline while the
    # fourth was not finished.
    ours = {f"cynthus/digits/{number}" for number in (2, 3, 4)}
    assert left == {*ours, foreign.tag_name}
    assert tags(world) == left
    told = looked_at_again(server, runs[0].id)
    assert told.release_url is None
    assert told.release_note is not None
    assert "policy keeps the newest 1" in told.release_note


def test_outputs_that_are_gone_are_said(world: World) -> None:
    server, run = world.server, world.a_run()
    server.run_to_outputs(run.id, FILES)
    server.shelf.blobs.clear()
    server.publisher.step()
    row = server.publications.get(run.id, PublicationKind.RELEASE)
    assert row is not None
    assert row.state is PublicationState.REFUSED
    assert row.note is not None
    assert "not in the blob store" in row.note


# ── the sweep ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.case("W22")
def test_deliveries_that_failed_are_asked_for_again_once(world: World) -> None:
    server, sink = world.server, world.sink
    sink.status = 503
    world.push({"cynthus.yaml": SPEC})
    lost = {sink.wait_for("push").headers["x-github-delivery"]}
    sink.status = 202
    server.redelivery.step()
    again = sink.rest(world.github.settled(server.app))  # an app gets more than its pushes
    assert lost == {d.headers["x-github-delivery"] for d in again if d.event == "push"}
    for delivery in again:
        guid = delivery.headers["x-github-delivery"]
        server.deliver(guid, delivery.event, delivery.body)
    assert len(server.runs.list(repository_id=None, limit=9, before=None)) == 1
    before = server.api.total_requests()
    server.clock.pass_by(minutes=6)
    server.redelivery.step()
    assert server.api.total_requests() == before + 1, server.api.requests  # only the list


@pytest.mark.case("W24")
def test_a_sweep_that_fails_is_made_again(world: World) -> None:
    world.sink.status = 503
    world.push({"cynthus.yaml": SPEC})
    world.sink.wait_for("push")
    world.sink.status = 202
    world.fault(kind="error", status=502, match={"path": "app/hook/deliveries"})
    world.server.redelivery.step()
    world.server.clock.pass_by(minutes=1)
    world.server.redelivery.step()
    assert world.sink.wait_for("push").signed_with


@pytest.mark.case("W25")
def test_an_uninstalled_app_ends_what_runs(world: World) -> None:
    run = world.a_run()
    world.github.sim("DELETE", f"/installations/{world.installation}")
    world.pass_on("installation.deleted")
    assert world.server.runs.wishes(run.id).cancel is not None
    known = world.server.repositories.get(run.key.repository_id)
    assert known is not None
    assert known.installation_id == 0
