"""Where the App is installed, and what each installation lacks, in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from webhook_server.app_needs import Lack, lacks

if TYPE_CHECKING:  # GitHub's library is large, and a server without an App does without it
    from webhook_server.github_api import AppFacts, AppReader, Installation


@dataclass(frozen=True, kw_only=True)
class Row:
    """One installation as people read it."""

    installation: Installation
    faults: tuple[Lack, ...]  # what is lacking, each with what to do

    @property
    def blocked(self) -> bool:
        """Say whether runs cannot work there."""
        return self.installation.suspended or any(fault.blocks for fault in self.faults)


@dataclass(frozen=True, kw_only=True)
class Installed:
    """The App and all its installations."""

    app: AppFacts
    rows: tuple[Row, ...]


def installed(reader: AppReader, web_url: str) -> Installed:
    """Ask GitHub; raises what `AppReader` raises."""
    app = reader.app()
    rows = tuple(row_of(app, found, web_url) for found in reader.installations())
    return Installed(app=app, rows=rows)


def row_of(app: AppFacts, found: Installation, web_url: str) -> Row:
    """Return one installation with what it lacks: there, or since the App does not ask for it."""
    return Row(installation=found, faults=tuple(_faults(app, found, web_url)))


def _faults(app: AppFacts, found: Installation, web_url: str) -> Iterator[Lack]:
    if found.suspended:
        yield Lack(text=f"is suspended: unsuspend it at {found.url}", blocks=True)
    of_app = {lack.text for lack in lacks(app.permissions, app.events)}
    for lack in lacks(found.permissions, found.events):
        # What the App does not ask for, no owner can accept.
        remedy = (
            f"ask for it at {web_url}/settings/apps/{app.slug}/permissions"
            if lack.text in of_app
            else f"accept the new permission at {found.url}"
        )
        yield Lack(text=f"{lack.text}: {remedy}", blocks=lack.blocks)
