"""What the small languages of a spec take; what they refuse is in the table of wrong specs."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from cynthus import grammar, source_grammar
from cynthus.hosts import address_is_public, host_complaint
from cynthus.spec import GpuNeed


@pytest.mark.parametrize(
    "text",
    [
        "hf://datasets/acme/demo",
        "hf://datasets/squad",
        "hf://models/bert-base-uncased",
        "hf://datasets/Acme-1/De.mo_2@refs/convert/parquet",
        "hf://models/a/b@0123456789abcdef0123456789abcdef01234567",
        "kaggle://datasets/zynicide/wine-reviews",
        "kaggle://datasets/a/B_c-d@12",
        "kaggle://competitions/titanic",
        "kaggle://models/google/gemma/pyTorch/2b-it",
        "kaggle://models/a/b/keras/1.5-x@3",
        "gs://my-bucket",
        "gs://my-bucket/",
        "gs://my_bucket.example.org/a/b%20c",
        "https://host.example.org/a.tgz",
        "https://host.example.org",
        "https://host.example.org?x=1",
        "https://host.example.org:8443/a/../b",
        "https://8.8.8.8/a",
        "https://[2606:4700:4700::1111]:443/a",
        "https://xn--mnchen-3ya.de/a",
        "https://a.b.c.d.example.org./x",
        "https://1password.example.org/x",
    ],
)
def test_sources_of_every_kind_are_taken_as_they_are(text):
    assert source_grammar.source(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "pytorch",
        "ubuntu:24.04",
        "python:3.11-slim-bookworm",
        "acme/base:1",
        "ghcr.io/acme/a__b/c-d.e:V1.2_x",
        "registry.example.org:5000/base:1",
        "8.8.8.8:5000/base:1",
        "nvcr.io/nvidia/pytorch:24.10-py3",
        "europe-docker.pkg.dev/p/r/i@sha256:" + "0" * 64,
        "ghcr.io/acme/base:1.2@sha256:" + "f" * 64,
        "pytorch@sha256:" + "a" * 64,
    ],
)
def test_image_references_are_taken(text):
    assert grammar.image_reference(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "numpy",
        "scikit-learn>=1.5",
        "torch==2.5.*",
        "ray[tune,default]>=2,<3",
        "ray[]",
        "a (>=1)",
        "zope.interface",
        "A_b-C.d ~= 1.0",
        "x===1.0+local.1",
        "x!=1.0.*",
        "x>1!2.0rc1",
        "tomli>=2; python_version < '3.11'",
        'x; (os_name == "nt" or sys_platform != "linux") and extra == "gpu"',
        "x; 'linux' in sys_platform",
        "x; python_version not in '3.8 3.9'",
    ],
)
def test_packages_are_taken(text):
    assert grammar.package(text) == text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (".", "."),
        ("./", "."),
        ("a", "a"),
        ("./a//b/", "a/b"),
        ("a/./b", "a/b"),
        (".github/x", ".github/x"),
        (".gitignore", ".gitignore"),
        ("a..b", "a..b"),
        ("...", "..."),
        ("größe/模型", "größe/模型"),
        ("a b/c", "a b/c"),
        ("a-b/-c", "a-b/-c"),
        ("outputs/**/*.[ab]?", "outputs/**/*.[ab]?"),
        ("50%/x", "50%/x"),
    ],
)
def test_paths_come_out_in_one_form(text, found):
    assert grammar.path(text) == found


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1MB", 10**6),
        ("16GB", 16 * 10**9),
        ("16GiB", 16 * 2**30),
        ("1TiB", 2**40),
        ("1000TB", 10**15),
    ],
)
def test_sizes_are_bytes(text, count):
    assert grammar.size(text) == count


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("1h30m", 5400),
        ("2h", 7200),
        ("1d", 86400),
        ("1d1h1m1s", 90061),
        ("120d", 120 * 86400),
        ("1h0m", 3600),
    ],
)
def test_durations_are_read(text, seconds):
    assert grammar.duration(text, grammar.LONGEST_DURATION) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["5", "5.0", "5.00", "0.01", "1000000"])
def test_money_is_exact(text):
    assert grammar.money(text) == Decimal(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("accuracy >= baseline - 0.01", "accuracy >= baseline - 0.01"),
        ("loss<0.5", "loss < 0.5"),
        ("eval/loss  <=  baseline  *  1.02", "eval/loss <= baseline * 1.02"),
        ("f1 == baseline.f1-macro + 0", "f1 == baseline.f1-macro"),
        ("loss > -1.5e-3", "loss > -0.0015"),
        ("a >= baseline.a", "a >= baseline"),
        ("baseline > baseline", "baseline > baseline"),
        ("a < 1e99", "a < 1E+99"),
    ],
)
def test_gates_are_read_and_written_in_one_form(text, written):
    gate = grammar.gate(text)
    assert gate.text == written
    assert grammar.gate(gate.text) == gate


@pytest.mark.parametrize(
    ("text", "need"),
    [
        ("l4", GpuNeed("l4", 1)),
        ("l4:2", GpuNeed("l4", 2)),
        ("a100-80gb:16", GpuNeed("a100-80gb", 16)),
        ("rtx4090", GpuNeed("rtx4090")),
    ],
)
def test_gpus_are_read(text, need):
    assert grammar.gpu(text) == need


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("/data/a", "/data/a", True),
        ("/data/a", "/data/a/b", True),
        ("/data/a/b", "/data/a", True),
        ("/data/a", "/data/ab", False),
        ("/data/a", "/models/a", False),
    ],
)
def test_overlap_is_by_whole_names(one, other, overlap):
    assert grammar.paths_overlap(one, other) is overlap


@pytest.mark.parametrize(
    ("pattern", "root"),
    [
        ("outputs/model", "/workspace/outputs/model"),
        ("outputs/*.png", "/workspace/outputs"),
        ("*.png", "/workspace"),
        ("a/b[0-9]/c", "/workspace/a"),
        (".", "/workspace"),
    ],
)
def test_a_pattern_lies_below_its_fixed_part(pattern, root):
    assert grammar.glob_root(pattern) == root


@pytest.mark.parametrize(
    "word",
    [
        "train",
        "3d",
        "1.2.3",
        "v1",
        "none",
        "nope",
        "0xg",
        "1e",
        "e3",
        "12:99",
        "a:b",
        "2024-1",
        "1-2-3",
        "inf",
        "nan",
        ".",
        "..",
        "-",
        "+",
        "_1",
    ],
)
def test_ordinary_words_are_text(word):
    assert grammar.yaml_reading(word).is_text


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("8.8.8.8", True),
        ("134744072", True),
        ("0x08080808", True),
        ("010.8.8.8", True),
        ("[2606:4700::1111]", True),
        ("[2002:808:808::1]", True),
        ("[64:ff9b::808:808]", True),
        ("example.org", True),
        ("127.0.0.1.example.org", True),
        ("[2002:a00:1::1]", False),
        ("[64:ff9b:1::1]", False),
        ("[100::1]", False),
        ("192.88.99.256", False),
    ],
)
def test_addresses_are_judged_in_every_spelling(host, public):
    assert (host_complaint(host) is None) is public


def test_addresses_as_numbers_are_judged_alike():
    assert address_is_public(0x08080808, 4)
    assert not address_is_public(0xA9FEA9FE, 4)  # 169.254.169.254
    assert not address_is_public((0xFFFF << 32) + 0xA9FEA9FE, 6)
