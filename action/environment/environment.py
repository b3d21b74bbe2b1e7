"""Have the environment image: the base plus packages, or the user's own Dockerfile."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from action import bundle, plan
from action.amounts import Watch, size
from action.engine import base, build_secrets, building
from action.engine.building import Own, Target, Workshop
from action.order import Order
from action.packages import requirements
from action.packages.requirements import Requirements
from action.plan import BaseFacts, BuildPlan, Interpreter
from action.resolving import wheelhouse
from action.source import context, own_file
from action.workflow import Console
from cynthus.errors import UserError

LARGEST_DOCKERFILE_BYTES = 1 << 20  # a hundred times what people write


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
    declared = declared_in(order)
    ready = base_of(order, shop, order.base_image)
    check_python(declared, ready.facts)
    wanted = with_extra(declared, ready.extra_packages)
    todo = plan.build_plan(
        order.spec, ready.facts, wanted, order.origin, as_of=order.today.isoformat()
    )
    notes = (ready.how, *packages_note(wanted))
    if shop.docker.image_id(todo.environment_tag):
        shop.console.say(f"environment {todo.environment_key[:12]}: built before, nothing to do")
        return Environment(plan=todo, cached=True, notes=notes)
    _install_system(order, todo, shop)
    _install_packages(order, todo, ready.facts, shop)
    return Environment(plan=todo, cached=False, notes=notes)


def declared_in(order: Order) -> Requirements:
    """Return the packages that the user's files declare or import. Raises: UserError."""
    spec = order.spec
    return requirements.find(spec.image, order.root, spec.src, run=spec.run)


def check_python(declared: Requirements, facts: BaseFacts) -> None:
    """Raise a UserError at the line that does not take the base's Python."""
    if facts.interpreter is not None:
        requirements.check_python(declared, facts.interpreter.version)


def base_of(order: Order, shop: Workshop, override: str | None) -> base.Base:
    """Return the base image, on this machine. Raises: UserError, BuildFailed, NoImage."""
    wish = base.Wish(
        image=order.spec.image,
        cache_dir=order.machine.cache_dir,
        override=override,
        answers=order.answers,
    )
    with shop.console.phase("Base image"):
        watch = Watch()
        ready = base.prepare(wish, shop.docker, shop.console)
        told = size(shop.docker.size_bytes(ready.facts.image_id))
        shop.console.say(f"{ready.how} ({told}, {watch})")
    return ready


def with_extra(declared: Requirements, extra: tuple[str, ...]) -> Requirements:
    """Add what the offline base lacks, where the user names no version of their own."""
    named = {plan.canonical(re.split(r"[^A-Za-z0-9._-]", line)[0]) for line in declared.lines}
    missing = [name for name in extra if plan.canonical(name) not in named]
    return declared if declared.hashed else replace(declared, lines=(*declared.lines, *missing))


def packages_note(wanted: Requirements) -> tuple[str, ...]:
    """Return what to tell of the packages; that none is wanted is easily a mistake."""
    if wanted.lines:
        return wanted.notes
    return (
        *wanted.notes,
        "no Python packages are installed: the source has none of "
        f"{', '.join(requirements.FOUND_NAMES)} that names any, imports none that is known, and "
        "the spec has no `image.packages`",
    )


def _install_system(order: Order, todo: BuildPlan, shop: Workshop) -> None:
    if todo.system_dockerfile is None or shop.docker.image_id(todo.system_tag):
        return
    target = Target(tag=todo.system_tag, network="default")
    building.system(todo.base, order.spec.image.system, target, shop)


def _install_packages(order: Order, todo: BuildPlan, facts: BaseFacts, shop: Workshop) -> None:
    wheels = _wheels(order, todo, facts, shop) if todo.requirements.lines else None
    building.packages(todo.system_tag, wheels, Target(tag=todo.environment_tag), shop)


def interpreter_with_pip(facts: BaseFacts) -> Interpreter:
    """Return the base's Python. Raises: UserError when it cannot install packages."""
    remedy = "Name another base, or write a Dockerfile."
    if facts.interpreter is None:
        raise UserError(
            f"image/base: should contain python3 when packages are wanted, found none in "
            f"{facts.reference}. {remedy}"
        )
    if not any(plan.canonical(name) == "pip" for name, _ in facts.packages):
        raise UserError(
            f"image/base: should contain pip when packages are wanted, found none in "
            f"{facts.reference}. {remedy}"
        )
    return facts.interpreter


def _wheels(order: Order, todo: BuildPlan, facts: BaseFacts, shop: Workshop) -> wheelhouse.Wheels:
    need = wheelhouse.Need(
        requirements=todo.requirements,
        image=interpreter_with_pip(facts),
        kept=plan.kept_versions(facts.packages, todo.requirements),
        as_of=order.today.isoformat(),
        sources=not order.stranger,
    )
    return filled(need, order, shop.console)


def filled(need: wheelhouse.Need, order: Order, console: Console) -> wheelhouse.Wheels:
    """Return the wheels, fetched unless they were kept. Raises: BuildFailed."""
    with console.phase(f"Packages from {need.requirements.source or 'the spec'}"):
        watch = Watch()
        wheels = wheelhouse.fill(need, order.machine.cache_dir, console)
        how = "kept from an earlier build" if wheels.cached else "fetched"
        console.say(f"wheels {how}: {wheels.count}, {size(wheels.size_bytes)}, {watch}")
    return wheels


def own_dockerfile(root: Path, name: str) -> bytes:
    """Return the user's own Dockerfile. Raises: UserError."""
    wrong = f"image/dockerfile: should be a file of the repository, found `{name}`"
    try:
        text = own_file.read(root, name, LARGEST_DOCKERFILE_BYTES + 1)
    except OSError as error:
        raise UserError(f"{wrong}: {error.strerror}. Commit it, or correct the name.") from None
    if len(text) > LARGEST_DOCKERFILE_BYTES:
        raise UserError(f"{wrong}, larger than 1 MiB. Copy data in by its lines.")
    return text


def _own(order: Order, name: str, shop: Workshop) -> Environment:
    """Build the user's own Dockerfile, with the network that such files expect."""
    text = own_dockerfile(order.root, name)
    staged = shop.folder / "own"
    context.stage(
        order.root, staged, context.rules_of(order.root, f"{name}.dockerignore"), link=True
    )
    todo = plan.own_dockerfile_plan(order.spec, order.origin, text, bundle.tree_digest(staged))
    with build_secrets.files(order.build_secrets) as mounted:
        given = Own(name=name, path=order.root / name, context=staged, secrets=mounted)
        building.own(given, Target(tag=todo.environment_tag), shop)
    return Environment(plan=todo, cached=False)
