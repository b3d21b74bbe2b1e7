"""Say whether an event asks for a run, by the spec's triggers: pure."""

from __future__ import annotations

import re
from functools import cache


def push_refusal(
    branches: tuple[str, ...] | None,
    paths: tuple[str, ...],
    *,
    branch: str,
    default_branch: str,
    changed: tuple[str, ...] | None,
) -> str | None:
    """Return why a push starts no run, or None when it does.

    `branches` None means the repository's default branch. `changed` None means that the changed
    paths are unknown (GitHub leaves them out of large pushes): the push counts as a match.
    """
    wanted = branches or (default_branch,)
    if not any(matches(pattern, branch) for pattern in wanted):
        return f"triggers/push/branches: {', '.join(wanted)}; this push is to {branch}"
    if changed is None or any(matches(pattern, path) for pattern in paths for path in changed):
        return None
    if not changed:  # an empty commit or a branch made at a known commit changes nothing
        return None if "**" in paths else "triggers/push/paths: the push changes no file"
    return f"triggers/push/paths: no changed file matches {', '.join(paths)}"


def matches(pattern: str, text: str) -> bool:
    """Match GitHub's filter patterns: `*` within a segment, `**` across, `?` makes optional.

    https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax#filter-pattern-cheat-sheet
    """
    return _compiled(pattern).fullmatch(text) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    out, at = "", 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            out, at = out + "(?:.*/)?", at + 3
        elif pattern.startswith("**", at):
            out, at = out + ".*", at + 2
        elif pattern[at] == "*":
            out, at = out + "[^/]*", at + 1
        elif pattern[at] in "?+" and at > 0:
            out, at = out + pattern[at], at + 1
        else:
            out, at = out + re.escape(pattern[at]), at + 1
    return re.compile(out)
