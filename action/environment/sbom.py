"""Write down what an environment consists of, as CycloneDX 1.6. Pure.

https://cyclonedx.org/docs/1.6/json/. The same environment gives the same text, byte for byte: no
time of day is in it, and its serial number comes from the environment's key.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from action.plan import canonical

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/cynthus/cynthus/environment")


@dataclass(frozen=True, kw_only=True)
class SystemPackage:
    """A package of the image's distribution."""

    name: str
    version: str
    architecture: str  # amd64


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is in an environment image."""

    key: str
    base: str  # the base image's reference
    base_digest: str  # sha256:…, empty where it comes from no registry
    python: tuple[tuple[str, str], ...] = field(default=())  # name and version
    sha256: Mapping[str, str] = field(default_factory=dict)  # of the installed wheels, by name
    distribution: str = ""  # debian, ubuntu: os-release's ID
    release: str = ""  # bookworm: os-release's VERSION_CODENAME
    system: tuple[SystemPackage, ...] = field(default=())


def text(contents: Contents) -> str:
    """Return the bill of materials as JSON text."""
    components = [_base(contents), *_python(contents), *_system(contents)]
    subject = _subject(contents)
    found = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(_NAMESPACE, contents.key).urn,
        "version": 1,
        "metadata": {"component": subject},
        "components": components,
        "dependencies": [
            {"ref": subject["bom-ref"], "dependsOn": [part["bom-ref"] for part in components]}
        ],
    }
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False)


def _subject(contents: Contents) -> dict[str, Any]:
    return {
        "type": "container",
        "bom-ref": f"environment:{contents.key}",
        "name": "cynthus.env",
        "version": contents.key,
    }


def _base(contents: Contents) -> dict[str, Any]:
    name = contents.base.partition("@")[0]
    found: dict[str, Any] = {
        "type": "container",
        "bom-ref": f"base:{contents.base_digest or name}",
        "name": name,
    }
    if contents.base_digest:
        algorithm, _, digest = contents.base_digest.partition(":")
        last = _without_tag(name).rpartition("/")[2]
        found["version"] = contents.base_digest
        found["purl"] = (
            f"pkg:oci/{quote(last.lower(), safe='')}@{quote(contents.base_digest, safe='')}"
            f"?repository_url={quote(_without_tag(name).lower(), safe='/')}"
        )
        if algorithm == "sha256":
            found["hashes"] = [{"alg": "SHA-256", "content": digest}]
    return found


def _without_tag(name: str) -> str:
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


def _python(contents: Contents) -> list[dict[str, Any]]:
    """Return the Python packages: https://github.com/package-url/purl-spec/blob/main/types-doc/pypi-definition.md."""
    versions = {canonical(name): version for name, version in contents.python}
    hashes = {canonical(name): digest for name, digest in contents.sha256.items()}
    return [_wheel(name, version, hashes.get(name)) for name, version in sorted(versions.items())]


def _wheel(name: str, version: str, sha256: str | None) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{quote(version, safe='')}"
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
    }
    if sha256:
        found["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    return found


def _system(contents: Contents) -> list[dict[str, Any]]:
    """Return the distribution's packages: https://github.com/package-url/purl-spec/blob/main/types-doc/deb-definition.md."""
    vendor = contents.distribution or "debian"
    distro = f"&distro={quote(contents.release, safe='')}" if contents.release else ""
    unique = sorted({(p.name, p.version, p.architecture) for p in contents.system})
    return [
        {
            "type": "library",
            "bom-ref": (
                purl := f"pkg:deb/{quote(vendor, safe='')}/{quote(name, safe='')}"
                f"@{quote(version, safe='')}?arch={quote(architecture, safe='')}{distro}"
            ),
            "name": name,
            "version": version,
            "purl": purl,
        }
        for name, version, architecture in unique
    ]
