"""jsonschema as an independent referee: the schema and our own reader must agree.

Whatever the reader takes, the schema takes; so whatever the schema refuses, the reader refuses.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from cynthus.errors import UserError
from cynthus.grammar import whole_number
from cynthus.nodes import Faults, Group, Node, Scalar, Sequence
from cynthus.schema import check, load, schema_names
from cynthus.specfile import parse, read_tree
from cynthus.specreader import KEYS
from tests.fixtures.bad_specs import CASES, MARKER, RIGHT, WHOLE

ROOT = Path(__file__).parent.parent.parent
GOOD = sorted((ROOT / "tests" / "fixtures" / "good_specs").glob("*.yaml"))
BAD = [RIGHT + text for text, _, _ in CASES] + [text for text, _, _ in WHOLE]
SCHEMA = load("cynthus")


def plain(node: Node) -> object:
    """Return the JSON value that an editor would check against the schema."""
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    if isinstance(node, Group):
        return {str(plain(key)): plain(value) for key, value in node.pairs}
    assert isinstance(node, Scalar), "a file with broken parts has no JSON value"
    if not node.plain:
        return node.text
    number = whole_number(node.text)
    if number is not None:
        return number
    words = {"true": True, "false": False, "": None, "~": None, "null": None}
    if node.text in words:
        return words[node.text]
    try:
        return float(node.text) if node.text.replace(".", "", 1).isdigit() else node.text
    except ValueError:
        return node.text


@cache
def judged() -> list[tuple[str, object]]:
    """Return the bad texts that are YAML of the strict kind, with the value the schema judges."""
    found = []
    for text in BAD:
        faults = Faults("f")
        tree = read_tree(text.replace(MARKER, "").encode("utf-8", "surrogatepass"), faults)
        if tree is not None and not faults.found:
            found.append((text, plain(tree)))
    return found


def reader_takes(text: str) -> bool:
    try:
        parse(text.replace(MARKER, "").encode("utf-8", "surrogatepass"), "f")
    except UserError:
        return False
    return True


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_the_schema_takes_every_good_spec(path):
    faults = Faults("f")
    tree = read_tree(path.read_bytes(), faults)
    assert tree is not None
    assert check("cynthus", plain(tree)) == []


def test_most_wrong_values_are_refused_by_the_schema_too():
    refused = sum(bool(check("cynthus", value)) for _, value in judged())
    # What only the reader can see: private addresses, overlaps, words YAML 1.1 reads otherwise.
    assert len(judged()) > 900
    assert refused / len(judged()) > 0.65


def test_what_the_schema_refuses_the_reader_refuses():
    refused = [text for text, value in judged() if check("cynthus", value)]
    assert [text for text in refused if reader_takes(text)] == []


def _objects(schema: object, where: str = ""):
    """Yield every object schema that has properties, with the name of the key it stands under."""
    if isinstance(schema, dict):
        if "properties" in schema and isinstance(schema["properties"], dict):
            yield where, schema
        for key, inner in schema.items():
            name = where if key in ("properties", "items", "anyOf", "$defs") else key
            yield from _objects(inner, name)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _objects(inner, where)


def test_the_schema_and_the_reader_know_the_same_keys():
    found = {where: tuple(schema["properties"]) for where, schema in _objects(SCHEMA)}
    found["gpu"] = found.pop("one_gpu")
    assert found == KEYS


def test_every_object_of_the_schema_is_closed():
    assert all(schema["additionalProperties"] is False for _, schema in _objects(SCHEMA))


def test_every_property_has_a_description_and_examples_that_fit_it():
    for where, schema in _objects(SCHEMA):
        for key, rule in schema["properties"].items():
            assert rule.get("description", "").endswith("."), (where, key)
            assert rule.get("examples"), (where, key)
            validator = Draft202012Validator({**rule, "$defs": SCHEMA["$defs"]})
            for example in rule["examples"]:
                assert validator.is_valid(example), (where, key, example)


def _spec_with(where: str, key: str, example: object) -> dict[str, object]:
    """Return a spec around one example of the schema."""
    spec: dict[str, object] = {"version": 1, "name": "a", "run": "b"}
    around: dict[str, object] = {
        "": {key: example},
        "push": {"triggers": {"push": {key: example}}},
        "one_gpu": {"resources": {"gpu": {"type": "l4", key: example}}},
        "data": {"data": [{"name": "a", **_source_for(key), key: example}]},
        "outputs": {"outputs": [{key: example}]},
        "checkpoint": {"checkpoint": {"path": "checkpoints", key: example}},
    }
    value = around.get(where, {where: {key: example}})
    assert isinstance(value, dict)
    return {**spec, **value}


def _source_for(key: str) -> dict[str, object]:
    """Return a source beside which the key may stand."""
    if key == "sha256":
        return {"source": "https://host.example.org/a"}
    return {"source": "kaggle://datasets/a/b" if key == "unpack" else "hf://datasets/a/b"}


EXAMPLES = [
    (where, key, example)
    for where, schema in _objects(SCHEMA)
    for key, rule in schema["properties"].items()
    for example in rule["examples"]
]


@pytest.mark.parametrize(("where", "key", "example"), EXAMPLES)
def test_every_example_of_the_schema_is_taken_by_the_reader(where, key, example):
    value = _spec_with(where, key, example)
    if where == "data" and key == "source" and str(example).startswith("https"):
        value["data"][0]["sha256"] = "0" * 64
    assert check("cynthus", value) == []
    parse(json.dumps(value).encode(), "f")


def test_schemas_are_found_and_are_schemas():
    assert "cynthus" in schema_names()
    for name in schema_names():
        Draft202012Validator.check_schema(load(name))


def test_a_violation_names_the_place_and_the_rule_and_never_the_value():
    value = {"version": 1, "name": "a", "run": "b", "env": {"A": 1}, "secrets": ["hunter2 x"]}
    found = check("cynthus", value)
    assert [violation.path for violation in found] == ["env/A", "secrets/0"]
    assert "hunter2" not in " ".join(violation.message for violation in found)


def test_several_violations_come_in_order():
    found = check("cynthus", {"version": 2, "name": "A", "x": 1})
    assert [violation.path for violation in found] == ["", "", "name", "version"]
    assert "should have no keys but version, name, run" in found[0].message + found[1].message


def test_pyyaml_reads_good_specs_to_the_same_values():
    """Another reader of the same text must not see something else: words are quoted for this."""
    for path in GOOD:
        value = yaml.safe_load(path.read_bytes())
        assert check("cynthus", value) == [], path.name
