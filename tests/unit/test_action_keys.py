"""What can change an environment changes its keys, and nothing else does."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path

import pytest

from action import bundle, plan
from action.engine import base
from action.environment import keeping, keys
from action.environment.keys import Ingredients, Wishes
from action.plan import BaseFacts

WISHES = Wishes(
    base="docker.io/library/python:3.11-slim",
    python="3.11",
    lines=("six==1.16.0",),
    pinned=True,
    system=("ffmpeg", "git"),
    platform="linux/amd64",
)
MADE_OF = Ingredients(
    base="sha256:" + "1" * 64,
    lock="six==1.16.0 --hash=sha256:" + "a" * 64,
    system=("ffmpeg", "git"),
    platform="linux/amd64",
)


def inputs(wishes: Wishes = WISHES, digest: str = "sha256:1", as_of: str = "2026-01-31") -> str:
    return keys.inputs_key(wishes, digest, as_of=as_of)


@pytest.mark.parametrize(
    "other",
    [
        inputs(replace(WISHES, base="docker.io/library/python:3.12-slim")),
        inputs(replace(WISHES, python="3.12")),
        inputs(replace(WISHES, lines=("six==1.17.0",))),
        inputs(replace(WISHES, system=())),
        inputs(replace(WISHES, platform="linux/arm64")),
        inputs(replace(WISHES, indexes=("https://index.example/simple",))),
        inputs(digest="sha256:2"),
        inputs(replace(WISHES, pinned=False)),
    ],
)
def test_whatever_is_wished_otherwise_has_another_inputs_key(other: str) -> None:
    assert other != inputs()


@pytest.mark.parametrize("pinned", [True, False])
def test_a_new_day_matters_only_to_packages_that_are_not_pinned(pinned: bool) -> None:
    wishes = replace(WISHES, pinned=pinned)
    assert (inputs(wishes) == inputs(wishes, as_of="2026-02-01")) is pinned


@pytest.mark.parametrize(
    "other",
    [
        replace(MADE_OF, base="sha256:" + "2" * 64),
        replace(MADE_OF, lock=MADE_OF.lock.replace("1.16", "1.17")),
        replace(MADE_OF, lock=MADE_OF.lock.replace("aaaa", "bbbb")),
        replace(MADE_OF, lock=""),
        replace(MADE_OF, system=("ffmpeg",)),
        replace(MADE_OF, platform="linux/arm64"),
    ],
)
def test_whatever_an_environment_is_made_of_changes_its_key(other: Ingredients) -> None:
    assert keys.environment_key(other) != keys.environment_key(MADE_OF)


@pytest.mark.parametrize(
    "same",
    [
        replace(MADE_OF, system=("git", "ffmpeg", "git")),
        replace(MADE_OF, lock=f"# made today\n{MADE_OF.lock}  # via main\n\n"),
        replace(MADE_OF, lock=MADE_OF.lock.replace(" --hash", " \\\n    --hash")),
        replace(MADE_OF, lock=MADE_OF.lock.replace(" --hash", " \\\r\n  --hash")),
    ],
)
def test_how_it_is_written_down_does_not(same: Ingredients) -> None:
    assert keys.environment_key(same) == keys.environment_key(MADE_OF)


def test_the_order_of_a_lock_does_not() -> None:
    one, other = replace(MADE_OF, lock="a==1\nb==2\n"), replace(MADE_OF, lock="b==2\na==1\n")
    assert keys.environment_key(one) == keys.environment_key(other)


def test_an_own_dockerfile_has_a_key_of_its_text_its_files_and_its_images() -> None:
    def key(text: bytes = b"FROM x", files: str = "1", bases: tuple[str, ...] = ("x@1",)) -> str:
        return keys.own_key(text, files, bases, "linux/amd64")

    others = {key(b"FROM y"), key(files="2"), key(bases=("x@2",)), key(bases=())}
    assert len(others) == 4
    assert key() not in others


def test_what_environments_share_has_a_key_of_its_own() -> None:
    system = keys.system_key("sha256:1", ("git", "ffmpeg"), "linux/amd64")
    assert system == keys.system_key("sha256:1", ("ffmpeg", "git"), "linux/amd64")
    assert system != keys.system_key("sha256:2", ("ffmpeg", "git"), "linux/amd64")
    assert keys.cache_key("a:1", "linux/amd64") != keys.cache_key("b:1", "linux/amd64")


def test_every_key_fits_into_a_tag() -> None:
    for key in (inputs(), keys.environment_key(MADE_OF)):
        assert len(key) == 32
        assert int(key, 16) >= 0


def test_a_link_that_leads_elsewhere_changes_the_hash_of_a_tree(tmp_path: Path) -> None:
    """Where a target ends and the next name begins is part of what is hashed."""
    for folder, target, name in (("one", "b", "cd"), ("other", "bc", "d")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a").symlink_to(target)
        (tmp_path / folder / name).write_text("x")
    assert bundle.tree_digest(tmp_path / "one") != bundle.tree_digest(tmp_path / "other")


def _print(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def test_another_recipe_is_counted() -> None:
    """Environments outlive the Action that made them: what it does otherwise now is a new key.

    When this fails, count `keys.RECIPE` up, then write the new number and the new print here.
    """
    steps = _print(
        plan.environment_dockerfile("BASE", wheels=("large", "wheels")),
        plan.system_dockerfile("BASE", ("git",)),
    )
    assert (keys.RECIPE, steps) == (1, "310daefbedcd6d90")


def test_another_question_to_a_base_is_a_record_of_another_kind() -> None:
    """What a base contains is kept for ever: an answer to fewer questions must not be read.

    When this fails, count the version in the media type up, then write it and the new print here.
    """
    asked = _print(base._LOOK, *(field.name for field in fields(BaseFacts)))
    kind = keeping._KINDS[BaseFacts]
    assert (kind, asked) == ("application/vnd.cynthus.base.v1+json", "e747a3e47c2cb9f1")
