"""The scanner for planted secrets finds each spelling: one that finds nothing proves nothing."""

from __future__ import annotations

import base64
import gzip
import html
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, create_engine, insert

from tests.canaries import (
    ArgumentWatch,
    Hit,
    ProcessWatch,
    Source,
    database,
    files,
    first_words,
    found,
    hits,
)

VALUE = 'k9!/+é"x<47110815'
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
    "HTML": html.escape(VALUE).encode(),
    "reversed": VALUE[::-1].encode(),
    "gzip": b"head" + gzip.compress(b"in " + RAW) + b"tail",
    "zlib": zlib.compress(json.dumps(VALUE).encode()),
}


@pytest.mark.parametrize("data", LEFT_BEHIND.values(), ids=LEFT_BEHIND.keys())
def test_a_planted_value_is_found(data: bytes) -> None:
    assert hits([VALUE], [("somewhere", data)])


# ── every kind of place, with every spelling in it ──────────────────────────────────────────────


def in_a_database(folder: Path, data: bytes) -> Iterator[Source]:
    url = f"sqlite:///{folder / 'a.db'}"
    table = Table(
        "t", MetaData(), Column("id", Integer, primary_key=True), Column("b", LargeBinary)
    )
    engine = create_engine(url)
    table.metadata.create_all(engine)
    with engine.begin() as connection:
        # Long enough for several of its pages: within them the file has no whole value any more.
        connection.execute(insert(table).values(b=b"-" * 4000 + data + b"-" * 4000))
    engine.dispose()
    return database(url)


def in_a_text_column(folder: Path, data: bytes) -> Iterator[Source]:
    url = f"sqlite:///{folder / 'a.db'}"
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("s", String))
    engine = create_engine(url)
    table.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table).values(s=data.decode()))
    engine.dispose()
    return database(url)


def in_a_file(folder: Path, data: bytes) -> Iterator[Source]:
    (folder / "inner").mkdir()
    (folder / "inner" / "a.log").write_bytes(data)
    return files(folder)


def in_a_file_name(folder: Path, data: bytes) -> Iterator[Source]:
    (folder / os.fsdecode(data.replace(b"/", b"_"))).touch()
    return files(folder)


PACKED = {"gzip", "zlib"}  # bytes that no text takes
SINKS: dict[str, tuple[Callable[[Path, bytes], Iterator[Source]], set[str]]] = {
    "a database": (in_a_database, set()),
    "a text column": (in_a_text_column, PACKED),
    "a file": (in_a_file, set()),
    "a file's name": (in_a_file_name, PACKED | {"plain", "JSON", "HTML", "reversed"}),  # has a `/`
}


@pytest.mark.parametrize("sink", SINKS)
def test_every_spelling_is_found_in_every_kind_of_place(sink: str, tmp_path: Path) -> None:
    plant, without = SINKS[sink]
    for number, (name, data) in enumerate(LEFT_BEHIND.items()):
        if name not in without:
            folder = tmp_path / str(number)
            folder.mkdir()
            told = found({"the token": VALUE}, plant(folder, data))
            assert {hit.secret for hit in told} == {"the token"}, name


def test_arguments_and_environments_of_what_we_start_are_seen() -> None:
    texts = [data.decode() for name, data in LEFT_BEHIND.items() if name not in PACKED]
    wait = "import sys; sys.stdin.read()"
    told = {f"LEFT_{number}": text for number, text in enumerate(texts)}
    words = [sys.executable, "-c", wait]
    with (
        ProcessWatch() as watch,
        subprocess.Popen([*words, *texts], stdin=subprocess.PIPE) as one,
        subprocess.Popen(words, stdin=subprocess.PIPE, env=os.environ | told) as other,
    ):
        kinds: set[str] = set()
        while not {"arguments", "environment"} <= kinds:
            kinds = {
                hit.source.split()[0] for hit in found({"it": VALUE}, watch.sources(first_words))
            }
        one.communicate()
        other.communicate()
    spelled = {hit.spelling for hit in found({"it": VALUE}, watch.sources(first_words))}
    assert {"plain", "hex", "URL", "JSON", "HTML", "reversed", "base64 at 0"} <= spelled


def test_a_hit_names_the_secret_and_its_place() -> None:
    sources = [("a log", b"one 1111-secret"), ("a page", b"two 2222-secret".hex().encode())]
    assert found({"first": "1111-secret", "second": "2222-secret"}, sources) == [
        Hit("a log", "first", "plain"),
        Hit("a page", "second", "hex"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwcyJ9.c2lnbmF0dXJlc2lnbmF0dXJl",
        "cya_" + "a" * 43,
        "cye_" + "b-_" * 14 + "x",
        "cyr_k0123456789a.1800000000." + "c" * 43,
        "x-access-token:ghs_" + "d" * 36 + "@",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE",
    ],
)
def test_what_only_a_program_knows_is_found_by_its_shape(text: str) -> None:
    assert [hit.spelling for hit in found({}, [("a log", b"a " + text.encode())])] == ["shape"]
    assert found({}, [("a log", gzip.compress(text.encode()))])


def test_other_text_is_no_hit() -> None:
    assert hits([VALUE], [("somewhere", b"k9!/+ *** " + gzip.compress(b"***"))]) == []
    harmless = b"cya_ is how it begins; eyJ.eyJ. too; -----BEGIN PUBLIC KEY-----\nMIIB; ghs_short"
    assert found({"it": VALUE}, [("somewhere", harmless)]) == []


def test_names_of_files_count_and_what_is_left_out_does_not(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "k9!47110815").write_text("nothing")
    (tmp_path / "left").write_text("k9!47110815")
    assert hits(["k9!47110815"], files(tmp_path, "left")) == ["the name kept/k9!47110815: plain"]


def test_arguments_of_processes_are_seen() -> None:
    words = [sys.executable, "-c", "import sys; sys.stdin.read()", "canary-47110815"]
    with ArgumentWatch() as watch, subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        while not hits(["canary-47110815"], watch.sources()):
            pass
        process.communicate()
