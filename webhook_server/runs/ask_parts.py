"""The kinds of words in an ask: options, targets, commits, names, keys. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cynthus import grammar
from cynthus.grammar import Wrong
from cynthus.repository_policy import Verb
from webhook_server.runs import hostile
from webhook_server.runs.ask_words import Word

_SHA = re.compile(r"[0-9A-Fa-f]{7,40}")
_TARGET = re.compile(r"(?:cynthus/)?[a-z0-9][a-z0-9-]{0,39}(?:[/#][1-9][0-9]{0,8})?")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]{0,159}")

A_TARGET = "a run: its id, its spec's name, or a name with a number such as `digits/3`"
_OPTIONS: Mapping[Verb, tuple[str, ...]] = {
    Verb.LOGS: ("--last", "--grep"),
    Verb.RETRY: ("--on-demand",),
}


class NoAsk(Exception):  # noqa: N818 - never leaves the reading of an ask
    """The line is none; the text is a sentence about it."""


def shown(text: str) -> str:
    """Return a foreign word for a message."""
    return hostile.code(text, 60) or "An empty word"


@dataclass(frozen=True)
class Rest:
    """What stands after the verb."""

    verb: Verb
    words: list[Word]

    def parted(self) -> tuple[list[str], list[tuple[str, Word]]]:
        """Return the plain words, and those that say key=value; no key stands there twice."""
        self._refuse_options()
        plain: list[str] = []
        pairs: list[tuple[str, Word]] = []
        for word in self.words:
            key, value = word.cut("=")
            if value is None:
                plain.append(word.text)
            else:
                once("The key", [other for other, _ in pairs], key.text)
                pairs.append((_as_key(key.text), value))
        return plain, pairs

    def option(self, name: str, *, takes: bool) -> str | None:
        """Take an option out of the words; return its value, or "" where it takes none."""
        for number, word in enumerate(self.words):
            option, value = word.cut("=")
            if option.text != name or not option.bare:
                continue
            del self.words[number]
            if not takes and value is None:
                return ""
            if takes and value is None and number < len(self.words):
                value = self.words.pop(number)
            if not takes or value is None:
                raise NoAsk(f"`{name}` takes {'a value' if takes else 'no value'}.")
            return value.text
        return None

    def one(self, what: str) -> str | None:
        """Return the next word, if there is one."""
        self._refuse_options()
        if not self.words:
            return None
        word = self.words.pop(0)
        if word.cut("=")[1] is not None:
            raise NoAsk(f"{shown(word.text)} should be {what}.")
        return word.text

    def need(self, what: str) -> str:
        """Return the next word, which must be there."""
        found = self.one(what)
        if found is None:
            raise NoAsk(f"{what[:1].upper()}{what[1:]} is missing.")
        return found

    def target(self) -> str | None:
        """Return the next word as a target."""
        found = self.one(A_TARGET)
        return None if found is None else as_target(found)

    def end(self) -> None:
        """Refuse what is left."""
        self._refuse_options()
        if self.words:
            raise NoAsk(f"{shown(self.words[0].text)} is too much.")

    def _refuse_options(self) -> None:
        for word in self.words:
            if word.text.startswith("-"):
                raise NoAsk(_unknown_option(self.verb, word.cut("=")[0].text))


def _unknown_option(verb: Verb, text: str) -> str:
    options = _OPTIONS.get(verb, ())
    if text in options:
        return f"{shown(text)} stands there twice."
    near = next(iter(difflib.get_close_matches(text[:40].lower(), options, n=1)), None)
    return f"{shown(text)} is no option of `{verb}`." + (f" Did you mean `{near}`?" if near else "")


def _as_key(text: str) -> str:
    if not _KEY.fullmatch(text):
        raise NoAsk(f"{shown(text)} should be a key such as `gpu` or `env.EPOCHS`.")
    return text


def once(what: str, seen: Sequence[str], text: str) -> None:
    """Refuse what was seen before. Raises: NoAsk."""
    if text in seen:
        raise NoAsk(f"{what} {shown(text)} stands there twice.")


def is_sha(text: str) -> bool:
    """Say whether a word is a commit."""
    return _SHA.fullmatch(text) is not None


def as_sha(text: str) -> str:
    """Return a commit, in lower case. Raises: NoAsk."""
    if not is_sha(text):
        raise NoAsk(f"{shown(text)} should be a commit: 7 to 40 hex digits.")
    return text.lower()


def as_target(text: str) -> str:
    """Return what names a run. Raises: NoAsk."""
    if not _TARGET.fullmatch(text):
        raise NoAsk(f"{shown(text)} should be {A_TARGET}.")
    return text


def as_names(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the names of specs, each one once. Raises: NoAsk."""
    names: list[str] = []
    for text in texts:
        once("The name", names, text)
        try:
            names.append(grammar.run_name(text))
        except Wrong as wrong:
            raise NoAsk(f"{shown(text)} should be a spec's name ({wrong.should}).") from wrong
    return tuple(names)
