"""Find the specs of a commit that people mean by their names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from webhook_server.github_api import NotFound
from webhook_server.inbox.asked import Declined
from webhook_server.inbox.parts import InboxParts, Skip
from webhook_server.inbox.spec_at import SPEC_PATH, FoundSpec, read_other, read_spec
from webhook_server.intents import Place
from webhook_server.runs.hostile import code, inline

_MOST_PATHS = 20  # one or two requests each: more would keep other deliveries waiting


def specs_at(parts: InboxParts, place: Place, sha: str) -> tuple[FoundSpec, ...]:
    """Return all specs of a commit: `cynthus.yaml`, and where this repository has had others.

    Raises: Transient.
    """
    found = [_main(parts, place, sha)]
    others = [path for path in parts.runs.spec_paths(place.id) if path != SPEC_PATH]
    found += [read_other(parts.api, place, sha, path) for path in others[:_MOST_PATHS]]
    return tuple(one for one in found if one is not None)


def _main(parts: InboxParts, place: Place, sha: str) -> FoundSpec | None:
    try:
        return read_spec(parts.api, place, sha)
    except (Skip, NotFound):
        return None


def chosen(found: Sequence[FoundSpec], names: Sequence[str]) -> tuple[FoundSpec, ...]:
    """Return the specs of these names; no names: all of them.

    Raises: Declined when there is none, when a name is not among them, or when one that is meant
    cannot be used.
    """
    if not found:
        raise Declined(f"the commit has no {code(SPEC_PATH)}.")
    if not names:
        return tuple(_usable(one) for one in found)
    known = {one.spec.name: one for one in found if one.spec is not None}
    broken = [one for one in found if one.spec is None]
    for name in names:
        if name not in known and broken:
            _usable(broken[0])
        if name not in known:
            raise Declined(_unknown(name, sorted(known)))
    return tuple(known[name] for name in dict.fromkeys(names))


def _usable(one: FoundSpec) -> FoundSpec:
    if one.spec is not None:
        return one
    faults = "\n".join(
        f"- {inline(one.path)}:{f.line}:{f.column}: {inline(f.text)}" for f in one.faults
    )
    raise Declined(f"{code(one.path)} cannot be used:\n\n{faults}")


def _unknown(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    meant = f" Did you mean {code(near[0])}?" if near else ""
    there = ", ".join(code(one) for one in known)
    return f"no spec of this commit is named {code(name)}; there are {there}.{meant}"
