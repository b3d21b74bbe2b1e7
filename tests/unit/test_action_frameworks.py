"""What an environment's packages say about CUDA, and which driver it needs."""

from __future__ import annotations

import pytest

from action import frameworks
from action.frameworks import Base
from cynthus.wire_image import Framework

RUNTIME_12_5 = "nvidia-cuda-runtime-cu12==12.5.82"
T = {"name": "torch", "version": "2.6.0"}


def found(*pins: str, base: Base | None = None) -> tuple[Framework, ...]:
    pairs = [(name, version) for name, _, version in (pin.partition("==") for pin in pins)]
    return frameworks.find(pairs, base or Base()).frameworks


def driver(*pins: str, base: Base | None = None) -> str | None:
    pairs = [(name, version) for name, _, version in (pin.partition("==") for pin in pins)]
    return frameworks.find(pairs, base or Base()).minimum_driver


@pytest.mark.parametrize(
    ("pins", "name", "version", "cuda"),
    [
        (("torch==2.6.0+cu124",), "torch", "2.6.0", "12.4"),
        (("torch==2.9.0+cu130",), "torch", "2.9.0", "13.0"),
        (("torch==1.9.0+cu92",), "torch", "1.9.0", "9.2"),
        (("torch==2.6.0+cpu",), "torch", "2.6.0", None),
        (("torch==2.6.0+rocm6.2",), "torch", "2.6.0", None),
        (("torch==2.6.0", "nvidia-cuda-runtime-cu12==12.4.127"), "torch", "2.6.0", "12.4"),
        (("torch==2.13.0", "nvidia_cuda_runtime==13.0.96"), "torch", "2.13.0", "13.0"),
        (("torch==2.6.0",), "torch", "2.6.0", None),  # PyPI's for arm64
        (("torch==1.12.1",), "torch", "1.12.1", "10.2"),
        (("tensorflow==2.18.0",), "tensorflow", "2.18.0", None),
        (
            ("tensorflow==2.18.0", "nvidia-cuda-runtime-cu12==12.5.82"),
            "tensorflow",
            "2.18.0",
            "12.5",
        ),
        (("tensorflow-cpu==2.18.0",), "tensorflow", "2.18.0", None),
        (("jax==0.5.0", "jaxlib==0.5.0"), "jax", "0.5.0", None),
        (("jax==0.5.0", "jax-cuda12-plugin==0.5.0"), "jax", "0.5.0", "12.0"),
        (
            ("jax==0.5.0", "jax-cuda12-plugin==0.5.0", "nvidia-cuda-runtime-cu12==12.8.57"),
            "jax",
            "0.5.0",
            "12.8",
        ),
        (("jax==0.4.13", "jaxlib==0.4.13+cuda12.cudnn89"), "jax", "0.4.13", "12.0"),
    ],
)
def test_a_frameworks_cuda_is_that_of_what_is_installed(
    pins: tuple[str, ...], name: str, version: str, cuda: str | None
) -> None:
    assert found(*pins) == (Framework(name=name, version=version, cuda=cuda),)


def test_tensorflow_takes_the_cuda_of_its_base() -> None:
    assert found("tensorflow==2.18.0", base=Base(cuda="12.5"))[0].cuda == "12.5"
    assert found("tensorflow-cpu==2.18.0", base=Base(cuda="12.5"))[0].cuda is None


def test_a_framework_of_the_base_counts_until_a_pin_replaces_it() -> None:
    base = Base(packages=(("torch", "2.6.0+cu124"),))
    assert found(base=base) == (Framework(**T, cuda="12.4"),)
    assert found("torch==2.6.0+cpu", base=base) == (Framework(**T),)


def test_a_torch_of_the_base_was_built_with_the_cuda_of_the_base() -> None:
    base = Base(cuda="13.0", packages=(("torch", "2.6.0a0+ecf3bae40a.nv25.01"),))
    assert found(base=base) == (Framework(name="torch", version="2.6.0a0", cuda="13.0"),)
    assert found("torch==2.6.0", base=base)[0].cuda is None


def test_packages_without_gpu_code_are_no_frameworks() -> None:
    assert found("numpy==2.2.0", "torchvision==0.21.0") == ()
    assert driver("numpy==2.2.0") is None


@pytest.mark.parametrize(
    ("cuda", "oldest"),
    [
        ("13.0", "580.65.06"),
        ("12.8", "525.60.13"),
        ("11.8", "450.80.02"),
        ("10.2", "440.33"),
        ("9.2", None),
    ],
)
def test_the_oldest_driver_of_each_cuda_is_nvidias(cuda: str, oldest: str | None) -> None:
    assert frameworks.minimum_driver(cuda) == oldest


def test_the_newest_need_of_all_parts_counts() -> None:
    assert driver("torch==2.6.0+cu118", base=Base(cuda="12.4")) == "525.60.13"
    assert driver("torch==2.6.0+cu124", base=Base(minimum_driver="550.54.14")) == "550.54.14"
    assert driver("cupy-cuda12x==13.3.0", "nvidia-cuda-runtime-cu12==12.4.127") == "525.60.13"


def test_an_image_names_its_cuda_in_a_variable() -> None:
    assert frameworks.cuda_of({"CUDA_VERSION": "12.4.1"}) == "12.4"
    assert frameworks.cuda_of({"CUDA_VERSION": "?"}) is None
    assert frameworks.cuda_of({}) is None


@pytest.mark.parametrize(
    ("pin", "line"),
    [
        ("torch==2.6.0+cpu", "torch==2.6.0` without `+cpu"),
        ("tensorflow==2.18.0", "tensorflow[and-cuda]==2.18.0"),
        ("tensorflow-cpu==2.18.0", "tensorflow[and-cuda]==2.18.0"),
        ("jax==0.5.0", "jax[cuda12]==0.5.0"),
    ],
)
def test_a_gpu_that_nothing_would_use_is_refused_with_the_line_to_write(
    pin: str, line: str
) -> None:
    told = frameworks.refusal(found(pin), gpu=True)
    assert told is not None
    assert told.startswith("resources/gpu: should come with a framework built for CUDA, found ")
    assert line in told
    assert frameworks.refusal(found(pin), gpu=False) is None


def test_one_framework_with_cuda_is_enough_and_none_at_all_is_the_users_affair() -> None:
    assert (
        frameworks.refusal(found("torch==2.6.0+cu124", "tensorflow-cpu==2.18.0"), gpu=True) is None
    )
    assert frameworks.refusal((), gpu=True) is None


def test_cuda_that_no_gpu_will_use_is_told_with_what_to_write_instead() -> None:
    told = frameworks.waste(found("torch==2.6.0+cu124"), gpu=False)
    assert told is not None
    assert "torch 2.6.0 brings CUDA 12.4" in told
    assert "torch==2.6.0+cpu" in told
    assert frameworks.waste(found("torch==2.6.0+cu124"), gpu=True) is None
    assert frameworks.waste(found("torch==2.6.0+cpu"), gpu=False) is None
