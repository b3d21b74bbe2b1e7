"""Delete what wears our mark and is in no record of ours, unless it is we who seem to err."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from cynthus.errors import UserError
from webhook_server import metrics
from webhook_server.audit import Books, Listing, Standing, compare
from webhook_server.metrics import METERS
from webhook_server.providers.provider import InstanceNotFound, Provider, ProviderRefusal

log = logging.getLogger(__name__)

MOST_PART = 0.2  # of the fleet unasked: more looks like a fault of our own records
MOST_FEW = 1  # as many may always go, or a stray in a fleet below five would stay for ever

_EMPTY = "the database is empty, so it may be the wrong one"


def why_kept(books: Books, listing: Listing) -> str | None:
    """Say why unknown things must not be deleted unasked, if so.

    All unknown ones count, not only those whose grace is over: of a fleet that we lost the
    record of, some would else go today and the rest tomorrow.
    """
    number = len(listing.names(Standing.UNKNOWN))
    if not number:
        return None
    if books.runs.is_empty():
        return _EMPTY
    if number > max(MOST_FEW, int(MOST_PART * listing.fleet)):
        return (
            f"{number} of {listing.fleet} is too many at once, so the database may be an old one."
            " Compare with `cynthus gcp audit`, then delete them with `cynthus gcp audit --sweep`"
        )
    return None


def delete(provider: Provider, name: str) -> str | None:
    """Begin a deletion; return why it could not begin. Safe to repeat."""
    try:
        provider.delete(name)
    except InstanceNotFound:
        return None
    except ProviderRefusal as refusal:
        log.warning("deletion refused name=%s detail=%s", name, refusal)
        return str(refusal)
    return None


def sweep_asked(books: Books, names: Sequence[str], count: int) -> tuple[list[str], dict[str, str]]:
    """Delete what an operator named and is still unknown; return what was begun, and what spared.

    Asked, a fifth of the fleet is no limit; an empty database and a list that is not complete are.
    Raises: UserError when the count is not that of the names.
    """
    wanted = sorted(set(names))
    if count != len(wanted):
        raise UserError(
            f"count: should be the number of names, {len(wanted)}, found {count}."
            " Look at the audit again, and confirm what it shows."
        )
    if books.runs.is_empty():
        return [], dict.fromkeys(wanted, _EMPTY)
    begun: list[str] = []
    spared = dict.fromkeys(wanted, "is in no provider's list")
    for provider in books.providers.values():
        _sweep_one(books, provider, (begun, spared))
    return sorted(begun), spared


def _sweep_one(books: Books, provider: Provider, told: tuple[list[str], dict[str, str]]) -> None:
    begun, spared = told
    try:
        listing = compare(books, provider)
    except ProviderRefusal as refusal:
        log.warning("sweep skipped provider=%s detail=%s", provider.name, refusal)
        return
    for name in _among(listing, spared, known=True):
        spared[name] = "is known to this server, which deletes it once its attempt is over"
    for name in _among(listing, spared, known=False):
        log.error("asked to delete an unknown instance name=%s provider=%s", name, provider.name)
        METERS.add(metrics.STRAYS_DELETED, provider=provider.name)
        books.instances.note_swept(provider.name, name, books.now())
        refused = delete(provider, name)
        if refused is None:
            begun.append(name)
            del spared[name]
        else:
            spared[name] = refused


def _among(listing: Listing, names: Collection[str], *, known: bool) -> list[str]:
    unknown = listing.names(Standing.UNKNOWN)
    there = {lent.name for lent in listing.lent}
    return sorted((there - unknown if known else unknown).intersection(names))
