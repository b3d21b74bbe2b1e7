"""What a run's release consists of."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynthus.wire import Output
from tests.builders import a_kept, a_run, an_attempt, an_environment
from webhook_server.publish.assets import AssetFile, digest_of
from webhook_server.runs import release as shape
from webhook_server.runs.model import Run, State
from webhook_server.runs.release import PART_BYTES, AssetPlan, Stretch, plan


def stored(path: str, size_bytes: int = 7) -> Output:
    return Output(
        path=path, size_bytes=size_bytes, sha256=hashlib.sha256(path.encode()).hexdigest()
    )


def run_with(*outputs: Output) -> Run:
    return replace(a_run(State.RELEASING), outputs=outputs, attempts=(an_attempt(),))


def names(*paths: str) -> list[str]:
    return [asset.name for asset in plan(run_with(*(stored(path) for path in paths))).assets]


@pytest.mark.parametrize(
    ("paths", "wanted"),
    [
        (["model/best run.pt"], ["model-best-run.pt"]),
        (["a/b", "a-b", "a b"], ["a-b", "a-b-2", "a-b-3"]),
        (["A.txt", "a.txt"], ["A.txt", "a-2.txt"]),
        (
            ["manifest.json", "log.txt", "metrics.json"],
            ["manifest-2.json", "log-2.txt", "metrics-2.json"],
        ),
        (["cynthus.yaml"], ["cynthus-2.yaml"]),
        ([".hidden", "...", "日本"], ["hidden", "file", "file-2"]),
        (["x" * 400], ["x" * 90 + "--" + "x" * 90]),
    ],
)
def test_every_file_gets_a_name_that_github_keeps(paths: list[str], wanted: list[str]) -> None:
    assert names(*paths) == wanted


@given(st.lists(st.text(min_size=1, max_size=40), max_size=30, unique=True))
def test_names_are_safe_and_never_collide(paths: list[str]) -> None:
    found = names(*paths)
    assert len({name.lower() for name in found}) == len(found)
    assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name) for name in found)


def test_a_file_over_the_limit_is_split_and_the_manifest_tells_how_to_join() -> None:
    size_bytes = 2 * PART_BYTES + 5
    planned = plan(run_with(stored("big.bin", size_bytes)))
    assert [asset.size_bytes for asset in planned.assets] == [PART_BYTES, PART_BYTES, 5]
    assert [asset.segments for asset in planned.assets] == [
        (
            Stretch(
                path="big.bin",
                offset=n * PART_BYTES,
                size_bytes=min(PART_BYTES, 5 if n == 2 else PART_BYTES),
            ),
        )
        for n in range(3)
    ]
    [file] = planned.files
    assert file["parts"] == ["big.bin.part001", "big.bin.part002", "big.bin.part003"]
    assert file["join"] == "cat big.bin.part* > big.bin"
    assert PART_BYTES < 2 << 30


def test_a_file_of_exactly_the_limit_is_not_split() -> None:
    assert len(plan(run_with(stored("big.bin", PART_BYTES))).assets) == 1


def opener(files: dict[str, bytes]) -> Callable[[str], BinaryIO]:
    def open_output(path: str) -> BinaryIO:
        return io.BytesIO(files[path])

    return open_output


def test_more_files_than_a_release_takes_are_bundled() -> None:
    files = {f"outputs/{n:04}.txt": f"file {n}\n".encode() * (n % 5) for n in range(1200)}
    outputs = [
        Output(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in files.items()
    ]
    planned = plan(run_with(*outputs, replace(stored("x"), left_out="too large")))
    [bundle] = planned.assets
    open_output = opener(files)
    file = AssetFile(bundle, open_output)
    data = b"".join(iter(lambda: file.read(1000), b""))
    assert len(data) == bundle.size_bytes
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    assert found == files
    assert planned.files[0]["bundle"] == "outputs.tar"
    assert planned.files[-1]["left_out"] == "too large"


def test_an_asset_can_be_read_again_from_its_beginning() -> None:
    asset = AssetPlan(name="x", segments=(Stretch(path="a", offset=2, size_bytes=3),), sha256=None)
    file = AssetFile(asset, opener({"a": b"0123456789"}))
    assert file.read(2) + file.read(100) == b"234"
    file.seek(0)
    assert file.read(100) == b"234"
    assert digest_of(asset, opener({"a": b"0123456789"})) == hashlib.sha256(b"234").hexdigest()


def test_what_is_left_out_or_empty_is_told_and_not_attached() -> None:
    outputs = (replace(stored("a"), left_out="over the limit"), stored("b", 0), stored("c"))
    planned = plan(run_with(*outputs))
    assert [asset.name for asset in planned.assets] == ["c"]
    assert [file.get("left_out") for file in planned.files] == [
        "over the limit",
        "the file is empty; GitHub takes no empty asset",
        None,
    ]


def test_the_manifest_says_what_it_takes_to_repeat_the_run() -> None:
    run = run_with(stored("a"))
    own = [shape.OwnFile(name="log.txt", size_bytes=3, sha256="0" * 64)]
    found = json.loads(shape.manifest(run, plan(run), own))
    assert found["commit"] == run.key.commit_sha
    assert found["image"] == run.image
    assert found["image_digest"] == "sha256:" + "a" * 64
    assert found["environment"] is None
    assert found["spec"] == {"path": "cynthus.yaml", "sha256": run.spec_sha256}
    assert found["attempts"][0]["provider"] == "fake"
    assert found["files"] == [
        {"path": "a", "size_bytes": 7, "sha256": stored("a").sha256, "asset": "a"}
    ]
    assert found["own_files"] == [{"name": "log.txt", "size_bytes": 3, "sha256": "0" * 64}]


def test_the_manifest_names_what_the_image_consists_of() -> None:
    environment = a_kept()
    run = replace(run_with(stored("requirements.lock")), environment=environment)
    planned = plan(run)
    told = json.loads(shape.manifest(run, planned, []))["environment"]
    lock = hashlib.sha256((an_environment().lock or "").encode()).hexdigest()
    assert (told["key"], told["lock_sha256"]) == (environment.about.key, lock)
    assert told["base_digest"] == "sha256:" + "e" * 64
    # The name is ours then: the user's own file gets another.
    assert [asset.name for asset in planned.assets] == ["requirements-2.lock"]
    without = replace(run, environment=a_kept(lock=None))
    assert [asset.name for asset in plan(without).assets] == ["requirements.lock"]


def test_the_notes_show_metrics_and_how_to_repeat_and_carry_the_marker() -> None:
    run = run_with(stored("a"))
    text = shape.notes(
        run, plan(run), {"acc|uracy @ada": (0.1, 0.9)}, url="https://x.test/r", base=False
    )
    assert f"git checkout {run.key.commit_sha} && cynthus run cynthus.yaml" in text
    assert "acc\\|uracy @ada" not in text
    assert "▁█" in text
    assert text.rstrip().endswith(shape.marker_of(run))
    assert shape.tag_of(run) == "cynthus/digits/1"
