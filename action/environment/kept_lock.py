"""Ask the server for the lock that this commit was built with before, a year ago or just now."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlencode

from action import server
from action.server import Server
from action.workflow import Console
from cynthus.codec import decode
from cynthus.errors import CynthusError, Refused
from cynthus.wire_image import LockView

PATH = "/api/v1/locks"
_OK, _NONE = 200, (404, 405)
_HEAD = re.compile(r"# cynthus: on (\S+)@(sha256:[0-9a-f]{64})\n")


@dataclass(frozen=True, kw_only=True)
class Commit:
    """What was built."""

    sha: str
    spec_path: str  # within the repository


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a commit was built with before."""

    key: str  # of the environment
    lock: str
    digest: str  # of the base; its image id where it came from no registry


def ask(asked: Server, commit: Commit, base: str, console: Console) -> Kept | None:
    """Return the commit's lock when it was made for the same base; None: resolve anew.

    The commit and its spec wish the same packages for ever; only the base can be named outside.
    A server that is away or knows no such door costs a resolution, not the build. Safe to repeat.
    """
    query = urlencode({"commit": commit.sha, "spec": commit.spec_path})
    try:
        reply = server.ask(asked, f"{PATH}?{query}", console)
        if reply.status in _NONE:
            return None
        if reply.status != _OK:
            raise Refused(f"{asked.host} answers {reply.status}")
        view = decode(LockView, reply.json(), "answer")
    except CynthusError as error:
        console.say(f"no earlier lock of this commit could be asked for ({error})")
        return None
    match = _HEAD.match(view.lock)
    if match is None or match[1] != _plain(base):
        return None
    return Kept(key=view.key, lock=view.lock, digest=match[2])


def marked(lock: str, base: str, digest: str) -> str:
    """Return a lock that says for which base it was made: a comment to pip and uv."""
    return f"# cynthus: on {_plain(base)}@{digest}\n{_HEAD.sub('', lock)}"


def _plain(base: str) -> str:
    return base.partition("@")[0]
