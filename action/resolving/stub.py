"""Write wheels that only say a name and a version: a base's packages as a resolver sees them."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

_BUILD = "9999cynthus"  # of two wheels that fit equally well, the higher build tag is taken


def write(folder: Path, name: str, version: str, tag: str) -> str:
    """Write a wheel without content or wishes and return its file name.

    A base such as PyTorch's has gigabytes installed that a resolver on the builder cannot see; a
    stub with the same version stands for each, so that what it brings is neither fetched nor
    replaced. `tag` should be the best one that the image takes: a resolver asks the best wheel of
    a version for its wishes, and an index may have the same version.
    https://packaging.python.org/en/latest/specifications/binary-distribution-format/
    """
    part = re.sub(r"[^A-Za-z0-9.]+", "_", name)
    # PEP 440's local versions contain `+`; a file name keeps it, the folder inside too.
    info = f"{part}-{version}.dist-info"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: cynthus\nRoot-Is-Purelib: true\n"
        f"Build: {_BUILD}\nTag: {tag}\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    file_name = f"{part}-{version}-{_BUILD}-{tag}.whl"
    with zipfile.ZipFile(folder / file_name, "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)
    return file_name
