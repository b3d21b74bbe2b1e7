"""Say which files a subset of a dataset has, as its card tells: pure.

https://huggingface.co/docs/hub/datasets-manual-configuration
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from webhook_server.sources.source import SourceNotFound

CARD = "README.md"  # `load_dataset(PATH, SUBSET)` looks there for what the subset is
_SHOWN = 12  # names of subsets in a message
_MOST = 1000  # patterns of one subset: they are kept with the run, and told to its agent
_BRACES = re.compile(r"\{([^{}]{1,500})\}")


def patterns_of(place: str, subset: str, card: Any) -> tuple[str, ...]:
    """Return patterns for the files of a subset, the card included.

    Raises: SourceNotFound naming the subsets that there are.
    """
    configurations = list(_configurations(card))
    for one in configurations:
        if one.get("config_name") == subset:
            found = tuple(dict.fromkeys((CARD, *_patterns(one))))
            if len(found) > _MOST:
                raise SourceNotFound(
                    f"{place}/subset: should have files by at most {_MOST} patterns, found"
                    f" {len(found)}. Name them with `include`."
                )
            if len(found) > 1:
                return found
    names = [str(one.get("config_name")) for one in configurations]
    told = ", ".join(names[:_SHOWN]) + (
        f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else ""
    )
    raise SourceNotFound(
        f"{place}/subset: should be one whose files the dataset's card names"
        f" ({told or 'it names none'}), found {subset}. Change it, or name files with `include`."
    )


def _configurations(card: Any) -> Iterator[dict[str, Any]]:
    found = card.get("configs") if isinstance(card, dict) else None
    if isinstance(found, list):
        yield from (one for one in found if isinstance(one, dict))


def _patterns(configuration: dict[str, Any]) -> Iterator[str]:
    folder = _text(configuration.get("data_dir")).strip("/")
    paths = [path for path in _paths(configuration.get("data_files")) if path]
    if not paths and folder:
        yield f"{folder}/*"
    for path in paths:
        whole = f"{folder}/{path}" if folder else path
        for plain in _alternatives(whole):
            yield from _plain(plain)


def _paths(value: Any) -> Iterator[str]:
    """Yield the paths of `data_files`: a text, a list, or entries with a split and a path."""
    if isinstance(value, str):
        yield value.removeprefix("./").lstrip("/")
    elif isinstance(value, list):
        for item in value:
            yield from _paths(item.get("path") if isinstance(item, dict) else item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _paths(item)


def _text(value: Any) -> str:
    return value.removeprefix("./") if isinstance(value, str) else ""


def _alternatives(pattern: str) -> Iterable[str]:
    """Yield what braces mean, which only globs know."""
    braces = _BRACES.search(pattern)
    if braces is None:
        return [pattern]
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    # One pair of braces is usual; the rest of several stays as it is, and matches nothing.
    return [f"{before}{one}{after}" for one in braces[1].split(",")]


def _plain(pattern: str) -> Iterator[str]:
    """Yield a glob in the words of fnmatch, whose `*` passes `/` too."""
    yield pattern.replace("**", "*")
    if "**/" in pattern:  # it may stand for no folder at all
        yield pattern.replace("**/", "")
