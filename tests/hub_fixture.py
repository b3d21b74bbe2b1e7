"""A simulated hub of models and data, and the official clients in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
START_LIMIT_S = 60
CLIENT_LIMIT_S = 60
SECRET = "hf_a_secret_of_ada"


class Hub:
    """A running simulator and its control endpoints."""

    def __init__(self, folder: Path, *words: str) -> None:
        command = [sys.executable, "-m", "simulators", "hub", "--state", str(folder), *words]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        timer = threading.Timer(START_LIMIT_S, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        assert "hub simulator at " in line, line
        self.url = line.split()[-1]
        self.ready = json.loads((folder / "ready.json").read_text())

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self._ended()

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self._ended()

    def _ended(self) -> None:
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def control(self, method: str, name: str, body: object = None) -> Any:
        """Call a control endpoint."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_sim/{name}", data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def make(self, endpoint: str, /, **wish: Any) -> Any:
        """Add to the world: `hf/repos`, `kaggle/datasets`, `files` and so on."""
        return self.control("POST", endpoint, wish)

    def fault(self, kind: str, **wish: Any) -> None:
        """Arm a fault."""
        self.control("POST", "faults", {"kind": kind, **wish})

    def struck(self) -> int:
        """Return how often faults struck."""
        return sum(fault["struck"] for fault in self.control("GET", "faults"))

    def seen(self, method: str | None = None) -> list[dict[str, Any]]:
        """Return the requests since `forget`."""
        found: list[dict[str, Any]] = self.control("GET", "requests")
        return [line for line in found if method in {None, line["method"]}]

    def forget(self) -> None:
        """Disarm all faults, forget all requests."""
        self.control("DELETE", "faults")
        self.control("DELETE", "requests")


class Client:
    """An official client in a process of its own, which runs one program after another."""

    def __init__(self, setup: str, home: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _FRAME, setup],
            env=_environment(home) | environment,
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, program: str, **variables: str) -> Any:
        """Return the program's `answer`; {"error": class, "message": words} of what it raised.

        `variables` of the environment are set while it runs.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        timer = threading.Timer(CLIENT_LIMIT_S, self.process.kill)
        timer.start()
        self.process.stdin.write(json.dumps([program, variables]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        timer.cancel()
        assert line, "the client ended"
        return json.loads(line)

    def stop(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


def hugging_face(hub: Hub, home: Path) -> Client:
    """Start huggingface_hub as `hf`; where the hub is and files are kept, it reads once."""
    environment = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    return Client("import huggingface_hub as hf", home, environment)


def kaggle(hub: Hub, home: Path) -> Client:
    """Start Kaggle's client as `KaggleApi`."""
    return Client(_KAGGLE_SETUP, home, {"KAGGLE_URL_OF_TEST": hub.url})


def kaggle_once(hub: Hub, home: Path, program: str, **login: str) -> CompletedProcess[str]:
    """Run one program with Kaggle's client, logged in as `api`; `login` are its variables."""
    frame = f"{_KAGGLE_SETUP}\napi = KaggleApi()\napi.authenticate()\n{program}"
    return subprocess.run(
        [sys.executable, "-c", frame],
        env=_environment(home) | {"KAGGLE_URL_OF_TEST": hub.url, **login},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=CLIENT_LIMIT_S,
    )


# The client has no setting for where Kaggle is, so the table that it takes that from is changed
# before it is imported; importing it already shows the credentials.
_KAGGLE_SETUP = """
import os, pathlib, sys
from kagglesdk import kaggle_env
kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = os.environ.pop("KAGGLE_URL_OF_TEST")
import kaggle
from kaggle.api.kaggle_api_extended import KaggleApi
"""
_FRAME = """
import contextlib, io, json, os, pathlib, sys
def files(folder):
    root = pathlib.Path(folder)
    return {str(path.relative_to(root)): path.stat().st_size
            for path in sorted(root.rglob("*")) if path.is_file() and ".cache" not in path.parts}
def why(call):
    try:
        call()
    except Exception as error:
        code = error.response.headers.get("X-Error-Code", "")
        return [type(error).__name__, error.response.status_code, code, str(error)]
    return "no error"
programs = os.fdopen(os.dup(0))  # `exit`, which Kaggle's client calls, closes sys.stdin
known = {"files": files, "why": why, "os": os, "pathlib": pathlib, "sys": sys}
with contextlib.redirect_stdout(io.StringIO()):
    exec(sys.argv[1], known)
for line in programs:
    program, variables = json.loads(line)
    os.environ.update(variables)
    names = {**known, "answer": None, "said": io.StringIO()}
    try:
        with contextlib.redirect_stdout(names["said"]):
            exec(program, names)
        answer = names["answer"]
    except (Exception, SystemExit) as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    for name in variables:
        del os.environ[name]
    print(json.dumps(answer), flush=True)
"""


def _environment(home: Path) -> dict[str, str]:
    home.mkdir(parents=True, exist_ok=True)
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "HOME": str(home)}
