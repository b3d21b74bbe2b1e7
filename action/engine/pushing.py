"""Push an image of this machine's engine to its registry, with patience."""

from __future__ import annotations

import re
from collections.abc import Callable

from action.amounts import Watch
from action.engine import base
from action.engine.engine import Engine
from action.failures import BuildFailed, RegistryAway, RegistryRefused
from action.programs import Answer
from action.workflow import Console

TRIES = 3  # a registry's hiccup is over within seconds; layers that arrived are not sent again
PAUSE_S = 2.0
_DENIED = re.compile(r"denied|unauthorized|no basic auth|forbidden|name invalid", re.IGNORECASE)


def push(tag: str, docker: Engine, console: Console, wait: Callable[[float], None]) -> str:
    """Push the image under its tag and return its digest. Safe to repeat.

    Raises: RegistryRefused, RegistryAway, BuildFailed.
    """
    with console.phase(f"Push to {tag}"):
        watch = Watch()
        _with_patience(tag, docker, console, wait)
        digest = docker.digest(tag)
        if digest is None:
            raise BuildFailed(f"{tag} was pushed, but the registry named no digest")
        console.say(f"pushed {digest} ({watch})")
    return digest


def _with_patience(
    tag: str, docker: Engine, console: Console, wait: Callable[[float], None]
) -> None:
    done = Answer(0, "")
    for again in range(TRIES):
        done = docker.show(console, "push", tag)
        if done.code == 0:
            return
        if _DENIED.search(done.out):
            raise RegistryRefused(_denied(tag, done))
        if again + 1 < TRIES:
            console.say(f"push failed, trying again: {base.last_words(done.out)}")
            wait(PAUSE_S * 2**again)
    raise RegistryAway(f"{tag} could not be pushed: {base.last_words(done.out)}")


def _denied(tag: str, done: Answer) -> str:
    return (
        f"the registry refused the push to {tag}: {base.last_words(done.out)}. Give "
        f"`username` and `password`, or for ghcr.io the job's permission `packages: write`."
    )
