"""Say when a create whose answer was lost can take effect no more: then its twin is looked for.

Whoever heard nothing of a create asks GitHub whether it is there, finds nothing, and makes another;
the first may take effect after that. So GitHub is asked once more, late enough to be sure.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cynthus.frozen import replace
from webhook_server.stores.publication_store import Publication

#: A request may lie in a queue of GitHub's for minutes, a process may sleep for one between its
#: claim and its request, and the clocks of replicas differ by some.
LATE = timedelta(minutes=10)
_LOOK_AT = "twins_at"  # in `Publication.sent`


def doubted(item: Publication, now: datetime) -> Publication:
    """Return the item with the note that an earlier create of it may still take effect."""
    return replace(item, sent={**item.sent, _LOOK_AT: (now + LATE).isoformat()})


def look_at(item: Publication) -> datetime | None:
    """Return when twins are to be looked for; None: there can be none."""
    text = item.sent.get(_LOOK_AT)
    return None if text is None else datetime.fromisoformat(str(text))


def twins_of(item: Publication) -> dict[str, str]:
    """Return the note alone, for an item whose other notes begin anew."""
    return {_LOOK_AT: item.sent[_LOOK_AT]} if _LOOK_AT in item.sent else {}


def looked(item: Publication) -> Publication:
    """Return the item as one that has no twin any more."""
    return replace(item, sent={k: v for k, v in item.sent.items() if k != _LOOK_AT})
