"""Make a run image in this machine's Docker engine, where it stays: `cynthus run`, dry runs."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from action import plan
from action.amounts import Watch, first_few, size
from action.engine import buildkit
from action.engine.building import Workshop
from action.engine.engine import Engine
from action.environment import environment
from action.order import Built, Order
from action.plan import BuildPlan
from action.source import context
from action.workflow import Console
from cynthus.errors import UserError


def build(order: Order, docker: Engine, console: Console) -> Built:
    """Return the image by its id.

    Raises: UserError, BuildFailed, NoImage.
    """
    folder = Path(tempfile.mkdtemp(prefix="cynthus-build-"))
    try:
        shop = Workshop(docker, console, folder)
        ready = environment.prepare(order, shop)
        image_id = _run_image(order, ready.plan, shop)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    size_bytes = docker.size_bytes(image_id)
    return Built(
        image=image_id,
        digest=image_id,
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
        for note in first_few(copied.told):
            shop.console.say(note)
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
