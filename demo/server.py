"""Start a Cynthus server as its users do, with its settings in the environment."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from demo.processes import Program, Programs, clean_environment, free_port, wait_until


@dataclass
class Server:
    """A server with a fixed port, so that it comes back at the same address after any end."""

    programs: Programs
    state: Path
    port: int = field(default_factory=free_port)
    settings: Mapping[str, str] = field(default_factory=dict)
    api_token: str = field(default_factory=lambda: secrets.token_hex(24))
    program: Program | None = None
    role: str = "all"

    @property
    def url(self) -> str:
        """Return the address under which it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ready_file(self) -> Path:
        """Return the file it writes once it answers."""
        return self.state / "ready.json"

    def start(self) -> Program:
        """Start it and wait for its first answer. Again after `stop` or `kill`: the same server."""
        program = self.launch()
        wait_until(self._ready, "the Cynthus server", program)
        return program

    def launch(self) -> Program:
        """Start it and do not wait."""
        self.state.mkdir(parents=True, exist_ok=True)
        self.ready_file.unlink(missing_ok=True)
        environment = clean_environment(
            CYNTHUS_STATE_DIR=str(self.state),
            CYNTHUS_PORT=str(self.port),
            CYNTHUS_READY_FILE=str(self.ready_file),
            CYNTHUS_API_TOKEN=self.api_token,
            **self.settings,
        )
        words = [sys.executable, "-m", "cynthus", "serve", "--role", self.role]
        program = self.programs.start("server", words, environment=environment)
        self.program = program
        return program

    def _ready(self) -> bool:
        try:
            return "url" in json.loads(self.ready_file.read_text("utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return False
