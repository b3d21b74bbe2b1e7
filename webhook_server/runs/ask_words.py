"""The words of an ask: spaces part them, quotes keep them together. Pure.

Like a shell's words without the shell: no escapes, no substitutions, no patterns. Quotes may
begin and end within a word (`EPOCHS="3"`), and `"` may stand between `'` and the reverse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_PIECE = re.compile(r"""(?P<space> +)|"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^ "']+)""")
_NEEDS_QUOTES = re.compile(r"""[ "']""")


class Unbalanced(ValueError):  # noqa: N818 - read as "raise Unbalanced(...)"
    """A quote that nothing ends; its text is the sign."""


@dataclass(frozen=True)
class Word:
    """One word, as pieces: (text, whether it stood in quotes)."""

    pieces: tuple[tuple[str, bool], ...]

    @property
    def text(self) -> str:
        """Return it without the quotes."""
        return "".join(text for text, _ in self.pieces)

    @property
    def bare(self) -> bool:
        """Say whether it has no quotes."""
        return not any(quoted for _, quoted in self.pieces)

    def cut(self, sign: str) -> tuple[Word, Word | None]:
        """Return what stands before the first bare sign, and after it; None where none is."""
        for number, (text, quoted) in enumerate(self.pieces):
            before, found, after = ("", "", "") if quoted else text.partition(sign)
            if found:
                left = (*self.pieces[:number], *(((before, False),) if before else ()))
                right = (*(((after, False),) if after else ()), *self.pieces[number + 1 :])
                return Word(left), Word(right)
        return self, None

    def parts(self, sign: str) -> Iterator[Word]:
        """Yield what bare signs part."""
        part, rest = self.cut(sign)
        yield part
        while rest is not None:
            part, rest = rest.cut(sign)
            yield part


def words_of(text: str) -> list[Word]:
    """Return the words of one line. Raises: Unbalanced."""
    words: list[Word] = []
    pieces: list[tuple[str, bool]] = []
    at = 0
    while at < len(text):
        found = _PIECE.match(text, at)
        if found is None:
            raise Unbalanced(text[at])
        at = found.end()
        if found["space"]:
            words += [Word(tuple(pieces))] if pieces else []
            pieces = []
        elif found["bare"] is not None:
            pieces.append((found["bare"], False))
        else:
            quoted = found["double"] if found["double"] is not None else found["single"]
            pieces.append((quoted, True))
    return [*words, Word(tuple(pieces))] if pieces else words


def quoted(text: str, special: str = "") -> str:
    """Return text as it must be written to be one word, with `special` signs not bare in it."""
    if text and not _NEEDS_QUOTES.search(text) and not set(special) & set(text):
        return text
    if '"' not in text:
        return f'"{text}"'
    # Between single quotes anything may stand but single quotes; those stand between double ones.
    return "".join(
        f'"{part}"' if part.startswith("'") else f"'{part}'"
        for part in re.findall(r"'+|[^']+", text)
    )
