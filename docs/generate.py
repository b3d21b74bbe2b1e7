"""Write the pages that are made from the code: the spec, settings, metrics, screens and others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cynthus.example import SHOWN, commented
from cynthus.schema import load

SPEC_PAGE = Path(__file__).parent / "spec.md"
POLICY_PAGE = Path(__file__).parent / "policy.md"
POLICY_EXAMPLE = Path(__file__).parent.parent / "examples" / "cynthus-policy.yml"

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


_POLICY_HEAD = """\
# The repository's policy: `.github/cynthus-policy.yml`

What a repository lets its people and runs do. Only the file of the **default branch** counts, so
that no branch and no pull request can widen it for itself; the server's own limits win over it.
Without the file every key has its default. A push that changes it takes effect at once, and the
commit gets a check run `cynthus/policy` with every fault on its line. While the file cannot be
used, nothing that costs starts, and every refusal names the faults. `cynthus validate
.github/cynthus-policy.yml` shows them before you push.

This page is generated: change `schemas/cynthus_policy.schema.json`, then run `make docs`.

```yaml
{example}```
"""

_POLICY_RULES = """
## What the lines do

*Refused*: a run whose provider, GPU or number of instances lies beyond `limits` ends before it
costs anything, and says which line it was. *Lowered*: its `max_cost`, `max_duration` and
`keep_warm` are cut down to theirs, and a notice says so. *Held*: beyond a line of `approval`, and
always for a commit of a fork, a run waits without an instance; its check run is `action_required`.
It looks again every hour, since prices and policies change, and ends when nobody has approved it
within 7 days.

An approval is for exactly one commit, one spec with its overrides, one image and one most cost.
Any other of these voids it. All attempts together stay within that cost; where a later one cannot,
the run is held again. Repeated attempts of an approved run need no second approval otherwise.

More time (`/cynthus extend`) is ordered from the start, since an instance's own hard end cannot be
moved while it runs. It never passes the line of `approval.duration` of a run that was not approved.

Times, money and lists are read as in [the spec](spec.md#how-the-file-is-read).
"""


def policy_page() -> str:
    """Return the whole reference page of a repository's policy."""
    schema = load("cynthus_policy")
    head = _POLICY_HEAD.format(example=POLICY_EXAMPLE.read_text("utf-8"))
    return head + "".join(_sections(schema, schema, "", seen=set())) + _POLICY_RULES


def spec_page() -> str:
    """Return the whole reference page of the spec."""
    schema = load("cynthus")
    head = _HEAD.format(example=commented(SHOWN))
    return head + "".join(_sections(schema, schema, "", seen=set())) + _RULES


def _sections(
    schema: dict[str, Any], root: dict[str, Any], where: str, *, seen: set[int]
) -> Iterator[str]:
    """Yield one table for an object, then the sections of the objects inside it, each once."""
    if id(schema) in seen:
        return
    seen.add(id(schema))
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
            yield from _sections(inner, root, f"{where}.{key}" if where else key, seen=seen)


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


_FORMS = {"one_gpu": "text or group", "allowance": "role or group", "role": "role"}


def _value(rule: dict[str, Any]) -> str:
    if "const" in rule:
        return f"`{json.dumps(rule['const'])}`"
    if "enum" in rule:
        return ", ".join(f"`{_code(json.dumps(word))}`" for word in rule["enum"])
    if "type" in rule:
        return _TYPES[rule["type"]] + _bounds(rule)
    if "$ref" in rule:
        return _FORMS.get(rule["$ref"].rpartition("/")[2], "text")
    return " or ".join(dict.fromkeys(_value(form) for form in rule["anyOf"]))


def _bounds(rule: dict[str, Any]) -> str:
    low, high = rule.get("minimum"), rule.get("maximum")
    return f" from {low} to {high}" if low is not None and high is not None else ""


def _cell(text: str) -> str:
    return _code(text).replace("<name>", "&lt;name&gt;")


def _code(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    from docs import (
        generate_catalogue,
        generate_metrics,
        generate_screens,
        generate_threat_model,
    )
    from docs.generate_settings import PAGE, settings_page

    SPEC_PAGE.write_text(spec_page(), "utf-8")
    POLICY_PAGE.write_text(policy_page(), "utf-8")
    generate_catalogue.PAGE.write_text(generate_catalogue.catalogue_page(), "utf-8")
    PAGE.write_text(settings_page(), "utf-8")
    generate_metrics.PAGE.write_text(generate_metrics.metrics_page(), "utf-8")
    generate_screens.PAGE.write_text(generate_screens.screens_page(), "utf-8")
    generate_threat_model.write()
