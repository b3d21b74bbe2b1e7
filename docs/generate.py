"""Write the generated pages: docs/spec.md, docs/settings.md, docs/catalogue.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cynthus.example import SHOWN, commented
from cynthus.schema import load

SPEC_PAGE = Path(__file__).parent / "spec.md"

_HEAD = """\
# The spec: `cynthus.yaml`

The one file a user writes. `cynthus validate cynthus.yaml` shows every fault with its line and
what to write instead; `cynthus show --json cynthus.yaml` prints what a file means; `cynthus init`
writes one that fits the folder it stands in. Editors check it with the schema named in the first
line.

This page is generated: change `schemas/cynthus.schema.json`, then run `make docs`.

```yaml
{example}```
"""

_RULES = """
## How the file is read

The text is UTF-8, at most 64 KiB, one document, nested at most 20 deep. Repeated and unknown
keys, tags (`!`), anchors (`&`), aliases (`*`), merge keys (`<<`), control characters and marks
that turn the reading direction are faults. A byte order mark at the very start is dropped.

A word that some YAML reader takes for something else than text (`no`, `on`, `0777`, `12:30`,
`1_000`, `2024-01-01`, `1e3`, `~`) is a fault where text is wanted: put it in quotes. Numbers are
plain decimal numbers: no sign, no leading zero, no exponent.

All faults of a file are reported together as `path:line:column: where: should be …, found …. What
to do.` What stands under `env` and `secrets` is never shown.

Paths are relative, stay inside the repository, and never touch `.git`. Mounts may not overlap
each other, `/workspace/outputs`, an output or the checkpoint folder. Addresses and registries are
on the public internet; what a name resolves to is checked again by whoever connects to it. `env`
and `secrets` share no name.
"""


def spec_page() -> str:
    """Return the whole reference page of the spec."""
    schema = load("cynthus")
    head = _HEAD.format(example=commented(SHOWN))
    return head + "".join(_sections(schema, schema, "")) + _RULES


def _sections(schema: dict[str, Any], root: dict[str, Any], where: str) -> Iterator[str]:
    """Yield one table for an object, then the sections of the objects inside it."""
    title = f"`{where}`" if where else "Top level"
    yield f"\n## {title}\n\n"
    if where:
        yield f"{schema['description']}\n\n" if "description" in schema else ""
    yield "| key | value | meaning | example |\n|---|---|---|---|\n"
    required = schema.get("required", [])
    for key, rule in schema["properties"].items():
        yield _row(key, rule, required=key in required)
    for key, rule in schema["properties"].items():
        inner = _object_inside(rule, root)
        if inner:
            yield from _sections(inner, root, f"{where}.{key}" if where else key)


def _object_inside(rule: dict[str, Any], root: dict[str, Any]) -> dict[str, Any] | None:
    """Return the object that a key holds: itself, a list's items, or one of several forms."""
    if "$ref" in rule:
        return _object_inside(root["$defs"][rule["$ref"].rpartition("/")[2]], root)
    if "properties" in rule:
        return rule
    if "items" in rule:
        return _object_inside(rule["items"], root)
    found = (_object_inside(form, root) for form in rule.get("anyOf", []))
    return next((form for form in found if form), None)


def _row(key: str, rule: dict[str, Any], *, required: bool) -> str:
    needed = " **required**" if required else ""
    default = f" Default: `{json.dumps(rule['default'])}`." if "default" in rule else ""
    examples = "<br>".join(f"`{_code(json.dumps(item))}`" for item in rule["examples"])
    meaning = _cell(rule["description"]) + default
    return f"| `{key}`{needed} | {_value(rule)} | {meaning} | {examples} |\n"


_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "array": "list",
    "object": "group",
    "boolean": "true or false",
}


def _value(rule: dict[str, Any]) -> str:
    if "const" in rule:
        return f"`{json.dumps(rule['const'])}`"
    if "enum" in rule:
        return ", ".join(f"`{_code(json.dumps(word))}`" for word in rule["enum"])
    if "type" in rule:
        return _TYPES[rule["type"]] + _bounds(rule)
    if "$ref" in rule:
        return "text or group" if rule["$ref"].endswith("/one_gpu") else "text"
    return " or ".join(dict.fromkeys(_value(form) for form in rule["anyOf"]))


def _bounds(rule: dict[str, Any]) -> str:
    low, high = rule.get("minimum"), rule.get("maximum")
    return f" from {low} to {high}" if low is not None and high is not None else ""


def _cell(text: str) -> str:
    return _code(text).replace("<name>", "&lt;name&gt;")


def _code(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    from docs import generate_catalogue
    from docs.generate_settings import PAGE, settings_page

    SPEC_PAGE.write_text(spec_page(), "utf-8")
    generate_catalogue.PAGE.write_text(generate_catalogue.catalogue_page(), "utf-8")
    PAGE.write_text(settings_page(), "utf-8")
