"""Fuzz targets for workflow commands: those we print, and those that a run prints."""

from __future__ import annotations

import hashlib
import io
import json
import math

from action.workflow import JobConsole, Place, output_entry
from runner_images.agent.commands import Listener
from runner_images.agent.commands import parse as agents_parse
from runner_images.agent.masking import SHORTEST_LITERAL
from simulators.actions_commands import Command, StopState, parse_command, parse_env_file


def printed(data: bytes) -> None:
    """The runner finds in the Action's log the commands that the Action meant, and no other."""
    said, _, title = data.decode("utf-8", "replace").partition("\x00")
    out = io.StringIO()
    console = JobConsole(out)
    console.say(said)
    for line in said.split("\n"):
        console.quote(line)
    with console.phase(said):
        console.say(said)
    console.error(said, Place(file=title or "cynthus.yaml", line=1, title=title))
    console.notice(said)
    found = _obeyed(out.getvalue())
    assert [command.name for command in found] == ["group", "endgroup", "error", "notice"]
    # The runner trims the last property, here the file's: no space at its end is ours to save.
    assert found[2].properties.get("file", "").strip() == (title or "cynthus.yaml").strip()
    _check_outputs(said)


def _obeyed(log: str) -> list[Command]:
    """Return what GitHub's runner obeys in a log, whose lines end at CR, LF or both."""
    state = StopState()
    lines = log.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    found = [command for line in lines if (command := state.read(line)) is not None]
    return [command for command in found if command.name != "stop-commands"]


def _check_outputs(value: str) -> None:
    delimiter = "cynthus_" + hashlib.sha256(value.encode()).hexdigest()  # not to be guessed
    entry = output_entry("run-url", value, delimiter)
    read = parse_env_file(entry)
    assert [name for name, _ in read] == ["run-url"]
    assert read[0][1] + "\n" == f"{value}\n".replace("\r\n", "\n")


def heard(data: bytes) -> None:
    """What the agent hears in a run's output fits into a message; another reader reads alike."""
    masks: list[str] = []

    def mask(value: str) -> bool:
        masks.append(value)
        return len(value) >= SHORTEST_LITERAL

    listener = Listener(mask)
    for line in data.decode("utf-8", "replace").split("\n"):
        found = listener.hear(line)
        text = json.dumps(found.body, allow_nan=False)
        assert json.loads(text) == found.body
        if "value" in found.body and isinstance(found.body["value"], float):
            assert math.isfinite(found.body["value"])
        _compare(line)


def _compare(line: str) -> None:
    ours, theirs = agents_parse(line), parse_command(line)
    if ours is None:
        assert theirs is None or not theirs.name
        return
    assert theirs is not None
    assert (ours.name.lower(), ours.data) == (theirs.name, theirs.data)
