"""What a pull request is shown: one comment that is edited in place, one plan a head."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cynthus.repository_policy import ApprovalLine, Limits, RepositoryPolicy, Role, Verb
from cynthus.wire import EventKind
from tests.builders import a_draft, a_key, a_spec
from tests.github_fixture import GithubSimulator, github_simulator, one_key
from tests.github_parts import Server, a_server
from webhook_server.github_api import RepositoryFacts
from webhook_server.inbox.asked import Asked, Declined
from webhook_server.inbox.plans import Plans
from webhook_server.intents import Person, Place
from webhook_server.runs.asks import (
    AskCompare,
    AskHelp,
    AskLogs,
    AskPlan,
    AskStatus,
    AskWhy,
    Reading,
)
from webhook_server.runs.model import Outcome, SpecFault, State
from webhook_server.runs.pull import FaultAt, PlanResult, Pull, Reply
from webhook_server.stores.history_store import HistoryStore
from webhook_server.stores.publication_store import (
    Publication,
    PublicationKind,
    PublicationState,
    subject_of,
)

_numbers = itertools.count(1)


class World:
    """One pull request on a simulated GitHub, and a server beside it."""

    def __init__(self, github: GithubSimulator, server: Server, folder: Path, ids: tuple[int, ...]):
        self.github, self.server, self.folder = github, server, folder
        self.repository_id, self.installation_id = ids
        self.repo = f"{server.owner}/digits"
        self.push({"README.md": "hello"}, branch="main")
        self.sha = self.push({"README.md": "hello you"}, branch="patch")
        made = github.post("/pulls", repo=self.repo, head="patch", title="A patch")
        self.number = int(made["number"])
        self.pull = Pull(repository_id=self.repository_id, number=self.number, repository=self.repo)
        self.github.sim("DELETE", "/requests")

    def push(self, files: dict[str, str], branch: str) -> str:
        return self.github.push(self.folder / "work", files, to=self.repo, branch=branch)

    def change(self, kind: PublicationKind, **changes: Any) -> None:
        self.server.pulls.change(
            self.pull, lambda pull: replace(pull, **changes), self.server.clock(), (kind,)
        )

    def reply(self, number: int) -> None:
        """Answer something, and let the publisher look."""
        reply = Reply(
            key=f"comment/{number}/0",
            at=self.server.clock(),
            by="ada",
            verb=Verb.STATUS,
            asked="/cynthus status",
            refused=False,
            text=f"answer {number}",
        )
        known = self.server.pulls.get(self.repository_id, self.number) or self.pull
        self.change(PublicationKind.COMMENT, replies=(*known.replies, reply))
        self.server.publisher.step()

    def a_run(self, **changes: Any) -> str:
        key = a_key(repository_id=self.repository_id, commit_sha=self.sha)
        given = {"key": key, "repository": self.repo, "pull_request": self.number}
        draft = a_draft(**(given | {"spec": a_spec()} | changes))
        now = self.server.clock()
        return self.server.runs.accept(draft, arrived=None, token_id=None, now=now).run_id

    @property
    def place(self) -> Place:
        return Place(
            id=self.repository_id,
            owner_id=0,
            full_name=self.repo,
            default_branch="main",
            installation_id=self.installation_id,
        )

    @property
    def facts(self) -> RepositoryFacts:
        return RepositoryFacts(
            id=self.repository_id, owner_id=0, full_name=self.repo, default_branch="main"
        )

    def plan(self) -> PlanResult | None:
        """Plan the head as the inbox does, and let the publisher look."""
        server = self.server
        pull = server.api.pull(self.place, self.number)
        found = server.plans.make(server.parts, self.place, self.facts, pull)
        if found is not None:
            self.change(PublicationKind.PLAN, plan=found)
        server.publisher.step()
        return found

    def answer(self, ask: Reading, *, role: Role = Role.WRITE) -> str:
        """Ask as the inbox does."""
        server = self.server
        asked = Asked(
            place=self.place,
            facts=self.facts,
            pull=server.api.pull(self.place, self.number),
            known=self.pull,
            policy=server.policy_of(self.place),
            by=Person(id=1, login="ada", bot=False),
            role=role,
            at=server.clock(),
            key="comment/1/0",
        )
        return server.parts.answer(server.parts, asked, ask)

    def comments(self) -> list[str]:
        issue = self.client.get_repo(self.repo).get_issue(self.number)
        return [str(found.body) for found in issue.get_comments()]

    def checks(self, sha: str) -> list[Any]:
        return list(self.client.get_repo(self.repo).get_commit(sha).get_check_runs())

    @property
    def client(self) -> Any:
        return self.github.client(self.server.app, self.installation_id)

    def publication(self, kind: PublicationKind = PublicationKind.COMMENT) -> Publication:
        found = self.server.publications.get(subject_of(self.repository_id, self.number), kind)
        assert found is not None
        return found

    def reads(self) -> int:
        """Return how often GitHub was asked since the last look."""
        sent = self.github.sim("GET", "/requests")
        self.github.sim("DELETE", "/requests")
        return sum("/repos/" in one["path"] and one["method"] == "GET" for one in sent)

    def writes(self) -> list[str]:
        """Return what was written since the last look, by verb and end of the path."""
        sent = self.github.sim("GET", "/requests")
        self.github.sim("DELETE", "/requests")
        told = [(one["method"], one["path"]) for one in sent if "/repos/" in one["path"]]
        return [f"{verb} {path.split('/')[-2]}" for verb, path in told if verb != "GET"]


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GithubSimulator]:
    with github_simulator(tmp_path_factory.mktemp("github")) as simulator:
        yield simulator


@pytest.fixture
def world(github: GithubSimulator, tmp_path: Path) -> Iterator[World]:
    owner = f"pulled{next(_numbers)}"
    github.sim("DELETE", "/faults")
    app = github.create_app(pem=one_key())
    github.post("/owners", login=owner)
    made = github.post("/repos", owner=owner, name="digits", open=True)
    installed = github.post("/installations", app_id=app.id, owner=owner)
    with a_server(github, app, owner, tmp_path / "server") as server:
        yield World(github, server, tmp_path, (int(made["id"]), int(installed["id"])))


# ── the comment ─────────────────────────────────────────────────────────────────────────────────


def test_every_answer_goes_into_the_one_comment(world: World) -> None:
    for number in (1, 2, 3):
        world.reply(number)
    [text] = world.comments()
    assert text.index("answer 3") < text.index("answer 2") < text.index("answer 1")
    assert world.publication().url is not None


def test_nobody_is_written_to_who_has_not_asked(world: World) -> None:
    world.a_run()
    world.change(PublicationKind.COMMENT, open=False)
    world.server.publisher.step()
    assert world.comments() == []
    assert world.publication().state is PublicationState.DONE


def test_a_run_that_moves_on_is_told_at_most_every_half_minute(world: World) -> None:
    run_id = world.a_run()
    world.reply(1)
    world.server.to_state(run_id, State.QUEUED)
    world.server.publisher.step()
    assert "| building |" in world.comments()[0]
    due_at = world.publication().due_at
    assert due_at is not None
    assert due_at - world.server.clock() < timedelta(seconds=30)
    world.server.clock.pass_by(seconds=31)
    world.server.publisher.step()
    assert "| queued |" in world.comments()[0]
    world.reply(2)  # at once, whenever the last edit was
    assert "answer 2" in world.comments()[0]


def test_nothing_is_sent_that_stands_there_already(world: World) -> None:
    world.reply(1)
    world.writes()
    world.change(PublicationKind.COMMENT, draft=True)
    world.server.clock.pass_by(minutes=5)
    world.server.publisher.step()
    assert world.writes() == []


@pytest.mark.case("G6")
def test_a_create_whose_answer_was_lost_is_found_again(world: World) -> None:
    match = {"method": "POST", "path": "/issues/[0-9]+/comments$"}
    world.github.post("/faults", kind="drop_answer", match=match)
    world.reply(1)
    world.server.restart()
    world.server.clock.pass_by(minutes=1)
    world.server.publisher.step()
    assert len(world.comments()) == 1
    assert world.publication().external_id is not None


def test_a_deleted_comment_comes_back_only_for_a_new_question(world: World) -> None:
    run_id = world.a_run()
    world.reply(1)
    world.github.sim("DELETE", f"/comments/{world.publication().external_id}")
    world.server.runs.cancel(run_id, "ada", world.server.clock())
    world.server.to_state(run_id, State.QUEUED)
    world.server.clock.pass_by(minutes=1)
    world.server.publisher.step()
    assert world.comments() == []
    assert "deleted" in str(world.publication().note)
    world.reply(2)
    [text] = world.comments()
    assert "answer 2" in text


def test_a_comment_that_was_only_hidden_for_a_while_gets_no_second_one(world: World) -> None:
    world.reply(1)
    match = {"method": "PATCH", "path": "/issues/comments/"}
    world.github.post("/faults", kind="error", status=404, match=match)
    world.reply(2)
    [text] = world.comments()
    assert "answer 2" in text


def test_a_locked_conversation_is_asked_again_only_for_a_new_question(world: World) -> None:
    run_id = world.a_run()
    match = {"method": "POST", "path": "/issues/[0-9]+/comments$"}
    body = {"message": "Unable to create comment because issue is locked."}
    world.github.post("/faults", kind="error", status=403, body=body, match=match)
    world.reply(1)
    assert world.publication().state is PublicationState.REFUSED
    assert "locked" in str(world.publication().note)
    world.writes()
    world.server.to_state(run_id, State.QUEUED)
    world.server.clock.pass_by(minutes=1)
    world.server.publisher.step()
    assert [write for write in world.writes() if "comments" in write] == []
    world.reply(2)
    assert len(world.comments()) == 1


# ── the plan ────────────────────────────────────────────────────────────────────────────────────

SPEC = "version: 1\nname: digits\nrun: python train.py\nresources: {max_cost: 5.00}\n"


def plan_checks(world: World, sha: str) -> list[Any]:
    return [check for check in world.checks(sha) if check.name == "cynthus/plan"]


def test_a_head_with_a_new_spec_has_one_plan(world: World) -> None:
    sha = world.push({"cynthus.yaml": SPEC}, branch="patch")
    assert world.plan() is not None
    assert world.reads() <= 6
    [check] = plan_checks(world, sha)
    assert (check.status, check.conclusion) == ("completed", "success")
    assert check.external_id == subject_of(world.repository_id, world.number)
    assert check.output.title.startswith("digits · small in here · at most $")
    assert "The base branch has no such spec." in check.output.summary
    world.writes()
    world.plan()  # the same again: nothing is read of the commits, nothing is written
    assert world.reads() == 1
    assert len(plan_checks(world, sha)) == 1


def test_every_head_has_its_own_plan(world: World) -> None:
    world.push({"cynthus.yaml": SPEC}, branch="main")
    first = world.push({"cynthus.yaml": SPEC, "README.md": "hello you"}, branch="patch")
    world.plan()
    broken = SPEC.replace("max_cost: 5.00", "max_cost: 5.00, spot: maybe")
    second = world.push({"cynthus.yaml": broken}, branch="patch")
    world.plan()
    [before], [after] = plan_checks(world, first), plan_checks(world, second)
    assert (before.conclusion, before.output.title) == ("success", "no spec is changed")
    assert (after.conclusion, after.output.annotations_count) == ("failure", 1)
    assert after.output.title == "cynthus.yaml has 1 fault"


def test_all_faults_are_annotations_though_github_takes_fifty_at_a_time(world: World) -> None:
    faults = tuple(
        FaultAt(path="cynthus.yaml", fault=SpecFault(line=n, column=1, text=f"fault {n}"))
        for n in range(1, 121)
    )
    plan = PlanResult(
        sha=world.sha, conclusion="failure", title="120 faults", summary="", faults=faults
    )
    world.change(PublicationKind.PLAN, plan=plan)
    world.server.publisher.step()
    [check] = plan_checks(world, world.sha)
    assert check.output.annotations_count == 120
    assert world.publication(PublicationKind.PLAN).due_at is None


def test_a_repository_without_a_spec_has_no_plan(world: World) -> None:
    assert world.plan() is None
    assert world.checks(world.sha) == []


def test_a_plan_beyond_the_policys_line_waits_for_a_person(world: World) -> None:
    sha = world.push({"cynthus.yaml": SPEC}, branch="patch")
    limits = Limits(monthly_budget_usd=Decimal(300))
    line = ApprovalLine(cost_usd=Decimal(1))
    world.server.policy = RepositoryPolicy(limits=limits, approval=line)
    world.plan()
    [check] = plan_checks(world, sha)
    assert check.conclusion == "action_required"
    assert "needs approval by maintain or admin" in check.output.title
    assert "$300.00 left of $300.00" in check.output.summary


def test_a_forks_commit_is_planned_and_waits_for_an_approval(world: World) -> None:
    owner = f"{world.server.owner}-fork"
    world.github.post("/users", login=owner)
    world.github.post("/repos", owner=owner, name="digits", fork_of=world.repo, open=True)
    sha = world.github.push(
        world.folder / "theirs", {"cynthus.yaml": SPEC}, to=f"{owner}/digits", branch="theirs"
    )
    made = world.github.post(
        "/pulls", repo=world.repo, head="theirs", head_repo=f"{owner}/digits", user=owner
    )
    pull = world.server.api.pull(world.place, int(made["number"]))
    plan = world.server.plans.make(world.server.parts, world.place, world.facts, pull)
    assert plan is not None
    assert (plan.sha, plan.conclusion) == (sha, "action_required")
    assert "its commit comes from a fork" in plan.summary
    assert "resources/max\\_cost: \\$2.00 at most" in plan.summary


def test_what_cannot_be_told_here_is_neutral(world: World) -> None:
    world.push({"cynthus.yaml": SPEC}, branch="patch")
    server = world.server
    pull = server.api.pull(world.place, world.number)
    server.policy = None  # GitHub cannot be asked for it
    unread = server.plans.make(server.parts, world.place, world.facts, pull)
    assert unread is not None
    assert unread.conclusion == "neutral"
    assert "policy could not be read: GitHub cannot be asked" in unread.summary
    server.policy = RepositoryPolicy()
    lends_nothing = Plans(replace(server.planner, providers={}), HistoryStore(server.db))
    unpriced = lends_nothing.make(server.parts, world.place, world.facts, pull)
    assert unpriced is not None
    assert (unpriced.conclusion, unpriced.title) == (
        "neutral",
        "digits · its price is not known here",
    )


def test_a_plan_whose_answer_was_lost_is_found_again(world: World) -> None:
    sha = world.push({"cynthus.yaml": SPEC}, branch="patch")
    match = {"method": "POST", "path": "/check-runs$"}
    world.github.post("/faults", kind="drop_answer", match=match)
    world.plan()
    world.server.restart()
    world.server.clock.pass_by(minutes=1)
    world.server.publisher.step()
    assert len(plan_checks(world, sha)) == 1
    assert world.publication(PublicationKind.PLAN).state is PublicationState.DONE


def an_approval_line(world: World) -> None:
    world.server.policy = RepositoryPolicy(approval=ApprovalLine(cost_usd=Decimal(1)))


def looked_at(world: World) -> Any:
    """Let the publisher look three times, a minute apart; return the plan as people see it."""
    for _ in range(3):
        world.server.publisher.step()
        world.server.clock.pass_by(minutes=1)
    [check] = plan_checks(world, world.client.get_repo(world.repo).get_pull(world.number).head.sha)
    return check


def every_plan(world: World, sha: str) -> list[str]:
    found = world.client.get_repo(world.repo).get_commit(sha).get_check_runs(filter="all")
    ours = sorted((one.id, one.conclusion) for one in found if one.name == "cynthus/plan")
    return [conclusion for _, conclusion in ours]


def test_a_verdict_that_changes_is_another_check_run_even_when_its_answer_is_lost(
    world: World,
) -> None:
    sha = world.push({"cynthus.yaml": SPEC}, branch="patch")
    an_approval_line(world)
    world.plan()
    assert looked_at(world).conclusion == "action_required"
    world.server.policy = RepositoryPolicy()
    match = {"method": "POST", "path": "/check-runs$"}
    world.github.post("/faults", kind="drop_answer", match=match)
    world.plan()
    world.server.restart()
    assert looked_at(world).conclusion == "success"
    world.server.clock.pass_by(minutes=11)  # it is asked once more whether a create came late
    world.server.publisher.step()
    assert every_plan(world, sha) == ["action_required", "success"]
    assert world.publication(PublicationKind.PLAN).due_at is None


def test_a_verdict_that_changes_while_an_answer_is_lost_is_not_sent_into_the_void(
    world: World,
) -> None:
    sha = world.push({"cynthus.yaml": SPEC}, branch="patch")
    match = {"method": "POST", "path": "/check-runs$"}
    world.github.post("/faults", kind="drop_answer", match=match)
    world.plan()  # GitHub has made it, as a success, and we were not told
    an_approval_line(world)
    world.plan()
    assert looked_at(world).conclusion == "action_required"
    assert every_plan(world, sha) == ["success", "action_required"]


def test_an_older_verdict_that_comes_late_does_not_stay_the_newest(world: World) -> None:
    sha = world.push({"cynthus.yaml": SPEC}, branch="patch")
    an_approval_line(world)
    match = {"method": "POST", "path": "/check-runs$"}
    world.github.post("/faults", kind="error", status=502, match=match)  # it is on its way
    world.plan()
    world.server.policy = RepositoryPolicy()
    world.plan()
    assert looked_at(world).conclusion == "success"
    subject = subject_of(world.repository_id, world.number)
    late = {"name": "cynthus/plan", "head_sha": sha, "external_id": subject}
    world.server.api.create_check_run(
        world.place, late | {"status": "completed", "conclusion": "action_required"}
    )
    assert every_plan(world, sha) == ["success", "action_required"]
    world.server.clock.pass_by(minutes=11)  # then no create can take effect any more
    assert looked_at(world).conclusion == "success"
    assert every_plan(world, sha) == ["success", "action_required", "success"]
    assert world.publication(PublicationKind.PLAN).due_at is None


def test_what_is_due_while_others_write_gets_its_moment_in_the_line(world: World) -> None:
    server, gap = world.server, timedelta(seconds=10)
    server.spacing = gap
    server.restart()
    plan = PlanResult(sha=world.sha, conclusion="success", title="fine", summary="")
    for number in range(101, 105):
        new = Pull(repository_id=world.repository_id, number=number, repository=world.repo)
        server.pulls.change(
            new, lambda pull: replace(pull, plan=plan), server.clock(), (PublicationKind.PLAN,)
        )
    world.writes()
    server.publisher.step()
    assert len(world.writes()) == 1
    found = [
        server.publications.get(subject_of(world.repository_id, number), PublicationKind.PLAN)
        for number in range(101, 105)
    ]
    moments = sorted(one.due_at for one in found if one is not None and one.due_at is not None)
    assert [after - before >= gap for before, after in itertools.pairwise(moments)] == [True, True]


# ── answers ─────────────────────────────────────────────────────────────────────────────────────


def test_status_tells_each_run_and_why_it_waits(world: World) -> None:
    with pytest.raises(Declined, match="no run yet"):
        world.answer(AskStatus())
    run_id = world.a_run()
    text = world.answer(AskStatus(), role=Role.READ)
    assert text.startswith("- ` digits #1 ` at `")
    assert f"([live view](https://cynthus.test/runs/{run_id}))" in text
    assert world.answer(AskStatus(target="digits#1")) == text
    with pytest.raises(Declined, match="there is no run"):
        world.answer(AskStatus(target="else"))


def test_logs_are_the_end_of_the_newest_attempt_in_a_fence(world: World) -> None:
    run_id = world.a_run()
    world.server.run_to_outputs(run_id, {})
    world.server.tell(run_id, EventKind.LOG, text="epoch 1\n```\n/cynthus run\n")
    world.server.tell(run_id, EventKind.LOG, text="epoch 2\nloss nan\n")
    text = world.answer(AskLogs(last=4))
    assert text.endswith("````text\n```\n/cynthus run\nepoch 2\nloss nan\n````")
    assert "the last 2 lines with ` epoch `" in world.answer(AskLogs(grep="epoch"))
    assert "has no line with ` none `" in world.answer(AskLogs(grep="none"))


def test_why_tells_the_course(world: World) -> None:
    run_id = world.a_run()
    world.server.to_state(run_id, State.QUEUED)
    text = world.answer(AskWhy())
    assert "is **queued** since" in text
    assert "queued: it is queued" in text


def test_compare_wants_a_released_result_of_the_default_branch(world: World) -> None:
    run_id = world.a_run()
    with pytest.raises(Declined, match="no released result"):
        world.answer(AskCompare(left=run_id))
    other = world.a_run(id="other0000001", key=a_key(repository_id=world.repository_id))
    assert "digits" in world.answer(AskCompare(left=run_id, right=other))
    world.server.change(
        other, lambda run: replace(run, ref="refs/heads/main", release_url="https://github.test/r")
    )
    world.server.finish(other, Outcome.SUCCEEDED)
    assert world.answer(AskCompare(left=run_id)).startswith("| |")


def test_a_plan_can_be_asked_for_with_changes(world: World) -> None:
    with pytest.raises(Declined, match="spec"):
        world.answer(AskPlan())
    world.push({"cynthus.yaml": SPEC + 'env: {LR: "0.1"}\n'}, branch="patch")
    plain = world.answer(AskPlan(names=("digits",)))
    assert "It means the same as on the base branch." in plain
    changed = world.answer(AskPlan(overrides=(("LR", "0.5"),)))
    assert "` env/LR `" in changed
    with pytest.raises(Declined, match="Did you mean"):
        world.answer(AskPlan(names=("digit",)))


def test_help_names_what_this_person_may_ask(world: World) -> None:
    reader = world.answer(AskHelp(), role=Role.READ)
    assert "` /cynthus status [run] `" in reader
    assert "` /cynthus run" not in reader
    assert "Not by you here: run, logs, cancel" in reader
    assert "` /cynthus destroy `" in world.answer(AskHelp(), role=Role.ADMIN)
