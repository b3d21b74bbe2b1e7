"""Build a stranger's commit, once somebody approved it: nothing that it chose runs on this machine.

The job has an identity token and may push to the registry; whoever runs code beside it has both.
docs/forks.md says the same to people.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import replace

from action.catalogue import read_catalogue
from action.inputs import ENVIRONMENTS, Inputs
from action.resolving import indexes
from cynthus.errors import UserError
from cynthus.spec import Spec

FOLDER = "forks"  # below the registry that was given: for images and environments of strangers
_HUB = "docker.io/"
_REMEDY = "Or read the commit, and push it to a branch of this repository: then it is your own."


def kept_apart(given: Inputs) -> Inputs:
    """Return the inputs with places of their own and without the build's secrets.

    Raises: UserError where the registry has no room for such a place.
    """
    if given.registry.startswith(_HUB):
        raise UserError(
            f"with/registry: should have room for a repository of forks' images, found "
            f"`{given.registry}`, below which Docker Hub allows one name only. Take another "
            f"registry. {_REMEDY}"
        )
    registry = f"{given.registry}/{FOLDER}"
    cache = given.machine.cache_dir / FOLDER
    return replace(
        given,
        registry=registry,
        environments=f"{registry}/{ENVIRONMENTS}",
        build_secrets=(),
        machine=replace(given.machine, cache_dir=cache, takes_bundles=False),
    )


def refusal(spec: Spec, given: Inputs) -> str | None:
    """Return why this commit is not built here, with what to do; None when it may be. Pure."""
    if spec.image.dockerfile:
        return (
            f"image/dockerfile: should be left out in a fork's commit, found "
            f"`{spec.image.dockerfile}`: its steps would run beside this job's identity, with a "
            f"network. Declare packages instead. {_REMEDY}"
        )
    base = spec.image.base
    if base and not given.base_image and base not in read_catalogue():
        return (
            f"image/base: should be a name of the catalogue in a fork's commit, found `{base}`: "
            f"its programs would run beside this job's identity. Name one, or set the step's "
            f"`base-image`. {_REMEDY}"
        )
    return None


def forget_logins(environ: MutableMapping[str, str]) -> None:
    """Take out of the environment what lets packages be had in this repository's name."""
    for name, value in indexes.without_logins(environ).items():
        if value is None:
            environ.pop(name, None)
        else:
            environ[name] = value
