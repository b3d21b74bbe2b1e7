"""What is asked of a build, and what comes of it: data only."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # whoever makes an order imports what it is made of
    from action.inputs import BuildSecret, Login, Machine
    from action.plan import Origin
    from action.server import Server
    from cynthus.spec import Spec
    from cynthus.wire_image import Environment


def _registry_answers(host: str) -> bool:
    from action.engine import base  # rarely asked: the environment is mostly known

    return base.registry_answers(host)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What shall be built, and with what."""

    spec: Spec
    root: Path  # the repository
    origin: Origin
    push_to: str | None  # registry/name:tag; None: the image stays in this machine's engine
    login: Login | None
    base_image: str | None
    engine_wish: str  # auto, docker or process
    machine: Machine
    today: date
    environments: str | None = None  # the repository that keeps them; None: nothing is pushed
    server: Server | None = None  # whom to ask for a lease and an earlier lock; None: nobody
    holder: str = ""  # the workflow run's URL with a mark of this job: whom others wait for
    spec_path: str = ""  # within the repository
    stranger: bool = False  # a fork's commit: nothing of it may run on this machine
    build_secrets: tuple[BuildSecret, ...] = ()
    answers: Callable[[str], bool] = _registry_answers
    wait: Callable[[float], None] = time.sleep


@dataclass(frozen=True, kw_only=True)
class Step:
    """One part of the work, as a person wants to know of it."""

    part: str  # base, environment, source layer
    how: str  # half a sentence: what was done, and why
    moved_bytes: int | None = None  # to the registry; None: by others, who do not count
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Built:
    """An image that can be run."""

    image: str  # as a run request names it
    digest: str
    engine: str  # docker or process
    base: str
    cached: bool  # the environment was there already
    size_bytes: int
    seconds: float = 0.0
    notes: tuple[str, ...] = field(default=())  # what a person should know, each a sentence
    steps: tuple[Step, ...] = field(default=())
    about: Environment | None = None  # what is below the source; None: only this machine knows
