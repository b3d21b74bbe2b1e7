"""Try a runner image from inside: `docker run … python3 -I - WANTED < smoke.py`.

WANTED is JSON: what the catalogue promises. It uses the standard library and the image's own
packages. What was found is printed as one line of JSON; what is not as promised goes to standard
error, with exit code 1.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CUDA_RUNTIMES = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12")  # CUDA 13's wheel, 12's wheel
CUDA_FOLDER = Path("/usr/local/cuda")  # NVIDIA's own images have a link here, to cuda-X.Y


def faults(wanted: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each thing that is not as promised. Pure."""
    for key in ("python", "frameworks", "cuda"):
        if wanted[key] != found[key]:
            yield f"{key}: should be {wanted[key]!r}, found {found[key]!r}"
    if found["uid"] == 0:
        yield "user: should be a plain one, found root"
    for path in found["set_user_id"]:
        yield f"{path}: should run as its caller, found its set-user-id bit set"
    for folder in set(wanted["writable"]) - set(found["writable"]):
        yield f"{folder}: should be writable for user {found['uid']}, found that it is not"
    for name, answer in found["gradients"].items():
        if answer != GRADIENT:
            yield f"{name}: should differentiate x³ at 2 to {GRADIENT}, found {answer}"


# ── looking ─────────────────────────────────────────────────────────────────────────────────────


def look(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return what is here, as far as somebody promised something about it."""
    frameworks = {name: _version(name) for name in wanted["frameworks"]}
    return {
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "frameworks": frameworks,
        "cuda": _cuda(),
        "uid": os.getuid(),
        "set_user_id": sorted(_set_user_id()),
        "writable": [folder for folder in wanted["writable"] if _writable(Path(folder))],
        "gradients": {name: TRIALS[name]() for name in frameworks if name in TRIALS},
    }


def _version(name: str) -> str | None:
    """Return a package's version without the local part: torch 2.13.0+cpu is torch 2.13.0."""
    for name_here in (name, f"{name}-cpu"):  # tensorflow-cpu is TensorFlow
        try:
            return importlib.metadata.version(name_here).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _cuda() -> str | None:
    for name in CUDA_RUNTIMES:
        version = _version(name)
        if version:
            return ".".join(version.split(".")[:2])
    return linked_cuda(CUDA_FOLDER)


def linked_cuda(folder: Path) -> str | None:
    """Return the version in the name that NVIDIA's link leads to, such as /usr/local/cuda-13.0."""
    return folder.resolve().name.partition("-")[2] or None if folder.exists() else None


def _set_user_id() -> Iterator[str]:
    for folder, _, names in os.walk("/"):
        if folder.startswith(("/proc", "/sys")):
            continue
        for name in names:
            path = os.path.join(folder, name)
            try:
                found = os.lstat(path).st_mode
            except OSError:  # gone, or in a folder that is closed to us
                continue
            if stat.S_ISREG(found) and found & (stat.S_ISUID | stat.S_ISGID):
                yield path


def _writable(folder: Path) -> bool:
    probe = folder / ".smoke"
    try:
        probe.write_text("")
        probe.unlink()
    except OSError:
        return False
    return True


# ── a tiny computation ──────────────────────────────────────────────────────────────────────────

GRADIENT = 12.0  # of x³ at 2


def _torch() -> float:
    torch = importlib.import_module("torch")
    x = torch.tensor([2.0], requires_grad=True)
    (x**3).sum().backward()
    return float(x.grad)


def _tensorflow() -> float:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # no pages about the GPU that is not here
    tensorflow = importlib.import_module("tensorflow")
    x = tensorflow.Variable(2.0)
    with tensorflow.GradientTape() as tape:
        y = x**3
    return float(tape.gradient(y, x))


TRIALS: dict[str, Callable[[], float]] = {"torch": _torch, "tensorflow": _tensorflow}


def main(words: list[str]) -> int:
    """Say what was found, and what of it is not as promised."""
    warnings.simplefilter("ignore")  # the frameworks' own
    wanted = json.loads(words[0])
    found = look(wanted)
    sys.stdout.write(json.dumps(found) + "\n")
    told = list(faults(wanted, found))
    sys.stderr.writelines(f"{line}\n" for line in told)
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
