"""Partial answers: what the query parameter `fields` leaves of a JSON answer. Pure.

https://cloud.google.com/storage/docs/json_api#partial-response
"""

from __future__ import annotations

import re
from typing import Any

from simulators.gcp_http import GoogleError

_TOKEN = re.compile(r"\s*([A-Za-z_*][\w-]*|\*|[(),/])")
_END = ""


def masked(value: Any, fields: str) -> Any:
    """Return the parts of an answer that a mask names: `kind,items(name,size),a/b,*`."""
    tokens = _tokens(fields)
    tree = _level(tokens, fields)
    if tokens[0] != _END:
        raise _bad(fields)
    return _kept(value, tree)


def _tokens(fields: str) -> list[str]:
    tokens, at, text = [], 0, fields.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found:
            raise _bad(fields)
        tokens.append(found[1])
        at = found.end()
    return [*tokens, _END]


def _level(tokens: list[str], fields: str) -> dict[str, Any]:
    """Read names up to a closing bracket or the end; an empty dict below a name keeps it all."""
    tree: dict[str, Any] = {}
    while True:
        place = tree.setdefault(_name(tokens, fields), {})
        while tokens[0] == "/":
            del tokens[0]
            place = place.setdefault(_name(tokens, fields), {})
        if tokens[0] == "(":
            del tokens[0]
            place.update(_level(tokens, fields))
            if tokens.pop(0) != ")":
                raise _bad(fields)
        if tokens[0] != ",":
            return tree
        del tokens[0]


def _name(tokens: list[str], fields: str) -> str:
    if tokens[0] in {_END, "(", ")", ",", "/"}:
        raise _bad(fields)
    return tokens.pop(0)


def _kept(value: Any, tree: dict[str, Any]) -> Any:
    if not tree:
        return value
    if isinstance(value, list):
        return [_kept(item, tree) for item in value]
    if not isinstance(value, dict):
        return value
    chosen = {name: tree.get(name, tree.get("*")) for name in value}
    return {n: _kept(value[n], inner) for n, inner in chosen.items() if inner is not None}


def _bad(fields: str) -> GoogleError:
    return GoogleError(400, f"Invalid field selection {fields}", reason="invalidParameter")
