"""Judge what an image's environment can do on a GPU: pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from cynthus.codec import encode
from cynthus.drivers import is_older
from cynthus.spec import Spec
from cynthus.wire_image import Environment, EnvironmentView, Framework
from webhook_server.runs.lending import Offer
from webhook_server.runs.model import EnvironmentKept

_SHOWN = 5  # names in a sentence: enough to recognise one's own requirements


def kept(owner_id: int, environment: Environment) -> EnvironmentKept:
    """Return what a run remembers; the same owner and content give the same `id`.

    By content, not by key: who sends another lock under a known key changes nobody else's.
    """
    told = json.dumps([owner_id, encode(environment)], sort_keys=True)
    return EnvironmentKept(
        id=hashlib.sha256(told.encode()).hexdigest(),
        owner_id=owner_id,
        about=EnvironmentView(
            key=environment.key,
            base=environment.base,
            base_digest=environment.base_digest,
            python=environment.python,
            frameworks=environment.frameworks,
            minimum_driver=environment.minimum_driver,
            lock_sha256=_sha256(environment.lock),
            sbom_sha256=_sha256(environment.sbom),
        ),
    )


def _sha256(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


def image_digest(image: str | None) -> str | None:
    """Return the digest that names a pushed image; None: it was never pushed."""
    digest = (image or "").partition("@")[2]
    return digest or None


# ── a GPU without CUDA ──────────────────────────────────────────────────────────────────────────


def cuda_refusal(spec: Spec, environment: Environment | None) -> str | None:
    """Return why the GPU that a spec asks for would stand idle, or None when it would not.

    An environment without any framework may use a GPU by its own means: that is not refused.
    """
    frameworks = environment.frameworks if environment is not None else ()
    if not spec.resources.gpu or not frameworks or any(one.cuda for one in frameworks):
        return None
    wanted = " or ".join(f"{gpu.count} x {gpu.type}" for gpu in spec.resources.gpu)
    named = ", ".join(f"{one.name} {one.version}" for one in frameworks[:_SHOWN])
    return (
        f"resources/gpu: should be absent, since the environment's {named} cannot use a GPU (built"
        f" without CUDA), found {wanted}. Require a build with CUDA, or remove `gpu`."
    )


# ── the driver ──────────────────────────────────────────────────────────────────────────────────


def driver_refusal(offer: Offer, minimum_driver: str | None) -> str | None:
    """Return why the offer's driver is too old; None: it is not, is unknown, or there is no GPU."""
    if minimum_driver is None or offer.gpu_count == 0 or not is_older(offer.driver, minimum_driver):
        return None
    return f"its NVIDIA driver is {offer.driver}, the environment wants {minimum_driver} or newer"


def new_enough(offers: Sequence[Offer], environment: EnvironmentKept | None) -> tuple[Offer, ...]:
    """Return the offers whose driver runs the environment's CUDA, as far as it is known."""
    minimum = environment.about.minimum_driver if environment is not None else None
    return tuple(offer for offer in offers if driver_refusal(offer, minimum) is None)


def too_old_text(offers: Sequence[Offer], about: EnvironmentView) -> str:
    """Say why none of the offers runs the environment."""
    drivers = sorted({offer.driver for offer in offers})
    return (
        f"resources/gpu: should be on places with the NVIDIA driver {about.minimum_driver} or"
        f" newer,{_whose(about.frameworks)} found {', '.join(drivers[:_SHOWN])} on all that fit."
        " Require a build for an older CUDA, or ask the server's operator for a newer driver."
    )


def _whose(frameworks: Sequence[Framework]) -> str:
    """Name the framework that asks for it: the one with the newest CUDA."""
    built = [one for one in frameworks if one.cuda]
    if not built:
        return ""
    newest = max(built, key=lambda one: _numbers(one.cuda or ""))
    return f" which CUDA {newest.cuda} of {newest.name} {newest.version} wants,"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
