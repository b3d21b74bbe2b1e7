"""Let one job at a time build an environment, and the others wait for what it makes.

The server keeps the lease (`POST /api/v1/build-leases`). It saves work and guards nothing: a lease
that ends early costs a second build, never a wrong image, since an environment's key names what is
in it. So a server that is away, or too old to know the door, never keeps anybody from building.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from action import server
from action.amounts import Watch
from action.server import Server
from action.workflow import Console, PlainConsole
from cynthus.codec import decode, encode
from cynthus.errors import CynthusError, Refused
from cynthus.wire_image import BuildLeaseAsk, BuildLeaseView

PATH = "/api/v1/build-leases"
RENEW_S = 40.0  # a lease is 120 s long: two renewals may be lost before it ends
# A holder that asks again and again without end, by a fault or on purpose (any repository of the
# owner may), shall not stop the others: a build takes minutes, so after an hour none is coming.
LONGEST_WAIT_S = 3600.0
LOOK_S = 5.0  # short against a build of minutes, and 12 requests a minute for each who waits
_OK, _NO_DOOR = 200, (404, 405)


@dataclass(frozen=True, kw_only=True)
class Post:
    """Where the lease is asked for, and how often; None as a server: nobody else builds."""

    server: Server | None
    holder: str  # the workflow run's URL: what others are told
    console: Console
    wait: Callable[[float], None] = time.sleep
    renew_s: float = RENEW_S


@contextmanager
def held(key: str, post: Post, there: Callable[[], bool]) -> Iterator[bool]:
    """Yield True when it is ours to build; False when another job has built it meanwhile.

    `there` looks whether the environment is in the registry. Safe to repeat: the same holder gets
    its own lease again.
    """
    mine = _gained(key, post, there)
    if mine is None or post.server is None:
        yield mine is not False
        return
    if not mine:
        yield False
        return
    over = threading.Event()
    keeper = threading.Thread(target=_keep, args=(key, post, over), name="lease", daemon=True)
    keeper.start()
    try:
        yield True
    finally:
        over.set()
        keeper.join()
        _ask(BuildLeaseAsk(key=key, holder=post.holder, done=True), post)


def _gained(key: str, post: Post, there: Callable[[], bool]) -> bool | None:
    """Return True with the lease, False when the environment is there, None without a lease."""
    watch, told = Watch(), ""
    for _ in range(int(LONGEST_WAIT_S / LOOK_S)):
        view = _ask(BuildLeaseAsk(key=key, holder=post.holder), post)
        if view is None:
            return None
        if view.granted:
            return _unless_there(key, post, there)
        if view.holder != told:
            told = view.holder
            post.console.say(f"environment {key[:12]}: {told} is building it; waiting")
        post.wait(LOOK_S)
        if there():
            post.console.say(f"environment {key[:12]}: built by {told}, waited {watch}")
            return False
    post.console.say(
        f"environment {key[:12]}: {told} has not built it in {watch}; building it here"
    )
    return None


def _unless_there(key: str, post: Post, there: Callable[[], bool]) -> bool:
    """Look once more: whoever had the lease may have finished between our look and our turn."""
    if not there():
        return True
    _ask(BuildLeaseAsk(key=key, holder=post.holder, done=True), post)
    return False


def _keep(key: str, post: Post, over: threading.Event) -> None:
    """Ask again until the build is over; one who does not is taken for dead."""
    # The build prints at the same time, and a console takes lines from one thread only.
    quiet = replace(post, console=PlainConsole(io.StringIO()))
    while not over.wait(post.renew_s):
        _ask(BuildLeaseAsk(key=key, holder=post.holder), quiet)


def _ask(ask: BuildLeaseAsk, post: Post) -> BuildLeaseView | None:
    """Return the server's answer; None: it keeps no leases, or cannot be reached."""
    if post.server is None:
        return None
    try:
        reply = server.ask(post.server, PATH, post.console, body=encode(ask))
        if reply.status in _NO_DOOR:
            return None
        if reply.status != _OK:
            raise Refused(f"{post.server.host} answers {reply.status}")
        return decode(BuildLeaseView, reply.json(), "answer")
    except CynthusError as error:
        if not ask.done:
            post.console.say(f"no build lease ({error}): another job may build the same")
        return None
