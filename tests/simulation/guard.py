"""Make every clock, chance and thread that the server takes by itself an error."""

from __future__ import annotations

import functools
import os
import random
import secrets
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_OURS = ("webhook_server", "cynthus")
_RANDOM = ("random", "uniform", "randint", "randrange", "choice", "choices", "sample", "shuffle")
_SECRETS = ("token_bytes", "token_hex", "token_urlsafe", "choice", "randbelow", "randbits")
_GUARDED: tuple[tuple[Any, str], ...] = (
    *((time, name) for name in ("time", "monotonic", "perf_counter", "sleep", "time_ns")),
    *((random, name) for name in _RANDOM),
    *((secrets, name) for name in _SECRETS),
    (os, "urandom"),
    (uuid, "uuid1"),
    (uuid, "uuid4"),
    (threading.Thread, "start"),
)
#: What cannot be replaced, since it is C's: `watched` sees it all the same.
_CLOCKS = ("now", "utcnow", "today")


class Leak(AssertionError):  # noqa: N818 - read as what happened
    """The server took time, chance or a thread from elsewhere than its arguments."""


@contextmanager
def guarded() -> Iterator[None]:
    """Let what the server calls of these raise `Leak` while the block lasts."""
    imported = _imported(len(sys.modules))  # while what it looks for is where it was
    originals = [getattr(owner, name) for owner, name in _GUARDED]
    for (owner, name), original in zip(_GUARDED, originals, strict=True):
        setattr(owner, name, _raiser(original, name))
    for module, name, original in imported:
        setattr(module, name, _raiser(original, name))
    try:
        yield
    finally:
        for (owner, name), original in zip(_GUARDED, originals, strict=True):
            setattr(owner, name, original)
        for module, name, original in imported:
            setattr(module, name, original)


def _raiser(original: Callable[..., Any], what: str) -> Callable[..., Any]:
    def raiser(*args: Any, **kwargs: Any) -> Any:
        caller = str(sys._getframe(1).f_globals.get("__name__", ""))
        if caller.startswith(_OURS):
            raise Leak(f"{caller} takes {what} by itself")
        return original(*args, **kwargs)

    return raiser


@functools.lru_cache(maxsize=1)
def _imported(_modules: int) -> tuple[tuple[Any, str, Any], ...]:
    """Return the names under which our modules imported such a function itself.

    Looked for once, and again when there are more modules: it takes as long as living 30 calls.
    """
    known = {id(getattr(owner, name)) for owner, name in _GUARDED}
    return tuple(
        (module, name, value)
        for module_name, module in list(sys.modules.items())
        if module_name.startswith(_OURS) and module is not None
        for name, value in list(vars(module).items())
        if id(value) in known
    )


@contextmanager
def watched() -> Iterator[list[str]]:
    """Note every call of a clock or of chance by our modules, C's included; slow, so for a few.

    https://docs.python.org/3/library/sys.html#sys.setprofile: `c_call` tells of each such call.
    """
    leaks: list[str] = []

    def profile(frame: Any, event: str, what: Any) -> None:
        if event == "c_call":
            caller = str(frame.f_globals.get("__name__", ""))
            if caller.startswith(_OURS) and _leaks(what):
                leaks.append(f"{caller} calls {what.__qualname__}")

    sys.setprofile(profile)
    try:
        yield leaks
    finally:
        sys.setprofile(None)


def _leaks(what: Any) -> bool:
    name, owner = getattr(what, "__name__", ""), getattr(what, "__self__", None)
    module = getattr(what, "__module__", None) or getattr(owner, "__name__", "")
    if name in _CLOCKS:
        return getattr(owner, "__name__", "") in {"datetime", "date"}
    return module in {"time", "_random", "posix"} and name in {
        *("time", "monotonic", "perf_counter", "sleep", "time_ns", "monotonic_ns"),
        *("random", "getrandbits", "urandom", "getrandom"),
    }
