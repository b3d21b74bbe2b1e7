"""How runner images are made: words for Docker, the workflow's matrix, the catalogue's text."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from action.catalogue import FILE, read_catalogue, read_programs
from cynthus.errors import UserError
from runner_images.smoke import GRADIENT, faults, linked_cuda
from scripts.images.__main__ import VERBS
from scripts.images.recipe import (
    Wish,
    arguments,
    build_words,
    freshened,
    joins,
    labels,
    matrix,
    promises,
    push_words,
    recipe,
    record,
)

ENTRIES = {**read_catalogue(), **read_programs()}
DIGEST = "sha256:" + "0" * 64


def test_the_default_is_the_catalogues_first_python_on_its_pinned_base() -> None:
    todo = recipe(Wish(name="pytorch"), ENTRIES)
    assert todo.python == "3.12"
    assert todo.base == ENTRIES["pytorch"].bases["3.12"]
    assert todo.lock == "requirements.lock"
    assert todo.cuda == "13.0"


@pytest.mark.parametrize(
    ("wish", "part"),
    [
        (Wish(name="pytroch"), "name: should be one of python, cuda, pytorch, tensorflow, agent"),
        (Wish(name="pytorch", python="3.8"), "--python: should be 3.12 for `pytorch`, found `3.8`"),
    ],
)
def test_what_cannot_be_made_is_refused_with_what_can(wish: Wish, part: str) -> None:
    with pytest.raises(UserError) as caught:
        recipe(wish, ENTRIES)
    assert part in str(caught.value)


def test_another_base_may_have_another_python() -> None:
    todo = recipe(Wish(name="pytorch", python="3.11", base="cynthus/base:x", cpu=True), ENTRIES)
    assert (todo.base, todo.python, todo.lock) == (
        "cynthus/base:x",
        "3.11",
        "requirements.cpu.lock",
    )


def test_without_cuda_nothing_claims_to_have_it() -> None:
    todo = recipe(Wish(name="pytorch", cpu=True), ENTRIES)
    found = arguments(todo, offline=False)
    assert (found["CUDA"], found["DRIVER"]) == ("", "")
    assert (labels(todo)["dev.cynthus.cuda"], labels(todo)["dev.cynthus.driver"]) == ("", "")
    assert labels(todo)["dev.cynthus.frameworks"] == "torch=2.13.0"
    assert promises(todo)["cuda"] is None


def test_a_build_without_network_asks_no_index() -> None:
    todo = recipe(Wish(name="pytorch"), ENTRIES)
    words = build_words(todo, context="c", tag="t", network="none")
    assert words[:5] == ("build", "--progress", "plain", "--network", "none")
    assert "PIP_NO_INDEX=1" in words
    assert words[-3:] == ("--tag", "t", "c")
    assert "PIP_NO_INDEX=1" not in build_words(todo, context="c", tag="t", network="default")


def test_what_is_pushed_carries_proofs_and_its_commit() -> None:
    todo = recipe(Wish(name="agent"), ENTRIES)
    words = push_words(todo, context="c", tag="ghcr.io/a/b:1", told="told.json", commit="f" * 40)
    text = " ".join(words)
    assert text.startswith("buildx build")
    assert "--push --provenance mode=max --sbom true --metadata-file told.json" in text
    assert f"--label org.opencontainers.image.revision={'f' * 40}" in text


def test_the_matrix_has_every_image_for_every_python_and_machine() -> None:
    found = matrix(ENTRIES)
    assert len(found) == 8 + 2 + 2 + 1 + 2
    assert {line["runner"] for line in found if line["arch"] == "arm64"} == {"ubuntu-24.04-arm"}
    assert [line["arch"] for line in found if line["name"] == "tensorflow"] == ["amd64"]


def test_architectures_are_joined_once_for_every_python() -> None:
    found = joins(ENTRIES)
    assert {"name": "python", "python": "3.13", "architectures": "amd64 arm64"} in found
    assert {"name": "tensorflow", "python": "3.11", "architectures": "amd64"} in found
    assert sum(len(line["architectures"].split()) for line in found) == len(matrix(ENTRIES))


def test_the_workflow_says_words_that_are_understood() -> None:
    text = (FILE.parents[1] / ".github/workflows/images.yml").read_text("utf-8")
    words = re.findall(r"scripts\.images (\w+)", text)
    assert {"push", "smoke", "record", "matrix", "freshen"} <= set(words)
    assert set(words) <= set(VERBS)


# ── the catalogue's text ────────────────────────────────────────────────────────────────────────


def test_a_published_image_is_written_where_it_belongs_and_nowhere_else() -> None:
    text = FILE.read_text("utf-8")
    one = record(text, "pytorch", "3.12", f"ghcr.io/acme/pytorch@{DIGEST}")
    changed = [
        new for old, new in zip(text.splitlines(), one.splitlines(), strict=True) if old != new
    ]
    assert changed == [f'    published: {{"3.12": ghcr.io/acme/pytorch@{DIGEST}}}']
    assert record(one, "pytorch", "3.12", f"ghcr.io/acme/pytorch@{DIGEST}") == one


def test_what_was_recorded_is_read_again(tmp_path: Path) -> None:
    text = FILE.read_text("utf-8")
    for python in ("3.12", "3.11"):
        text = record(text, "python", python, f"ghcr.io/acme/python@{DIGEST}")
    (path := tmp_path / "catalogue.yaml").write_text(text, "utf-8")
    found = read_catalogue(path)["python"]
    assert found.published == dict.fromkeys(("3.11", "3.12"), f"ghcr.io/acme/python@{DIGEST}")
    assert found == replace(ENTRIES["python"], published=found.published)


def test_a_newer_base_is_written_wherever_its_tag_stands() -> None:
    text = f"ARG BASE=a/b:3.12-slim@sha256:{'1' * 64}\n# a/b:3.12-slim-x@sha256:{'1' * 64}\n"
    assert freshened(text, {"a/b:3.12-slim": DIGEST, "a/b:4": DIGEST}) == (
        f"ARG BASE=a/b:3.12-slim@{DIGEST}\n# a/b:3.12-slim-x@sha256:{'1' * 64}\n"
    )


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("images:\n  other:\n    published: {}\n", "should have an entry `python`"),
        ("images:\n  python:\n    notes: x\n  other:\n    published: {}\n", "line `published: {}`"),
    ],
)
def test_a_catalogue_without_the_line_is_refused(text: str, part: str) -> None:
    with pytest.raises(UserError) as caught:
        record(text, "python", "3.12", f"ghcr.io/acme/python@{DIGEST}")
    assert part in str(caught.value)


# ── what smoke.py thinks of what it finds ───────────────────────────────────────────────────────

WANTED = {"python": "3.12", "frameworks": {"torch": "2.13.0"}, "cuda": "13.0", "writable": ["/w"]}
GOOD = {**WANTED, "uid": 1000, "set_user_id": [], "gradients": {"torch": GRADIENT}}


def test_an_image_as_promised_has_no_fault() -> None:
    assert list(faults(WANTED, GOOD)) == []


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("python", "3.11", "python: should be '3.12', found '3.11'"),
        ("cuda", None, "cuda: should be '13.0', found None"),
        ("frameworks", {"torch": None}, "frameworks: should be"),
        ("uid", 0, "user: should be a plain one, found root"),
        ("set_user_id", ["/bin/su"], "/bin/su: should run as its caller"),
        ("writable", [], "/w: should be writable for user 1000"),
        ("gradients", {"torch": 3.0}, "torch: should differentiate"),
    ],
)
def test_every_broken_promise_is_told(key: str, value: object, part: str) -> None:
    (told,) = faults(WANTED, {**GOOD, key: value})
    assert told.startswith(part)


def test_nvidias_own_images_say_their_cuda_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "cuda-13.0").mkdir()
    (tmp_path / "cuda").symlink_to("cuda-13.0")
    assert linked_cuda(tmp_path / "cuda") == "13.0"
    assert linked_cuda(tmp_path / "none") is None
