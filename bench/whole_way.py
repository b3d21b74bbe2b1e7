"""What a push costs GitHub's budget, and the server's memory, on the whole way of the demo."""

from __future__ import annotations

import re
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.result import Result, at_most
from bench.served import MIB
from demo.__main__ import wait_for_check
from demo.pull_request import play
from demo.stage import ROOT, Stage, standing

EXAMPLE = "digits"
# Assets are as many as the run has files: they are counted aside.
_ASSET = re.compile(r"/releases/\d+/assets|/releases/assets/\d+")


def whole_way() -> list[Result]:
    """Push an example through the demo's stage; count what the server asked of GitHub."""
    with (
        tempfile.TemporaryDirectory(prefix="cynthus-bench-demo-") as folder,
        standing(Path(folder)) as stage,
    ):
        stage.create_repository(EXAMPLE)
        commit = stage.push(EXAMPLE, ROOT / "examples" / EXAMPLE)
        run_id = stage.wait_for_run(commit)
        for event in stage.client.follow(run_id):
            if event.kind == "state" and event.body.get("state") == "finished":
                finished_at = event.at
                break
        else:
            raise RuntimeError(f"run {run_id}: its feed ended without `finished`")
        asked = _asked(stage)  # before our own questions below
        wait_for_check(stage, EXAMPLE, commit)
        return [*_results(stage, run_id, finished_at, asked), _asked_run(stage)]


def _asked_run(stage: Stage) -> Result:
    """Play the demo's act at a pull request; count what the server asked of GitHub for all of it.

    That is the plan of the head, two comments with their emojis and answers, a dispatch, the run's
    check run and its release. People and the workflow look with tokens of their own.
    """
    before = len(_asked(stage))
    act = play(stage, EXAMPLE, lambda _: None)
    if not act.good:
        raise RuntimeError(f"the pull request does not show what was asked for: {act}")
    asked = _asked(stage)[before:]
    others = [entry for entry in asked if not _ASSET.search(entry["path"])]
    # https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api#use-conditional-requests-if-appropriate
    counted = [entry for entry in others if entry["status"] != 304]
    writes = sum(entry["method"] != "GET" for entry in counted)
    return at_most(
        "github_requests_per_asked_run",
        "",
        [len(counted)],
        25,  # a run's 15, and five each for the plan and the second comment
        f"a plan, two comments, a run, a release; {writes} are writes; {len(asked) - len(others)} "
        f"for assets and {len(others) - len(counted)} unchanged ones, which are free, aside",
    )


def _asked(stage: Stage) -> list[dict[str, Any]]:
    """Return what was asked with the app's own tokens, or for one."""
    log: list[dict[str, Any]] = stage.github.control("GET", "requests")
    return [entry for entry in log if entry["token_kind"] in {"app", "installation"}]


def _results(
    stage: Stage, run_id: str, finished_at: datetime, asked: list[dict[str, Any]]
) -> list[Result]:
    # The check run's last update may come after `finished`; nothing else of ours does.
    late = [
        entry
        for entry in _asked(stage)[len(asked) :]
        if entry["method"] == "PATCH" and "/check-runs/" in entry["path"]
    ]
    all_asked = asked + late
    assets = [entry for entry in all_asked if _ASSET.search(entry["path"])]
    view = stage.client.get(run_id)
    seconds = (finished_at - view.created_at).total_seconds()
    checks = [e for e in all_asked if e["method"] == "PATCH" and "/check-runs/" in e["path"]]
    told_s = _moment(checks[-1]["at"]) - finished_at.timestamp()
    server = stage.server.program
    assert server is not None
    return [
        at_most(
            "github_requests_per_run",
            "",
            [len(all_asked) - len(assets)],
            15,
            f"a run of {seconds:.0f} s, its {len(assets)} requests for assets aside",
        ),
        at_most("final_to_check_s", "s", [told_s], 0.25, "`finished` → check run's last update"),
        at_most("server_peak_mib", "MiB", [_peak_mib(server.process.pid)], 150, "the same run"),
    ]


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024 / MIB
