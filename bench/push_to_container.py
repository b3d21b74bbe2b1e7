"""How soon after a push its code runs in a container, on a machine that has the base already."""

from __future__ import annotations

import itertools
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from bench.image import bench_image
from bench.result import Result, at_most
from cynthus.wire import RunEvent
from demo.services import docker_client
from demo.stage import OWNER, Stage, standing

ROUNDS = 5
NAME = "quick"
SPEC = (
    "version: 1\nname: quick\nrun: python3 main.py\n"
    "resources: {cpu: 1, memory: 1GB, disk: 10GB, max_duration: 5m}\n"
)
# Lines of the job's log at which a phase ends: the runner's own, then what the Action says.
LOGGED = (
    ("webhook and runner", "Prepare workflow directory"),
    ("the runner's copy of the Action", "Complete job name"),
    ("checkout", "##[group]Run cynthus/cynthus@v0"),
    ("start of the Action, environment looked up", "##[group]Run image"),
    ("source layer, run image", "pushed sha256:"),
    ("run request", "/runs/"),
)
# Then what the server heard, by the text in an event's body; the engine's own word is the last.
HEARD = (
    ("instance ordered", "provisioning"),
    ("agent started", "agent_started"),
    ("agent enrolled", "enrolled"),
    ("image pulled", "image_pulled"),
)


def push_to_container() -> list[Result]:
    """Push one commit that makes the base known here, then some that change the source alone."""
    with (
        tempfile.TemporaryDirectory(prefix="cynthus-bench-push-") as folder,
        standing(Path(folder) / "stage") as stage,
    ):
        stage.create_repository(NAME)
        _write_source(source := Path(folder) / "source", _push_base(stage))
        rounds = [_round(stage, source, n) for n in range(ROUNDS + 1)][1:]
    return [
        at_most(
            "push_to_container_s",
            "s",
            [sum(seconds.values()) for seconds in rounds],
            1.5,
            "git commit and push → webhook, job, image, run → the engine starts the container; "
            + "; ".join(f"{name} {_median(rounds, name):.2f} s" for name in rounds[0]),
        )
    ]


def _median(rounds: Sequence[dict[str, float]], name: str) -> float:
    return statistics.median(seconds[name] for seconds in rounds)


def _push_base(stage: Stage) -> str:
    """Put the base where every job finds it, as published bases are; return its name."""
    if stage.registry is None:
        raise RuntimeError("push_to_container_s needs a Docker engine")
    name, client = f"{stage.registry.address}/{OWNER}/base:1", str(docker_client())
    for words in (("tag", bench_image(), name), ("push", "--quiet", name)):
        subprocess.run([client, *words], check=True, capture_output=True)
    return name


def _write_source(source: Path, base: str) -> None:
    example = Path(__file__).parents[1] / "examples/digits/.github/workflows"
    for path in example.glob("*.yml"):
        there = source / ".github" / "workflows" / path.name
        there.parent.mkdir(parents=True, exist_ok=True)
        # A spec may name no registry of this machine: the workflow's last `with:` says it.
        there.write_text(f"{path.read_text().rstrip()}\n          base-image: {base}\n")
    (source / "cynthus.yaml").write_text(SPEC)


def _round(stage: Stage, source: Path, number: int) -> dict[str, float]:
    """Push; return the seconds of each phase, from `git commit` to the container's start."""
    (source / "main.py").write_text(f"print('round {number}')\n")
    begin = time.time()  # git's own part of the push is in the figure
    commit = stage.push(NAME, source, message=f"Round {number}")
    pushed = time.time()
    run_id = stage.wait_for_run(commit)
    events = []
    for event in stage.client.follow(run_id):
        events.append(event)
        if event.kind == "state" and event.body.get("state") == "finished":
            break
    view = stage.client.get(run_id)
    if view.outcome != "succeeded":
        raise RuntimeError(f"run {run_id}: should succeed, found {view.outcome}: {view.reason}")
    ends = {"git": pushed, **_logged(stage), **_heard(events)}
    ends["container created"] = _started_at(run_id, int(begin))
    moments = itertools.pairwise((begin, *ends.values()))
    return dict(zip(ends, (end - start for start, end in moments), strict=True))


def _logged(stage: Stage) -> dict[str, float]:
    """Return when each phase of the newest job ended."""
    log = max((stage.folder / "actions" / "logs").glob("*/run.log"))
    lines = [line.partition(" ") for line in log.read_text("utf-8").splitlines()]
    return {
        phase: datetime.fromisoformat(next(at for at, _, text in lines if sign in text)).timestamp()
        for phase, sign in LOGGED
    }


def _heard(events: Sequence[RunEvent]) -> dict[str, float]:
    return {
        phase: next(event.at for event in events if sign in event.body.values()).timestamp()
        for phase, sign in HEARD
    }


def _started_at(run_id: str, since: int) -> float:
    """Return when the engine started the run's container."""
    words = [str(docker_client()), "events", "--since", str(since - 1)]
    words += ["--until", str(int(time.time()) + 1), "--filter", "event=start"]
    words += ["--filter", f"label=cynthus.run={run_id}", "--format", "{{.TimeNano}}"]
    answer = subprocess.run(words, check=True, capture_output=True, text=True)
    return int(answer.stdout.split()[0]) / 1e9
