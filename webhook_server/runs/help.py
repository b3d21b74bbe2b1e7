"""Say what can be asked at a pull request, and by whom it is read: pure."""

from __future__ import annotations

from collections.abc import Sequence

from cynthus.repository_policy import Verb
from webhook_server.runs.hostile import code

_FORMS = {
    Verb.RUN: ("run [name…] [commit] [key=value…]", "start runs at the head"),
    Verb.PLAN: ("plan [name…] [key=value…]", "what a run would get and cost; nothing starts"),
    Verb.STATUS: ("status [run]", "where the runs stand"),
    Verb.LOGS: ("logs [run] [--last N] [--grep TEXT]", "the end of a log"),
    Verb.WHY: ("why [run]", "why a run waits, or how it ended"),
    Verb.CANCEL: ("cancel [run]", "end live runs"),
    Verb.RETRY: ("retry [run] [--on-demand]", "run a finished run again"),
    Verb.EXTEND: ("extend DURATION [run]", "give live runs more time"),
    Verb.COMPARE: ("compare A [B]", "how two runs differ; alone: from the last release"),
    Verb.APPROVE: ("approve COMMIT", "let go on what waits for approval there"),
    Verb.SWEEP: ("sweep [name] key=a,b,c [key2=1..3]", "one run for each combination"),
    Verb.REPRODUCE: ("reproduce RUN", "run again exactly what a run was made from"),
    Verb.DESTROY: ("destroy", "end all runs here, and the instances they keep warm"),
    Verb.HELP: ("help", "this"),
}


def help_text(allowed: Sequence[Verb], overridable: Sequence[tuple[str, str]]) -> str:
    """Return what somebody with these rights may ask for; `overridable` are key and meaning."""
    rows = [f"| {_cell('/cynthus ' + _FORMS[verb][0])} | {_FORMS[verb][1]} |" for verb in allowed]
    missing = [verb.value for verb in _FORMS if verb not in allowed]
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
