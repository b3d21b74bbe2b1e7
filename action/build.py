"""Carry out an order in the way that fits: in a registry, in a Docker engine, or as a bundle."""

from __future__ import annotations

import errno
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING

from action.amounts import Watch
from action.failures import BuildFailed, NoImage
from action.order import Built, Order
from action.workflow import Console
from cynthus.errors import UserError

if TYPE_CHECKING:
    from action.engine.engine import Engine


def build(order: Order, console: Console) -> Built:
    """Make what the spec asks for.

    An image that is pushed is put together in its registry. One that stays here is made by the
    engine of this machine. Without either, a server of this machine may take a process bundle.
    Raises: UserError, BuildFailed.
    """
    watch = Watch()
    try:
        return replace(_in_some_way(order, console), seconds=watch.seconds)
    except OSError as error:  # a full disk, a folder that may not be written
        raise BuildFailed(_of_the_machine(error)) from error


def _of_the_machine(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    said = f"the builder's machine: {place}{error.strerror or error}"
    if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
        return said
    return (
        f"{said}. The packed source needs room in {tempfile.gettempdir()}: free some before this "
        f"step, or name a larger disk with TMPDIR."
    )


def _in_some_way(order: Order, console: Console) -> Built:
    if order.engine_wish == "process":
        return _as_bundle(order, "a plain process was asked for", console)
    bundles = order.push_to is None or order.machine.takes_bundles
    try:
        # Who makes an image in a registry need not look for an engine: that alone takes a moment.
        if order.push_to and (not bundles or _engine(order)):
            from action import in_registry

            return in_registry.build(order, order.push_to, console)
        docker = _engine(order)
        if docker is None:
            return _without_engine(order, console)
        from action import in_engine

        return in_engine.build(order, docker, console)
    except NoImage as reason:
        if order.engine_wish == "docker" or not bundles:
            raise BuildFailed(str(reason)) from reason
        return _as_bundle(order, str(reason), console)


def _engine(order: Order) -> Engine | None:
    from action.engine import engine

    return engine.find(order.machine.path)


def _without_engine(order: Order, console: Console) -> Built:
    if order.engine_wish == "docker":
        raise UserError("docker: should answer, found no engine. Start Docker, or install it.")
    return _as_bundle(order, "no Docker engine answers", console)


def _as_bundle(order: Order, why: str, console: Console) -> Built:
    if order.stranger:
        raise BuildFailed(f"a fork's commit never runs as a plain process, and {why}")
    from action import bundle

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
