"""Make an environment that no registry has yet: one job at a time, then pushed with its record."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from action.failures import BuildFailed, RegistryAway, RegistryRefused
from action.registry import reference

# Docker and the lease are needed only where an environment is not there yet: once in many commits.
if TYPE_CHECKING:
    from action.engine.building import Workshop
    from action.environment.keeping import Found, Shelf
    from action.order import Order
    from action.registry.client import Registry
    from action.registry.reference import Reference
    from action.workflow import Console
    from cynthus.wire_image import Environment


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where an order is carried out."""

    order: Order
    shelf: Shelf
    registries: Callable[[str], Registry]
    console: Console


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one environment is made."""

    key: str
    cache: str  # of earlier environments that have steps in common: a tag
    # Under a name, from caches; gives the SHA-256 of each wheel that it put in, by package.
    build: Callable[[Workshop, str, tuple[str, ...]], Mapping[str, str]]
    look: Callable[[Workshop, str, Mapping[str, str]], Environment]  # into what was built


@dataclass(frozen=True, kw_only=True)
class Ready:
    """An environment that a run image can be put on."""

    reference: Reference  # by digest
    about: Environment
    cached: bool  # it was there
    why: str  # half a sentence: why it was built, or how it was known
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Made:
    """An environment in the registry, and who built it."""

    found: Found
    ours: bool  # built here, not by another job, now or before

    def ready(self, why: str, notes: tuple[str, ...] = ()) -> Ready:
        """Return it with what to tell of it."""
        return Ready(
            reference=self.found.reference,
            about=self.found.about,
            cached=not self.ours,
            why=why,
            notes=notes,
        )


def reused(found: Found, why: str, notes: tuple[str, ...] = ()) -> Ready:
    """Return an environment that was there."""
    return Made(found=found, ours=False).ready(why, notes)


def in_registry(site: Site, name: str) -> Reference | None:
    """Return an image by its digest; None where no registry that answers has it for us."""
    if reference.is_digest(name):
        return None  # an image id: only the engine of this machine knows it
    wanted = reference.parse(name)
    if wanted.host != site.shelf.place.host and not site.order.answers(wanted.host):
        return None
    try:
        found = site.registries(wanted.host).manifest(wanted.repository, wanted.which)
    except (RegistryRefused, RegistryAway) as error:
        site.console.say(str(error))  # the engine of this machine may have it
        return None
    return wanted.at(digest=found.digest) if found else None


@contextmanager
def workshop(site: Site) -> Iterator[Workshop]:
    """Yield an engine that can build, with the login of the registry that keeps environments.

    Raises: UserError, BuildFailed when there is none.
    """
    from action.engine import engine
    from action.engine.building import Workshop

    docker = engine.find(site.order.machine.path)
    if docker is None:
        raise BuildFailed(
            "docker: should answer, since the environment of this commit is not in the registry "
            "yet and must be built, found no engine. Run this job where Docker is (GitHub's own "
            "runners have it), or name as `image.base` an image that has all that is needed."
        )
    place, order = site.shelf.place, site.order
    # A login was given for the registry that images go to, and goes to no other.
    same = order.push_to is not None and reference.parse(order.push_to).host == place.host
    login = order.login if same else None
    with (
        tempfile.TemporaryDirectory(prefix="cynthus-build-") as folder,
        engine.logged_in(docker, place.name, login, order.machine.docker_config) as ready,
    ):
        yield Workshop(ready, site.console, Path(folder))


def make(site: Site, recipe: Recipe) -> Made:
    """Return the environment, built here or by the job that is building it already. Safe to repeat.

    Raises: UserError, BuildFailed.
    """
    from action.environment import build_lease

    shelf, key = site.shelf, recipe.key
    post = build_lease.Post(
        server=site.order.server,
        holder=site.order.holder,
        console=site.console,
        wait=site.order.wait,
    )
    with _alone_here(site, key):
        if found := shelf.find(key, key):  # another build on this machine was before us
            return Made(found=found, ours=False)
        with build_lease.held(key, post, lambda: shelf.image(key) is not None) as ours:
            if not ours and (found := shelf.find(key, key)):
                return Made(found=found, ours=False)
            return Made(found=_build(site, recipe), ours=True)


@contextmanager
def _alone_here(site: Site, key: str) -> Iterator[None]:
    """Let one build at a time make an environment on this machine, which has one engine."""
    path = site.order.machine.cache_dir / "building" / f"{key}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            site.console.say(f"environment {key[:12]}: another build here makes it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)  # let go by the kernel, however that process ends
        yield


def _build(site: Site, recipe: Recipe) -> Found:
    from action.engine import pushing
    from action.environment.keeping import Found

    shelf = site.shelf
    name = shelf.name(recipe.key)
    with workshop(site) as shop:
        earlier = shelf.image(recipe.cache)
        hashes = recipe.build(shop, name, (shelf.name(recipe.cache),) if earlier else ())
        about = recipe.look(shop, name, hashes)
        # The record goes first: whoever sees the image then finds out what it is.
        shelf.keep_record(f"about-{recipe.key}", about)
        digest = pushing.push(name, shop.docker, site.console, site.order.wait)
    pushed = shelf.image(digest)
    if pushed is None:
        raise BuildFailed(f"{name}@{digest} was pushed, but the registry does not have it")
    shelf.name_also(recipe.cache, pushed)
    return Found(reference=shelf.place.at(digest=digest), about=about)
