"""Make the agent one file, `python -m runner_images.agent.package`, for Python 3.11 or newer.

The file holds the agent, the few modules of the contract package that it needs, and the Docker
SDK with what the SDK needs, copied from the environment that makes it. All of that is pure Python:
compiled accelerators are left out, their owners run without them.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import zipapp
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from runner_images.agent.locked_python import carried_lock

CONTRACT = (
    "__init__.py",
    "codec.py",
    "drivers.py",
    "errors.py",
    "frozen.py",
    "hosts.py",
    "packing.py",
    "tree_form.py",
    "wire.py",
    "wire_cache.py",
    "wire_checkpoint.py",
    "wire_data.py",
    "wire_image.py",
)
VENDORED = ("docker", "requests", "urllib3", "idna", "certifi", "charset_normalizer")
LOCKED = ("data", "age")  # the agent makes environments of them where its Python lacks them
LEFT_OUT = ("__pycache__", "tests")
KEPT = (".py", ".pem", ".json")
MOMENT = (1980, 1, 1, 0, 0, 0)  # zip's first: the same content always makes the same file
_MAIN = b"import sys\nfrom runner_images.agent.__main__ import main\nsys.exit(main())\n"


def build(target: Path) -> Path:
    """Write the agent to `target`, whole or not at all, and return its path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        plain = Path(folder) / "agent.zip"
        with ZipFile(plain, "w", ZIP_DEFLATED, compresslevel=9) as archive:
            for name, content in _content():
                archive.writestr(ZipInfo(name, MOMENT), content, ZIP_DEFLATED)
        whole = Path(folder) / "agent.pyz"
        zipapp.create_archive(plain, whole, interpreter="/usr/bin/env python3")
        whole.replace(target)
    return target


def _content() -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", _MAIN
    yield "runner_images/__init__.py", b""
    agent = Path(__file__).parent
    for path in _files(agent, leave_out=(*LEFT_OUT, "package.py")):
        yield f"runner_images/agent/{path}", (agent / path).read_bytes()
    for extra in LOCKED:
        lock = carried_lock(extra)
        if lock is not None:
            yield f"runner_images/agent/{extra}.lock", lock
    contract = _folder("cynthus")
    for name in CONTRACT:
        yield f"cynthus/{name}", (contract / name).read_bytes()
    for package in VENDORED:
        folder = _folder(package)
        for path in _files(folder, leave_out=LEFT_OUT):
            yield f"{package}/{path}", (folder / path).read_bytes()


def _folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(
            f"{package}: should be installed. Run `pip install cynthus[agent]`."
        )
    return Path(found.origin).parent


def _files(folder: Path, *, leave_out: Iterable[str]) -> list[PurePosixPath]:
    unwanted = set(leave_out)
    found = (PurePosixPath(path.relative_to(folder)) for path in folder.rglob("*"))
    return sorted(p for p in found if p.suffix in KEPT and not unwanted & set(p.parts))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the agent one file.")
    parser.add_argument("target", type=Path, nargs="?", default=Path("agent.pyz"))
    sys.stdout.write(f"{build(parser.parse_args().target)}\n")
