"""Look at what stands between the server and GitHub: the App, its webhook, the tokens' issuer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cynthus.errors import CynthusError
from cynthus.wire_doctor import Finding, fail, ok, warn
from webhook_server.app_needs import WEBHOOK_PATH, web_url
from webhook_server.auth.fetch import fetch
from webhook_server.auth.jwks import key_ids
from webhook_server.doctor.examine import Check
from webhook_server.doctor.installed import Row, row_of
from webhook_server.settings import Settings

if TYPE_CHECKING:  # GitHub's library is large, and a server without an App does without it
    from webhook_server.github_api import AppReader, Delivered

# GitHub takes tokens whose `iat` is not in its future; ours lies a minute in the past:
# https://docs.github.com/apps/creating-github-apps (generating a JSON web token)
CLOCK_LIMIT = timedelta(seconds=30)
TICK_S = 0.2
TICKS = 50  # 10 s: as long as GitHub itself waits for an answer to a delivery
TICKS_A_LOOK = 5  # GitHub's log is asked once a second


@dataclass(frozen=True, kw_only=True)
class Outside:
    """What is asked, and how the own door tells of an arrival."""

    settings: Settings
    base_url: str
    reader: AppReader
    arrived_since: Callable[[datetime], bool]
    now: Callable[[], datetime]
    wait: Callable[[float], None]


def outside_checks(outside: Outside) -> list[Check]:
    """Return the checks, in the order in which they are told."""

    def check(name: str, look: Callable[[Outside, str], Sequence[Finding]], remedy: str) -> Check:
        return Check(name=name, look=lambda: look(outside, name), remedy=remedy)

    app = "Look at the App's settings on GitHub: its id and its private key should be the server's."
    return [
        check("GitHub App", _app, app),
        check("installations", _installations, app),
        check("webhook settings", _hook, app),
        check("webhook delivery", _delivery, app),
        check("tokens of workflow jobs", _issuer, "Look at CYNTHUS_OIDC_ISSUER and the network."),
    ]


def _app(outside: Outside, name: str) -> Sequence[Finding]:
    before = outside.now()
    app = outside.reader.app()
    found = ok(name, f"{app.slug} of {app.owner}, its key is accepted")
    return (found, clock_finding("clock", app.github_now, before, outside.now()))


def clock_finding(name: str, github: datetime | None, before: datetime, after: datetime) -> Finding:
    """Compare our clock with GitHub's, which it told between `before` and `after`."""
    if github is None:
        return warn(name, "GitHub did not tell its time", "Ask again.")
    # Within the question's own time, and the whole seconds of a Date header, nothing is known.
    off = max(github - after, before - timedelta(seconds=1) - github, timedelta(0))
    text = f"{off.total_seconds():.0f} s between this clock and GitHub's"
    if off < CLOCK_LIMIT:
        return ok(name, text)
    return fail(name, text, "Let this machine's clock be kept by NTP: GitHub refuses its tokens.")


def _installations(outside: Outside, name: str) -> Sequence[Finding]:
    place = web_url(outside.settings.github_api_url)
    app = outside.reader.app()
    rows = [row_of(app, found, place) for found in outside.reader.installations()]
    if not rows:
        remedy = f"Install it at {place}/apps/{app.slug}/installations/new."
        return (warn(name, "the App is installed nowhere", remedy),)
    return tuple(_row_finding(name, row) for row in rows)


def _row_finding(name: str, row: Row) -> Finding:
    account, count = row.installation.account, row.installation.repositories
    if not row.faults:
        return ok(name, f"{account}: {'?' if count is None else count} repositories")
    judge = fail if row.blocked else warn
    first = row.faults[0].text.partition(": ")
    lines = "; ".join(fault.text.partition(": ")[0] for fault in row.faults)
    return judge(name, f"{account}: {lines}", f"{first[2][:1].upper()}{first[2][1:]}.")


def _hook(outside: Outside, name: str) -> Sequence[Finding]:
    hook, wanted = outside.reader.hook(), outside.base_url + WEBHOOK_PATH
    found = []
    if hook.url != wanted:
        text = f"GitHub delivers to {hook.url or 'nowhere'}"
        found.append(fail(name, text, f"Write {wanted} into the App's settings."))
    if hook.content_type != "json":
        text = f"GitHub delivers as {hook.content_type!r}"
        found.append(fail(name, text, "Choose application/json in the App's settings."))
    if not hook.has_secret:
        remedy = "Write CYNTHUS_WEBHOOK_SECRET's value into the App's settings."
        found.append(fail(name, "the webhook has no secret", remedy))
    if not hook.verifies_tls:
        remedy = "Enable SSL verification in the App's settings."
        found.append(warn(name, "GitHub does not verify this server's certificate", remedy))
    return found or (ok(name, f"{hook.url}, JSON, signed"),)


def _delivery(outside: Outside, name: str) -> Sequence[Finding]:
    newest = outside.reader.newest_delivery()
    if newest is None:
        text = "GitHub has delivered nothing in three days, so nothing can be delivered again"
        return (warn(name, text, "Push a commit to a repository with the App, then ask again."),)
    asked_at = outside.now()
    outside.reader.redeliver(newest.id)
    for tick in range(1, TICKS + 1):
        if outside.arrived_since(asked_at):
            return (ok(name, f"{newest.event} was delivered again and arrived"),)
        outside.wait(TICK_S)
        failed = _failed(outside, newest) if tick % TICKS_A_LOOK == 0 else None
        if failed is not None:
            return (_lost(name, f"a delivery failed, GitHub says: {failed.status}", failed),)
    return (_lost(name, f"a delivery did not arrive within {TICKS * TICK_S:.0f} s", None),)


def _failed(outside: Outside, asked: Delivered) -> Delivered | None:
    """Return the try that was asked for, once GitHub's log tells that it failed."""
    try:
        found = outside.reader.newest_delivery()
    except CynthusError:
        return None  # whether it arrives is known here all the same
    if found is None or found.guid != asked.guid or found.id == asked.id:
        return None
    return None if 200 <= found.status_code < 300 else found  # noqa: PLR2004 - RFC 9110: success


def _lost(name: str, text: str, told: Delivered | None) -> Finding:
    remedy = (
        "The App's webhook secret and CYNTHUS_WEBHOOK_SECRET differ: make them equal."
        if told and told.status_code == 401  # noqa: PLR2004 - what our door answers then
        else "Let GitHub reach the server at its public address: look at DNS, firewall and proxy."
    )
    return fail(name, text, remedy)


def _issuer(outside: Outside, name: str) -> Sequence[Finding]:
    issuer = outside.settings.oidc_issuer
    try:
        ids = key_ids(fetch(f"{issuer}/.well-known/jwks"))
    except ValueError:
        remedy = "Look at CYNTHUS_OIDC_ISSUER: it should be a token issuer."
        return (fail(name, f"{issuer} publishes no usable keys", remedy),)
    return (ok(name, f"{issuer} publishes {len(ids)} keys"),)
