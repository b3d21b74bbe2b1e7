"""Find the run that people mean by what they write."""

from __future__ import annotations

import re

from webhook_server.runs.model import Run
from webhook_server.stores.run_reading import RunUnreadable
from webhook_server.stores.run_store import RunStore

_LOOKED_AT = 100  # a pull request's newest runs: nobody means an older one by its name alone
# name/3, name#3 or a release's tag cynthus/name/3
_NUMBERED = re.compile(r"(?:cynthus/)?(?P<name>[^/#\s]+)[/#](?P<number>[0-9]{1,9})")
_ID = re.compile(r"[a-z][a-z0-9]{1,15}")


def find_target(runs: RunStore, repository_id: int, number: int, text: str | None) -> Run | None:
    """Return the run that is meant at a pull request; never one of another repository.

    `text` is a run's id, a spec's name with a number (`name/3`, `name#3`, the tag
    `cynthus/name/3`), or a spec's name alone: its newest of the pull request, else of the
    repository. None: the newest of the pull request.
    """
    if text is None:
        return next(iter(runs.of_pull(repository_id, number, limit=1)), None)
    if not text.isprintable():  # PostgreSQL takes neither NUL nor halves of characters
        return None
    return (
        _by_id(runs, repository_id, text)
        or _numbered(runs, repository_id, text)
        or _newest(runs, repository_id, number, text)
    )


def _by_id(runs: RunStore, repository_id: int, text: str) -> Run | None:
    if not _ID.fullmatch(text):
        return None
    try:
        run = runs.get(text)
    except RunUnreadable:
        return None
    return run if run is not None and run.key.repository_id == repository_id else None


def _numbered(runs: RunStore, repository_id: int, text: str) -> Run | None:
    found = _NUMBERED.fullmatch(text)
    if found is None:
        return None
    number = int(found["number"])
    return next(iter(runs.of_name(repository_id, found["name"], number=number)), None)


def _newest(runs: RunStore, repository_id: int, number: int, name: str) -> Run | None:
    for run in runs.of_pull(repository_id, number, limit=_LOOKED_AT):
        if run.spec is not None and run.spec.name == name:
            return run
    return next(iter(runs.of_name(repository_id, name, limit=1)), None)
