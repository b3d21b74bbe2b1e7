"""Start the real agent as its own process, against the fake control plane."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.fake_control_plane import SECRET, ControlPlane

ROOT = Path(__file__).parent.parent
LIMIT_S = 60.0  # of anything that takes seconds: the machine may be busy with other tests
# Agents find what is theirs by these names, on the whole machine: each test process has its own,
# so that no agent ends what an agent of another one runs.
INSTANCE = f"cynthus-rtest{os.getpid()}-1"
PLANE = f"test-plane-{os.getpid()}"


@contextmanager
def an_agent(
    plane: ControlPlane,
    folder: Path,
    *,
    engine: str = "auto",
    name: str = INSTANCE,
    cloud: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """A running agent; what is left of it at the end is killed.

    `cloud`: the options of a lent machine, which shows an identity token and no secret.
    """
    folder.mkdir(parents=True, exist_ok=True)
    proof = cloud
    if not cloud:
        secret = folder / "secret"
        secret.write_text(SECRET)
        proof = ("--secret-file", str(secret))
    with (folder / "agent.log").open("ab") as log:
        agent = subprocess.Popen(
            [
                *(sys.executable, "-m", "runner_images.agent", "run", "--server", plane.url),
                *("--instance", name, "--state-dir", str(folder), *proof),
                *("--engine", engine, "--control-plane", PLANE, *options),
            ],
            cwd=ROOT,
            env=None if environment is None else {**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield agent
    finally:
        agent.terminate()
        try:
            agent.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            agent.kill()
            agent.wait()


def finished(
    plane: ControlPlane, folder: Path, *, engine: str = "auto", options: Sequence[str] = ()
) -> ControlPlane:
    """Run the agent to its own end and return what the server was told."""
    with an_agent(plane, folder, engine=engine, options=options) as agent:
        plane.wait(lambda: bool(plane.beats) and plane.beats[-1]["state"] == "done", 60)
        agent.wait(LIMIT_S)
        log = (folder / "agent.log").read_text()
        assert agent.returncode == 0, log
        assert log == ""
    return plane
