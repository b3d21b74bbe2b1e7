"""Write what a release consists of, as CycloneDX 1.6: `python -m scripts.sbom dist/cynthus-….whl`.

https://cyclonedx.org/docs/1.6/json/. The wheel's own bytes, and every package that our locks name
for one who installs it: the same wheel and locks give the same text, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Of the wheel's extras and of the Action; what only builds or tests it is not in a release.
LOCKS = ("action", "agent", "gcp", "server")
_PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>[^\s;\\]+)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/cynthus/cynthus/release")


@dataclass(frozen=True, kw_only=True)
class Package:
    """One line of a lock."""

    name: str
    version: str
    hashes: tuple[str, ...]  # sha256 of each file of this version; one of them is installed

    @property
    def purl(self) -> str:
        """Return its package URL."""
        return f"pkg:pypi/{self.name}@{self.version.replace('+', '%2B')}"


def packages_of(lock: str) -> tuple[Package, ...]:
    """Return what a lock file names, in its order."""
    pins = list(_PIN.finditer(lock))
    ends = [pin.start() for pin in pins[1:]] + [len(lock)]
    return tuple(
        Package(
            name=pin["name"],
            version=pin["version"],
            hashes=tuple(_HASH.findall(lock[pin.start() : end])),
        )
        for pin, end in zip(pins, ends, strict=True)
    )


def bill(version: str, wheel: bytes, locks: dict[str, str]) -> dict[str, Any]:
    """Return the bill of materials of one wheel; `locks` are the texts by name."""
    digest = hashlib.sha256(wheel).hexdigest()
    named: dict[Package, list[str]] = {}
    for name, text in sorted(locks.items()):
        for package in packages_of(text):
            named.setdefault(package, []).append(name)
    components = [
        _component(package, used)
        for package, used in sorted(named.items(), key=lambda item: item[0].purl)
    ]
    subject = {
        "type": "application",
        "bom-ref": f"pkg:pypi/cynthus@{version}",
        "name": "cynthus",
        "version": version,
        "purl": f"pkg:pypi/cynthus@{version}",
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(_NAMESPACE, digest).urn,
        "version": 1,
        "metadata": {"component": subject},
        "components": components,
        "dependencies": [
            {
                "ref": subject["bom-ref"],
                "dependsOn": [component["bom-ref"] for component in components],
            }
        ],
    }


def _component(package: Package, used: list[str]) -> dict[str, Any]:
    files = [{"alg": "SHA-256", "content": digest} for digest in package.hashes]
    return {
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
        # Its files' hashes, any of which may be the one for a machine: not of the component itself.
        "externalReferences": [
            {
                "type": "distribution",
                "url": f"https://pypi.org/project/{package.name}/{package.version}/#files",
                "hashes": files,
            }
        ],
        "properties": [{"name": "cynthus:lock", "value": name} for name in used],
    }


def main(wheel: Path) -> None:
    """Print the bill of materials of a wheel made from this checkout."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    locks = {name: (ROOT / f"requirements/{name}.lock").read_text("utf-8") for name in LOCKS}
    found = bill(str(project["version"]), wheel.read_bytes(), locks)
    json.dump(found, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
