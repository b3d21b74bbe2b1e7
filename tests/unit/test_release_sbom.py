"""What a release consists of: everything its locks name, in the standard's form."""

from __future__ import annotations

import hashlib
import json

from scripts.sbom import LOCKS, ROOT, bill, packages_of
from tests.cyclonedx_judge import cyclonedx_judge

TEXTS = {name: (ROOT / f"requirements/{name}.lock").read_text("utf-8") for name in LOCKS}
LOCK = (
    "# by hand\n"
    "torch==2.6.0+cpu ; sys_platform == 'linux' \\\n"
    f"    --hash=sha256:{'a' * 64} \\\n"
    f"    --hash=sha256:{'b' * 64}\n"
    "    # via x==1\n"
    f"uv==0.5.31 --hash=sha256:{'c' * 64}\n"
)


def test_a_lock_is_read_with_all_hashes_of_each_version() -> None:
    torch, uv = packages_of(LOCK)
    assert (torch.name, torch.version, torch.hashes) == ("torch", "2.6.0+cpu", ("a" * 64, "b" * 64))
    assert torch.purl == "pkg:pypi/torch@2.6.0%2Bcpu"
    assert (uv.name, uv.version, uv.hashes) == ("uv", "0.5.31", ("c" * 64,))


def test_every_package_of_our_own_locks_is_a_component_with_its_hashes() -> None:
    found = bill("1.2.3", b"a wheel", TEXTS)
    named = {part["purl"]: part for part in found["components"]}
    for text in TEXTS.values():
        lines = [line for line in text.splitlines() if "==" in line and line[:1].isalnum()]
        assert len(packages_of(text)) == len(lines)
        assert {package.purl for package in packages_of(text)} <= set(named)
    assert all(part["externalReferences"][0]["hashes"] for part in named.values())
    fastapi = next(part for part in found["components"] if part["name"] == "fastapi")
    assert {"name": "cynthus:lock", "value": "server"} in fastapi["properties"]
    digest = hashlib.sha256(b"a wheel").hexdigest()
    assert found["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": digest}]


def test_the_standards_own_schema_takes_it() -> None:
    judge, found = cyclonedx_judge(), json.loads(json.dumps(bill("1.2.3", b"a wheel", TEXTS)))
    assert list(judge.iter_errors(found)) == []
    del found["components"][0]["name"]
    assert list(judge.iter_errors(found))


def test_the_same_wheel_and_locks_give_the_same_bill() -> None:
    assert json.dumps(bill("1", b"x", TEXTS)) == json.dumps(bill("1", b"x", TEXTS))
    one, other = bill("1", b"x", TEXTS), bill("1", b"y", TEXTS)
    assert one["serialNumber"] != other["serialNumber"]
