"""How soon after a push its code runs in a container, on a machine that has the base already."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from bench.result import Result, at_most
from demo.services import docker_client
from demo.stage import Stage, standing

ROUNDS = 5
NAME = "quick"
SPEC = (
    "version: 1\nname: quick\nrun: python3 main.py\n"
    "resources: {cpu: 1, memory: 1GB, disk: 10GB, max_duration: 5m}\n"
)


def push_to_container() -> list[Result]:
    """Push one commit that makes the environment, then some that change the source alone."""
    with (
        tempfile.TemporaryDirectory(prefix="cynthus-bench-push-") as folder,
        standing(Path(folder) / "stage") as stage,
    ):
        stage.create_repository(NAME)
        samples = [_round(stage, Path(folder) / "source", n) for n in range(ROUNDS + 1)][1:]
    return [
        at_most(
            "push_to_container_s",
            "s",
            samples,
            1.5,
            "git commit and push → webhook, job, image, run → the engine starts the container",
        )
    ]


def _round(stage: Stage, source: Path, number: int) -> float:
    (source / ".github" / "workflows").mkdir(parents=True, exist_ok=True)
    (source / "cynthus.yaml").write_text(SPEC)
    (source / "main.py").write_text(f"print('round {number}')\n")
    workflow = (Path(__file__).parents[1] / "examples/digits/.github/workflows").glob("*.yml")
    for path in workflow:
        (source / ".github" / "workflows" / path.name).write_bytes(path.read_bytes())
    begin = time.time()  # git's own part of the push is in the figure
    commit = stage.push(NAME, source, message=f"Round {number}")
    run_id = stage.wait_for_run(commit)
    for event in stage.client.follow(run_id):
        if event.kind == "state" and event.body.get("state") == "finished":
            break
    view = stage.client.get(run_id)
    if view.outcome != "succeeded":
        raise RuntimeError(f"run {run_id}: should succeed, found {view.outcome}: {view.reason}")
    return _started_at(run_id, int(begin)) - begin


def _started_at(run_id: str, since: int) -> float:
    """Return when the engine started the run's container."""
    words = [str(docker_client()), "events", "--since", str(since - 1)]
    words += ["--until", str(int(time.time()) + 1), "--filter", "event=start"]
    words += ["--filter", f"label=cynthus.run={run_id}", "--format", "{{.TimeNano}}"]
    answer = subprocess.run(words, check=True, capture_output=True, text=True)
    return int(answer.stdout.split()[0]) / 1e9
