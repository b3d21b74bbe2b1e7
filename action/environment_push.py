"""Have the environment where the run image can be put on it: in a registry, by digest.

A base that needs nothing added is its own environment: nothing is pulled, built or pushed.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from action import base, engine, environment, reference, requirements
from action.amounts import Watch
from action.engine import Engine
from action.environment import Workshop
from action.failures import BuildFailed, RegistryRefused
from action.order import Order
from action.programs import Answer
from action.reference import Reference
from action.registry_pool import RegistryPool
from action.workflow import Console
from cynthus.wire_image import Environment

PUSH_TRIES = 3  # a registry's hiccup is over within seconds; layers that arrived are not sent again
PUSH_PAUSE_S = 2.0
_DENIED = re.compile(r"denied|unauthorized|no basic auth|forbidden|name invalid", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Ready:
    """An environment in a registry."""

    reference: Reference  # by digest
    about: Environment
    cached: bool  # it was there
    why: str  # half a sentence: why it was built, or how it was known
    notes: tuple[str, ...] = ()


def ready(order: Order, registries: RegistryPool, console: Console) -> Ready:
    """Return the environment, built and pushed where it is not there yet.

    Raises: UserError, BuildFailed.
    """
    return _as_it_is(order, registries, console) or _built(order, console)


def _as_it_is(order: Order, registries: RegistryPool, console: Console) -> Ready | None:
    """Return the base itself where the spec adds nothing to it and a registry has it."""
    image = order.spec.image
    if image.dockerfile or image.system:
        return None
    declared = requirements.find(image, order.root, order.spec.src)
    if declared.lines:
        return None
    name, _ = base.choose(image, order.base_image, base.read_catalogue())
    wanted = reference.parse(name)
    if not order.answers(wanted.host):
        return None
    try:
        found = registries(wanted.host).manifest(wanted.repository, wanted.which)
    except RegistryRefused as refused:
        console.say(str(refused))
        return None
    if found is None:
        return None
    console.say(f"base image {name}: used as it is, nothing is added to it")
    key = hashlib.sha256(found.digest.encode()).hexdigest()[:32]
    about = Environment(key=key, base=name, base_digest=found.digest)
    return Ready(
        reference=wanted.at(digest=found.digest),
        about=about,
        cached=True,
        why="the base image as it is, since the spec adds nothing to it",
    )


def _built(order: Order, console: Console) -> Ready:
    docker = engine.find(order.machine.path)
    if docker is None:
        raise BuildFailed(
            "docker: should answer, since the environment of this commit is not in the registry "
            "yet and must be built, found no engine. Run this job where Docker is (GitHub's own "
            "runners have it), or name as `image.base` an image that has all that is needed."
        )
    folder = Path(tempfile.mkdtemp(prefix="cynthus-build-"))
    try:
        with engine.logged_in(
            docker, order.environments or "", order.login, order.machine.docker_config
        ) as logged:
            made = environment.prepare(order, Workshop(logged, console, folder))
            tag = f"{order.environments}:{made.plan.environment_key}"
            digest = _push(made.plan.environment_tag, tag, order, logged, console)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    about = Environment(
        key=made.plan.environment_key,
        base=made.plan.base,
        base_digest=logged.digest(made.plan.base) or "",
    )
    return Ready(
        reference=reference.parse(tag).at(digest=digest),
        about=about,
        cached=made.cached,
        why="built on this machine before" if made.cached else "there was none with this key",
        notes=made.notes,
    )


def _push(image: str, tag: str, order: Order, docker: Engine, console: Console) -> str:
    with console.phase(f"Push to {tag}"):
        watch = Watch()
        docker.ask("tag", image, tag)
        _push_with_patience(tag, order, docker, console)
        digest = docker.digest(tag)
        if digest is None:
            raise BuildFailed(f"{tag} was pushed, but the registry named no digest")
        console.say(f"pushed {digest} ({watch})")
    return digest


def _push_with_patience(tag: str, order: Order, docker: Engine, console: Console) -> None:
    done = Answer(0, "")
    for again in range(PUSH_TRIES):
        done = docker.show(console, "push", tag)
        if done.code == 0:
            return
        if _DENIED.search(done.out):
            raise BuildFailed(_denied(tag, done))
        if again + 1 < PUSH_TRIES:
            console.say(f"push failed, trying again: {base.last_words(done.out)}")
            order.wait(PUSH_PAUSE_S * 2**again)
    last = base.last_words(done.out)
    raise BuildFailed(f"the environment could not be pushed to {tag}: {last}")


def _denied(tag: str, done: Answer) -> str:
    return (
        f"the registry refused the push to {tag}: {base.last_words(done.out)}. Give "
        f"`username` and `password`, or for ghcr.io the job's permission `packages: write`."
    )
