"""The real agent as a process, its way to the server cut, then slow: its run ends whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.proxy import Link, Links
from tests.chaos.stage import wait_for
from tests.light_stage import LightStage, light_stage

LINES = 2000  # more than one heartbeat takes through the slow link in a breath
BYTES_PER_S = 20_000


@pytest.fixture
def links() -> Iterator[Links]:
    made = Links()
    yield made
    made.close()


def the_work(gate: Path) -> str:
    """Return a command that prints, waits until the gate is there, and prints much."""
    return f"echo up; until [ -e {gate} ]; do sleep 0.1; done; seq 1 {LINES}"


def felt(link: Link) -> None:
    """Wait until the agent has met the harm, twice: it tried again."""
    met = link.met
    wait_for("the agent feels it", lambda: link.met > met + 1)


def test_a_real_agents_run_ends_whole_behind_a_link_that_is_cut_and_slow(
    tmp_path: Path, links: Links
) -> None:
    link, gate = links.to(), tmp_path / "gate"
    with light_stage(tmp_path, CYNTHUS_PUBLIC_URL=link.url) as stage:
        link.targets = (stage.server.port,)
        run_id = stage.submit(the_work(gate))
        stage.wait_for_log(run_id, "up")
        link.cut()
        gate.touch()  # what is printed now cannot be told
        felt(link)
        link.heal()
        link.slow(delay_s=0.1, bytes_per_s=BYTES_PER_S)
        felt(link)
        ended_well(stage, run_id)


def ended_well(stage: LightStage, run_id: str) -> None:
    """Assert that nothing was lost, told twice or done twice."""
    view = stage.end(run_id)
    assert (view.outcome, len(view.attempts)) == ("succeeded", 1), view.reason
    assert stage.log(run_id).split() == ["up", *map(str, range(1, LINES + 1))]
