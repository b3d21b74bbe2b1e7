"""Links between the programs are cut, slow, or open and silent, one after the other, then heal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from tests.chaos.oracles import judge
from tests.chaos.proxy import Link
from tests.chaos.stage import Stage, Wave, standing, wait_for

Fault = Callable[[Link], None]
STOP_LIMIT_S = 30  # what service managers grant between SIGTERM and SIGKILL


def slow(link: Link) -> None:
    """Let every piece take half as long as a patient person would."""
    link.slow(delay_s=0.1, bytes_per_s=500_000)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with standing(tmp_path_factory.mktemp("links"), roles=("all",)) as stage:
        yield stage


def links(stage: Stage) -> list[Link]:
    """Return every link of the server: to database, GitHub and cloud, and from its clients."""
    [replica] = stage.replicas
    return [replica.postgres, replica.github, replica.cloud, stage.front]


def asked_through(stage: Stage, link: Link, fault: Fault, ask: Callable[[], str]) -> str:
    """Harm a link while somebody asks for a run, until it was felt; return what was asked for."""
    asked: list[str] = []
    thread = threading.Thread(target=lambda: asked.append(ask()))
    fault(link)
    met = link.met
    thread.start()
    wait_for("the harm is felt", lambda: link.met > met + 1)
    link.heal()
    thread.join()
    [run_id] = asked
    return run_id


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Link.cut, id="cut"),
        pytest.param(slow, id="slow", marks=pytest.mark.long),
        pytest.param(Link.hold, id="silent", marks=pytest.mark.long),
    ],
)
def test_links_that_fail_and_heal_lose_nothing(stage: Stage, fault: Fault) -> None:
    commit = stage.push()
    run_ids = [
        asked_through(stage, link, fault, lambda n=n: stage.submit(commit, f"runs/{n}.yaml"))
        for n, link in enumerate(links(stage))
    ]
    wave = Wave(commit=commit, run_ids=tuple(run_ids))
    stage.wait_until_running(wave)
    stage.crew.may_end.set()
    for link in reversed(links(stage)):
        fault(link)
        met = link.met
        wait_for(
            "the harm is felt, or nothing is left to feel it",
            lambda link=link, met=met: link.met > met or stage.all_in(wave, "finished"),
        )
        link.heal()
    stage.wait_for_the_end(wave)

    judge(stage, wave)


def test_a_server_whose_database_is_silent_says_so_and_can_be_told_to_stop(stage: Stage) -> None:
    [replica] = stage.replicas
    wave = stage.wave(2)
    stage.wait_until_running(wave)
    replica.postgres.hold()

    status, text = wait_for("it is felt", lambda: _unless_ready(replica.ready()))
    taken_s = replica.terminate()

    print(f"told to stop with a silent database: {taken_s:.1f} s")
    assert status == 503
    assert text in (
        "not ready: the database does not answer\n",
        "not ready: the database takes no writes\n",
    )
    # It waits for what is under way as long as it may, and no longer; others work here.
    assert taken_s < 2 * STOP_LIMIT_S
    replica.postgres.heal()
    replica.start()
    stage.let_go(wave)
    judge(stage, wave)


def _unless_ready(said: tuple[int, str]) -> tuple[int, str] | None:
    return said if said[0] != 200 else None
