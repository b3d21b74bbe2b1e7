"""The scanner for planted secrets finds each spelling: one that finds nothing proves nothing."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.canaries import ArgumentWatch, files, hits

VALUE = 'k9!/+é"x-47110815'
RAW = VALUE.encode()
LEFT_BEHIND = {
    "plain": b"a " + RAW + b" b",
    "base64": base64.b64encode(RAW),
    "base64 after one byte": base64.b64encode(b"x" + RAW + b"yz"),
    "base64 after two bytes": base64.b64encode(b"xy" + RAW + b"z"),
    "base64url": base64.urlsafe_b64encode(b"user:" + RAW),
    "hex": RAW.hex().encode(),
    "URL": quote(VALUE, safe="").encode(),
    "JSON": json.dumps({"a": VALUE}).encode(),
    "gzip": b"head" + gzip.compress(b"in " + RAW) + b"tail",
    "zlib": zlib.compress(json.dumps(VALUE).encode()),
}


@pytest.mark.parametrize("data", LEFT_BEHIND.values(), ids=LEFT_BEHIND.keys())
def test_a_planted_value_is_found(data: bytes) -> None:
    assert hits([VALUE], [("somewhere", data)])


def test_other_text_is_no_hit() -> None:
    assert hits([VALUE], [("somewhere", b"k9!/+ *** " + gzip.compress(b"***"))]) == []


def test_names_of_files_count_and_what_is_left_out_does_not(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "k9!47110815").write_text("nothing")
    (tmp_path / "left").write_text("k9!47110815")
    assert hits(["k9!47110815"], files(tmp_path, "left")) == ["the name kept/k9!47110815: plain"]


def test_arguments_of_processes_are_seen() -> None:
    import subprocess
    import sys

    words = [sys.executable, "-c", "import sys; sys.stdin.read()", "canary-47110815"]
    with ArgumentWatch() as watch, subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        while not hits(["canary-47110815"], watch.sources()):
            pass
        process.communicate()
