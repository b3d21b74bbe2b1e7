"""Read YAML as GitHub does: version 1.2 words, so that `on` is a name and not `true`."""

from __future__ import annotations

import re

import yaml

from simulators.actions_values import Value


class _Loader(yaml.SafeLoader):
    """A safe loader with the core schema of YAML 1.2: https://yaml.org/spec/1.2.2/#103-core-schema."""


_Loader.yaml_implicit_resolvers = {}
_CORE: tuple[tuple[str, str, str], ...] = (
    ("null", r"(?:~|null|Null|NULL|)\Z", "~nN"),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", "tTfF"),
    ("int", r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z", "-+.0123456789"),
)
for _tag, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"\Z"), [""])


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


class YamlError(Exception):
    """A file that is not YAML, or says a key twice."""


def load(text: str) -> Value:
    """Parse one document; a mapping that says a key twice is refused, as on GitHub."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_duplicates(node)
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as fault:
        raise YamlError(" ".join(str(fault).split())) from fault
    finally:
        loader.dispose()


def _refuse_duplicates(node: yaml.Node) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicates(item)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        if str(key.value).lower() in seen:
            line = key.start_mark.line + 1
            raise YamlError(f"(Line: {line}): '{key.value}' is already defined")
        seen.add(str(key.value).lower())
        _refuse_duplicates(value)
