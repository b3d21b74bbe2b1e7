"""What is said to Docker about a build, and what is made of its answers."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from action import plan
from action.engine import build_secrets, buildkit
from action.engine.building import Target
from action.failures import BuildFailed
from action.inputs import BuildSecret, Secret
from action.programs import Answer
from action.resolving import indexes

INDEX = BuildSecret(id="index", value=Secret("p4ss"))


def test_an_image_that_is_pushed_carries_and_uses_the_cache() -> None:
    assert Target(tag="t").cache_words == ()
    record = ("--build-arg", "BUILDKIT_INLINE_CACHE=1")
    assert Target(tag="t", cache_from=()).cache_words == record
    words = Target(tag="t", cache_from=("r:cache-1",)).cache_words
    assert words == (*record, "--cache-from", "r:cache-1")


def test_large_wheels_get_a_layer_below_the_small_ones() -> None:
    text = plan.environment_dockerfile("base", wheels=("large", "wheels"))
    lines = [line for line in text.splitlines() if "--mount" in line]
    assert ["source=large," in lines[0], "source=wheels," in lines[1]] == [True, True]
    assert all("--no-index --no-deps" in line for line in lines)
    assert "--mount" not in plan.environment_dockerfile("base")


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────


def test_a_secret_lies_in_a_file_of_ours_alone_for_as_long_as_the_build() -> None:
    with build_secrets.files((INDEX,)) as [mounted]:
        assert mounted.path.read_text() == "p4ss"
        assert stat.S_IMODE(mounted.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(mounted.path.parent.stat().st_mode) == 0o700
        assert mounted.words == f"id=index,src={mounted.path}"
    assert not mounted.path.parent.exists()


def test_it_is_gone_when_the_build_fails() -> None:
    kept: list[Path] = []

    def build() -> None:
        with build_secrets.files((INDEX,)) as [mounted]:
            kept.append(mounted.path)
            raise BuildFailed("exit code 7")

    with pytest.raises(BuildFailed):
        build()
    assert not kept[0].exists()


def test_no_secret_needs_no_folder() -> None:
    with build_secrets.files(()) as mounted:
        assert mounted == ()


def test_ids_that_only_one_side_knows_are_told() -> None:
    told = build_secrets.mismatch(("token",), (INDEX,), "Dockerfile")
    assert told == (
        "Dockerfile mounts the secret `token`, but the input `build-secrets` has no line `token=…`",
        "the input `build-secrets` has `index`, but Dockerfile mounts no such secret",
    )
    assert build_secrets.mismatch(("index",), (INDEX,), "Dockerfile") == ()


# ── what BuildKit and apt say ───────────────────────────────────────────────────────────────────


def test_a_full_disk_is_told_as_such() -> None:
    out = "#7 1.2 write /var/lib/docker/x: no space left on device\nERROR: failed to solve: x\n"
    with pytest.raises(BuildFailed, match="could not be built: the disk of the Docker engine is"):
        buildkit.expect(Answer(1, out), "the environment image could not be built")


def test_a_package_that_debian_has_not_is_told_in_apts_words() -> None:
    out = (
        "#5 2.514 Reading package lists...\n#5 3.1 E: Unable to locate package ffmpegg\n"
        "executor failed running [/bin/sh -c apt-get]: exit code: 100\n"
    )
    with pytest.raises(BuildFailed, match=r"image/system: .* `ffmpegg git`: Unable to locate"):
        buildkit.expect_system(Answer(1, out), "ffmpegg git")
    out = "#5 0.189 /bin/sh: 1: apt-get: not found\nexecutor failed running [x]: exit code: 127\n"
    with pytest.raises(BuildFailed, match="image/system: should be absent on a base without apt"):
        buildkit.expect_system(Answer(127, out), "ffmpeg")
    with pytest.raises(BuildFailed, match="could not be installed: exit 7"):
        buildkit.expect_system(Answer(1, "exit 7\n"), "ffmpeg")
    buildkit.expect_system(Answer(0, ""), "ffmpeg")


# ── indexes ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, {}),
        ({"UV_DEFAULT_INDEX": "https://i/simple"}, {"PIP_INDEX_URL": "https://i/simple"}),
        ({"UV_INDEX_URL": "https://u:p@i/"}, {"PIP_INDEX_URL": "https://u:p@i/"}),
        (
            {"UV_INDEX": "corp=https://a/ https://b/?x=1"},
            {"PIP_EXTRA_INDEX_URL": "https://a/ https://b/?x=1"},
        ),
        ({"UV_FIND_LINKS": "/a,/b"}, {"PIP_FIND_LINKS": "/a /b"}),
        ({"UV_INDEX_URL": "https://i/", "PIP_INDEX_URL": "https://own/"}, {}),
    ],
)
def test_what_uv_has_locked_pip_fetches_from_the_same_places(
    environ: dict[str, str], wanted: dict[str, str]
) -> None:
    assert indexes.for_pip(environ) == wanted
