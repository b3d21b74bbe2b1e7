"""Have the environment image: the base plus packages, or the user's own Dockerfile."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from action import base, buildkit, bundle, context, ignore, plan, requirements, wheelhouse
from action.amounts import Watch, size
from action.engine import Engine
from action.order import Order
from action.plan import BaseFacts, BuildPlan
from action.programs import Answer
from action.requirements import Requirements
from action.workflow import Console
from cynthus.errors import UserError


@dataclass(frozen=True)
class Workshop:
    """Where images are built."""

    docker: Engine
    console: Console
    folder: Path  # our own, gone afterwards

    def build(
        self, dockerfile: str, tag: str, *, context: Path | None = None, network: str = "none"
    ) -> Answer:
        """Build one of our own Dockerfiles."""
        path = self.folder / "Dockerfile.generated"
        path.write_text(dockerfile)
        if context is None:
            context = self.folder / "empty"
            context.mkdir(exist_ok=True)
        words = plan.build_words(
            dockerfile=str(path), context=str(context), tag=tag, network=network
        )
        return self.docker.build(self.console, words)


@dataclass(frozen=True, kw_only=True)
class Environment:
    """An environment image that is there."""

    plan: BuildPlan
    cached: bool
    notes: tuple[str, ...] = ()


def prepare(order: Order, shop: Workshop) -> Environment:
    """Return the environment image, building what is not there yet.

    Raises: UserError, BuildFailed, NoImage.
    """
    if order.spec.image.dockerfile:
        return _own(order, str(order.spec.image.dockerfile), shop)
    # The files of the user are judged first: a fault in them is told before anything is fetched.
    declared = requirements.find(order.spec.image, order.root, order.spec.src)
    ready = _base(order, shop)
    wanted = _with_extra(declared, ready.extra_packages)
    todo = plan.build_plan(
        order.spec, ready.facts, wanted, order.origin, as_of=order.today.isoformat()
    )
    notes = (ready.how, *_packages_note(wanted))
    if shop.docker.image_id(todo.environment_tag):
        shop.console.say(f"environment {todo.environment_key[:12]}: built before, nothing to do")
        return Environment(plan=todo, cached=True, notes=notes)
    _install_system(order, todo, shop)
    _install_packages(order, todo, ready.facts, shop)
    return Environment(plan=todo, cached=False, notes=notes)


def _base(order: Order, shop: Workshop) -> base.Base:
    wish = base.Wish(
        image=order.spec.image,
        cache_dir=order.machine.cache_dir,
        override=order.base_image,
        answers=order.answers,
    )
    with shop.console.phase("Base image"):
        watch = Watch()
        ready = base.prepare(wish, shop.docker, shop.console)
        told = size(shop.docker.size_bytes(ready.facts.image_id))
        shop.console.say(f"{ready.how} ({told}, {watch})")
    return ready


def _with_extra(declared: Requirements, extra: tuple[str, ...]) -> Requirements:
    """Add what the offline base lacks, where the user names no version of their own."""
    named = {plan.canonical(re.split(r"[^A-Za-z0-9._-]", line)[0]) for line in declared.lines}
    missing = [name for name in extra if plan.canonical(name) not in named]
    return declared if declared.hashed else replace(declared, lines=(*declared.lines, *missing))


def _packages_note(wanted: Requirements) -> tuple[str, ...]:
    if wanted.lines:
        return ()
    return (
        "no Python packages are installed: the source has none of "
        f"{', '.join(requirements.FOUND_NAMES)} that names any, and the spec no `image.packages`",
    )


def _install_system(order: Order, todo: BuildPlan, shop: Workshop) -> None:
    if todo.system_dockerfile is None or shop.docker.image_id(todo.system_tag):
        return
    with shop.console.phase(f"Debian packages: {', '.join(order.spec.image.system)}"):
        watch = Watch()
        done = shop.build(todo.system_dockerfile, todo.system_tag, network="default")
        buildkit.expect(done, "the Debian packages could not be installed")
        shop.console.say(f"installed ({watch})")


def _install_packages(order: Order, todo: BuildPlan, facts: BaseFacts, shop: Workshop) -> None:
    folder = shop.folder / "environment"
    folder.mkdir()
    if todo.requirements.lines:
        wheels = _wheels(order, todo, facts, shop)
        context.stage(wheels.folder, folder / "wheels", ignore.Ignore(), link=True)
    with shop.console.phase("Environment image (no network)"):
        watch = Watch()
        done = shop.build(str(todo.environment_dockerfile), todo.environment_tag, context=folder)
        buildkit.expect(done, "the environment image could not be built")
        told = size(shop.docker.size_bytes(todo.environment_tag))
        shop.console.say(f"environment {todo.environment_key[:12]}: {told}, {watch}")


def _wheels(order: Order, todo: BuildPlan, facts: BaseFacts, shop: Workshop) -> wheelhouse.Wheels:
    if facts.interpreter is None:
        raise UserError(
            f"image/base: should contain python3 when packages are wanted, found none in "
            f"{facts.reference}. Name another base, or write a Dockerfile."
        )
    if not any(plan.canonical(name) == "pip" for name, _ in facts.packages):
        raise UserError(
            f"image/base: should contain pip when packages are wanted, found none in "
            f"{facts.reference}. Name another base, or write a Dockerfile."
        )
    need = wheelhouse.Need(
        requirements=todo.requirements,
        image=facts.interpreter,
        kept=plan.kept_versions(facts.packages, todo.requirements),
        as_of=order.today.isoformat(),
    )
    with shop.console.phase(f"Packages from {todo.requirements.source or 'the spec'}"):
        watch = Watch()
        wheels = wheelhouse.fill(need, order.machine.cache_dir, shop.console)
        how = "kept from an earlier build" if wheels.cached else "fetched"
        shop.console.say(f"wheels {how}: {wheels.count}, {size(wheels.size_bytes)}, {watch}")
    return wheels


def _own(order: Order, name: str, shop: Workshop) -> Environment:
    """Build the user's own Dockerfile, with the network that such files expect."""
    source = order.root / name
    if not source.is_file():
        raise UserError(
            f"image/dockerfile: should be a file of the repository, found no `{name}`. "
            f"Commit it, or correct the name."
        )
    staged = shop.folder / "own"
    rules = context.rules_of(order.root, f"{name}.dockerignore")
    with shop.console.phase(f"Environment image from {name} (with network)"):
        watch = Watch()
        context.stage(order.root, staged, rules, link=True)
        text = source.read_bytes()
        todo = plan.own_dockerfile_plan(order.spec, order.origin, text, bundle.tree_digest(staged))
        words = plan.build_words(
            dockerfile=str(source), context=str(staged), tag=todo.environment_tag, network="default"
        )
        done = shop.docker.build(shop.console, words)
        buildkit.expect_own(done, name, text.decode("utf-8", "replace"))
        told = size(shop.docker.size_bytes(todo.environment_tag))
        shop.console.say(f"built: {told}, {watch}")
    return Environment(plan=todo, cached=False)
