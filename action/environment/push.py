"""Have the environment where the run image can be put on it: in a registry, by digest.

From cheap to dear, and each step only when the one before has found nothing:
  1. a base that needs nothing added is its own environment;
  2. the same wishes on the same base were met before: one look at the registry, no Docker;
  3. this commit was built before: its lock, perhaps its very image;
  4. the wishes resolve to packages that an environment has already;
  5. it is built.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from action import frameworks
from action.catalogue import Entry, read_catalogue
from action.engine import base
from action.environment import keeping, keys
from action.environment.keeping import Found
from action.environment.keys import Wishes
from action.environment.make import Made, Ready, Site, in_registry, make, reused
from action.image import append, publish
from action.order import Order
from action.packages import requirements
from action.registry import reference
from action.registry.client import Registry
from action.registry.reference import Reference
from action.resolving import indexes
from action.workflow import Console
from cynthus.errors import UserError
from cynthus.wire_image import Environment

# What resolves and builds is imported where it is needed: most commits end at the second step.
if TYPE_CHECKING:
    from action.environment.parts import Parts, Resolved


def ready(order: Order, registries: Callable[[str], Registry], console: Console) -> Ready:
    """Return the environment, built and pushed where it is not there yet. Safe to repeat.

    Raises: UserError, also when a GPU is asked for that nothing in it would use; BuildFailed.
    """
    place = reference.parse(order.environments or "")
    shelf = keeping.Shelf(registry=registries(place.host), place=place)
    site = Site(order=order, shelf=shelf, registries=registries, console=console)
    if order.spec.image.dockerfile:
        from action.environment import own

        found = own.ready(site, str(order.spec.image.dockerfile))
    else:
        found = _generated(site)
    return _judged(found, order)


def _judged(found: Ready, order: Order) -> Ready:
    gpu = bool(order.spec.resources.gpu)
    if refusal := frameworks.refusal(found.about.frameworks, gpu=gpu):
        raise UserError(refusal)
    waste = frameworks.waste(found.about.frameworks, gpu=gpu)
    return replace(found, notes=(*found.notes, waste)) if waste else found


def _generated(site: Site) -> Ready:
    order = site.order
    # The files of the user are judged first: a fault in them is told before anything is fetched.
    spec = order.spec
    declared = requirements.find(spec.image, order.root, spec.src, run=spec.run)
    name, entry = base.choose(order.spec.image, order.base_image, read_catalogue())
    known = _pinned(name) or in_registry(site, name)
    if known and not declared.lines and not order.spec.image.system:
        return _as_it_is(site, name, entry, known)
    wishes = Wishes(
        base=name,
        python=order.spec.image.python,
        lines=declared.asked,
        pinned=declared.pinned or declared.hashed,
        system=order.spec.image.system,
        platform=append.PLATFORM,
        indexes=indexes.addresses(),
    )
    if known:
        inputs = _inputs(site, wishes, str(known.digest))
        if found := site.shelf.find(f"in-{inputs}", inputs):
            return reused(found, "the same base and packages as in an earlier build")
    from action.environment.parts import Parts

    parts = Parts(name=name, entry=entry, known=known, wishes=wishes, declared=declared)
    return _before(site, parts) or _resolved(site, parts)


def _pinned(name: str) -> Reference | None:
    """Return an image that is written with its digest: nobody needs to be asked for it."""
    found = None if reference.is_digest(name) else reference.parse(name)
    return found.at(digest=found.digest) if found and found.digest else None


def _inputs(site: Site, wishes: Wishes, digest: str) -> str:
    return keys.inputs_key(wishes, digest, as_of=site.order.today.isoformat())


# ── 1: nothing to add ───────────────────────────────────────────────────────────────────────────


def _as_it_is(site: Site, name: str, entry: Entry | None, known: Reference) -> Ready:
    below = publish.read_below(site.registries(known.host), known, append.PLATFORM)
    environ = (below.config.get("config") or {}).get("Env") or []
    pairs = (str(line).partition("=") for line in environ)
    said = {variable: value for variable, _, value in pairs}
    cuda = (entry.cuda if entry else None) or frameworks.cuda_of(said)
    inside = frameworks.Base(
        cuda=cuda,
        minimum_driver=entry.minimum_driver if entry else None,
        packages=tuple(entry.frameworks.items()) if entry else (),
    )
    found = frameworks.find((), inside)
    about = Environment(
        key=hashlib.sha256(str(known.digest).encode()).hexdigest()[: keys.DIGITS],
        base=name,
        base_digest=str(known.digest),
        python=_python(said),
        frameworks=found.frameworks,
        minimum_driver=found.minimum_driver,
    )
    why = "the base image as it is, since the spec adds nothing to it"
    return reused(Found(reference=known, about=about), why)


def _python(environ: dict[str, str]) -> str | None:
    """Return the Python that Docker's official images name in a variable."""
    parts = environ.get("PYTHON_VERSION", "").split(".")
    return ".".join(parts[:2]) if len(parts) > 1 else None


# ── 3: the same commit ──────────────────────────────────────────────────────────────────────────


def _before(site: Site, parts: Parts) -> Ready | None:
    """Return what this commit was built as before, or is with the lock it had; None: neither."""
    order = site.order
    if order.server is None or not order.origin.commit_sha:
        return None
    from action.environment import kept_lock

    commit = kept_lock.Commit(sha=order.origin.commit_sha, spec_path=order.spec_path)
    kept = kept_lock.ask(order.server, commit, parts.name, site.console)
    if kept is None:
        return None
    if found := site.shelf.find(kept.key, kept.key):
        return reused(found, "this commit was built with it before")
    base_then = f"{parts.name.partition('@')[0]}@{kept.digest}"
    if known := in_registry(site, base_then):
        return _resolved(site, replace(parts, known=known, lock=kept.lock))
    site.console.say(f"the base of this commit's earlier build, {base_then}, cannot be had")
    return None


# ── 4 and 5: resolved, and built if need be ─────────────────────────────────────────────────────


def _resolved(site: Site, parts: Parts) -> Ready:
    from action.environment.parts import recipe, resolve

    found = resolve(site, parts)
    gpu = bool(site.order.spec.resources.gpu)
    if refusal := frameworks.refusal(found.gpu.frameworks, gpu=gpu):
        raise UserError(refusal)  # before anything is fetched
    there = site.shelf.find(found.key, found.key)
    made = Made(found=there, ours=False) if there else make(site, recipe(site, found))
    if parts.lock is None:  # what a commit had a year ago is not what today's wishes mean
        _name_inputs(site, found, made.found)
    why = "its packages are those of an earlier build" if there else _why(made)
    return made.ready(why, found.notes)


def _why(made: Made) -> str:
    return "built: there was none with this key" if made.ours else "another job has just built it"


def _name_inputs(site: Site, resolved: Resolved, found: Found) -> None:
    """Let the next job find the environment without resolving: record first, then the image."""
    inputs = _inputs(site, resolved.wishes, resolved.base_digest)
    shelf = site.shelf
    image, record = shelf.image(str(found.reference.digest)), shelf.image(f"about-{resolved.key}")
    if image and record:
        shelf.name_also(f"about-{inputs}", record)
        shelf.name_also(f"in-{inputs}", image)
