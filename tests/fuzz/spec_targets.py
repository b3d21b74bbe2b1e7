"""Fuzz targets that read a user's YAML: the spec and the repository's policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cynthus import policyfile, specfile
from cynthus.errors import Fault, UserError
from cynthus.grammar import whole_number
from cynthus.nodes import Broken, Faults, Group, Node, Scalar, Sequence
from cynthus.schema import check
from cynthus.spec import spec_from_json, spec_to_json
from simulators.actions_commands import parse_command

T = TypeVar("T")


def spec(data: bytes) -> None:
    """A file is a spec that the schema takes and that survives JSON, or all its faults."""
    found = _parsed(specfile.parse, data)
    if found is not None:
        assert spec_from_json(spec_to_json(found)) == found
        assert check("cynthus", _value(data)) == []


def policy(data: bytes) -> None:
    """A file is a policy that the schema takes, or all its faults."""
    if _parsed(policyfile.parse, data) is not None:
        assert check("cynthus_policy", _value(data)) == []


def _parsed(parse: Callable[[bytes, str], T], data: bytes) -> T | None:
    try:
        return parse(data, "file.yaml")
    except UserError as error:
        refused = error
    _check_faults(refused.faults, data)
    return None


def _check_faults(faults: tuple[Fault, ...], data: bytes) -> None:
    assert faults
    assert list(faults) == sorted(faults)
    # The reader's own idea of lines: PyYAML ends one at three signs that files rarely hold.
    most = max(data.count(b"\n"), len(data.decode("utf-8", "replace").splitlines())) + 1
    for fault in faults:
        assert 1 <= fault.line <= most
        assert fault.column >= 1
        assert str(fault).isprintable()
        assert parse_command(fault.message) is None


def _value(data: bytes) -> object:
    faults = Faults("file.yaml")
    tree = specfile.read_tree(data, faults)
    assert tree is not None
    assert not faults.found
    return _plain(tree)


_WORDS = {"true": True, "false": False, "": None, "~": None, "null": None}


def _plain(node: Node) -> object:
    """Return the JSON value that an editor would check against the schema."""
    if isinstance(node, Sequence):
        return [_plain(item) for item in node.items]
    if isinstance(node, Group):
        return {str(_plain(key)): _plain(value) for key, value in node.pairs}
    assert not isinstance(node, Broken)
    return _scalar(node)


def _scalar(node: Scalar) -> object:
    number = whole_number(node.text) if node.plain else None
    if number is not None:
        return number
    if node.plain and node.text in _WORDS:
        return _WORDS[node.text]
    decimal = node.text.replace(".", "", 1)
    if node.plain and decimal.isascii() and decimal.isdigit():
        return float(node.text)
    return node.text
