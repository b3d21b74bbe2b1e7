"""What people ask at pull requests, through real webhooks: every verb, every role, once each."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import update

from cynthus.repository_policy import (
    Allowance,
    ApprovalLine,
    Limits,
    RepositoryPolicy,
    Role,
    Superseded,
    SupersededRules,
    Verb,
)
from cynthus.spec import DataSource
from tests.builders import an_attempt
from tests.github_fixture import GithubSimulator, git, github_simulator, one_key, webhook_sink
from tests.github_parts import SPEC, World, a_server
from webhook_server.delivery_reader import intent_of
from webhook_server.inbox.comments import Comments
from webhook_server.inbox.verbs import Verbs
from webhook_server.intents import Commented
from webhook_server.runs.model import Hold, Origin, Outcome, Run, SpecFault, State
from webhook_server.runs.pinning import bind
from webhook_server.runs.pull import MOST_ANSWERS, Reply
from webhook_server.runs.trail import DeedVerb, Means, Started, TrailRow, unproven
from webhook_server.stores import warm_store
from webhook_server.stores.publication_store import PublicationKind
from webhook_server.stores.tables import publications
from webhook_server.stores.trail_store import TrailStore, Wanted

IMAGE = "registry.test/digits@sha256:" + "a" * 64
ROLES = ("none", "read", "triage", "write", "maintain", "admin")
ASKED = SPEC + "triggers: {push: {branches: [never]}}\nenv: {LR: '0.1'}\n"
_branches, _bases = itertools.count(1), itertools.count()
BASES = 100  # more than there are tests here


@dataclass
class Pull:
    """A pull request of the test's own."""

    world: World
    branch: str
    sha: str
    number: int

    def says(self, login: str, body: str) -> int:
        """Let somebody comment, a moment after all that was before; return the comment's id."""
        self.later()
        made = self.world.github.post(
            "/comments", repo=self.world.repo, number=self.number, user=login, body=body
        )
        return int(made["id"])

    def asks(self, login: str, body: str) -> list[Reply]:
        """Let somebody comment and the server handle it; return what it answered."""
        known = len(self.replies)
        self.says(login, body)
        self.world.pass_on("issue_comment.created")
        return self.replies[known:]

    def later(self, seconds: float = 1.1) -> None:
        """Let time pass for GitHub and for us: its clock counts whole seconds."""
        self.world.github.post("/clock", advance_s=seconds)
        self.world.server.clock.pass_by(seconds=seconds)

    def push(self, **files: str) -> str:
        self.later()
        self.sha = self.world.push(files or {"n": self.sha}, branch=self.branch)
        return self.sha

    def change(self, **wish: Any) -> None:
        self.world.github.sim("PATCH", f"/pulls/{self.world.repo}/{self.number}", wish)

    @property
    def replies(self) -> list[Reply]:
        known = self.world.server.pulls.get(self.world.repository_id, self.number)
        return list(known.replies) if known else []

    @property
    def runs(self) -> list[Run]:
        return self.world.server.runs.of_pull(self.world.repository_id, self.number, limit=99)

    def live(self) -> Run:
        """Start a run and bring it where it has an instance."""
        [reply] = self.asks("write", "/cynthus run")
        assert not reply.refused, reply.text
        return self.bring(reply.run_ids[0], State.RUNNING)

    def bring(self, run_id: str, state: State, **changes: Any) -> Run:
        """Bring a run to a state as the loop would."""
        server = self.world.server
        if state is State.RUNNING:
            attempt = an_attempt(ordered_at=server.clock(), names=(f"cynthus-{run_id}-1",))
            changes["attempts"] = (attempt,)
        return server.to_state(run_id, state, image=IMAGE, **changes)

    def held(self) -> Run:
        """Start a run and let it wait for a person."""
        [reply] = self.asks("write", "/cynthus run")
        hold = Hold(reasons=("it may cost $9.00",), cap_usd=Decimal(9), who="maintain or admin")
        return self.bring(reply.run_ids[0], State.QUEUED, hold=hold)


class Worlds(World):
    """The world of this module: one repository with people of every role."""

    repository_id = 0
    common = ""
    token = ""  # the repository is private: nobody reads it who has no role

    def push(self, files: dict[str, str], **more: str) -> str:
        return super().push(files, **({"token": self.token} | more))

    def people(self) -> None:
        for role in ROLES:
            self.token = self.github.post("/users", login=role)["token"]
            if role != "none":
                path = f"/repos/{self.repo}/collaborators/{role}"
                self.github.sim("PUT", path, {"permission": role})

    def bases(self) -> None:
        """Make branches that pull requests can ask into: GitHub takes one of a head for each."""
        work, names = self.folder / "work", [f"HEAD:refs/heads/base{n}" for n in range(BASES)]
        git(work, "push", "--quiet", self.github.git_url(self.repo, self.token), *names)

    def a_pull(self, text: str = ASKED) -> Pull:
        """Open a pull request of a branch of its own."""
        branch = f"patch{next(_branches)}"
        sha = self.push({"cynthus.yaml": text, "n": branch}, branch=branch)
        return self.opened(branch, sha)

    def opened(self, branch: str, sha: str) -> Pull:
        """Open a pull request of a branch that is there."""
        base = f"base{next(_bases)}"
        made = self.github.post("/pulls", repo=self.repo, head=branch, base=base, user="write")
        self.pass_on("pull_request.opened")
        return Pull(self, branch, sha, int(made["number"]))


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GithubSimulator]:
    with github_simulator(tmp_path_factory.mktemp("github")) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def shared(github: GithubSimulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    folder = tmp_path_factory.mktemp("asks")
    with webhook_sink() as sink:
        app = github.create_app(webhook_url=sink.url, pem=one_key())
        github.post("/owners", login="octo")
        made = github.post("/repos", owner="octo", name="digits", private=True, open=True)
        with a_server(github, app, "octo", folder / "server") as server:
            world = Worlds(github, server, sink, folder)
            world.repository_id = made["id"]
            world.people()
            world.push({"README.md": "hello"})
            world.bases()
            github.post("/installations", app_id=app.id, owner="octo")  # tells of nothing before
            world.common = world.push({"cynthus.yaml": ASKED}, branch="common")
            yield world


@pytest.fixture
def world(shared: Worlds) -> Iterator[Worlds]:
    shared.github.sim("DELETE", "/faults")
    shared.server.policy, shared.server.policy_faults = RepositoryPolicy(), ()
    yield shared
    shared.github.sim("DELETE", "/faults")


@pytest.fixture
def pull(world: Worlds) -> Pull:
    """Open a pull request of a commit that others have too: nothing is pushed, which is quick."""
    return world.opened("common", world.common)


@pytest.fixture
def own(world: Worlds) -> Pull:
    """Open a pull request of a commit that nobody has run, and that may be pushed to."""
    return world.a_pull()


# ── who ─────────────────────────────────────────────────────────────────────────────────────────

#: What each role may by default, of a verb that reads, one that starts, one that destroys.
MAY = {
    "none": set(),
    "read": {"help"},
    "triage": {"help"},
    "write": {"help", "run"},
    "maintain": {"help", "run", "destroy"},
    "admin": {"help", "run", "destroy"},
}


@pytest.mark.case("C1")
@pytest.mark.parametrize("role", ROLES)
def test_c1_only_who_has_the_right_is_served_and_others_are_told_once(
    world: Worlds, pull: Pull, role: str
) -> None:
    replies = pull.asks(role, "/cynthus help\n/cynthus run\n/cynthus destroy")
    admitted = {reply.verb for reply in replies if not reply.refused}
    assert admitted == MAY[role]
    assert len(pull.runs) == ("run" in MAY[role])
    strangers = [reply for reply in replies if reply.key.startswith("stranger/")]
    assert len(strangers) == (len(MAY[role]) < 3)
    again = pull.asks(role, "/cynthus run\n/cynthus destroy")
    assert [reply for reply in again if reply.key.startswith("stranger/")] == []


def trail_of(world: Worlds, **wanted: Any) -> list[TrailRow]:
    asked = Wanted(repository_id=world.repository_id, **wanted)
    return TrailStore(world.server.db).newest(asked, limit=1000)


def test_what_is_refused_stands_in_the_trail_once_with_the_role_that_was_found(
    world: Worlds, pull: Pull
) -> None:
    comment_id = pull.says("read", "/cynthus run\n/cynthus help")
    world.pass_on("issue_comment.created")
    asks, mine = trail_of(world, verb="ask"), f"comment/{comment_id}/"
    [row] = [one for one in asks if one.authority.source.startswith(mine)]
    assert not row.deed.done
    assert "write" in row.deed.text
    assert row.deed.subject == f"pull/{world.repository_id}/{pull.number}"
    assert (row.authority.actor.name, row.authority.actor.kind) == ("read", "person")
    assert (row.authority.proof.means, row.authority.proof.role) == ("role", "read")


def test_i14_what_a_comment_starts_and_ends_is_proven_by_the_trail(
    world: Worlds, own: Pull
) -> None:
    run = own.live()
    own.asks("write", "/cynthus cancel")
    rows = trail_of(world, run_id=run.id)
    started = Started(
        run_id=run.id, repository_id=world.repository_id, commit_sha=own.sha, image=run.image
    )
    assert unproven([started], rows) == []
    by_verb = {row.deed.verb: row for row in rows}
    assert set(by_verb) == {DeedVerb.START, DeedVerb.ORDER, DeedVerb.CANCEL}
    start = by_verb[DeedVerb.START].authority
    assert start.source.startswith("comment/")
    assert (start.actor.name, start.proof.role, start.proof.sha) == ("write", "write", own.sha)
    assert start.proof.asked
    assert start.proof.ref  # the delivery
    assert by_verb[DeedVerb.ORDER].authority.actor.name == "server"
    assert by_verb[DeedVerb.CANCEL].authority.actor.name == "write"


def test_i14_what_a_push_starts_is_proven_by_its_signed_delivery(world: Worlds) -> None:
    text = SPEC + f"env: {{BRANCH: '{next(_branches)}'}}\ntriggers: {{push: {{branches: [i14]}}}}\n"
    sha = world.push({"cynthus.yaml": text}, branch="i14")
    world.pass_on("push")
    [run] = world.server.runs.of_commit(world.repository_id, sha)
    rows = trail_of(world, run_id=run.id)
    started = Started(run_id=run.id, repository_id=world.repository_id, commit_sha=sha)
    assert unproven([started], rows) == []
    [row] = rows
    assert row.authority.proof.means is Means.EVENT
    assert row.authority.source == f"push {row.authority.proof.ref}"


def test_an_admitted_ask_is_acknowledged_by_an_emoji_and_a_refused_one_by_another(
    world: Worlds, pull: Pull
) -> None:
    assert emoji_of(world, pull, "write", "/cynthus status") == ["eyes"]
    assert emoji_of(world, pull, "none", "/cynthus status") == ["confused"]
    assert emoji_of(world, pull, "none", "/cynthus status") == []  # told once


def emoji_of(world: Worlds, pull: Pull, login: str, body: str) -> list[str]:
    comment_id = pull.says(login, body)
    world.pass_on("issue_comment.created")
    comment = world.client.get_repo(world.repo).get_issue(pull.number).get_comment(comment_id)
    return [reaction.content for reaction in comment.get_reactions()]


@pytest.mark.case("C1")
def test_c1_a_stranger_who_goes_on_asking_costs_one_request_a_comment(
    world: Worlds, pull: Pull
) -> None:
    pull.asks("none", "/cynthus run")
    for body in ("/cynthus run", "/cynthus status\n/cynthus what\n/cynthus retry", "/cynthus what"):
        world.forget_requests()
        assert pull.asks("none", body) == []
        assert [one["path"].rpartition("/")[2] for one in world.requests()] == ["permission"]
    path = f"/repos/{world.repo}/collaborators/none"
    world.github.sim("PUT", path, {"permission": "write"})
    try:
        [reply] = pull.asks("none", "/cynthus run")  # who has the right by now is served at once
    finally:
        world.github.sim("PUT", path, {"permission": "none"})
    assert not reply.refused


@pytest.mark.case("C1")
def test_who_may_run_nothing_is_answered_so_often_an_hour_and_others_always(
    world: Worlds, pull: Pull
) -> None:
    assert len(pull.asks("read", "/cynthus help\n" * 10)) == MOST_ANSWERS
    world.forget_requests()
    assert pull.asks("read", "/cynthus help") == []
    assert len(world.requests()) == 1
    assert len(pull.asks("write", "/cynthus help\n" * 10)) == 10
    pull.later(3600)
    assert len(pull.asks("read", "/cynthus help")) == 1


def test_an_emoji_that_fails_undoes_nothing(world: Worlds, pull: Pull) -> None:
    world.fault(kind="error", status=500, times=-1, match={"path": "reactions"})
    [reply] = pull.asks("write", "/cynthus run")
    assert len(reply.run_ids) == 1


def test_a_person_whom_the_policy_names_may_what_the_role_does_not(
    world: Worlds, pull: Pull
) -> None:
    named = Allowance(role=Role.ADMIN, people=("Read",))
    world.server.policy = RepositoryPolicy(rights=((Verb.RUN, named),))
    assert [reply.refused for reply in pull.asks("read", "/cynthus run")] == [False]
    assert [reply.refused for reply in pull.asks("write", "/cynthus run")] == [True]


@pytest.mark.case("C2")
@pytest.mark.parametrize("status", [404, 403, 500])
def test_c2_a_role_that_cannot_be_looked_up_runs_nothing_and_says_so(
    world: Worlds, pull: Pull, status: int
) -> None:
    world.fault(kind="error", status=status, times=-1, match={"path": "collaborators"})
    [reply] = pull.asks("write", "/cynthus run")
    assert "could not be checked" in reply.text
    world.github.sim("DELETE", "/faults")
    pull.later(3600)
    world.server.inbox.step()
    assert pull.runs == []


@pytest.mark.case("C2")
def test_c2_a_policy_that_cannot_be_read_runs_nothing_and_says_so(
    world: Worlds, pull: Pull
) -> None:
    world.server.policy = None
    [reply] = pull.asks("write", "/cynthus run")
    assert "could not be checked" in reply.text
    assert pull.runs == []


def test_a_policy_with_faults_starts_nothing_that_costs_and_answers_all_the_same(
    world: Worlds, pull: Pull
) -> None:
    world.server.policy_faults = (SpecFault(line=3, column=1, text="limits: <b>should be"),)
    run, answer = pull.asks("write", "/cynthus run\n/cynthus help")
    assert run.refused
    assert "cynthus-policy.yml:3:1" in run.text
    assert "<b>" not in run.text
    assert not answer.refused
    assert pull.runs == []


@pytest.mark.case("C3")
def test_c3_a_right_that_was_taken_away_before_the_comment_is_handled_counts_no_more(
    world: Worlds, pull: Pull
) -> None:
    world.github.post("/users", login="ada")
    path = f"/repos/{world.repo}/collaborators/ada"
    world.github.sim("PUT", path, {"permission": "write"})
    pull.says("ada", "/cynthus run")
    world.github.sim("PUT", path, {"permission": "read"})
    world.pass_on("issue_comment.created")
    assert pull.runs == []
    assert [reply.refused for reply in pull.replies] == [True]


@pytest.mark.case("C4")
def test_c4_a_comment_that_was_edited_or_deleted_since_is_ignored(
    world: Worlds, pull: Pull
) -> None:
    edited = pull.says("write", "/cynthus run")
    world.github.sim("PATCH", f"/comments/{edited}", {"body": "/cynthus run gpu=h100"})
    world.pass_on("issue_comment.created")
    deleted = pull.says("write", "/cynthus run")
    world.github.sim("DELETE", f"/comments/{deleted}", {})
    world.pass_on("issue_comment.created")
    assert (pull.runs, pull.replies) == ([], [])


@pytest.mark.case("C5")
def test_c5_bots_are_ignored_unless_the_policy_names_them(world: Worlds, pull: Pull) -> None:
    world.github.post("/users", login="renovate[bot]", type="Bot")
    assert pull.asks("renovate[bot]", "/cynthus run") == []
    named = Allowance(role=Role.WRITE, people=("renovate[bot]",))
    world.server.policy = RepositoryPolicy(bots=("renovate[bot]",), rights=((Verb.RUN, named),))
    assert len(pull.asks("renovate[bot]", "/cynthus run")) == 1


@pytest.mark.case("C6")
@pytest.mark.parametrize(
    "body",
    ["```\n/cynthus run\n```", "> /cynthus run", "<!--\n/cynthus run\n-->", "say /cynthus run"],
)
def test_c6_what_is_quoted_or_code_or_mid_line_costs_not_one_request(
    world: Worlds, pull: Pull, body: str
) -> None:
    before = world.server.api.total_requests()
    assert pull.asks("write", body) == []
    assert world.server.api.total_requests() == before


@pytest.mark.case("C7")
def test_c7_a_slash_that_only_looks_like_one_costs_not_one_request(
    world: Worlds, pull: Pull
) -> None:
    before = world.server.api.total_requests()
    assert pull.asks("write", "\uff0fcynthus run\n\u200b/cynthus run\n/cynthu\u0455 run") == []
    assert world.server.api.total_requests() == before


@pytest.mark.case("C8")
def test_c8_of_200_lines_one_starts_a_run_and_ten_are_answered(world: Worlds, pull: Pull) -> None:
    replies = pull.asks("write", "/cynthus run\n" * 200)
    assert len(pull.runs) == 1
    assert [reply.refused for reply in replies] == [False, *[True] * 10]
    assert "first 10 lines" in replies[-1].text


@pytest.mark.case("C9")
def test_c9_overrides_are_judged_as_the_file_is(world: Worlds, pull: Pull) -> None:
    [reply] = pull.asks("write", "/cynthus run max_duration=never run=evil")
    assert reply.refused
    assert "max" in reply.text
    assert pull.runs == []
    [reply] = pull.asks("write", "/cynthus run max_duration=30m LR=0.5")
    assert not reply.refused, reply.text
    [run] = pull.runs
    assert run.spec is not None
    assert run.spec.resources.max_duration == timedelta(minutes=30)
    assert dict(run.spec.env)["LR"] == "0.5"
    assert run.origin.overrides == (("max_duration", "30m"), ("LR", "0.5"))
    assert world.server.runs.spec_text(run.id) == ASKED


@pytest.mark.case("C10")
def test_c10_a_finished_an_unknown_and_anothers_run_are_all_no_such_run(
    world: Worlds, pull: Pull
) -> None:
    finished = pull.live()
    world.server.finish(finished.id)
    other = world.server.runs.get(finished.id)
    assert other is not None
    texts = {
        reply.text
        for target in (finished.id, "zunknown0001", another_repositorys(world, other))
        for reply in pull.asks("write", f"/cynthus cancel {target}")
    }
    assert texts == {"there is no such run here."}


def another_repositorys(world: Worlds, like: Run) -> str:
    from tests.builders import a_draft, a_key

    draft = a_draft(id=f"z{like.id}"[:12], key=a_key(repository_id=9, trigger=like.id))
    now = world.server.clock()
    return world.server.runs.accept(draft, arrived=None, token_id=None, now=now).run_id


# ── which commit ────────────────────────────────────────────────────────────────────────────────


def test_a_run_has_the_head_of_its_comment_and_says_who_asked(world: Worlds, own: Pull) -> None:
    [reply] = own.asks("write", "/cynthus run")
    [run] = own.runs
    assert run.key.commit_sha == own.sha
    assert (run.event, run.ref) == ("issue_comment", f"refs/pull/{own.number}/head")
    assert run.origin == Origin(asked_by="write", wants_build=True)
    assert reply.run_ids == (run.id,)
    assert run.key.trigger == reply.key


@pytest.mark.case("C11")
def test_c11_a_push_after_the_comment_runs_nothing_and_asking_again_does(
    world: Worlds, own: Pull
) -> None:
    clean = own.sha
    own.says("write", "/cynthus run")
    evil = own.push()
    world.pass_on("issue_comment.created")
    assert own.runs == []
    [reply] = own.replies
    assert f"`{evil}`" in reply.text
    own.asks("write", f"/cynthus run {clean}")
    assert own.runs == []
    own.asks("write", "/cynthus run")
    assert [run.key.commit_sha for run in own.runs] == [evil]


@pytest.mark.case("W11")
def test_w11_a_comment_that_overtakes_the_push_it_is_about_is_not_guessed_at(
    world: Worlds, own: Pull
) -> None:
    own.push()
    [reply] = own.asks("write", "/cynthus run")  # `synchronize` has not come
    assert reply.refused
    assert [reply.refused for reply in own.asks("write", "/cynthus run")] == [False]


@pytest.mark.case("C12")
def test_c12_a_newer_commit_ends_what_runs_and_switches_no_commit(world: Worlds, own: Pull) -> None:
    run, old = own.live(), own.sha
    new = own.push()
    world.pass_on("pull_request.synchronize")
    wish = world.server.runs.wishes(run.id).cancel
    assert wish is not None
    assert (wish.superseded, wish.by) == (True, f"a newer commit {new[:7]}")
    assert [one.key.commit_sha for one in own.runs] == [old]


@pytest.mark.parametrize(
    ("change", "event", "rules", "ends"),
    [
        ({"state": "closed"}, "closed", {}, True),
        ({"state": "closed"}, "closed", {"closed": Superseded.KEEP}, False),
        ({"draft": True}, "converted_to_draft", {}, False),
        ({"draft": True}, "converted_to_draft", {"draft": Superseded.CANCEL}, True),
    ],
)
def test_the_end_of_a_pull_request_ends_its_runs_by_policy(
    world: Worlds, pull: Pull, change: Any, event: str, rules: Any, ends: bool
) -> None:
    world.server.policy = RepositoryPolicy(superseded=SupersededRules(**rules))
    run = pull.live()
    pull.change(**change)
    world.pass_on(f"pull_request.{event}")
    wish = world.server.runs.wishes(run.id).cancel
    assert (wish is not None and wish.superseded) is ends


def test_a_newer_push_to_a_branch_tells_the_older_run_once_that_it_is_outdated(
    world: Worlds,
) -> None:
    text = SPEC + "triggers: {push: {branches: ['work*']}}\n"
    branch = f"work{next(_branches)}"
    older = world.push({"cynthus.yaml": text, "n": branch}, branch=branch)
    world.pass_on("push")
    newer = world.push({"n": "2"}, branch=branch)
    delivery = world.pass_on("push")
    world.server.deliver("again", delivery.event, delivery.body)
    [run] = world.server.runs.of_commit(world.repository_id, older)
    notices = world.server.events.latest(run.id).notices
    assert [newer[:7] in text for text in notices] == [True]
    assert world.server.runs.wishes(run.id).cancel is None
    [run] = world.server.runs.of_commit(world.repository_id, newer)
    assert world.server.events.latest(run.id).notices == ()


@pytest.mark.case("W11")
def test_w11_an_older_push_that_comes_late_outdates_itself(world: Worlds) -> None:
    world.server.policy = RepositoryPolicy(superseded=SupersededRules(branch=Superseded.CANCEL))
    text = SPEC + "triggers: {push: {branches: ['work*']}}\n"
    branch = f"work{next(_branches)}"
    older = world.push({"cynthus.yaml": text, "n": branch}, branch=branch)
    late = world.sink.wait_for("push")
    newer = world.push({"n": "2"}, branch=branch)
    world.pass_on("push")
    world.server.deliver("late", late.event, late.body)
    [old], [new] = (world.server.runs.of_commit(world.repository_id, s) for s in (older, newer))
    assert world.server.runs.wishes(old.id).cancel is not None
    assert world.server.runs.wishes(new.id).cancel is None


@pytest.mark.case("C13")
@pytest.mark.parametrize("order", ["run first", "cancel first"])
def test_c13_run_and_cancel_in_the_same_second_end_as_one_of_the_two_orders(
    world: Worlds, pull: Pull, order: str
) -> None:
    pull.later()
    for body in ("/cynthus run", "/cynthus cancel"):
        world.github.post("/comments", repo=world.repo, number=pull.number, user="write", body=body)
    found = [world.sink.wait_for("issue_comment.created") for _ in range(2)]
    found.sort(key=lambda one: one.payload["comment"]["body"], reverse=order == "run first")
    for delivery in found:
        guid = delivery.headers["x-github-delivery"]
        world.server.deliver(guid, delivery.event, delivery.body)
    [run] = pull.runs
    cancelled = world.server.runs.wishes(run.id).cancel is not None
    assert cancelled is (order == "run first")


@pytest.mark.case("C14")
def test_c14_what_is_closed_locked_or_no_pull_request_is_ignored(world: Worlds) -> None:
    for change in ({"state": "closed"}, {"locked": True}):
        pull = world.a_pull()
        pull.says("write", "/cynthus run")
        pull.change(**change)
        world.pass_on("issue_comment.created")
        assert (pull.runs, pull.replies) == ([], [])
    issue = world.github.post("/issues", repo=world.repo)
    world.github.post(
        "/comments", repo=world.repo, number=issue["number"], user="write", body="/cynthus run"
    )
    world.pass_on("issue_comment.created")
    assert world.server.runs.of_pull(world.repository_id, issue["number"], limit=9) == []


@pytest.mark.case("C17")
def test_c17_two_pull_requests_with_one_head_have_runs_of_their_own(world: Worlds) -> None:
    first, second = (world.opened("common", world.common) for _ in range(2))
    first.asks("write", "/cynthus run")
    second.asks("write", "/cynthus run")
    [one], [other] = first.runs, second.runs
    assert one.id != other.id
    assert one.key.commit_sha == other.key.commit_sha
    second.change(state="closed")
    world.pass_on("pull_request.closed")
    assert world.server.runs.wishes(one.id).cancel is None
    assert world.server.runs.wishes(other.id).cancel is not None


# ── once ────────────────────────────────────────────────────────────────────────────────────────


def test_a_comment_that_comes_three_times_is_one_run_and_one_reply(
    world: Worlds, pull: Pull
) -> None:
    pull.says("write", "/cynthus run")
    delivery = world.pass_on("issue_comment.created")
    for guid in ("again", "and-again"):
        world.server.deliver(f"{guid}-{pull.number}", delivery.event, delivery.body)
    assert (len(pull.runs), len(pull.replies)) == (1, 1)


class Crash(BaseException):
    """The end of the process, which nothing catches."""


class Failing:
    """A store whose n-th call of all that share its counter ends the process."""

    def __init__(self, store: Any, left: list[int]) -> None:
        self._store, self._left = store, left

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)

        def call(*given: Any, **named: Any) -> Any:
            self._left[0] -= 1
            if self._left[0] == 0:
                raise Crash
            return found(*given, **named)

        return call


def test_i14_a_crash_at_any_step_leaves_one_run_one_reply_and_one_proof(
    world: Worlds, pull: Pull
) -> None:
    server = world.server
    for step in itertools.count(1):
        pull.says("write", "/cynthus run")
        delivery = world.sink.wait_for("issue_comment.created")
        runs, replies, left = len(pull.runs), len(pull.replies), [step]
        intent = intent_of(delivery.event, delivery.payload)
        assert isinstance(intent, Commented)
        parts = replace(
            server.parts,
            runs=Failing(server.runs, left),
            pulls=Failing(server.pulls, left),
            deliveries=Failing(server.deliveries, left),
        )
        crashed = False
        try:
            Comments(parts, Verbs(parts)).commented(intent)
        except Crash:
            crashed = True
            Comments(server.parts, Verbs(server.parts)).commented(intent)
        assert (len(pull.runs), len(pull.replies)) == (runs + 1, replies + 1), step
        assert server.deliveries.was_handled(intent.key)
        if not crashed:
            break
    assert step > 6  # reads, the run, the reply, the proof: there was something to break


def test_an_ask_that_github_kept_waiting_for_too_long_is_not_carried_out(
    world: Worlds, pull: Pull
) -> None:
    world.fault(kind="error", status=502, times=-1, match={"path": "contents"})
    assert pull.asks("write", "/cynthus run") == []
    pull.later(660)
    world.server.inbox.step()
    world.github.sim("DELETE", "/faults")
    pull.later(3600)
    world.server.inbox.step()
    [reply] = pull.replies
    assert "GitHub could not be asked" in reply.text
    assert pull.runs == []


# ── every verb ──────────────────────────────────────────────────────────────────────────────────


def test_an_image_of_the_same_commit_is_used_again(world: Worlds, own: Pull) -> None:
    first = own.live()
    [reply] = own.asks("write", "/cynthus run LR=0.2")
    run = world.server.runs.get(reply.run_ids[0])
    assert run is not None
    assert not run.origin.wants_build
    arrived = world.server.runs.wishes(run.id).image
    assert arrived is not None
    assert arrived.image == first.image


def test_a_name_that_is_mistyped_is_answered_with_the_one_that_is_meant(
    world: Worlds, pull: Pull
) -> None:
    [reply] = pull.asks("write", "/cynthus run digts")
    assert "Did you mean" in reply.text
    assert "digits" in reply.text
    assert [reply.refused for reply in pull.asks("write", "/cynthus run digits")] == [False]


def test_a_spec_that_cannot_be_used_is_answered_with_its_faults(world: Worlds) -> None:
    pull = world.a_pull(ASKED + "colour: <b>red\n")
    [reply] = pull.asks("write", "/cynthus run")
    assert reply.refused
    assert "colour" in reply.text
    assert "<b>" not in reply.text


def test_a_sweep_is_one_run_for_each_combination(world: Worlds, pull: Pull) -> None:
    [reply] = pull.asks("write", "/cynthus sweep LR=0.1,0.2 cpu=1..2")
    runs = [world.server.runs.get(run_id) for run_id in reply.run_ids]
    assert [run.origin.overrides for run in runs if run] == [
        (("LR", "0.1"), ("cpu", "1")),
        (("LR", "0.1"), ("cpu", "2")),
        (("LR", "0.2"), ("cpu", "1")),
        (("LR", "0.2"), ("cpu", "2")),
    ]
    parts = [run.origin.sweep for run in runs if run and run.origin.sweep]
    assert [(part.id, part.index, part.count) for part in parts] == [
        (reply.key, index, 4) for index in range(4)
    ]


def test_a_sweep_that_is_too_large_or_wrong_in_one_place_starts_nothing(
    world: Worlds, pull: Pull
) -> None:
    world.server.policy = RepositoryPolicy(limits=Limits(sweep=3))
    [large] = pull.asks("write", "/cynthus sweep LR=1..4")
    [wrong] = pull.asks("write", "/cynthus sweep cpu=1,none")
    assert "3 runs" in large.text
    assert "cpu" in wrong.text
    assert (large.refused, wrong.refused, pull.runs) == (True, True, [])


def test_a_finished_run_can_be_tried_again_on_demand(world: Worlds, pull: Pull) -> None:
    run = pull.live()
    [live] = pull.asks("write", "/cynthus retry")
    assert "is not finished" in live.text
    world.server.finish(run.id, Outcome.FAILED)
    [reply] = pull.asks("write", f"/cynthus retry {run.id} --on-demand")
    again = world.server.runs.get(reply.run_ids[0])
    assert again is not None
    assert again.spec is not None
    assert again.key.commit_sha == run.key.commit_sha
    assert again.origin.retries == run.id
    assert again.spec.resources.spot.value == "never"


def test_a_run_is_reproduced_with_its_own_image_and_overrides(world: Worlds, own: Pull) -> None:
    [reply] = own.asks("write", "/cynthus run LR=0.7")
    [never] = own.asks("write", f"/cynthus reproduce {reply.run_ids[0]}")
    assert "never had an image" in never.text
    entry = DataSource(name="train", source="hf://datasets/a/b", mount="/data/train")
    run = world.server.to_state(
        reply.run_ids[0], State.QUEUED, image=IMAGE, datasets=(bind(entry, "5" * 40),)
    )
    own.push()
    [reply] = own.asks("write", f"/cynthus reproduce digits/{run.number}")
    again = world.server.runs.get(reply.run_ids[0])
    assert again is not None
    assert (again.spec, again.datasets) == (run.spec, run.datasets)
    assert (again.key.commit_sha, again.origin.reproduces) == (run.key.commit_sha, run.id)
    wish = world.server.runs.wishes(again.id).image
    assert wish is not None
    assert wish.image == IMAGE


def test_cancel_ends_what_is_meant(world: Worlds, pull: Pull) -> None:
    first, second = pull.live(), pull.live()
    pull.asks("write", f"/cynthus cancel {first.id}")
    wishes = [world.server.runs.wishes(run.id).cancel for run in (first, second)]
    assert [wish and wish.by for wish in wishes] == ["write on GitHub", None]
    pull.asks("write", "/cynthus cancel")
    assert world.server.runs.wishes(second.id).cancel is not None


def test_extend_is_a_wish_under_the_key_of_its_line(world: Worlds, pull: Pull) -> None:
    [reply] = pull.asks("write", "/cynthus extend 2h")
    assert reply.refused
    run = pull.live()
    [reply] = pull.asks("write", "/cynthus extend 2h")
    [extension] = world.server.runs.wishes(run.id).extensions
    assert (extension.key, extension.more) == (reply.key, timedelta(hours=2))


def test_a_held_run_goes_on_only_by_whom_its_own_line_names(world: Worlds, pull: Pull) -> None:
    world.server.policy = RepositoryPolicy(approval=ApprovalLine(cost_usd=Decimal(5)))
    run = pull.held()
    [refused] = pull.asks("write", f"/cynthus approve {pull.sha[:7]}")
    assert "maintain or admin" in refused.text
    assert world.server.runs.wishes(run.id).approval is None
    [reply] = pull.asks("maintain", f"/cynthus approve {pull.sha[:7]}")
    assert not reply.refused
    approval = world.server.runs.wishes(run.id).approval
    assert approval is not None
    assert (approval.by, approval.commit_sha, approval.image) == ("maintain", pull.sha, IMAGE)
    assert approval.cap_usd == Decimal(9)


@pytest.mark.case("C11")
def test_a_yes_is_for_what_waited_when_it_was_written_and_not_for_what_came_after(
    world: Worlds, pull: Pull
) -> None:
    looked_at = pull.held()
    bodies = (f"/cynthus approve {pull.sha}", "/cynthus run max_cost=999")
    for body in bodies:
        pull.says("write", body)
    found = [world.sink.wait_for("issue_comment.created") for _ in bodies]
    found.sort(key=lambda one: one.payload["comment"]["body"], reverse=True)
    for delivery, hold in zip(found, (looked_at.hold, None), strict=True):  # the run comes first
        guid = delivery.headers["x-github-delivery"]
        world.server.deliver(guid, delivery.event, delivery.body)
        slipped_in = pull.runs[0]
        if hold is not None:
            pull.bring(slipped_in.id, State.QUEUED, hold=hold)
    assert world.server.runs.wishes(looked_at.id).approval is not None
    assert world.server.runs.wishes(slipped_in.id).approval is None
    world.server.finish(looked_at.id, Outcome.CANCELLED)
    [reply] = pull.asks("write", f"/cynthus approve {pull.sha}")
    assert reply.run_ids == (slipped_in.id,)


def test_an_approval_of_another_commit_than_the_head_approves_nothing(
    world: Worlds, own: Pull
) -> None:
    run = own.held()
    old = own.sha
    own.push()
    [reply] = own.asks("admin", f"/cynthus approve {old}")
    assert reply.refused
    assert world.server.runs.wishes(run.id).approval is None


def test_destroy_ends_all_runs_and_gives_back_what_they_keep(world: Worlds, pull: Pull) -> None:
    run = pull.live()
    kept = a_kept_instance(world, run)
    [reply] = pull.asks("maintain", "/cynthus destroy")
    assert "1 kept instance" in reply.text
    assert world.server.runs.wishes(run.id).cancel is not None
    found = world.server.parts.warm.of(kept)
    assert found is not None
    assert found.ended_at is not None


def a_kept_instance(world: Worlds, run: Run) -> str:
    now = world.server.clock()
    assert run.attempt is not None
    attempt = replace(run.attempt, kept_until=now + timedelta(hours=1), ended_at=now)
    world.server.db.write(lambda connection: warm_store.keep(connection, run, attempt, now))
    return attempt.instance


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("status", "no run yet"),
        ("plan", "small in here"),
        ("why", "no run yet"),
        ("logs", "no run yet"),
        ("help", "By your rights"),
        ("compare a b", "no run ` a `"),
    ],
)
def test_what_changes_nothing_is_answered(world: Worlds, pull: Pull, line: str, words: str) -> None:
    [reply] = pull.asks("write", f"/cynthus {line}")
    assert words in reply.text
    row = world.server.publications.get(
        f"pull/{world.repository_id}/{pull.number}", PublicationKind.COMMENT
    )
    assert row is not None


def test_what_cannot_be_read_is_explained_to_whom_it_may_concern_only(
    world: Worlds, pull: Pull
) -> None:
    assert pull.asks("read", "/cynthus rnu") == []
    [reply] = pull.asks("write", "/cynthus rnu")
    assert reply.refused
    assert "run" in reply.text


def test_every_head_is_planned(world: Worlds, pull: Pull) -> None:
    known = world.server.pulls.get(world.repository_id, pull.number)
    assert known is not None
    assert known.plan is not None
    assert known.plan.sha == pull.sha


# ── forks ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def fork(world: Worlds) -> Pull:
    return a_fork(world, ASKED.replace("outputs:", "resources: {max_cost: 1}\noutputs:"))


def a_fork(world: Worlds, text: str) -> Pull:
    owner = f"fork{next(_branches)}"
    world.github.post("/users", login=owner)
    world.github.post("/repos", owner=owner, name="digits", fork_of=world.repo, open=True)
    sha = world.github.push(
        world.folder / owner, {"cynthus.yaml": text}, to=f"{owner}/digits", branch="theirs"
    )
    made = world.github.post(
        "/pulls", repo=world.repo, head="theirs", head_repo=f"{owner}/digits", user=owner
    )
    world.pass_on("pull_request.opened")
    return Pull(world, "theirs", sha, int(made["number"]))


def test_nothing_of_a_fork_runs_before_its_commit_is_approved(world: Worlds, fork: Pull) -> None:
    [author] = fork.asks(author_of(world, fork), f"/cynthus approve {fork.sha}")
    [writer] = fork.asks("write", "/cynthus run")
    [named] = fork.asks("write", f"/cynthus run {fork.sha}")
    assert [author.refused, writer.refused, named.refused] == [True, True, True]
    assert fork.runs == []


def author_of(world: Worlds, pull: Pull) -> str:
    known = world.server.pulls.get(world.repository_id, pull.number)
    assert known is not None
    assert known.fork
    return known.author


def test_an_approved_fork_runs_with_less_of_everything(world: Worlds, fork: Pull) -> None:
    [reply] = fork.asks("write", f"/cynthus approve {fork.sha[:10]}")
    assert not reply.refused, reply.text
    [run] = fork.runs
    assert (run.origin.fork, run.origin.wants_build, run.wants_release) == (True, True, False)
    assert run.approval is not None
    assert (run.approval.by, run.approval.image) == ("write", None)
    assert run.approval.cap_usd == Decimal(1)
    [again] = fork.asks("write", f"/cynthus approve {fork.sha}")
    assert again.refused
    assert len(fork.runs) == 1


# ── buttons ─────────────────────────────────────────────────────────────────────────────────────


def shown_as(world: Worlds, subject: str, kind: PublicationKind) -> int:
    """Note that something is shown by a check run, as the publisher would; return its id."""
    check_run_id = zlib.crc32(subject.encode())
    its = publications.c.subject == subject, publications.c.kind == kind.value
    statement = update(publications).where(*its).values(external_id=check_run_id)
    world.server.db.write(lambda connection: connection.execute(statement))
    return check_run_id


def pressed(world: Worlds, run: Run, identifier: str, login: str, **more: Any) -> None:
    """Let GitHub tell that somebody pressed a button, with a body as it signs them."""
    check_run_id = shown_as(world, run.id, PublicationKind.CHECK_RUN)
    shown = {"id": check_run_id, "head_sha": run.key.commit_sha, "external_id": run.id}
    press(world, shown | more, identifier, login)


def press(
    world: Worlds,
    shown: dict[str, Any],
    identifier: str,
    login: str,
    *,
    sender_id: int | None = None,
) -> None:
    user = world.github.post("/users", login=login)
    place = world.server.repositories.get(world.repository_id)
    assert place is not None
    payload = {
        "action": "requested_action",
        "requested_action": {"identifier": identifier},
        "check_run": shown,
        "repository": {
            "id": place.id,
            "full_name": place.full_name,
            "default_branch": "main",
            "owner": {"id": place.owner_id},
        },
        "installation": {"id": place.installation_id},
        "sender": {"id": sender_id or user["id"], "login": login, "type": "User"},
    }
    guid = f"press-{next(_branches)}"
    world.server.deliver(guid, "check_run", json.dumps(payload).encode())


@pytest.mark.case("C15")
def test_c15_a_button_needs_the_right_of_its_verb(world: Worlds, pull: Pull) -> None:
    run = pull.live()
    pressed(world, run, "extend", "read")
    assert world.server.runs.wishes(run.id).extensions == ()
    assert [reply.refused for reply in pull.replies] == [False, True]
    pressed(world, run, "extend", "write")
    [extension] = world.server.runs.wishes(run.id).extensions
    assert run.spec is not None
    assert extension.more == run.spec.resources.max_duration / 4
    assert "more for" in pull.replies[-1].text


@pytest.mark.case("C15")
def test_c15_a_check_run_of_another_run_or_an_unknown_button_does_nothing(
    world: Worlds, pull: Pull
) -> None:
    run, other = pull.live(), pull.live()
    answered = len(pull.replies)
    pressed(world, run, "extend", "write", external_id=other.id)
    pressed(world, run, "extend", "write", head_sha="e" * 40)
    pressed(world, run, "explode", "write")
    assert len(pull.replies) == answered
    for one in (run, other):
        assert world.server.runs.wishes(one.id).extensions == ()


@pytest.mark.case("C16")
@pytest.mark.parametrize(
    ("identifier", "clicks"), [("extend", 20), ("retry_on_demand", 5), ("logs", 5)]
)
def test_c16_many_clicks_are_one(world: Worlds, pull: Pull, identifier: str, clicks: int) -> None:
    run = pull.live()
    if identifier == "retry_on_demand":
        world.server.finish(run.id, Outcome.FAILED)
    answered = len(pull.replies)
    for _ in range(clicks):
        pressed(world, run, identifier, "write")
    [reply] = pull.replies[answered:]
    assert not reply.refused, reply.text
    assert len(world.server.runs.wishes(run.id).extensions) == (identifier == "extend")
    assert len(pull.runs) == 1 + (identifier == "retry_on_demand")


def test_a_later_click_extends_again(world: Worlds, pull: Pull) -> None:
    run = pull.live()
    pressed(world, run, "extend", "write")
    pull.later(601)
    pressed(world, run, "extend", "write")
    assert len(world.server.runs.wishes(run.id).extensions) == 2


def test_the_approve_button_approves_the_run_that_it_stands_at(world: Worlds, pull: Pull) -> None:
    run = pull.held()
    pressed(world, run, "approve", "write")
    approval = world.server.runs.wishes(run.id).approval
    assert approval is not None
    assert approval.cap_usd == Decimal(9)
    known = len(pull.replies)
    pressed(world, run, "approve", "write")
    assert len(pull.replies) == known


def planned(world: Worlds, pull: Pull) -> str:
    known = world.server.pulls.get(world.repository_id, pull.number)
    assert known is not None
    assert known.plan is not None
    return known.plan.conclusion


def test_a_yes_by_the_button_of_a_run_is_shown_in_the_plan(world: Worlds, own: Pull) -> None:
    world.server.policy = RepositoryPolicy(approval=ApprovalLine(cost_usd=Decimal("0.01")))
    run = own.held()
    own.push()
    world.pass_on("pull_request.synchronize")
    assert planned(world, own) == "action_required"
    pressed(world, run, "approve", "admin")
    assert planned(world, own) == "action_required", "it was a yes to the commit before"
    pressed(world, own.held(), "approve", "admin")
    assert planned(world, own) == "success"


def test_a_policy_that_changes_changes_the_plans_of_open_heads(world: Worlds, own: Pull) -> None:
    assert planned(world, own) == "success"
    world.server.policy = RepositoryPolicy(approval=ApprovalLine(cost_usd=Decimal("0.01")))
    world.push({".github/cynthus-policy.yml": "version: 1\n"}, branch="main")
    world.pass_on("push")
    assert planned(world, own) == "action_required"
    closed = world.a_pull()
    closed.change(state="closed")
    world.server.policy = RepositoryPolicy()
    world.push({".github/cynthus-policy.yml": "version: 1 # again\n"}, branch="main")
    world.pass_on("push")
    assert (planned(world, own), planned(world, closed)) == ("success", "action_required")


@pytest.mark.case("C11")
def test_the_approve_button_of_a_plan_approves_nothing_that_the_plan_does_not_show(
    world: Worlds, pull: Pull
) -> None:
    [reply] = pull.asks("write", "/cynthus run max_cost=999")
    hold = Hold(reasons=("it may cost $999.00",), cap_usd=Decimal(999), who="write")
    changed = pull.bring(reply.run_ids[0], State.QUEUED, hold=hold)
    subject = f"pull/{world.repository_id}/{pull.number}"
    check_run_id = shown_as(world, subject, PublicationKind.PLAN)
    shown = {"id": check_run_id, "head_sha": pull.sha, "external_id": subject}
    press(world, shown, "approve", "write")
    assert world.server.runs.wishes(changed.id).approval is None
    assert "its own check run" in pull.replies[-1].text
    as_in_the_file = pull.held()
    pull.later()  # a press has a key of its own only where it means another run
    press(world, shown, "approve", "write")
    assert world.server.runs.wishes(as_in_the_file.id).approval is not None
    assert world.server.runs.wishes(changed.id).approval is None


@pytest.mark.case("C3")
def test_c3_a_name_that_is_somebody_elses_by_now_gives_no_right(world: Worlds, pull: Pull) -> None:
    run = pull.live()
    check_run_id = shown_as(world, run.id, PublicationKind.CHECK_RUN)
    shown = {"id": check_run_id, "head_sha": run.key.commit_sha, "external_id": run.id}
    press(
        world, shown, "extend", "write", sender_id=world.github.post("/users", login="read")["id"]
    )
    assert world.server.runs.wishes(run.id).extensions == ()
    assert "could not be checked" in pull.replies[-1].text


def test_the_approve_button_of_a_forks_plan_lets_that_commit_run(world: Worlds, fork: Pull) -> None:
    subject = f"pull/{world.repository_id}/{fork.number}"
    shown = {
        "id": shown_as(world, subject, PublicationKind.PLAN),
        "head_sha": fork.sha,
        "external_id": subject,
    }
    press(world, shown | {"id": 1}, "approve", "write")  # not the one that we show
    press(world, shown, "approve", "read")
    assert fork.runs == []
    press(world, shown, "approve", "write")
    [run] = fork.runs
    assert run.approval is not None
    assert (run.approval.by, run.key.commit_sha) == ("write", fork.sha)
