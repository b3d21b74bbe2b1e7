"""The examples say to Cynthus what Cynthus understands. tests/flow runs them to their releases."""

from __future__ import annotations

import ast
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from cynthus.wire import DISPATCH_TYPE

EXAMPLES = sorted(path.parent for path in Path("examples").glob("*/cynthus.yaml"))
REF = "${{ github.event.client_payload.commit_sha || github.sha }}"
NAMES = [path.name for path in EXAMPLES]
# The workflow commands of the spec's last section that carry a value.
COMMAND = re.compile(
    r"phase|progress|metric name=[a-z]+,step=\{epoch\}|(notice|warning|error)( title=[a-z]+)?"
)


def test_the_examples_of_the_demo_exist() -> None:
    assert {"digits", "digits-pytorch"} <= set(NAMES)


def said(example: Path) -> list[str]:
    """Give the first argument of every `say(...)` in train.py, f-strings as they are written."""
    tree = ast.parse((example / "train.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    mine = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "say"]
    return [ast.unparse(call.args[0]).removeprefix("f").strip("'\"") for call in mine]


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_every_workflow_command_is_well_formed(example: Path) -> None:
    commands = said(example)
    assert [one for one in commands if not COMMAND.fullmatch(one)] == []
    for wanted in ("phase", "progress", "metric name=accuracy,step={epoch}"):
        assert wanted in commands
    assert "metric name=loss,step={epoch}" in commands


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_requirements_are_pinned(example: Path) -> None:
    lines = (example / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert wanted
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line) for line in wanted)


def spec(example: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((example / "cynthus.yaml").read_text())
    return loaded


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_every_output_of_the_spec_is_written_by_the_training(example: Path) -> None:
    source = (example / "train.py").read_text()
    for output in spec(example)["outputs"]:
        folder, _, name = output["path"].partition("/")
        assert folder == "outputs"
        assert f'"{name}"' in source


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_the_workflow_asks_for_the_least_and_uses_the_action(example: Path) -> None:
    text = (example / ".github/workflows/cynthus.yml").read_text()
    workflow = yaml.load(text, yaml.BaseLoader)
    assert set(workflow["on"]) == {"push", "pull_request", "repository_dispatch"}
    assert workflow["on"]["repository_dispatch"] == {"types": [DISPATCH_TYPE]}
    checkout = workflow["jobs"]["run"]["steps"][0]
    assert checkout["with"]["ref"] == REF
    assert workflow["permissions"] == {"contents": "read", "id-token": "write"}
    (action,) = [
        step for step in workflow["jobs"]["run"]["steps"] if "cynthus/cynthus@" in step["uses"]
    ]
    assert action["with"]["server"] == "${{ vars.CYNTHUS_SERVER }}"
    assert action["with"]["registry"] == "${{ vars.CYNTHUS_REGISTRY }}"


def test_the_pytorch_example_brings_the_whole_data_set() -> None:
    # Read by the format's own definition, since numpy is no dependency of ours.
    with zipfile.ZipFile("examples/digits-pytorch/digits.npz") as archive:
        shapes = {name: header(archive.read(name))["shape"] for name in archive.namelist()}
    assert shapes == {"pictures.npy": (1797, 8, 8), "names.npy": (1797,)}


def header(npy: bytes) -> dict[str, Any]:
    """Read the header: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html."""
    assert npy[:6] == b"\x93NUMPY"
    (length,) = struct.unpack("<H", npy[8:10])
    described: dict[str, Any] = ast.literal_eval(npy[10 : 10 + length].decode())
    return described


class GreyRow(bytes):
    """A row of a picture, with the one method of numpy that the writer asks for."""

    def tobytes(self) -> bytes:
        return bytes(self)


class GreyPicture(list[GreyRow]):
    """Rows of grey values, shaped as numpy says it."""

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), len(self[0])


def test_the_picture_writer_of_digits_writes_png() -> None:
    rows = [GreyRow([0, 128, 255]), GreyRow([255, 0, 7])]
    written = digits_png()(GreyPicture(rows))
    assert written.startswith(b"\x89PNG\r\n\x1a\n")
    chunks = dict(png_chunks(written[8:]))
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBB", chunks[b"IHDR"][:10]) == (3, 2, 8, 0)
    assert zlib.decompress(chunks[b"IDAT"]) == b"\0\x00\x80\xff\0\xff\x00\x07"


def digits_png() -> Any:
    """Take `png` out of the example without importing scikit-learn."""
    tree = ast.parse(Path("examples/digits/train.py").read_text())
    tree.body = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "png"
    ]
    names: dict[str, Any] = {"struct": struct, "zlib": zlib}
    exec(compile(tree, "train.py", "exec"), names)
    return names["png"]


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks = []
    while data:
        (length,) = struct.unpack(">I", data[:4])
        kind, body, check = data[4:8], data[8 : 8 + length], data[8 + length : 12 + length]
        assert struct.pack(">I", zlib.crc32(kind + body)) == check
        chunks.append((kind, body))
        data = data[12 + length :]
    return chunks
