"""Turn wishes into a generated environment's parts: base, locked packages, key; and its recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from action import frameworks, plan
from action.amounts import Watch, size
from action.catalogue import Entry
from action.engine import base, building, pushing
from action.engine.building import Target, Workshop
from action.environment import environment, kept_lock, keys, sbom
from action.environment.keys import Ingredients, Wishes
from action.environment.make import Recipe, Site, workshop
from action.packages.requirements import Requirements
from action.plan import BaseFacts
from action.registry.reference import Reference
from action.resolving import lock, wheelhouse
from action.resolving.builder import this_interpreter
from action.resolving.lock import Lock
from cynthus.wire_image import SBOM_LIMIT, Environment


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What is wished for."""

    name: str  # of the base, as it was written or looked up
    entry: Entry | None  # its line of the catalogue
    known: Reference | None  # the base by digest; None: only this machine has it, or nobody
    wishes: Wishes
    declared: Requirements
    lock: str | None = None  # an earlier one, to be used again


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """What an environment will be made of."""

    key: str
    parts: Parts
    wishes: Wishes
    requirements: Requirements
    facts: BaseFacts
    lock: Lock
    gpu: frameworks.Found
    notes: tuple[str, ...]

    @property
    def base_digest(self) -> str:
        """Return the base's digest, or the image id where it comes from no registry."""
        known = self.parts.known
        return str(known.digest) if known else self.facts.image_id


def resolve(site: Site, parts: Parts) -> Resolved:
    """Return what will be installed on which base, and the key of that. Safe to repeat.

    Raises: UserError at the lines that do not resolve; BuildFailed.
    """
    found = _base(site, parts)
    environment.check_python(parts.declared, found.facts)
    wanted = environment.with_extra(parts.declared, found.extra_packages)
    locked = _locked(site, parts, found.facts, wanted)
    known = parts.known
    wishes = replace(parts.wishes, lines=wanted.asked)
    made_of = Ingredients(
        base=str(known.digest) if known else found.facts.image_id,
        lock=locked.text,
        system=wishes.system,
        platform=wishes.platform,
    )
    return Resolved(
        key=keys.environment_key(made_of),
        parts=parts,
        wishes=wishes,
        requirements=wanted,
        facts=found.facts,
        lock=locked,
        gpu=_gpu(parts, found, locked),
        notes=(found.how, *environment.packages_note(wanted)),
    )


def _base(site: Site, parts: Parts) -> base.Base:
    """Return what the base contains: from the record of an earlier look, else from itself."""
    known = parts.known
    tag = f"base-{str(known.digest).partition(':')[2][: keys.DIGITS]}" if known else ""
    if known and (facts := site.shelf.record(tag, BaseFacts)):
        # The same content may lie elsewhere too: it is pulled by the name that was asked for.
        facts = replace(facts, reference=str(known), digest=known.digest)
        base.check_python(site.order.spec.image, facts)
        return base.Base(facts=facts, how=f"base image {parts.name}: known from an earlier build")
    with workshop(site) as shop:
        override = str(known) if known else site.order.base_image
        found = environment.base_of(site.order, shop, override)
    if known:
        site.shelf.keep_record(tag, found.facts)
    return found


def _locked(site: Site, parts: Parts, facts: BaseFacts, wanted: Requirements) -> Lock:
    if parts.lock is not None:
        site.console.say("packages: locked as in this commit's earlier build")
        return lock.given(parts.lock, wanted.source)
    if not wanted.lines:
        return Lock(source=wanted.source)
    image = environment.interpreter_with_pip(facts)
    need = lock.Need(
        requirements=wanted,
        python=image.version,
        machine=image.machine,
        libc=image.libc,
        kept=plan.kept_versions(facts.packages, wanted),
        as_of=site.order.today.isoformat(),
        sources=not site.order.stranger and plan.same_wheels(this_interpreter(), image),
    )
    watch = Watch()
    found = lock.lock(need, site.order.machine.cache_dir, site.console)
    site.console.say(f"packages: {len(found.pins)} locked with hashes ({watch})")
    return found


def _gpu(parts: Parts, found: base.Base, locked: Lock) -> frameworks.Found:
    # What the catalogue says is of the published image, and not of its offline stand-in.
    entry = parts.entry if parts.known else None
    inside = frameworks.Base(
        cuda=found.facts.cuda or (entry.cuda if entry else None),
        minimum_driver=entry.minimum_driver if entry else None,
        packages=found.facts.packages,
    )
    return frameworks.find(locked.pins, inside)


# ── making it ───────────────────────────────────────────────────────────────────────────────────


def recipe(site: Site, found: Resolved) -> Recipe:
    """Return how the environment is built and what is then said of it."""

    def build(shop: Workshop, name: str, caches: tuple[str, ...]) -> Mapping[str, str]:
        below = _with_system(site, found, _have_base(found, shop), shop)
        wheels = _wheels(site, found) if found.lock.pins else None
        building.packages(below, wheels, Target(tag=name, cache_from=caches), shop)
        return wheels.sha256 if wheels else {}

    def look(shop: Workshop, name: str, hashes: Mapping[str, str]) -> Environment:
        facts = base.look_into(shop.docker, name, site.order.machine.cache_dir)
        _tell_system(site, found, facts)
        return _about(site, found, facts, hashes)

    cache = keys.cache_key(found.parts.name, found.wishes.platform)
    return Recipe(key=found.key, cache=f"cache-{cache}", build=build, look=look)


def _have_base(found: Resolved, shop: Workshop) -> str:
    """Return the base under the name it has on this machine, pulled if its facts came alone."""
    name = found.facts.reference
    if found.parts.known is None or shop.docker.image_id(name):
        return name
    with shop.console.phase("Base image"):
        watch = Watch()
        base.pull(name, shop.docker, shop.console)
        shop.console.say(f"pulled ({size(shop.docker.size_bytes(name))}, {watch})")
    return name


def _with_system(site: Site, found: Resolved, below: str, shop: Workshop) -> str:
    """Return the base with the spec's Debian packages, taken from the registry where it is there.

    It is kept apart: new Python packages then fetch no Debian packages again.
    """
    wishes = found.wishes
    if not wishes.system or found.facts.system_done:
        return below
    key = keys.system_key(found.base_digest, wishes.system, wishes.platform)
    name = site.shelf.name(f"system-{key}")
    if site.shelf.image(f"system-{key}"):
        site.console.say(f"Debian packages {', '.join(wishes.system)}: in the registry already")
        base.pull(name, shop.docker, shop.console)
        return name
    building.system(below, wishes.system, Target(tag=name, network="default"), shop)
    pushing.push(name, shop.docker, site.console, site.order.wait)
    return name


def _wheels(site: Site, found: Resolved) -> wheelhouse.Wheels:
    need = wheelhouse.Need(
        requirements=found.requirements,
        image=environment.interpreter_with_pip(found.facts),
        kept={},
        as_of="",
        lock=found.lock.text,
        sources=not site.order.stranger,
    )
    return environment.filled(need, site.order, site.console)


def _tell_system(site: Site, found: Resolved, facts: BaseFacts) -> None:
    versions = {name: version for name, version, _ in facts.system}
    told = [f"{name} {versions[name]}" for name in found.wishes.system if name in versions]
    if told:
        site.console.say(f"Debian packages: {', '.join(told)}")


def _about(site: Site, found: Resolved, facts: BaseFacts, hashes: Mapping[str, str]) -> Environment:
    parts, interpreter = found.parts, found.facts.interpreter
    digest = str(parts.known.digest) if parts.known else ""
    # What was made here, as no registry answered, is not the image of that name.
    name = parts.name if parts.known else found.facts.reference
    listed = materials(found.key, name, digest, facts, hashes)
    if listed is None:
        site.console.say("the list of what is in the environment is too long to be kept")
    return Environment(
        key=found.key,
        base=name,
        base_digest=digest,
        python=interpreter.version if interpreter else None,
        frameworks=found.gpu.frameworks,
        minimum_driver=found.gpu.minimum_driver,
        lock=kept_lock.marked(found.lock.text, parts.name, found.base_digest),
        sbom=listed,
    )


def materials(
    key: str, name: str, digest: str, facts: BaseFacts, hashes: Mapping[str, str]
) -> str | None:
    """Return the bill of materials of an image that was looked into; None: longer than is kept."""
    contents = sbom.Contents(
        key=key,
        base=name,
        base_digest=digest,
        python=facts.packages,
        sha256=hashes,
        distribution=facts.distribution,
        release=facts.release,
        system=tuple(
            sbom.SystemPackage(name=package, version=version, architecture=architecture)
            for package, version, architecture in facts.system
        ),
    )
    text = sbom.text(contents)
    return text if len(text) <= SBOM_LIMIT else None
