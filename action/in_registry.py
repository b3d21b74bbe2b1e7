"""Make a run image in its registry: the environment that is there, plus the source as one layer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from action.amounts import Watch, first_few, size
from action.environment import push
from action.environment.make import Ready
from action.image import append, layer, publish
from action.image.append import Change
from action.image.compress import Compression
from action.image.layer import Layer
from action.image.publish import Published, Wanted
from action.order import Built, Order, Step
from action.registry import reference
from action.registry.login import credentials_for
from action.registry.pool import RegistryPool
from action.registry.reference import Reference
from action.registry.tokens import Credentials
from action.source import source
from action.source.source import Selection
from action.workflow import Console


def build(order: Order, push_to: str, console: Console) -> Built:
    """Return the image by its digest, pullable under its tag. Safe to repeat.

    Raises: UserError, BuildFailed, NoImage.
    """
    target = reference.parse(push_to)
    login = partial(_credentials, order, target)
    with RegistryPool(login, wait=order.wait) as registries:
        return _build(order, target, registries, console)


def _build(order: Order, target: Reference, registries: RegistryPool, console: Console) -> Built:
    # What the user must correct is told before anything is fetched or built.
    chosen, notes = _choose(order, console)
    watch = Watch()
    ready = push.ready(order, registries, console)
    moved = 0 if ready.cached else None  # Docker pushes what it builds, and tells no sum
    below = Step(part="environment", how=ready.why, moved_bytes=moved, seconds=watch.seconds)
    console.say(f"environment {ready.reference}: {ready.why} ({watch})")
    with tempfile.TemporaryDirectory(prefix="cynthus-source-") as folder:
        wanted = Wanted(
            target=target,
            below=ready.reference,
            change=_change(order, ready),
            pack=_packer(chosen, Path(folder)),
        )
        with console.phase(f"Run image {target}"):
            watch = Watch()
            published = publish.publish(wanted, registries, console)
            steps = (below, *_steps(chosen, published, watch.seconds))
            for step in steps[1:]:
                console.say(f"{step.part}: {step.how}")
            done = "found" if published.was_there else "pushed"
            sent = size(published.moved_bytes)
            console.say(f"{done} {published.reference.digest}: {sent} sent, {watch}")
    return Built(
        image=str(published.reference),
        digest=str(published.reference.digest),
        engine="docker",
        base=ready.about.base,
        cached=ready.cached,
        size_bytes=published.size_bytes,
        notes=(*ready.notes, *notes),
        steps=steps,
        about=ready.about,
    )


def _credentials(order: Order, target: Reference, host: str) -> Credentials | None:
    """Return who we are: the login that was given counts for the registry it was given for."""
    login = order.login if host == target.host else None
    return credentials_for(host, login, order.machine.docker_config)


def _choose(order: Order, console: Console) -> tuple[Selection, tuple[str, ...]]:
    chosen = source.select(order.root, order.spec.src, source.rules_of(order.root / order.spec.src))
    notes = first_few(source.sentences(chosen))
    for note in notes:
        console.say(note)
    return chosen, notes


def _packer(chosen: Selection, folder: Path) -> Callable[[Compression], Layer]:
    return lambda compression: layer.pack(chosen, folder, compression=compression)


def _change(order: Order, ready: Ready) -> Change:
    created_s = order.origin.committed_s
    labels = append.labels(order.origin, ready.about, created_s=created_s)
    return Change(labels=labels, created_s=created_s)


def _steps(chosen: Selection, published: Published, seconds: float) -> tuple[Step, ...]:
    packed = published.layer
    source_layer = Step(
        part="source layer",
        how=f"{chosen.files} files, {size(chosen.size_bytes)}, packed to {size(packed.size_bytes)} "
        f"by {packed.compression}",
    )
    if published.was_there:
        how = "there already, from an earlier job for this commit"
        return source_layer, Step(part="run image", how=how, moved_bytes=0, seconds=seconds)
    how = "environment: " + ", ".join(_ways(published))
    moved = published.moved_bytes
    return source_layer, Step(part="run image", how=how, moved_bytes=moved, seconds=seconds)


def _ways(published: Published) -> Iterator[str]:
    """Say how the repository came by the environment's layers."""
    if published.there:
        yield f"{published.there} layers were there"
    if published.mounted:
        yield f"{published.mounted} layers mounted from where they lie in the same registry"
    if published.copied:
        yield f"{published.copied} layers copied ({size(published.copied_bytes)})"
