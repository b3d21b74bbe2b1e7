"""Say which CUDA an environment's frameworks were built with, and which driver that needs. Pure.

What is looked at are the resolved packages, never the user's wishes: `torch` alone means CUDA on
one platform and the processor on another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from action.plan import canonical
from cynthus.wire_image import Framework

# "Minor version compatibility": whatever was built with 12.x runs on the oldest driver of 12.
# https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/index.html (table 2, Linux)
_DRIVERS = {13: "580.65.06", 12: "525.60.13", 11: "450.80.02"}
# Before CUDA 11 each minor release had a driver of its own.
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html (table 2)
_OLD_DRIVERS = {"10.2": "440.33", "10.1": "418.39", "10.0": "410.48"}

# PyTorch's wheels before 1.13 carried CUDA inside and named no package for it; on PyPI it was 10.2.
# https://pytorch.org/get-started/previous-versions/
_TORCH_BUNDLED = dict.fromkeys(range(5, 13), "10.2")


@dataclass(frozen=True, kw_only=True)
class Base:
    """What the base image brings for a GPU."""

    cuda: str | None = None  # 12.4
    minimum_driver: str | None = None  # where its maker names one
    packages: tuple[tuple[str, str], ...] = ()  # Python packages, name and version


@dataclass(frozen=True, kw_only=True)
class Found:
    """What an environment has for a GPU."""

    frameworks: tuple[Framework, ...] = field(default=())
    minimum_driver: str | None = None


def find(pins: Sequence[tuple[str, str]], base: Base) -> Found:
    """Return the frameworks of an environment: of its own packages, and of the base's below."""
    packages = {canonical(name): version for name, version in (*base.packages, *pins)}
    added = {canonical(name) for name, _ in pins}
    kinds = (
        _torch(packages, None if "torch" in added else base.cuda),
        _tensorflow(packages, base.cuda),
        _jax(packages, base.cuda),
    )
    frameworks = tuple(kind for kind in kinds if kind is not None)
    return Found(frameworks=frameworks, minimum_driver=_newest_driver(frameworks, packages, base))


def cuda_of(environ: Mapping[str, str]) -> str | None:
    """Return the CUDA that an image names in its variables; None: it names none.

    NVIDIA's images, and those built on them, do it in `CUDA_VERSION`:
    https://gitlab.com/nvidia/container-images/cuda/-/tree/master/dist
    """
    return _minor(environ.get("CUDA_VERSION", ""))


def minimum_driver(cuda: str) -> str | None:
    """Return the oldest NVIDIA driver that runs what was built with a CUDA; None: not known."""
    if cuda in _OLD_DRIVERS:
        return _OLD_DRIVERS[cuda]
    major = cuda.partition(".")[0]
    return _DRIVERS.get(int(major)) if major.isdigit() else None


# ── one by one ──────────────────────────────────────────────────────────────────────────────────


def _torch(packages: Mapping[str, str], below: str | None) -> Framework | None:
    """Return PyTorch; `below` is the base's CUDA where PyTorch comes from the base too."""
    version = packages.get("torch")
    if version is None:
        return None
    public, _, local = version.partition("+")
    # https://pytorch.org/get-started/locally/: +cu124 and +cpu; +rocm and +xpu are no CUDA. What
    # NVIDIA builds for its own images has a commit there.
    if re.match(r"cu\d|cpu|rocm|xpu", local):
        return Framework(name="torch", version=public, cuda=_local_cuda(local))
    cuda = _runtime_cuda(packages) or below or _bundled(public)
    return Framework(name="torch", version=public, cuda=cuda)


def _bundled(version: str) -> str | None:
    match = re.match(r"1\.(\d+)", version)
    return _TORCH_BUNDLED.get(int(match[1])) if match else None


def _tensorflow(packages: Mapping[str, str], base_cuda: str | None) -> Framework | None:
    """Return TensorFlow: its wheel loads CUDA where it finds it, in packages or in the base.

    https://www.tensorflow.org/install/pip: `tensorflow[and-cuda]` brings the packages, and
    `tensorflow-cpu` has no code for a GPU at all.
    """
    if "tensorflow" in packages:
        cuda = _runtime_cuda(packages) or base_cuda
        return Framework(name="tensorflow", version=_public(packages["tensorflow"]), cuda=cuda)
    if "tensorflow-cpu" in packages:
        return Framework(name="tensorflow", version=_public(packages["tensorflow-cpu"]), cuda=None)
    return None


def _jax(packages: Mapping[str, str], base_cuda: str | None) -> Framework | None:
    """Return JAX, whose CUDA is a plug-in: https://docs.jax.dev/en/latest/installation.html.

    `jax[cuda12]` brings the libraries as packages, `jax[cuda12-local]` takes those of the base.
    """
    version = packages.get("jax") or packages.get("jaxlib")
    if version is None:
        return None
    public = _public(version)
    for name in packages:
        if match := re.fullmatch(r"jax-cuda(\d+)-(?:plugin|pjrt)", name):
            cuda = _runtime_cuda(packages) or base_cuda or f"{match[1]}.0"
            return Framework(name="jax", version=public, cuda=cuda)
    local = re.match(r"cuda(\d+)", packages.get("jaxlib", "").partition("+")[2])
    return Framework(name="jax", version=public, cuda=f"{local[1]}.0" if local else None)


def _runtime_cuda(packages: Mapping[str, str]) -> str | None:
    """Return the CUDA whose runtime library is among the packages.

    Up to CUDA 12 the package's name ends in the major version, since 13 it has none:
    https://pypi.org/project/nvidia-cuda-runtime/
    """
    names = [name for name in packages if re.fullmatch(r"nvidia-cuda-runtime(-cu\d+)?", name)]
    return max((_minor(packages[name]) or "" for name in names), key=_numbers, default=None) or None


def _local_cuda(local: str) -> str | None:
    """Return 12.4 for cu124, 11.8 for cu118, 9.2 for cu92."""
    match = re.match(r"cu(\d+?)(\d)(?!\d)", local)
    return f"{match[1]}.{match[2]}" if match else None


def _public(version: str) -> str:
    return version.partition("+")[0]


def _minor(version: str) -> str | None:
    match = re.match(r"(\d+)\.(\d+)", version)
    return f"{match[1]}.{match[2]}" if match else None


def _newest_driver(
    frameworks: Sequence[Framework], packages: Mapping[str, str], base: Base
) -> str | None:
    """Return the newest of the drivers that the environment's parts need at least."""
    cudas = {kind.cuda for kind in frameworks} | {_runtime_cuda(packages), base.cuda}
    wanted = [minimum_driver(cuda) for cuda in cudas if cuda] + [base.minimum_driver]
    return max((driver for driver in wanted if driver), key=_numbers, default=None)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


# ── what does not fit the spec ──────────────────────────────────────────────────────────────────


def refusal(frameworks: Sequence[Framework], *, gpu: bool) -> str | None:
    """Return why a run that asks for a GPU would not use it; None where nothing speaks against it.

    One framework with CUDA is enough: a second without it may serve the data loading.
    """
    if not gpu or not frameworks or any(kind.cuda for kind in frameworks):
        return None
    kind = frameworks[0]
    return (
        f"resources/gpu: should come with a framework built for CUDA, found {kind.name} "
        f"{kind.version} for the CPU only. {_CUDA_REMEDY[kind.name].format(v=kind.version)} "
        f"Or take `gpu` out of the spec."
    )


_CUDA_REMEDY = {
    "torch": "Write `torch=={v}` without `+cpu` (on PyPI that is the CUDA build for x86-64), or "
    "name the base `pytorch`.",
    "tensorflow": "Write `tensorflow[and-cuda]=={v}`, or name the base `tensorflow`.",
    "jax": "Write `jax[cuda12]=={v}`.",
}


def waste(frameworks: Sequence[Framework], *, gpu: bool) -> str | None:
    """Return what to tell the owner of a run without GPU that carries gigabytes of CUDA."""
    kind = next((kind for kind in frameworks if kind.cuda), None)
    if gpu or kind is None:
        return None
    return (
        f"{kind.name} {kind.version} brings CUDA {kind.cuda}, gigabytes that a run without a GPU "
        f"never uses. {_CPU_REMEDY[kind.name].format(v=kind.version)}"
    )


_CPU_REMEDY = {
    "torch": "`torch=={v}+cpu` from PyTorch's CPU index is a tenth of it "
    "(https://pytorch.org/get-started/locally/).",
    "tensorflow": "`tensorflow-cpu=={v}` is the same without it.",
    "jax": "`jax=={v}` without `[cuda12]` is the same without it.",
}
