"""Fetch one dataset with its hub's own client, asked on stdin, told on stdout.

The agent starts it with whatever interpreter has the clients. One JSON object a line:

in   the request: {"source": "hf"|"kaggle", …}; then, once the tree was told, {"skip": [paths]}
out  {"event": "tree", "files": [[path, bytes, sha256 or null, git blob id or null], …]} in pages
     {"event": "listed"}; {"event": "archive", "path": …}; and last {"event": "done"} or
     {"event": "fault", "reason": …, "text": …, "page": address or null}

Tokens come in the request alone: neither arguments nor the environment of any process hold them.
What the clients print goes to stderr. When stdin ends the agent is gone, and this process ends.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any, TextIO

from runner_images.agent.stager.words import Asked, Fault

GONE = 4  # the exit code when the agent went away


def main() -> int:
    """Answer one request; faults of hubs are told, never raised."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # kaggle prints advice and addresses to stdout: that is no answer of ours
    asked = os.fdopen(os.dup(0), encoding="utf-8")
    # `exit()`, which kaggle calls, closes sys.stdin and would wait for whoever reads it.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def tell(event: str, **body: Any) -> None:
        answers.write(json.dumps({"event": event, **body}) + "\n")
        answers.flush()

    request = json.loads(asked.readline())
    try:
        _fetch(Asked(request=request, tell=tell, skipped=lambda: _skipped(asked)))
    except Fault as fault:
        tell("fault", reason=fault.reason, text=str(fault), page=fault.page)
    else:
        tell("done")
    return 0


def _fetch(asked: Asked) -> None:
    if asked.request["source"] == "hf":
        from runner_images.agent.stager import hf

        hf.fetch(asked)
    else:
        from runner_images.agent.stager import kaggle

        kaggle.fetch(asked)


def _skipped(asked: TextIO) -> list[str]:
    """Return the agent's answer to the tree; from then on watch that it stays there."""
    line = asked.readline()
    if not line:
        os._exit(GONE)
    threading.Thread(target=_end_with_agent, args=(asked,), name="agent", daemon=True).start()
    return list(json.loads(line)["skip"])


def _end_with_agent(asked: TextIO) -> None:
    asked.read()
    os._exit(GONE)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # clients leave threads and pools behind for which nobody needs to wait
