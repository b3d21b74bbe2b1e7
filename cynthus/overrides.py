"""`key=value` on top of a `cynthus.yaml`: read by the file's own reader, with its verdicts.

An override is put into the file's tree as if the file said it, so no value gets in that the file
would not take. What makes another image, or runs something else, is for the file alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cynthus import nodes
from cynthus.nodes import Broken, Faults, Group, Mark, Node, Place, Scalar
from cynthus.spec import Spec
from cynthus.specfile import parse, read_tree, refused_character
from cynthus.specreader import read_spec

#: What may be overridden, and what it means.
OVERRIDABLE: tuple[tuple[str, str], ...] = (
    ("gpu", "GPU type with an optional count, several in order: `l4`, `l4:2`, `l4,t4`"),
    ("cpu", "CPU cores of each instance: `8`"),
    ("memory", "memory of each instance: `32GB`"),
    ("disk", "disk of each instance: `200GB`"),
    ("nodes", "instances that work together: `2`"),
    ("spot", "`true`, `false` or `prefer`"),
    ("provider", "who lends the instances: `gcp`"),
    ("places", "regions or zones, in order: `us-central1,europe-west4-b`"),
    ("max_duration", "longest time: `2h`, `1h30m`"),
    ("max_cost", "most US dollars, all attempts: `5.00`"),
    ("attempts", "most attempts: `1`"),
    ("keep_warm", "how long the instance waits for the next run: `10m`, `0`"),
    ("env.NAME", "an entry that `env` of the file has; `name` alone will do: `epochs=3`"),
)
_Path = tuple[str, ...]
_OUTSIDE = {"attempts": ("retry", "attempts"), "keep_warm": ("keep_warm",)}
_PATHS: Mapping[str, _Path] = {
    key: _OUTSIDE.get(key, ("resources", key)) for key, _ in OVERRIDABLE if "." not in key
}
_BY_NAME = {".".join(path): path for path in _PATHS.values()} | dict(_PATHS)
_NAMES = {key: key for key in _PATHS}
_GPU, _PLACES = _PATHS["gpu"], _PATHS["places"]
#: What else a spec has → why no override reaches it.
_FIXED: Mapping[str, str] = {
    **dict.fromkeys(("image", "src"), "Another image has to be built for it"),
    **dict.fromkeys(("run", "secrets"), "What is executed, and with what, is the commit's"),
    **dict.fromkeys(("data", "outputs", "checkpoint"), "What is read and kept is the commit's"),
    **dict.fromkeys(("version", "name", "labels"), "It says which run this is"),
    **dict.fromkeys(("triggers", "gate"), "It is a rule for all runs of the commit"),
}
_LONGEST_SHOWN = 60  # of a key: enough to recognise it


def apply(text: bytes, path: str, overrides: Sequence[tuple[str, str]]) -> Spec:
    """Return the Spec that a file means with these overrides.

    Raises: UserError with all faults of the file; where it has none, with all of the overrides.
    Those say in `where` the key as it was written, have line 0, for they stand in no file, and
    the override's number from 1 as column.
    """
    spec = parse(text, path)
    tree = read_tree(text, Faults(path))
    if tree is None or not overrides:  # parse took the file, so there is a tree
        return spec
    faults = Faults(nodes.harmless(path))
    taken: dict[_Path, str] = {}
    for number, (key, value) in enumerate(overrides):
        # A line that no file has leads from a fault back to its override.
        at = Place(node=_scalar(key, number), where="", faults=faults)
        target = _target(at, key, tuple(name for name, _ in spec.env))
        if target in taken:
            at.fault("set once", f"Remove it, or `{taken[target]}`", "the same again")
        elif target is not None:
            taken[target] = _short(key)
            tree = _put(tree, target, _value(at, target, value, number))
    found = read_spec(Place(node=tree, where="", faults=faults))
    _name_by_key(faults, [key for key, _ in overrides])
    if found is None or faults.found:
        raise faults.error()
    return found


def _name_by_key(faults: Faults, keys: Sequence[str]) -> None:
    faults.found = {
        replace(fault, line=0, column=-fault.line, where=_short(keys[-fault.line - 1]))
        for fault in faults.found
    }


def _short(key: str) -> str:
    return nodes.harmless(key if len(key) <= _LONGEST_SHOWN else key[: _LONGEST_SHOWN - 1] + "…")


# ── which key is meant ──────────────────────────────────────────────────────────────────────────


def _target(at: Place, key: str, declared: Sequence[str]) -> _Path | None:
    """Return the path in the file, or None once it was noted what is wrong with the key."""
    name = key.replace("/", ".")
    if name in _BY_NAME:
        return _BY_NAME[name]
    entry = name.removeprefix("env.")
    found = _entries(entry, declared)
    if len(found) == 1:
        return ("env", found[0])
    if found:
        at.fault("one entry of `env`", f"Write {_either(found)}", nodes.shown(key))
    elif entry == name and _section(name) in _FIXED:
        reason = _FIXED[_section(name)]
        at.fault("left to the file", f"{reason}. Edit the file and push", nodes.shown(key))
    else:
        at.fault("a key that can be set", _remedy(name, declared), nodes.shown(key))
    return None


def _entries(name: str, declared: Sequence[str]) -> Sequence[str]:
    """Return the entries of `env` that are meant: exactly this one, or all that read alike."""
    if name in declared:
        return (name,)
    return [entry for entry in declared if _plain(entry) == _plain(name)]


def _plain(name: str) -> str:
    return name.casefold().replace("-", "_")


def _section(name: str) -> str:
    return name.partition(".")[0]


def _either(names: Sequence[str]) -> str:
    return " or ".join(f"`{name}`" for name in names)


def _remedy(name: str, declared: Sequence[str]) -> str:
    section, dot, last = name.rpartition(".")
    entries = {_plain(entry): entry for entry in declared}
    known = entries if section == "env" else {**({} if dot else entries), **_NAMES}
    near = difflib.get_close_matches(_plain(last)[:_LONGEST_SHOWN], known, n=1)
    if near:
        return f"Did you mean `{known[near[0]]}`? Write that, or remove the override"
    declares = f"an entry of `env` ({', '.join(declared)})" if declared else "what `env` declares"
    return f"Write one of {', '.join(_NAMES)}, or {declares[:200]}"


# ── what it is set to ───────────────────────────────────────────────────────────────────────────


def _scalar(text: str, number: int, *, plain: bool = False) -> Scalar:
    return Scalar(mark=Mark(-number - 1, 0), text=text, plain=plain)


def _value(at: Place, target: _Path, text: str, number: int) -> Node:
    """Return the value as the file would hold it: text in `env`, plain words elsewhere."""
    refused = refused_character(text)
    if refused is not None:
        at.fault("plain text", "Remove it", f"the character U+{ord(refused):04X}")
        return Broken(mark=Mark(-number - 1, 0))
    if target[0] == "env":
        return _scalar(text, number)
    if target == _PLACES or (target == _GPU and "," in text):
        items = tuple(_scalar(part, number, plain=True) for part in text.split(","))
        return nodes.Sequence(mark=Mark(-number - 1, 0), items=items)
    return _scalar(text, number, plain=True)


def _put(tree: Node, path: _Path, value: Node) -> Node:
    """Return the tree with one value set, and with the groups around it where they are missing."""
    pairs = tree.pairs if isinstance(tree, Group) else ()
    key, *below = path
    old = next((pair for pair in pairs if _is_named(pair[0], key)), None)
    name = old[0] if old else Scalar(mark=value.mark, text=key, plain=False)
    inner = old[1] if old else Group(mark=value.mark, pairs=())
    new = (name, _put(inner, tuple(below), value) if below else value)
    kept = tuple(new if pair is old else pair for pair in pairs)
    return Group(mark=tree.mark, pairs=kept if old else (*kept, new))


def _is_named(node: Node, key: str) -> bool:
    return isinstance(node, Scalar) and node.text == key
