"""Stand a simulated Google Cloud beside the stage; its instances run the real agent here."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.processes import Program, Programs, StageError, clean_environment, wait_until
from demo.services import Engine, Registry
from runner_images.agent.package import build

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "cynthus-demo"
BASE = "cynthus/base:agent"
REPOSITORY = "cynthus/agent"
START_LIMIT_S = 180.0  # the first start makes the machines' root tree from Debian packages


@dataclass
class Cloud:
    """A simulated Google Cloud, with its control doors."""

    url: str
    program: Program
    agent_image: str  # by digest, in the stage's registry
    exchanges: Path  # every request it answered, one JSON object a line

    @property
    def settings(self) -> dict[str, str]:
        """Return what a server must be told to lend from it."""
        return {
            "CYNTHUS_PROVIDER": "gcp",
            "CYNTHUS_GCP_PROJECT": PROJECT,
            "CYNTHUS_GCP_COMPUTE_URL": self.url,
            "CYNTHUS_GCP_SECRETS_URL": self.url,
            "CYNTHUS_GCP_IAM_URL": self.url,
            "CYNTHUS_GCP_BILLING_URL": self.url,
            "CYNTHUS_GCP_CERTS_URL": f"{self.url}/oauth2/v3/certs",
            "CYNTHUS_GCP_AGENT_IMAGE": self.agent_image,
            "CYNTHUS_GCP_SERVICE_ACCOUNT": f"runner@{PROJECT}.iam.gserviceaccount.com",
        }

    def control(self, method: str, path: str, body: object = None) -> Any:
        """Call a control door under `/_sim/` and return its JSON answer."""
        return self._call(method, f"{self.url}/_sim/{path}", body)

    def listed(self, kind: str) -> list[dict[str, Any]]:
        """Return everything of a kind (`instances`, `disks`) as Compute Engine lists it."""
        answer = self._call("GET", f"{self._compute}/aggregated/{kind}", None)
        return [one for zone in answer["items"].values() for one in zone.get(kind, ())]

    def operations(self, zone: str) -> list[dict[str, Any]]:
        """Return what was done in a zone, by whom else too."""
        answer = self._call("GET", f"{self._compute}/zones/{zone}/operations", None)
        return list(answer.get("items", ()))

    @property
    def _compute(self) -> str:
        return f"{self.url}/compute/v1/projects/{PROJECT}"

    def _call(self, method: str, url: str, body: object) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - our own loopback address
            url, data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
            text = answer.read()
        return json.loads(text) if text else None


def google_cloud(
    programs: Programs,
    folder: Path,
    *,
    machines: str = "namespaces",
    reach: Sequence[int] = (),
    agent_image: str = "",
) -> Cloud:
    """Start the simulator; its machines reach the loopback ports `reach`, and nothing else."""
    state = folder / "gcp"
    ready = state / "ready.json"
    state.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "simulators", "gcp", "--port", "0", "--state", str(state)]
    words += ["--project", PROJECT, "--machines", machines, "--ready-file", str(ready)]
    exchanges = folder / "gcp-exchanges.jsonl"
    words += ["--exchanges", str(exchanges)]
    if reach:
        words += ["--reach", ",".join(map(str, reach))]
    program = programs.start("gcp", words, environment=clean_environment())
    wait_until(ready.exists, "the Google Cloud simulator", program, limit_s=START_LIMIT_S)
    url = str(json.loads(ready.read_text("utf-8"))["url"])
    return Cloud(url=url, program=program, agent_image=agent_image, exchanges=exchanges)


def push_agent_image(engine: Engine, images: Registry, folder: Path) -> str:
    """Build the agent's image on a base of this machine, push it, and return it by digest."""
    if engine.client is None:
        raise StageError(f"the agent's image: needs a Docker engine ({engine.why_not})")
    folder.mkdir(parents=True, exist_ok=True)
    build(folder / "agent.pyz")
    _have_base(engine.client)
    name = f"{images.address}/{REPOSITORY}:demo"
    dockerfile = ROOT / "runner_images" / "agent" / "Dockerfile"
    words = ["build", "--quiet", "--build-arg", f"BASE={BASE}", "--file", str(dockerfile)]
    _docker(engine.client, *words, "--tag", name, str(folder))
    _docker(engine.client, "push", "--quiet", name)
    told = _docker(engine.client, "inspect", "--format", "{{json .RepoDigests}}", name)
    found = [one for one in json.loads(told) if one.startswith(f"{images.address}/")]
    _docker(engine.client, "rmi", "--no-prune", name)  # the registry has it; the port goes
    return str(found[0])


def _have_base(client: str) -> None:
    if subprocess.run([client, "inspect", BASE], capture_output=True, check=False).returncode == 0:
        return
    script = ROOT / "runner_images" / "base" / "offline.sh"
    _run(str(script), BASE, environment={"CYNTHUS_DOCKER": client})


def _docker(client: str, *words: str) -> str:
    return _run(client, *words, environment={"DOCKER_BUILDKIT": "1"})


def _run(*words: str, environment: dict[str, str]) -> str:
    answer = subprocess.run(
        words, capture_output=True, text=True, env=clean_environment(**environment), check=False
    )
    if answer.returncode != 0:
        raise StageError(f"{' '.join(words[:2])}: {answer.stderr.strip()[-2000:]}")
    return answer.stdout.strip()
