"""Have the environment of a user's own Dockerfile, built only when what it takes changed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from action import bundle, frameworks
from action.engine import base, build_secrets, building
from action.engine.building import Own, Target, Workshop
from action.environment import dockerfile, environment, keys
from action.environment.dockerfile import Reading
from action.environment.make import Ready, Recipe, Site, in_registry, make, reused
from action.environment.parts import materials
from action.image import append
from action.source import context
from cynthus.wire_image import Environment


def ready(site: Site, name: str) -> Ready:
    """Return the environment. Safe to repeat.

    Raises: UserError, BuildFailed at the line of the Dockerfile that failed.
    """
    root = site.order.root
    text = environment.own_dockerfile(root, name)
    reading = dockerfile.read(text.decode("utf-8", "replace"))
    notes = build_secrets.mismatch(reading.secrets, site.order.build_secrets, name)
    with tempfile.TemporaryDirectory(prefix="cynthus-context-") as folder:
        staged = Path(folder) / "own"
        context.stage(root, staged, context.rules_of(root, f"{name}.dockerignore"), link=True)
        images = _images(site, reading)
        key = keys.own_key(text, _taken(staged, reading), images, append.PLATFORM)
        if found := site.shelf.find(key, key):
            return reused(found, _kept(reading), notes)
        # Else the engine takes what it has under such a name, from whenever: the key would lie.
        fresh = bool(images) and all("@" in image for image in images)
        given = Own(name=name, path=root / name, context=staged, pull=fresh)
        made = make(site, _recipe(site, key, given))
    why = f"built: {name}, its images or the files it takes are new"
    return made.ready(why if made.ours else "another job has just built it", notes)


def _kept(reading: Reading) -> str:
    what = "nothing in its context" if reading.sources is None else "nothing that it takes"
    return f"neither the Dockerfile nor its images changed, and {what}"


def _taken(staged: Path, reading: Reading) -> str:
    """Return the hash of the files that the Dockerfile takes."""
    found = [(str(path.relative_to(staged)), path.is_symlink()) for path in staged.rglob("*")]
    return bundle.tree_digest(staged, set(dockerfile.taken(reading, found)))


def _images(site: Site, reading: Reading) -> tuple[str, ...]:
    """Return the images it stands on by digest, so that one that moved is built on anew.

    One that no registry gives us is known by its name only.
    """
    named = ((image, in_registry(site, image)) for image in reading.images)
    return tuple(str(found) if found else image for image, found in named)


def _recipe(site: Site, key: str, given: Own) -> Recipe:
    order = site.order

    def build(shop: Workshop, name: str, caches: tuple[str, ...]) -> Mapping[str, str]:
        with build_secrets.files(order.build_secrets) as mounted:
            own = replace(given, secrets=mounted)
            building.own(own, Target(tag=name, cache_from=caches), shop)
        return {}

    def look(shop: Workshop, name: str, hashes: Mapping[str, str]) -> Environment:
        facts = base.look_into(shop.docker, name, order.machine.cache_dir)
        inside = frameworks.Base(cuda=facts.cuda, packages=facts.packages)
        found = frameworks.find((), inside)
        return Environment(
            key=key,
            base=given.name,
            base_digest="",
            python=facts.interpreter.version if facts.interpreter else None,
            frameworks=found.frameworks,
            minimum_driver=found.minimum_driver,
            sbom=materials(key, given.name, "", facts, hashes),
        )

    cache = keys.cache_key(f"{order.spec.name}/{given.name}", append.PLATFORM)
    return Recipe(key=key, cache=f"cache-{cache}", build=build, look=look)
