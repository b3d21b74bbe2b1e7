"""Read what a registry wants to be shown: the WWW-Authenticate header. Pure.

https://distribution.github.io/distribution/spec/auth/token/, RFC 9110 section 11
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """What to get and where: Basic needs the login itself, Bearer a token from `realm`.

    The scope that it names is left out: we know what we need, and GitHub's names a placeholder
    (https://github.com/cloudflare/serverless-registry/issues/148).
    """

    scheme: Literal["basic", "bearer"]
    realm: str = ""
    service: str = ""


_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110's word for a word
_PARAMETER = re.compile(rf'[\s,]*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))')
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?=\s|,|$)(?!\s*=)")


def parse_challenges(headers: Iterable[str]) -> Challenge | None:
    """Return the best offer among the headers, Bearer before Basic; None: none is understood."""
    found: list[Challenge] = []
    for header in headers:
        found += _parse(header)
    bearers = [offer for offer in found if offer.scheme == "bearer" and offer.realm]
    return next(iter(bearers), next((o for o in found if o.scheme == "basic"), None))


def _parse(header: str) -> Iterable[Challenge]:
    place = 0
    while scheme := _SCHEME.match(header, place):
        place = scheme.end()
        given: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, place):
            place = parameter.end()
            quoted, bare = parameter[2], parameter[3]
            value = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            given.setdefault(parameter[1].lower(), value)
        name = scheme[1].lower()
        if name == "basic":
            yield Challenge(scheme="basic")
        elif name == "bearer":
            yield Challenge(
                scheme="bearer",
                realm=given.get("realm", ""),
                service=given.get("service", ""),
            )


def scope(repository: str, *actions: str) -> str:
    """Return the words for a right: https://distribution.github.io/distribution/spec/auth/scope/."""
    return f"repository:{repository}:{','.join(actions)}"
