"""Days on which GitHub's news are late, lost or out of order, or a record of ours is damaged."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import update

from tests.flow.test_github_side import World, github, world
from tests.github_fixture import Delivery, git
from tests.github_parts import SPEC
from webhook_server.runs.model import Hold, Outcome, Run, State
from webhook_server.stores import run_reading
from webhook_server.stores.publication_store import PublicationKind, PublicationState
from webhook_server.stores.tables import runs

__all__ = ["github", "world"]  # fixtures
HOURS_3 = 3 * 3600


def all_runs(world: World) -> list[Run]:
    rows = world.server.runs.list(repository_id=None, limit=99, before=None)
    found = [world.server.runs.get(row.id) for row in rows]
    return [run for run in found if run is not None]


def hand_over(world: World, deliveries: list[Delivery]) -> None:
    for delivery in deliveries:
        guid = delivery.headers["x-github-delivery"]
        world.server.deliver(guid, delivery.event, delivery.body)


def arrived(world: World) -> list[Delivery]:
    """Everything that came, once GitHub has nothing more under way."""
    return world.sink.rest(world.github.settled(world.server.app))


@pytest.mark.case("W11")
def test_w11_an_older_push_that_comes_after_a_newer_one_keeps_its_own_commit(world: World) -> None:
    older = world.push({"cynthus.yaml": SPEC})
    newer = world.push({"cynthus.yaml": SPEC.replace("digits", "letters")})
    pushes = [d for d in arrived(world) if d.event == "push"]
    hand_over(world, pushes[::-1])
    found = {run.key.commit_sha: run.spec.name for run in all_runs(world) if run.spec}
    assert found == {older: "digits", newer: "letters"}
    world.server.publisher.step()
    for sha, name in found.items():
        assert [check.name for check in world.check_runs(sha)] == [f"cynthus/{name}"]


@pytest.mark.case("W23")
def test_w23_after_three_hours_down_nothing_is_lost_and_nothing_doubled(world: World) -> None:
    server = world.server
    server.redelivery.step()  # the sweep has a memory from before the outage
    world.sink.status = 503
    commits = {world.push({"cynthus.yaml": SPEC, "n": str(n)}) for n in range(4)}
    arrived(world)
    world.sink.status = 202
    world.github.post("/clock", advance_s=HOURS_3)
    server.clock.pass_by(hours=3)
    try:
        server.restart()
        server.redelivery.step()
        again = arrived(world)
        hand_over(world, again)
        assert {run.key.commit_sha for run in all_runs(world)} == commits
        hand_over(world, again)
        server.clock.pass_by(minutes=6)
        server.redelivery.step()
        assert [d for d in arrived(world) if d.event == "push"] == []
        assert len(all_runs(world)) == len(commits)
    finally:
        world.github.post("/clock", shift_s=0)


@pytest.mark.case("W24")
def test_w24_a_list_of_several_pages_that_breaks_in_the_middle_is_read_again(world: World) -> None:
    sha = world.push({"cynthus.yaml": SPEC})
    [first] = [d for d in arrived(world) if d.event == "push"]
    hand_over(world, [first])
    world.sink.status = 503
    missed = world.push({"cynthus.yaml": SPEC, "n": "2"})
    comments(world, 101)  # more than one page of a hundred
    arrived(world)
    world.sink.status = 202
    world.fault(kind="truncated_json", match={"path": "app/hook/deliveries"}, times=1)
    world.server.redelivery.step()
    world.server.clock.pass_by(minutes=1)
    for _ in range(5):
        world.server.redelivery.step()
    hand_over(world, arrived(world))
    assert {run.key.commit_sha for run in all_runs(world)} == {sha, missed}


@pytest.mark.case("W23")
def test_w23_a_long_list_is_worked_off_in_steps_that_no_probe_takes_for_a_standstill(
    world: World,
) -> None:
    arrived(world)
    world.sink.status = 503
    comments(world, 40)
    missed = {d.headers["x-github-delivery"] for d in arrived(world)}
    world.sink.status = 202
    steps = 0
    found: set[str] = set()
    while not missed <= found:
        steps += 1
        assert steps < 10
        world.server.redelivery.step()
        came = {d.headers["x-github-delivery"] for d in arrived(world)}
        assert len(came) <= 30
        found |= came
    assert steps > 1


def comments(world: World, count: int) -> None:
    issue = world.github.post("/issues", repo=world.repo, title="many comments", user="mira")
    for number in range(count):
        wish = {"repo": world.repo, "number": issue["number"], "user": "mira"}
        world.github.post("/comments", **wish, body=str(number))


@pytest.mark.case("W25")
@pytest.mark.parametrize("how", ["suspended", "taken out", "uninstalled"])
def test_w25_whoever_takes_the_app_away_ends_what_runs(world: World, how: str) -> None:
    world.github.sim("DELETE", f"/installations/{world.installation}")
    wish = {"app_id": world.server.app.id, "owner": world.server.owner}
    world.github.post("/installations", **wish, repositories=["digits"])
    arrived(world)
    run = world.a_run()
    world.server.publisher.step()
    place = f"/installations/{world.installation}"
    event = {
        "suspended": "installation.suspend",
        "taken out": "installation_repositories.removed",
        "uninstalled": "installation.deleted",
    }[how]
    if how == "suspended":
        world.github.sim("PATCH", place, {"suspended": True})
    elif how == "taken out":
        world.github.sim("PATCH", place, {"remove": ["digits"]})
    else:
        world.github.sim("DELETE", place)
    world.pass_on(event)
    assert world.server.runs.wishes(run.id).cancel is not None
    world.server.finish(run.id, Outcome.CANCELLED)
    for _ in range(12):  # its check run cannot be reached any more, and that holds nobody up
        world.server.publisher.step()
        world.server.clock.pass_by(hours=2)
    row = world.server.publications.get(run.id, PublicationKind.CHECK_RUN)
    assert row is not None
    assert row.state is not PublicationState.PENDING or row.due_at is not None


@pytest.mark.case("W25")
def test_w25_a_transferred_repository_is_followed_to_its_new_owner(world: World) -> None:
    run = world.a_run()
    world.server.publisher.step()
    owner = f"new-{world.server.owner}"
    world.github.post("/owners", login=owner)
    world.github.post("/installations", app_id=world.server.app.id, owner=owner)
    world.github.sim("PATCH", f"/repos/{world.repo}", {"owner": owner})
    world.server.owner = owner  # CYNTHUS_ALLOWED names both
    world.server.restart()
    hand_over(world, arrived(world))
    world.server.finish(run.id)
    for _ in range(8):
        world.server.clock.pass_by(minutes=2)
        world.server.publisher.step()
    world.repo = f"{owner}/digits"
    [check] = world.check_runs(run.key.commit_sha)
    assert (check.status, check.conclusion) == ("completed", "success")


def damage(world: World, run: Run) -> None:
    db = world.server.db
    db.write(
        lambda c: c.execute(update(runs).where(runs.c.id == run.id).values(doc={"id": 5})) and None
    )


@pytest.mark.case("R14")
def test_r14_a_damaged_run_ends_its_check_run_and_holds_up_no_other(world: World) -> None:
    server = world.server
    bad = world.a_run()
    server.publisher.step()
    damage(world, bad)
    good = world.a_run({"cynthus.yaml": SPEC, "n": "2"})
    for run in (bad, good):
        server.runs.wake(run.id, server.clock())
    [claim] = server.runs.claim(limit=9, lease=server.clock.ahead, now=server.clock())
    assert claim.run.id == good.id
    with server.db.read() as connection:
        assert run_reading.states(connection, [bad.id]) == {bad.id: State.FINISHED}
    for _ in range(4):
        server.publisher.step()
        server.clock.pass_by(minutes=1)
    [check] = world.check_runs(bad.key.commit_sha)
    assert (check.status, check.conclusion) == ("completed", "failure")
    assert "cannot read its record" in check.output.summary
    [other] = world.check_runs(good.key.commit_sha)
    assert other.status == "queued"


def test_r14_a_held_run_whose_record_is_damaged_asks_for_nobody_any_more(world: World) -> None:
    server, run = world.server, world.a_run()
    hold = Hold(reasons=("it may cost up to $9.00",), cap_usd=Decimal(9), who="admin")
    server.to_state(run.id, State.QUEUED, hold=hold)
    server.publisher.step()
    [held] = world.check_runs(run.key.commit_sha)
    assert held.conclusion == "action_required"
    damage(world, run)
    server.runs.wake(run.id, server.clock())
    server.runs.claim(limit=9, lease=server.clock.ahead, now=server.clock())
    world.fault(kind="drop_answer", match={"method": "POST", "path": "check-runs"})
    for _ in range(3):
        server.publisher.step()
        server.clock.pass_by(minutes=1)
    [check] = world.check_runs(run.key.commit_sha)
    assert (check.name, check.conclusion) == (held.name, "failure")
    assert check.id > held.id
    assert "cannot read its record" in check.output.summary
    commit = world.client.get_repo(world.repo).get_commit(run.key.commit_sha)
    assert len(list(commit.get_check_runs(filter="all"))) == 2


@pytest.mark.case("S5")
def test_s5_a_spec_that_is_a_submodule_is_said_clearly(world: World) -> None:
    world.push({"README.md": "first"})
    work = world.folder / "work"
    commit = git(work, "rev-parse", "HEAD")
    git(work, "update-index", "--add", "--cacheinfo", f"160000,{commit},cynthus.yaml")
    git(work, "commit", "--quiet", "-m", "A submodule")
    git(work, "push", "--quiet", world.github.git_url(world.repo), "HEAD:main")
    hand_over(world, [d for d in arrived(world) if d.event == "push"])
    [run] = all_runs(world)
    [fault] = run.spec_faults
    assert fault.text.startswith("should be an ordinary file, found")
