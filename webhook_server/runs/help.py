"""Say what can be asked at a pull request, and by whom it is read: pure."""

from __future__ import annotations

from collections.abc import Sequence

from cynthus.repository_policy import Verb
from webhook_server.runs.ask_grammar import FORMS
from webhook_server.runs.hostile import code

_MEANINGS = {
    Verb.RUN: "start runs at the head",
    Verb.PLAN: "what a run would get and cost; nothing is started",
    Verb.STATUS: "where the runs stand",
    Verb.LOGS: "the end of a log",
    Verb.WHY: "why a run waits, or how it ended",
    Verb.CANCEL: "end live runs",
    Verb.RETRY: "run a finished run again",
    Verb.EXTEND: "give live runs more time",
    Verb.COMPARE: "how two runs differ; one alone: from the default branch's last release",
    Verb.APPROVE: "let go on what waits for a person at this commit",
    Verb.SWEEP: "one run for each combination of values",
    Verb.REPRODUCE: "run again exactly what a run or a release was made from",
    Verb.DESTROY: "end all runs here, and the instances they keep warm",
    Verb.HELP: "this",
}


def help_text(allowed: Sequence[Verb], overridable: Sequence[tuple[str, str]]) -> str:
    """Return what somebody with these rights may ask for; `overridable` are key and meaning."""
    rows = [f"| {_cell(FORMS[verb])} | {_MEANINGS[verb]} |" for verb in allowed]
    missing = [verb.value for verb in Verb if verb not in allowed]
    others = f"\n\nNot by you here: {', '.join(missing)}." if missing else ""
    return "\n".join(
        [
            "By your rights in this repository and its policy you may ask, each on a line of its"
            " own at the beginning of that line:",
            "",
            "| line | what it does |",
            "|---|---|",
            *rows,
            "",
            "A run is named by its id, by `name`, `name#3` or its release's tag." + others,
            "",
            _overrides(overridable),
        ]
    )


def _overrides(overridable: Sequence[tuple[str, str]]) -> str:
    rows = [f"| {_cell(key)} | {meaning} |" for key, meaning in overridable]
    head = ["<details><summary>What key=value can change of the file</summary>", ""]
    return "\n".join([*head, "| key | what it sets |", "|---|---|", *rows, "", "</details>"])


def _cell(text: str) -> str:
    return code(text.replace("|", "\u00a6"))
