"""Put every mutation to the gate and write down what found it: `python -m tests.simulation.gate`.

`--share N` lives through N drawn histories more with each, to say how many of them show it;
`--write PAGE` puts the table into a page, between its marks.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 600  # of what shows it: a history of a second may take many on a busy machine
SEARCH = 200  # drawn histories, once the known ones show nothing any more
_SHARE_LIMIT_S = 7200
_BEGIN, _END = "<!-- mutations: begin -->", "<!-- mutations: end -->"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What became of one mutation."""

    mutation: Mutation
    said: tuple[str, ...]  # by the oracles; empty: nothing found it
    seeds: tuple[int, ...]  # of the histories that show it
    errors: str = ""
    tried: int = 0  # drawn histories, for the share; 0: not asked for
    shown: int = 0  # by so many of these


def told(mutation: Mutation) -> Told:
    """Return what the known history says of a mutation, in a process of its own."""
    line, errors = _run(mutation, ["--search", str(SEARCH)], LIMIT_S)
    found = json.loads(line) if line else {"said": [], "seeds": []}
    return Told(
        mutation=mutation, said=tuple(found["said"]), seeds=tuple(found["seeds"]), errors=errors
    )


def share(mutation: Mutation, histories: int) -> tuple[int, int]:
    """Return how many drawn histories were tried, and how many of them show a mutation."""
    line, errors = _run(mutation, ["--share", "--search", str(histories)], _SHARE_LIMIT_S)
    if not line:
        raise RuntimeError(f"{mutation.name}: should have been lived through: {errors}")
    found = json.loads(line)
    return int(found["tried"]), len(found["seeds"])


def _run(mutation: Mutation, words: Sequence[str], limit_s: float) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation.mutated", mutation.name, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    lines = done.stdout.splitlines()
    return (lines[-1] if lines else ""), done.stderr[-2000:]


def row(one: Told) -> str:
    """Return a mutation's line of the table."""
    mutation = one.mutation
    where = f"`{mutation.story}`" if mutation.story else "drawn"
    by = sorted({text.partition(":")[0] for text in one.said}) or ["nothing"]
    part = f"{one.shown} of {one.tried}" if one.tried else ""
    seed = one.seeds[0] if one.seeds else ""
    return (
        f"| {mutation.name} | {where}, seed {seed} | {', '.join(by)} | {part} | {mutation.said} |"
    )


def table(rows: Sequence[str]) -> str:
    """Return the table in Markdown."""
    head = (
        "| mistake | found in the history | by invariant | drawn histories that show it | remark |"
    )
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def put(page: str, text: str) -> str:
    """Return a page with the table between its marks. Raises: ValueError, if it has none."""
    if page.count(_BEGIN) != 1 or page.count(_END) != 1:
        raise ValueError(f"page: should have {_BEGIN} and {_END} once each; add them.")
    block = f"{_BEGIN}\n{text}\n{_END}"
    return re.sub(f"{re.escape(_BEGIN)}.*{re.escape(_END)}", lambda _: block, page, flags=re.DOTALL)


def main(words: Sequence[str] | None = None) -> int:
    """Print the table; 1: something was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.gate", description=__doc__)
    parser.add_argument("--share", type=int, default=0, help="drawn histories with each engine bug")
    parser.add_argument("--hub-share", type=int, default=0, help="and with each of GitHub's half")
    parser.add_argument("--write", type=Path, help="the page whose table is replaced")
    wish = parser.parse_args(words)
    rows, missed = [], 0
    for mutation in MUTATIONS:
        one = told(mutation)
        missed += not one.said
        number = wish.hub_share if mutation.world == "hub" else wish.share
        if number:
            tried, shown = share(mutation, number)
            one = Told(**{**vars(one), "tried": tried, "shown": shown})
        rows.append(row(one))
        print(rows[-1], one.errors if not one.said else "", flush=True)
    if wish.write is not None:
        wish.write.write_text(put(wish.write.read_text(), table(rows)))
    print(f"{len(rows)} mistakes, {missed} not found")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
