"""Say which files stay out of an image: `.dockerignore`, and what never belongs in one. Pure.

The rules are Docker's own: https://docs.docker.com/build/concepts/context/#dockerignore-files
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

# Left out at any depth whatever `.dockerignore` says: history, caches and places where tools keep
# credentials. An image travels further than a working copy.
NEVER = (
    ".git",
    ".hg",
    ".svn",
    ".venv",
    "__pycache__",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".DS_Store",
    ".dockerignore",
    ".cynthus",
    "cynthus-outputs",
    "cynthus-state",
)
SECRETS = (
    ".env",
    ".env.*",
    ".aws",
    ".azure",
    ".git-credentials",
    ".gnupg",
    ".kaggle",
    ".kube",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".ssh",
    "gha-creds-*.json",  # google-github-actions/auth writes it into the workspace
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_rsa",
    "kaggle.json",
)
_SECRET_PATHS = (".docker/config.json",)  # the folder itself often holds Dockerfiles
_HARMLESS = (".env.example", ".env.sample", ".env.template")


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    keeps: bool  # written with `!`


@dataclass(frozen=True)
class Ignore:
    """The rules of one context folder."""

    rules: tuple[_Rule, ...] = ()

    @property
    def may_keep_inside(self) -> bool:
        """Say whether an ignored folder may still hold files that are kept."""
        return any(rule.keeps for rule in self.rules)

    def leaves_out(self, path: str) -> bool:
        """Say whether `path` (relative, with `/`) stays out."""
        if never(path):
            return True
        out = False
        for rule in self.rules:
            if _matches(rule.pattern, path):
                out = not rule.keeps
        return out


def never(path: str) -> bool:
    """Say whether a path is left out whatever the user's rules are."""
    name = posixpath.basename(path)
    return any(fnmatchcase(name, pattern) for pattern in NEVER) or secret(path)


def secret(path: str) -> bool:
    """Say whether a path is one where tools keep credentials."""
    name = posixpath.basename(path)
    if f"/{path}".endswith(tuple(f"/{ending}" for ending in _SECRET_PATHS)):
        return True
    return name not in _HARMLESS and any(fnmatchcase(name, pattern) for pattern in SECRETS)


def parse(text: str) -> Ignore:
    """Read a `.dockerignore`; what is not a pattern matches nothing, as in Docker."""
    rules = []
    for raw in text.removeprefix("\ufeff").splitlines():
        if raw.startswith("#") or not (line := raw.strip()):
            continue
        keeps = line.startswith("!")
        pattern = posixpath.normpath(line[1:].strip() if keeps else line).lstrip("/")
        if pattern in {"", "."}:
            continue
        if compiled := _compile(pattern):
            rules.append(_Rule(compiled, keeps))
    return Ignore(tuple(rules))


def _matches(pattern: re.Pattern[str], path: str) -> bool:
    """Match the path or any folder above it: what is in an ignored folder is ignored."""
    parts = path.split("/")
    return any(pattern.fullmatch("/".join(parts[: n + 1])) for n in range(len(parts)))


def _compile(pattern: str) -> re.Pattern[str] | None:
    out, at = "", 0
    while at < len(pattern):
        token, at = _token(pattern, at)
        out += token
    try:
        return re.compile(out, re.DOTALL)
    except re.error:
        return None


def _token(pattern: str, at: int) -> tuple[str, int]:
    if pattern.startswith("**/", at):
        return "(?:.*/)?", at + 3
    if pattern.startswith("**", at):
        return ".*", at + 2
    sign = pattern[at]
    if sign == "*":
        return "[^/]*", at + 1
    if sign == "?":
        return "[^/]", at + 1
    if sign == "[" and (end := pattern.find("]", at + 2)) > 0:
        return "[" + pattern[at + 1 : end].replace("[", r"\[") + "]", end + 1
    if sign == "\\" and at + 1 < len(pattern):
        return re.escape(pattern[at + 1]), at + 2
    return re.escape(sign), at + 1
