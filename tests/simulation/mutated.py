"""Run the server with one mistake until an oracle speaks: `python -m tests.simulation.mutated`.

The mistake is put into the module's source as it is imported, before anything else is: so this is
a program of its own, and each mutation another run of it.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import json
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import CodeType

from tests.simulation.mutations import MUTATIONS, Edit, Mutation
from tests.simulation.weather import Weather

_STORY_TRIES = 12  # seeds: each draws how long everything takes


class Stale(Exception):  # noqa: N818 - reads as what it is
    """The text that a mutation replaces is not there exactly once."""


def replaced(source: str, edits: Sequence[Edit]) -> str:
    """Return the source with each edit made. Raises: Stale."""
    for edit in edits:
        count = source.count(edit.old)
        if count != 1:
            raise Stale(
                f"{edit.module}: should have the text once, found it {count} times:\n{edit.old}"
            )
        source = source.replace(edit.old, edit.new)
    return source


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module with its edits; never from what was compiled before."""

    def __init__(self, fullname: str, path: str, edits: Sequence[Edit]) -> None:
        super().__init__(fullname, path)
        self._edits = edits

    def get_code(self, fullname: str) -> CodeType:
        """Compile the edited source."""
        path = self.get_filename(fullname)
        return compile(replaced(Path(path).read_text(), self._edits), path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules that are to be edited."""

    def __init__(self, edits: Sequence[Edit]) -> None:
        self._edits = edits

    def find_spec(
        self,
        fullname: str,
        path: object = None,
        target: object = None,  # noqa: ARG002 - as finders have it
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the edited module's spec."""
        mine = [edit for edit in self._edits if edit.module == fullname]
        if not mine:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path)  # type: ignore[arg-type]
        if found is None or found.origin is None:
            return None
        found.loader = _Loader(fullname, found.origin, mine)
        return found


def checked(mutation: Mutation) -> None:
    """See whether every edit of a mutation still fits. Raises: Stale."""
    for module in {edit.module for edit in mutation.edits}:
        found = find_spec(module)
        if found is None or found.origin is None:
            raise Stale(f"{module}: should be a module, found none.")
        edits = [edit for edit in mutation.edits if edit.module == module]
        replaced(Path(found.origin).read_text(), edits)


def seeds_of(mutation: Mutation, first: int, search: int) -> Iterator[int]:
    """Yield the seeds that are known to show it, then others."""
    yield from mutation.seeds
    yield from (seed for seed in range(first, first + search) if seed not in mutation.seeds)


def weather_of(mutation: Mutation) -> Weather:
    """Return how deliveries fare in the history that shows a mutation."""
    return Weather(replayed=1.0 if mutation.replayed else 0.0)


def found_by(mutation: Mutation, seeds: Iterator[int], *, all_of_them: bool) -> dict[str, object]:
    """Live histories until one is judged bad; `all_of_them`: go on, to know the share."""
    sys.meta_path.insert(0, _Finder(mutation.edits))
    from tests.simulation import judging  # after the hook: it imports the server

    if mutation.story and not all_of_them:
        return _in_its_story(mutation)
    tried, bad = 0, list[int]()
    said = list[str]()
    for seed in seeds:
        tried += 1
        found = judging.seeded(mutation.world, seed)
        now_said = found if all_of_them else _of(mutation, found)
        if now_said:
            bad.append(seed)
            said = said or now_said[:3]
            if not all_of_them:
                break
    return {"name": mutation.name, "seeds": bad, "said": said, "tried": tried}


def _of(mutation: Mutation, said: list[str]) -> list[str]:
    """Return what the oracle says that is to find the mistake."""
    return [one for one in said if mutation.by in {"", one.partition(":")[0]}]


def _in_its_story(mutation: Mutation) -> dict[str, object]:
    """Live the one story that shows it, with one seed after the other."""
    from tests.simulation import judging

    seeds = mutation.seeds or tuple(range(_STORY_TRIES))
    for seed in seeds:
        if mutation.world == "hub":
            said = judging.calm_story(mutation.story, mutation.plan, weather_of(mutation), seed)
        else:
            said = judging.engine_story(mutation.story, seed)
        said = _of(mutation, said)
        if said:
            break
    return {"name": mutation.name, "story": mutation.story, "said": said[:3], "seeds": [seed]}


def main(words: Sequence[str] | None = None) -> int:
    """Run one mutation, print what found it as JSON; 1: nothing did."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutated")
    parser.add_argument("name", help="a mutation's name, or `list`")
    parser.add_argument("--first", type=int, default=0, help="the first seed that is searched")
    parser.add_argument("--search", type=int, default=0, help="how many seeds are searched")
    parser.add_argument("--share", action="store_true", help="try all of them, for the share")
    wish = parser.parse_args(words)
    if wish.name == "list":
        print("\n".join(one.name for one in MUTATIONS))
        return 0
    mutation = next(one for one in MUTATIONS if one.name == wish.name)
    seeds = seeds_of(mutation, wish.first, wish.search)
    if wish.share:  # of drawn histories, whatever is known of them
        seeds = iter(range(wish.first, wish.first + wish.search))
    told = found_by(mutation, seeds, all_of_them=wish.share)
    print(json.dumps(told))
    return 0 if told["said"] else 1


if __name__ == "__main__":
    sys.exit(main())
