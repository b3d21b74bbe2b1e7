"""What a run's release consists of."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import BinaryIO

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cynthus.packing import PackedFile, pack_name, packed
from cynthus.spec import DataSource
from cynthus.wire import Output
from tests.builders import NOON, a_kept, a_run, a_spec, an_attempt, an_environment, an_offer
from webhook_server.github_api import web_url
from webhook_server.publish.assets import AssetFile, digest_of
from webhook_server.runs import provenance, release_texts
from webhook_server.runs import release as shape
from webhook_server.runs.model import Approval, GateLine, Origin, Run, State
from webhook_server.runs.pinning import bind
from webhook_server.runs.provenance import Builder, Subject
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


@pytest.mark.case("A15")
@given(st.lists(st.text(min_size=1, max_size=40), max_size=30, unique=True))
def test_names_are_safe_and_never_collide(paths: list[str]) -> None:
    found = names(*paths)
    assert len({name.lower() for name in found}) == len(found)
    assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name) for name in found)


@pytest.mark.case("A15")
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


@pytest.mark.case("A15")
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


def a_pack(number: int, **files: bytes) -> tuple[Output, bytes, tuple[PackedFile, ...]]:
    index = [
        PackedFile(path=p, size_bytes=len(c), sha256=hashlib.sha256(c).hexdigest())
        for p, c in files.items()
    ]
    content = b"".join(packed(list(zip(index, files.values(), strict=True))))
    output = Output(
        path=pack_name(number),
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        packed=len(index),
    )
    return output, content, tuple(index)


def test_archives_of_small_files_become_one_that_any_tar_reads() -> None:
    packs = [a_pack(1, a=b"1", b=b"22"), a_pack(2, c=b"333")]
    other, content, index = a_pack(1, a=b"4")
    other = replace(other, path=f"rank-1/{other.path}")
    outputs = [stored("big"), *(pack for pack, _, _ in packs), other]
    indexes = {pack.path: found for pack, _, found in packs} | {other.path: index}
    planned = plan(run_with(*outputs), indexes)
    assert [one.name for one in planned.assets] == [
        "big",
        "packed-001.tar",
        "rank-1-packed-002.tar",
    ]
    blobs = {pack.path: text for pack, text, _ in packs} | {other.path: content}
    file = AssetFile(planned.assets[1], opener(blobs))
    data = b"".join(iter(lambda: file.read(1000), b""))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]
    assert {"a": b"1", "b": b"22", "c": b"333"}.items() <= found.items()
    listed = {entry["path"]: entry for entry in planned.files}
    assert set(listed) == {"big", "a", "b", "c", "rank-1/a"}  # the manifest lists each file
    assert listed["c"]["bundle"] == listed["a"]["bundle"] == "packed-001.tar"
    assert (listed["rank-1/a"]["member"], listed["rank-1/a"]["asset"]) == (
        "a",
        "rank-1-packed-002.tar",
    )


def test_an_encrypted_archive_stays_what_it_is_and_both_digests_are_told() -> None:
    pack = replace(a_pack(1, a=b"1")[0], path=".cynthus/packed-0001.tar.age")
    pack = replace(pack, plain_size_bytes=7, plain_sha256="e" * 64)
    [entry] = plan(run_with(pack)).files
    assert entry["asset"] == "cynthus-packed-0001.tar.age"
    assert (entry["packed"], entry["plain_size_bytes"], entry["plain_sha256"]) == (1, 7, "e" * 64)
    assert not shape.is_readable_pack(pack)


def test_the_notes_say_how_to_join_parts_and_check_them() -> None:
    run = run_with(stored("outputs/model.bin", 2 * PART_BYTES + 1))
    planned = plan(run)
    text = release_texts.notes(run, planned, {}, url="", base=False)
    digest = run.outputs[0].sha256 if run.outputs else ""
    line = (
        f'cat outputs-model.bin.part* > model.bin && echo "{digest}  model.bin" | sha256sum --check'
    )
    assert line in text


def test_a_release_tells_what_the_run_cost_until_its_work_was_over() -> None:
    begins = [NOON + timedelta(minutes=n) for n in (0, 30)]
    lost = an_attempt(1, ordered_at=begins[0], ended_at=begins[0], gone_at=begins[1], lost=True)
    last = an_attempt(2, ordered_at=begins[1], ended_at=begins[1] + timedelta(minutes=60))
    run = a_run(State.RELEASING, attempts=(lost, last), cost_usd=Decimal(7))
    told = shape.as_told(run).cost_usd
    assert told == an_offer().usd_per_hour * Decimal("1.5")
    # Later it is known when the machine went, and the cost has grown until then.
    gone = an_attempt(
        2, ordered_at=begins[1], ended_at=last.ended_at, gone_at=begins[1] + timedelta(hours=9)
    )
    assert shape.as_told(replace(run, attempts=(lost, gone), cost_usd=Decimal(99))).cost_usd == told
    assert shape.as_told(replace(run, attempts=())).cost_usd == 0


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
    found = json.loads(release_texts.manifest(run, plan(run), own))
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
    told = json.loads(release_texts.manifest(run, planned, []))["environment"]
    lock = hashlib.sha256((an_environment().lock or "").encode()).hexdigest()
    assert (told["key"], told["lock_sha256"]) == (environment.about.key, lock)
    assert told["base_digest"] == "sha256:" + "e" * 64
    # The name is ours then: the user's own file gets another.
    assert [asset.name for asset in planned.assets] == ["requirements-2.lock"]
    without = replace(run, environment=a_kept(lock=None))
    assert [asset.name for asset in plan(without).assets] == ["requirements.lock"]


def test_the_notes_show_metrics_and_how_to_repeat_and_carry_the_marker() -> None:
    run = run_with(stored("a"))
    text = release_texts.notes(
        run, plan(run), {"acc|uracy @ada": (0.1, 0.9)}, url="https://x.test/r", base=False
    )
    assert f"git checkout {run.key.commit_sha} && cynthus run --spec cynthus.yaml" in text
    assert "acc\\|uracy @ada" not in text
    assert "▁█" in text
    assert text.rstrip().endswith(shape.marker_of(run))
    assert shape.tag_of(run) == "cynthus/digits/1"


ENTRY = DataSource(name="t", source="hf://datasets/o/d@v1", mount="/data/t")
FILE = DataSource(name="f", source="https://x.test/f", mount="/data/f", sha256="6" * 64)


def told_run(**changes: object) -> Run:
    """Return a run of which everything is known."""
    run = replace(
        run_with(stored("a")),
        environment=a_kept(),
        origin=Origin(asked_by="ada", overrides=(("env.LR", "0.1"),), reproduces="arun00000009"),
        approval=Approval(
            by="grace",
            by_id=1,
            at=NOON,
            commit_sha="b" * 40,
            spec_sha256="d" * 64,
            image=None,
            cap_usd=Decimal(5),
        ),
        gate_lines=(GateLine(text="f1 > 0.5", found=0.6, wanted=0.5, passed=True),),
        baseline_run="base",
        spec=a_spec(
            data=(ENTRY, FILE),
        ),
        datasets=(
            bind(ENTRY, "5" * 40, size_bytes=2_000_000_000, files=10_000),
            bind(FILE, "6" * 64),
        ),
    )
    return replace(run, **changes)  # type: ignore[arg-type]


def test_the_manifest_tells_who_wanted_the_run_who_allowed_it_and_how_it_was_judged() -> None:
    run = told_run()
    found = json.loads(release_texts.manifest(run, plan(run), []))
    assert found["overrides"] == {"env.LR": "0.1"}
    assert found["origin"]["reproduces"] == "arun00000009"
    assert found["approval"] == {"by": "grace", "at": "2026-01-31T12:00:00Z", "cap_usd": "5"}
    assert found["gate"]["lines"][0]["passed"] is True
    assert found["gate"]["baseline_run"] == "base"
    assert found["data"][0]["source"] == "hf://datasets/o/d@v1"
    assert [one["revision"] for one in found["data"]] == ["5" * 40, "6" * 64]
    assert found["data"][0]["size_bytes"] == 2_000_000_000


def test_the_notes_tell_overrides_gate_and_how_to_check() -> None:
    run = told_run()
    text = release_texts.notes(run, plan(run), {}, url="", base=False)
    assert "```text\nenv.LR=0.1\n```" in text
    assert "`/cynthus reproduce cynthus/digits/1`" in text
    assert "gh release download cynthus/digits/1 --dir release && cynthus verify release" in text
    assert "| passed | f1 \\> 0.5 | 0.6 | above 0.5 |" in text
    assert "The baseline is run base." in text


def test_a_release_under_another_name_says_why_and_names_it_everywhere() -> None:
    run = told_run()
    text = release_texts.notes(run, plan(run), {}, url="", base=False)
    again = release_texts.renamed(run, shape.tag_of(run, 2), text)
    assert again.startswith("> The tag ` cynthus/digits/1 ` is taken")
    assert "gh release download cynthus/digits/1-2 --dir" in again
    assert "reproduce cynthus/digits/1`" in again, "a comment names the run, by its number"
    assert again.rstrip().endswith(shape.marker_of(run))


def test_a_model_card_has_facts_and_the_head_that_the_hub_reads() -> None:
    evil = replace(told_run(), spec=a_spec(run="python x.py\n---\n# <b>"))
    card = release_texts.model_card(told_run(), {"acc": (0.5, 0.9)}).decode()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head == {"datasets": ["o/d"], "tags": ["cynthus"]}
    assert "| acc | 0.9 |" in card
    assert "torch 2.7.0" in card
    assert "hf://datasets/o/d@v1 at 555555555555, 2 GB in 10000 files" in card
    lines = release_texts.model_card(evil, {}).decode().splitlines()
    assert lines.count("---") == 2, "the head cannot be ended or begun by a name"
    assert "The run told no metrics." in lines


def test_the_statement_is_in_toto_with_slsa_provenance() -> None:
    run = told_run()
    builder = Builder(url="https://c.test", version="1.2", github_url="https://github.com")
    subjects = [Subject(name="a", sha256="0" * 64)]
    line = provenance.statement(run, subjects, builder)
    assert line == provenance.statement(run, subjects, builder)
    assert line.count(b"\n") == 1
    found = json.loads(line)
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    assert found["subject"] == [{"name": "a", "digest": {"sha256": "0" * 64}}]
    build = found["predicate"]["buildDefinition"]
    assert build["externalParameters"]["commit"] == run.key.commit_sha
    assert build["externalParameters"]["overrides"] == {"env.LR": "0.1"}
    dependencies = {one.get("name", "git"): one for one in build["resolvedDependencies"]}
    assert dependencies["git"]["digest"] == {"gitCommit": run.key.commit_sha}
    assert dependencies["git"]["uri"].startswith("git+https://github.com/acme/vision@")
    assert dependencies["image"]["digest"] == {"sha256": "a" * 64}
    assert dependencies["base"]["digest"] == {"sha256": "e" * 64}
    assert dependencies["data/t"]["uri"] == f"hf://datasets/o/d@{'5' * 40}"
    assert dependencies["data/t"]["digest"] == {"gitCommit": "5" * 40}
    assert dependencies["data/f"]["digest"] == {"sha256": "6" * 64}
    details = found["predicate"]["runDetails"]
    assert details["builder"] == {"id": "https://c.test", "version": {"cynthus": "1.2"}}
    assert details["metadata"]["invocationId"] == "https://c.test/runs/arun00000001"


@pytest.mark.parametrize(
    ("api_url", "seen_at"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://api.acme.ghe.com", "https://acme.ghe.com"),
        ("https://ghe.acme.test/api/v3", "https://ghe.acme.test"),
    ],
)
def test_the_statement_names_the_address_that_people_know(api_url: str, seen_at: str) -> None:
    assert web_url(api_url) == seen_at
