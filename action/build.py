"""Carry out a BuildPlan: make the image, push it, and say what it is called now."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from action import base, bundle, context, engine, ignore, plan, requirements, wheelhouse
from action.engine import Engine
from action.failures import BuildFailed, NoImage
from action.inputs import Login, Machine
from action.programs import Answer
from action.workflow import Console, Place
from cynthus.errors import UserError
from cynthus.spec import Spec

PUSH_TRIES = 3  # a registry's hiccup is over within seconds; layers that arrived are not sent again
_PUSH_PAUSE_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Order:
    """What shall be built, and with what."""

    spec: Spec
    root: Path  # the repository
    origin: plan.Origin
    push_to: str | None  # registry/name:tag; None: the image stays in this machine's engine
    login: Login | None
    base_image: str | None
    engine_wish: str  # auto, docker or process
    machine: Machine
    today: date
    answers: Callable[[str], bool] = base.registry_answers
    wait: Callable[[float], None] = time.sleep


@dataclass(frozen=True, kw_only=True)
class Built:
    """An image that can be run."""

    image: str  # as a run request names it
    digest: str
    engine: str  # docker or process
    base: str
    seconds: float
    cached: bool  # the environment was there already
    size_bytes: int
    notes: tuple[str, ...] = field(default=())  # what a person should know, each a sentence


def build(order: Order, console: Console) -> Built:
    """Make what the spec asks for, in Docker where there is an engine, else as a process bundle.

    Raises: UserError, BuildFailed.
    """
    started = time.monotonic()
    built = _in_some_way(order, console)
    return replace(built, seconds=round(time.monotonic() - started, 3))


def _in_some_way(order: Order, console: Console) -> Built:
    docker = None if order.engine_wish == "process" else engine.find(order.machine.path)
    if docker is None and order.engine_wish == "docker":
        raise UserError("docker: should answer, found no engine. Start Docker, or install it.")
    if docker is None:
        return _as_bundle(order, "no Docker engine answers", console)
    home = order.machine.docker_config
    registry = order.push_to or ""
    with engine.logged_in(docker, registry, order.login, home) as ready:
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
        seconds=0,
        cached=made.cached,
        size_bytes=made.size_bytes,
        notes=made.notes,
    )


# ── with Docker ─────────────────────────────────────────────────────────────────────────────────


def _with_docker(order: Order, docker: Engine, console: Console) -> Built:
    work = Path(tempfile.mkdtemp(prefix="cynthus-build-"))
    try:
        todo, notes = _environment(order, docker, console, work)
        image_id = _run_image(order, todo.plan, docker, console, work)
        size = docker.size_bytes(image_id)
        digest = _push(order, todo.plan, docker, console, size) if order.push_to else image_id
    finally:
        shutil.rmtree(work, ignore_errors=True)
    name = engine.repository_of(order.push_to) if order.push_to else ""
    return Built(
        image=f"{name}@{digest}" if name else image_id,
        digest=digest,
        engine="docker",
        base=todo.plan.base,
        seconds=0,
        cached=todo.cached,
        size_bytes=size,
        notes=notes,
    )


@dataclass(frozen=True)
class _Environment:
    plan: plan.BuildPlan
    cached: bool


def _environment(
    order: Order, docker: Engine, console: Console, work: Path
) -> tuple[_Environment, tuple[str, ...]]:
    if order.spec.image.dockerfile:
        return _own_environment(order, docker, console, work), ()
    with console.phase("Base image"):
        watch = _Watch()
        wish = base.Wish(
            image=order.spec.image,
            cache_dir=order.machine.cache_dir,
            override=order.base_image,
            answers=order.answers,
        )
        ready = base.prepare(wish, docker, console)
        console.say(f"{ready.how} ({_size(docker.size_bytes(ready.facts.image_id))}, {watch})")
    wanted = requirements.find(order.spec.image, order.root, order.spec.src)
    wanted = replace(wanted, lines=(*wanted.lines, *_missing(ready.extra_packages, wanted)))
    todo = plan.build_plan(
        order.spec, ready.facts, wanted, order.origin, as_of=order.today.isoformat()
    )
    notes = (ready.how, *_packages_note(wanted))
    if docker.image_id(todo.environment_tag):
        console.say(f"environment {todo.environment_key[:12]}: built before, nothing to do")
        return _Environment(todo, cached=True), notes
    _build_environment(order, todo, ready.facts, _Builder(docker, console, work))
    return _Environment(todo, cached=False), notes


def _missing(extra: tuple[str, ...], wanted: requirements.Requirements) -> tuple[str, ...]:
    """Return what the offline base lacks and the user has not named with a version of their own."""
    named = {plan.canonical(re.split(r"[^A-Za-z0-9._-]", line)[0]) for line in wanted.lines}
    return () if wanted.hashed else tuple(n for n in extra if plan.canonical(n) not in named)


def _packages_note(wanted: requirements.Requirements) -> tuple[str, ...]:
    if wanted.lines:
        return ()
    return (
        "no Python packages are installed: the source has none of "
        f"{', '.join(requirements.FOUND_NAMES)} that names any, and the spec no `image.packages`",
    )


@dataclass(frozen=True)
class _Builder:
    docker: Engine
    console: Console
    work: Path

    def build(self, dockerfile: str, tag: str, **words: object) -> Answer:
        path = self.work / "Dockerfile.generated"
        path.write_text(dockerfile)
        given = {"context": str(self.work / "empty"), "network": "none", **words}
        Path(str(given["context"])).mkdir(exist_ok=True)
        command = plan.build_words(dockerfile=str(path), tag=tag, **given)  # type: ignore[arg-type]
        return self.docker.build(self.console, command)


def _build_environment(
    order: Order, todo: plan.BuildPlan, facts: plan.BaseFacts, builder: _Builder
) -> None:
    console = builder.console
    if todo.system_dockerfile and builder.docker.image_id(todo.system_tag) is None:
        with console.phase(f"Debian packages: {', '.join(order.spec.image.system)}"):
            watch = _Watch()
            done = builder.build(todo.system_dockerfile, todo.system_tag, network="default")
            _expect(done, "the Debian packages could not be installed")
            console.say(f"installed ({watch})")
    folder = builder.work / "environment"
    folder.mkdir()
    if todo.requirements.lines:
        _fetch_wheels(order, todo, facts, console, folder)
    with console.phase("Environment image (no network)"):
        watch = _Watch()
        dockerfile = str(todo.environment_dockerfile)
        done = builder.build(dockerfile, todo.environment_tag, context=str(folder))
        _expect(done, "the environment image could not be built")
        size = builder.docker.size_bytes(todo.environment_tag)
        console.say(f"environment {todo.environment_key[:12]}: {_size(size)}, {watch}")


def _fetch_wheels(
    order: Order, todo: plan.BuildPlan, facts: plan.BaseFacts, console: Console, folder: Path
) -> None:
    if facts.interpreter is None:
        raise UserError(
            f"image/base: should contain python3 when packages are wanted, found none in "
            f"{facts.reference}. Name another base, or write a Dockerfile."
        )
    need = wheelhouse.Need(
        requirements=todo.requirements,
        image=facts.interpreter,
        kept=plan.kept_versions(facts.packages, todo.requirements),
        as_of=order.today.isoformat(),
    )
    with console.phase(f"Packages from {todo.requirements.source or 'the spec'}"):
        watch = _Watch()
        wheels = wheelhouse.fill(need, order.machine.cache_dir, console)
        kept = "kept from an earlier build" if wheels.cached else "fetched"
        console.say(f"{wheels.count} wheels {kept}: {_size(wheels.size_bytes)}, {watch}")
    context.stage(wheels.folder, folder / "wheels", ignore.Ignore(), link=True)


def _own_environment(order: Order, docker: Engine, console: Console, work: Path) -> _Environment:
    """Build the user's own Dockerfile, with the network that such files expect."""
    name = str(order.spec.image.dockerfile)
    source = order.root / name
    if not source.is_file():
        raise UserError(
            f"image/dockerfile: should be a file of the repository, found no `{name}`. "
            f"Commit it, or correct the name."
        )
    staged = work / "own"
    context.stage(
        order.root, staged, context.rules_of(order.root, f"{name}.dockerignore"), link=True
    )
    key = hashlib.sha256(source.read_bytes() + str(order.root).encode()).hexdigest()[:32]
    todo = plan.own_dockerfile_plan(order.spec, order.origin, key)
    with console.phase(f"Environment image from {name} (with network)"):
        watch = _Watch()
        words = plan.build_words(
            dockerfile=str(source), context=str(staged), tag=todo.environment_tag, network="default"
        )
        _expect_own(docker.build(console, words), name, source.read_text("utf-8", "replace"))
        console.say(f"built: {_size(docker.size_bytes(todo.environment_tag))}, {watch}")
    return _Environment(todo, cached=False)


def _run_image(
    order: Order, todo: plan.BuildPlan, docker: Engine, console: Console, work: Path
) -> str:
    source = order.root / order.spec.src
    if not source.is_dir():
        raise UserError(
            f"src: should be a folder of the repository, found no `{order.spec.src}`. Correct it."
        )
    staged = work / "source"
    with console.phase("Run image: environment plus source"):
        watch = _Watch()
        copied = context.stage(source, staged, context.rules_of(source), link=True)
        _tell_left_out(copied, console)
        builder = _Builder(docker, console, work)
        done = builder.build(
            todo.run_dockerfile, todo.run_tag, context=str(staged), labels=todo.labels
        )
        _expect(done, "the run image could not be built")
        image_id = docker.image_id(todo.run_tag)
        if image_id is None:
            raise BuildFailed("the run image was built and is gone. Build again.")
        told = f"{copied.files} files, {_size(copied.size_bytes)} of source"
        console.say(f"image {image_id[:19]}: {told}, {watch}")
    return image_id


def _tell_left_out(copied: context.Staged, console: Console) -> None:
    if copied.secrets:
        shown = ", ".join(copied.secrets[:5])
        more = f" and {len(copied.secrets) - 5} more" if len(copied.secrets) > 5 else ""  # noqa: PLR2004 - as above
        console.say(f"left out, since such files hold credentials: {shown}{more}")
    if copied.special:
        console.say(f"left out, being neither file nor folder: {', '.join(copied.special[:5])}")


def _push(
    order: Order, todo: plan.BuildPlan, docker: Engine, console: Console, size_bytes: int
) -> str:
    reference = str(order.push_to)
    with console.phase(f"Push to {reference}"):
        watch = _Watch()
        docker.ask("tag", todo.run_tag, reference)
        _push_with_patience(order, docker, console, reference)
        digest = docker.digest(reference)
        if digest is None:
            raise BuildFailed(f"{reference} was pushed, but the registry named no digest")
        console.say(f"pushed {digest}: {_size(size_bytes)} unpacked, {watch}")
    return digest


def _push_with_patience(order: Order, docker: Engine, console: Console, reference: str) -> None:
    done = Answer(0, "")
    for again in range(PUSH_TRIES):
        done = docker.show(console, "push", reference)
        if done.code == 0:
            return
        if _DENIED.search(done.out):
            raise BuildFailed(_denied(reference, done))
        if again + 1 < PUSH_TRIES:
            console.say(f"push failed, trying again: {base.last_words(done.out)}")
            order.wait(_PUSH_PAUSE_S * 2**again)
    raise BuildFailed(f"the image could not be pushed to {reference}: {base.last_words(done.out)}")


_DENIED = re.compile(r"denied|unauthorized|no basic auth|forbidden|name invalid", re.IGNORECASE)


def _denied(reference: str, done: Answer) -> str:
    return (
        f"the registry refused the push to {reference}: {base.last_words(done.out)}. Give "
        f"`username` and `password`, or for ghcr.io the job's permission `packages: write`."
    )


# ── what went wrong, how long it took ───────────────────────────────────────────────────────────

_ERROR_LINE = re.compile(
    r"parse error (?:on )?line (\d+)|^(?:[\w.-]*Dockerfile[\w.-]*):(\d+)$", re.MULTILINE
)
# BuildKit without buildx names the step that failed, but no line: ` > [2/3] RUN exit 7:`
_ERROR_STEP = re.compile(r"^ > \[(?:[\w.-]+ )?\d+/\d+\] (.+?):?$", re.MULTILINE)
_BUILD_ERROR = re.compile(
    r"^(?:ERROR: |error: |#\d+ ERROR: )?(?:failed to solve|failed to process|executor failed)"
)


def _expect(done: Answer, what: str) -> None:
    if done.code != 0:
        raise BuildFailed(f"{what}: {_reason(done.out)}")


def _expect_own(done: Answer, name: str, text: str) -> None:
    """Point at the line of the user's Dockerfile that failed."""
    if done.code != 0:
        place = Place(file=name, line=line_of_failure(done.out, text))
        raise BuildFailed(f"{name} could not be built: {_reason(done.out)}", place)


def line_of_failure(output: str, dockerfile: str) -> int:
    """Return the line of a Dockerfile that the output complains about, 1 when it names none."""
    if match := _ERROR_LINE.search(output):
        return next(int(number) for number in match.groups() if number)
    step = _ERROR_STEP.search(output)
    wanted = " ".join(step[1].split()) if step else None
    for number, line in enumerate(dockerfile.splitlines(), 1):
        # A step longer than its line goes on after a backslash: its beginning is enough.
        words = " ".join(line.rstrip("\\").split())
        if wanted and words and wanted.lower().startswith(words.lower()):
            return number
    return 1


def _reason(text: str) -> str:
    """Return BuildKit's own summary, without the words it wraps round the cause."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = [line for line in lines if "failed to solve" in line or _BUILD_ERROR.match(line)]
    line = found[-1] if found else (lines[-1] if lines else "no reason was given")
    return re.sub(r"^(?:ERROR: )?failed to solve(?: with frontend [\w.]+)?: ", "", line)[:500]


class _Watch:
    def __init__(self) -> None:
        self._started = time.monotonic()

    def __str__(self) -> str:
        return f"{time.monotonic() - self._started:.1f} s"


def _size(size_bytes: int) -> str:
    """Return a size as people read it, in powers of ten as registries count."""
    number = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if number < 1000:  # noqa: PLR2004 - SI
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.2f} GB"
