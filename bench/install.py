"""How much an installation weighs: the files of its locked packages, without bytecode."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from bench.result import Result, at_most
from bench.served import MIB
from demo.stage import ROOT

OUR_ROOMS = ("action", "cynthus", "runner_images", "schemas", "webhook_server")


def install() -> list[Result]:
    """Weigh the server's environment; and the command line's with the agent's."""
    rooms = sum(_weight(ROOT / room) for room in OUR_ROOMS)
    server, count = _packages("server.lock")
    agent, agent_count = _packages("agent.lock")
    return [
        at_most(
            "install_mib", "MiB", [(server + rooms) / MIB], 180, f"server: {count} packages + ours"
        ),
        at_most(
            "install_agent_mib",
            "MiB",
            [(agent + rooms) / MIB],
            40,
            f"command line + agent: {agent_count} packages + ours",
        ),
    ]


def _packages(lock: str) -> tuple[int, int]:
    text = (ROOT / "requirements" / lock).read_text("utf-8")
    names = re.findall(r"^([a-z0-9][^\s=\[]*)(?:\[[^\]]*\])?==", text, re.MULTILINE)
    weights = [_installed(name) for name in names]
    found = [weight for weight in weights if weight is not None]  # others: for other systems
    return sum(found), len(found)


def _installed(name: str) -> int | None:
    try:
        files = distribution(name).files or []
    except PackageNotFoundError:
        return None
    paths = [Path(str(file.locate())) for file in files if "__pycache__" not in file.parts]
    return sum(path.stat().st_size for path in paths if path.exists())


def _weight(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files if "__pycache__" not in path.parts)
