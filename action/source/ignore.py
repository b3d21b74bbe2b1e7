"""Say which files stay out of an image: two ignore files, and what never belongs in one. Pure.

The rules are Docker's own: https://docs.docker.com/build/concepts/context/#dockerignore-files
What its page leaves open is decided as BuildKit decides it (MatchesUsingParentResults of
https://github.com/moby/patternmatcher): the last rule that matches a path, or matched a folder
above it, wins.

`.cynthusignore` speaks the same language. Its lines are read after those of `.dockerignore`, so
they add to them and win over them. A line `!path` of it that names a file in full, without `*`,
`?` or `[`, also lets in what would otherwise be held back: a likely secret, a file over the limit.
"""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass, field

from cynthus.errors import Fault, UserError

DOCKER_NAME = ".dockerignore"
OWN_NAME = ".cynthusignore"

# Left out at any depth whatever the user's rules say: history, caches, our own folders.
NEVER = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        ".venv",
        "__pycache__",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".DS_Store",
        DOCKER_NAME,
        OWN_NAME,
        ".cynthus",
        "cynthus-outputs",
        "cynthus-state",
    }
)


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    keeps: bool  # written with `!`


@dataclass(frozen=True)
class Judged:
    """What the rules say of one path."""

    out: bool
    matched: tuple[bool, ...]  # by rule; what lies below is judged with it


@dataclass(frozen=True)
class Ignore:
    """The rules of one context folder."""

    rules: tuple[_Rule, ...] = ()
    let_in: frozenset[str] = field(default=frozenset())  # named in full by `.cynthusignore`

    @property
    def may_keep_inside(self) -> bool:
        """Say whether an ignored folder may still hold files that are kept."""
        return any(rule.keeps for rule in self.rules)

    def judge(self, path: str, above: tuple[bool, ...] = ()) -> Judged:
        """Judge `path` (relative, with `/`) by the rules and what they said of its folder.

        A rule that could change nothing is not asked, and then does not count for what lies
        below either; this is BuildKit's order, and differs from asking every rule.
        """
        out = False
        matched = []
        for n, rule in enumerate(self.rules):
            known = bool(above) and above[n]
            hit = known or (rule.keeps == out and rule.pattern.fullmatch(path) is not None)
            matched.append(hit)
            if hit:
                out = not rule.keeps
        return Judged(out, tuple(matched))

    def leaves_out(self, path: str) -> bool:
        """Say whether `path` (relative, with `/`) stays out, judging every folder above it."""
        judged = Judged(out=False, matched=())
        parts = path.split("/")
        for n, name in enumerate(parts):
            if name in NEVER:
                return True
            judged = self.judge("/".join(parts[: n + 1]), judged.matched)
        return judged.out

    def lets_in_below(self, folder: str) -> bool:
        """Say whether a file inside `folder` is let in by name."""
        return any(path.startswith(f"{folder}/") for path in self.let_in)

    def then(self, more: Ignore) -> Ignore:
        """Return these rules with further ones, which win, behind them."""
        return Ignore((*self.rules, *more.rules), self.let_in | more.let_in)


def parse(raw: str | bytes, name: str = DOCKER_NAME) -> Ignore:
    """Read an ignore file; `name` says which, and stands in errors.

    Raises: UserError for a line that is no pattern. Docker refuses it too, and passing over it
    would put files into an image that their owner wanted out.
    """
    text = os.fsdecode(raw).removeprefix("\ufeff")
    rules, let_in = [], set()
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("#") or not (wish := line.strip()):
            continue
        keeps = wish.startswith("!")
        wish = wish[1:].strip() if keeps else wish
        pattern = posixpath.normpath(wish).lstrip("/") if wish else wish
        if pattern == ".":
            continue
        if (compiled := _compile(pattern)) is None:
            raise _no_pattern(name, number, line.strip())
        rules.append(_Rule(compiled, keeps))
        if keeps and name == OWN_NAME and not _has_wildcard(pattern):
            let_in.add(_ESCAPED.sub(r"\1", pattern))
    return Ignore(tuple(rules), frozenset(let_in))


_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def _has_wildcard(pattern: str) -> bool:
    return not set(_ESCAPED.sub("", pattern)).isdisjoint("*?[")


def literal(path: str) -> str:
    """Return the line that means this path (relative, with `/`).

    What cannot stand in a line, such as a line end or a blank at its own end, becomes `?`: such a
    line means paths that look like it, too, and lets none in.
    """
    line = re.sub(r"([*?\[\\])", r"\\\1", path)
    line = re.sub(r"^\s|\s$", "?", "".join(sign if sign.isprintable() else "?" for sign in line))
    return f"\\{line}" if line.startswith(("!", "#")) else line


def _no_pattern(name: str, number: int, found: str) -> UserError:
    printable = found.encode("utf-8", "backslashreplace").decode()
    message = (
        f"should be a pattern, found `{printable}`. Close the bracket, or write `\\` before a "
        f"character that stands for itself."
    )
    fault = Fault(path=name, line=number, column=1, where="", message=message)
    return UserError(str(fault), (fault,))


# One item of a class: a character or a range, `\` before what stands for itself; `]` and `-` must
# be escaped, the first too: https://pkg.go.dev/path/filepath#Match
_MEMBER = r"(?:\\.|[^\\\]-])(?:-(?:\\.|[^\\\]-]))?"
_CLASS = re.compile(rf"\[(\^?)((?:{_MEMBER})+)\]", re.DOTALL)
_MEMBERS = re.compile(r"(\\.|[^\\\]-])(?:-(\\.|[^\\\]-]))?", re.DOTALL)
_LITERAL = re.compile(r"[^*?\[\]\\]*")


def _compile(pattern: str) -> re.Pattern[str] | None:
    """Translate a pattern, or return None for what Docker refuses."""
    if not pattern:
        return None
    # `**name` ends in name at any depth; with a wildcard behind it the `**` means whole folders.
    if pattern.startswith("**") and _LITERAL.fullmatch(rest := pattern[2:]):
        start = "(?:.*/)?" if rest.startswith("/") else ".*"
        return re.compile(start + re.escape(rest.removeprefix("/")), re.DOTALL)
    out, at = "", 0
    while at < len(pattern):
        found = _token(pattern, at)
        if found is None:
            return None
        out += found[0]
        at = found[1]
    try:
        return re.compile(out, re.DOTALL)
    except re.error:  # a range that runs backwards
        return None


def _token(pattern: str, at: int) -> tuple[str, int] | None:
    """Return the expression for what stands at `at`, and where the next one begins."""
    if pattern.startswith("**", at):
        at += 2 + pattern.startswith("/", at + 2)
        return ("(?:.*/)?" if at < len(pattern) else ".*"), at
    sign = pattern[at]
    if sign == "*":
        return "[^/]*", at + 1
    if sign == "?":
        return "[^/]", at + 1
    if sign == "[":
        found = _CLASS.match(pattern, at)
        return (_class(found[1], found[2]), found.end()) if found else None
    if sign == "\\":
        return (re.escape(pattern[at + 1]), at + 2) if at + 1 < len(pattern) else None
    return re.escape(sign), at + 1


def _class(inverted: str, members: str) -> str:
    def one(found: re.Match[str]) -> str:
        ends = [re.escape(end.removeprefix("\\") or "\\") for end in found.groups() if end]
        return "-".join(ends)

    return f"[{inverted}{_MEMBERS.sub(one, members)}]"
