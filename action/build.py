"""Carry out an order: make the image, push it, and say what it is called now."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from action import base, buildkit, bundle, context, engine, environment, plan
from action.amounts import Watch, size
from action.engine import Engine
from action.environment import Workshop
from action.failures import BuildFailed, NoImage
from action.order import Built, Order
from action.plan import BuildPlan
from action.programs import Answer
from action.workflow import Console
from cynthus.errors import UserError

PUSH_TRIES = 3  # a registry's hiccup is over within seconds; layers that arrived are not sent again
PUSH_PAUSE_S = 2.0
SECRETS_SHOWN = 5


def build(order: Order, console: Console) -> Built:
    """Make what the spec asks for, in Docker where there is an engine, else as a process bundle.

    Raises: UserError, BuildFailed.
    """
    watch = Watch()
    try:
        return replace(_in_some_way(order, console), seconds=watch.seconds)
    except OSError as error:  # a full disk, a folder that may not be written
        place = f"{error.filename}: " if error.filename else ""
        raise BuildFailed(f"the builder's machine: {place}{error.strerror or error}") from error


def _in_some_way(order: Order, console: Console) -> Built:
    docker = None if order.engine_wish == "process" else engine.find(order.machine.path)
    if order.engine_wish == "process":
        return _as_bundle(order, "a plain process was asked for", console)
    if docker is None and order.engine_wish == "docker":
        raise UserError("docker: should answer, found no engine. Start Docker, or install it.")
    if docker is None:
        return _as_bundle(order, "no Docker engine answers", console)
    registry = order.push_to or ""
    with engine.logged_in(docker, registry, order.login, order.machine.docker_config) as ready:
        try:
            return _with_docker(order, ready, console)
        except NoImage as reason:
            if order.engine_wish == "docker":
                raise BuildFailed(str(reason)) from reason
            return _as_bundle(order, str(reason), console)


def _as_bundle(order: Order, why: str, console: Console) -> Built:
    wanted = bundle.Order(
        spec=order.spec,
        root=order.root,
        cache_dir=order.machine.cache_dir,
        bundles_dir=order.machine.bundles_dir,
        as_of=order.today.isoformat(),
        why=why,
    )
    made = bundle.make(wanted, console)
    return Built(
        image=made.folder.as_uri(),
        digest=made.digest,
        engine="process",
        base="this machine",
        cached=made.cached,
        size_bytes=made.size_bytes,
        notes=made.notes,
    )


# ── with Docker ─────────────────────────────────────────────────────────────────────────────────


def _with_docker(order: Order, docker: Engine, console: Console) -> Built:
    folder = Path(tempfile.mkdtemp(prefix="cynthus-build-"))
    try:
        shop = Workshop(docker, console, folder)
        ready = environment.prepare(order, shop)
        image_id = _run_image(order, ready.plan, shop)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    size_bytes = docker.size_bytes(image_id)
    image = digest = image_id
    if order.push_to:
        digest = _push(order, image_id, size_bytes, docker, console)
        image = f"{engine.repository_of(order.push_to)}@{digest}"
    return Built(
        image=image,
        digest=digest,
        engine="docker",
        base=ready.plan.base,
        cached=ready.cached,
        size_bytes=size_bytes,
        notes=ready.notes,
    )


def _run_image(order: Order, todo: BuildPlan, shop: Workshop) -> str:
    """Add the source to the environment and return the image's id."""
    source = order.root / order.spec.src
    if not source.is_dir():
        raise UserError(
            f"src: should be a folder of the repository, found no `{order.spec.src}`. Correct it."
        )
    staged, written = shop.folder / "source", shop.folder / "image-id"
    with shop.console.phase("Run image: environment plus source"):
        watch = Watch()
        copied = context.stage(source, staged, context.rules_of(source), link=True)
        _tell_left_out(copied, shop.console)
        dockerfile = shop.folder / "Dockerfile.run"
        dockerfile.write_text(todo.run_dockerfile)
        words = plan.build_words(
            dockerfile=str(dockerfile),
            context=str(staged),
            tag=todo.run_tag,
            network="none",
            # The tag may be another build's a moment later; the id stays ours.
            more=("--iidfile", str(written), *plan.label_words(todo.labels)),
        )
        buildkit.expect(shop.docker.build(shop.console, words), "the run image could not be built")
        image_id = written.read_text().strip()
        told = f"{copied.files} files, {size(copied.size_bytes)} of source"
        shop.console.say(f"image {image_id[:19]}: {told}, {watch}")
    return image_id


def _tell_left_out(copied: context.Staged, console: Console) -> None:
    if copied.secrets:
        shown = ", ".join(copied.secrets[:SECRETS_SHOWN])
        rest = len(copied.secrets) - SECRETS_SHOWN
        more = f" and {rest} more" if rest > 0 else ""
        console.say(f"left out, since such files hold credentials: {shown}{more}")
    if copied.special:
        shown = ", ".join(copied.special[:SECRETS_SHOWN])
        console.say(f"left out, being neither file nor folder: {shown}")


# ── pushing ─────────────────────────────────────────────────────────────────────────────────────


def _push(order: Order, image_id: str, size_bytes: int, docker: Engine, console: Console) -> str:
    reference = str(order.push_to)
    with console.phase(f"Push to {reference}"):
        watch = Watch()
        docker.ask("tag", image_id, reference)
        _push_with_patience(order, docker, console)
        digest = docker.digest(reference)
        if digest is None:
            raise BuildFailed(f"{reference} was pushed, but the registry named no digest")
        console.say(f"pushed {digest}: {size(size_bytes)} unpacked, {watch}")
    return digest


def _push_with_patience(order: Order, docker: Engine, console: Console) -> None:
    done = Answer(0, "")
    for again in range(PUSH_TRIES):
        done = docker.show(console, "push", str(order.push_to))
        if done.code == 0:
            return
        if _DENIED.search(done.out):
            raise BuildFailed(_denied(order, done))
        if again + 1 < PUSH_TRIES:
            console.say(f"push failed, trying again: {base.last_words(done.out)}")
            order.wait(PUSH_PAUSE_S * 2**again)
    last = base.last_words(done.out)
    raise BuildFailed(f"the image could not be pushed to {order.push_to}: {last}")


_DENIED = re.compile(r"denied|unauthorized|no basic auth|forbidden|name invalid", re.IGNORECASE)


def _denied(order: Order, done: Answer) -> str:
    return (
        f"the registry refused the push to {order.push_to}: {base.last_words(done.out)}. Give "
        f"`username` and `password`, or for ghcr.io the job's permission `packages: write`."
    )
