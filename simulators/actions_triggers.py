"""Say whether an event starts a workflow.

https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simulators.actions_globs import matches_filters
from simulators.actions_values import Value, to_text
from simulators.actions_workflow import WorkflowError

ChangedPaths = Callable[[], Sequence[str]]
Payload = dict[str, Value]
_SKIP_WORDS = ("[skip ci]", "[ci skip]", "[no ci]", "[skip actions]", "[actions skip]")
_PULL_REQUEST_TYPES = ["opened", "synchronize", "reopened"]


def starts(on: dict[str, Value], event: str, payload: Payload, changed: ChangedPaths) -> bool:
    """Match `on:` against one event; the changed paths are asked for only when needed."""
    if event not in on:
        return False
    rule = on[event] if isinstance(on[event], dict) else {}
    if event == "push":
        return _push_starts(rule, payload, changed)
    if event == "pull_request":
        return _pull_request_starts(rule, payload, changed)
    return _has_type(rule, payload, default=None)


def _push_starts(rule: dict[str, Value], payload: Payload, changed: ChangedPaths) -> bool:
    if payload.get("deleted") or _says_skip((payload.get("head_commit") or {}).get("message")):
        return False
    ref = str(payload.get("ref", ""))
    if ref.startswith("refs/tags/"):
        # Paths are not evaluated for tags; a workflow that names only branches ignores them.
        if not _any_of(rule, "tags") and _any_of(rule, "branches"):
            return False
        return _passes(rule, "tags", ref.removeprefix("refs/tags/"))
    if not _any_of(rule, "branches") and _any_of(rule, "tags"):
        return False
    branch = ref.removeprefix("refs/heads/")
    return _passes(rule, "branches", branch) and _paths_pass(rule, changed)


def _pull_request_starts(rule: dict[str, Value], payload: Payload, changed: ChangedPaths) -> bool:
    if not _has_type(rule, payload, default=_PULL_REQUEST_TYPES):
        return False
    base = str(payload["pull_request"]["base"]["ref"])
    return _passes(rule, "branches", base) and _paths_pass(rule, changed)


def _says_skip(message: Value) -> bool:
    """Honour `[skip ci]`: https://docs.github.com/en/actions/how-tos/manage-workflow-runs/skip-workflow-runs."""
    text = str(message or "")
    return any(word in text for word in _SKIP_WORDS) or "\nskip-checks: true" in text.lower()


def _any_of(rule: dict[str, Value], kind: str) -> bool:
    return kind in rule or f"{kind}-ignore" in rule


def _passes(rule: dict[str, Value], kind: str, name: str) -> bool:
    wanted, ignored = _patterns(rule, kind), _patterns(rule, f"{kind}-ignore")
    if wanted is not None and ignored is not None:
        raise WorkflowError(f"you may only define one of `{kind}` and `{kind}-ignore` for a single event")  # fmt: skip # noqa: E501 - GitHub's own words
    if wanted is not None:
        return matches_filters([name], wanted)
    return ignored is None or not matches_filters([name], ignored)


def _paths_pass(rule: dict[str, Value], changed: ChangedPaths) -> bool:
    wanted, ignored = _patterns(rule, "paths"), _patterns(rule, "paths-ignore")
    if wanted is not None:
        return matches_filters(changed(), wanted)
    if ignored is None:
        return True
    return any(not matches_filters([path], ignored) for path in changed())


def _patterns(rule: dict[str, Value], key: str) -> list[str] | None:
    if key not in rule:
        return None
    value = rule[key]
    return [to_text(one) for one in value] if isinstance(value, list) else [to_text(value)]


def _has_type(rule: dict[str, Value], payload: Payload, default: list[str] | None) -> bool:
    types = _patterns(rule, "types") or default
    return types is None or payload.get("action") in types
