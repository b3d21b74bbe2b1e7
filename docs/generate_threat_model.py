"""Write into docs/threat_model.md which tests prove each of its cases.

The page's rows are the list of cases; a test says with `@pytest.mark.case("W7")` which of them it
proves. Only the last cell of a row is written, so that page and tests cannot drift apart.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parent / "threat_model.md"
TESTS = Path(__file__).parent.parent / "tests"
NOBODY = "–"  # noqa: RUF001 - a dash, as in print
LATER = "Later:"  # opens what a case's row says of its tests while there are none
_ROW = re.compile(r"\| (?P<id>[A-Z][0-9]+) \| (?P<happens>.+?) \| (?P<holds>.+?) \| .*\|")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the page."""

    id: str
    happens: str
    holds: str

    @property
    def is_later(self) -> bool:
        """Return whether the page owns that nothing proves it, or a part of it, yet."""
        return LATER in self.holds


def cases(page: str) -> list[Case]:
    """Return the rows of the page, in their order."""
    return [Case(**found.groupdict()) for line in page.splitlines() if (found := _ROW.match(line))]


def marks(folder: Path) -> dict[str, set[str]]:
    """Return the files, relative to the folder, whose tests prove each id. Imports none of them."""
    proved: dict[str, set[str]] = defaultdict(set)
    for path in sorted(folder.rglob("test_*.py")):
        text = path.read_text("utf-8")
        if "mark.case" in text:
            for name in _marked(ast.parse(text)):
                proved[name].add(path.relative_to(folder).as_posix())
    return proved


def _marked(tree: ast.Module) -> Iterator[str]:
    """Yield the ids in the tree. Raises: TypeError for a mark that cannot be read like this."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.case":
            for argument in node.args:
                if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
                    raise TypeError(f"line {node.lineno}: a case should be a text, written out.")
                yield argument.value


def threat_model_page(page: str, proved: Mapping[str, set[str]]) -> str:
    """Return the page with the last cell of each row as the tests say."""
    return "".join(f"{_told(line, proved)}\n" for line in page.splitlines())


def _told(line: str, proved: Mapping[str, set[str]]) -> str:
    found = _ROW.match(line)
    if found is None:
        return line
    files = "<br>".join(
        f"[{path}](../tests/{path})" for path in sorted(proved.get(found["id"], ()))
    )
    return f"| {found['id']} | {found['happens']} | {found['holds']} | {files or NOBODY} |"


def write() -> None:
    """Write the page anew. Safe to repeat."""
    PAGE.write_text(threat_model_page(PAGE.read_text("utf-8"), marks(TESTS)), "utf-8")


if __name__ == "__main__":
    write()
