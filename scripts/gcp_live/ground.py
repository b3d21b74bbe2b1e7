"""What the live check stands on: one control plane of its own, a purse, and the way out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import ROUND_UP, Decimal
from typing import TypeVar

from cynthus.errors import CynthusError
from cynthus.spec import Resources
from webhook_server.providers.gcp import Gcp, opened
from webhook_server.providers.gcp_client import Account, Door
from webhook_server.providers.gcp_order import plane_label
from webhook_server.providers.provider import Fate, Instance, InstanceNotFound, NoCapacity
from webhook_server.runs.lending import Offer, Order
from webhook_server.settings import Settings
from webhook_server.stores.gcs_blobs import open_client
from webhook_server.stores.secret_manager import open_manager_secrets

LIFE = timedelta(minutes=20)  # Google's own hard end of each instance: the way out that never fails
START_S = 300.0  # an insert takes half a minute; a large zone's bad day several
GONE_S = 300.0  # a guest may take 90 s to shut down, then its disk is deleted
LOOK_S = 3.0
PLACES_TRIED = 8  # zones, for one instance
SECRET_NAME = "LIVE_CHECK"  # noqa: S105 - a name, not a value
# Nothing listens there: what boots is looked at from outside.
NOWHERE = "https://cynthus.invalid"
_CENT = Decimal("0.01")
_SHOWN = 6  # of a list, in one line of a table
T = TypeVar("T")


class Differs(CynthusError):  # noqa: N818 - it reads as what it is
    """The real service does something else than we rely on."""


@dataclass
class Ground:
    """Everything that is made bears the name of `plane`, so that `clean` finds it."""

    settings: Settings
    plane: str
    most_usd: Decimal
    wait: Callable[[float], None]
    spent_usd: Decimal = Decimal(0)  # at worst: the whole life of each instance
    undo: dict[str, Callable[[], None]] = field(default_factory=dict)
    made: dict[str, Order] = field(default_factory=dict)
    number: int = 0

    def __post_init__(self) -> None:
        """Open the provider and its door; asks nothing yet. Raises: UserError."""
        plane_label(self.plane)
        url = self.settings.public_url or NOWHERE
        self.provider: Gcp = opened(self.settings, url, self.plane, clock=time.monotonic)
        self.door = Door(
            Account(
                project=self.settings.gcp_project,
                compute_url=self.settings.gcp_compute_url,
                billing_url=self.settings.gcp_billing_url,
            )
        )
        bucket = f"gs://cynthus-{self.plane}/blobs"
        secrets = self.settings.secrets_url
        if not secrets.startswith("gcp://"):
            secrets = f"gcp://{self.settings.gcp_project}"
        self.settings = replace(self.settings, blob_url=bucket, secrets_url=secrets)

    @property
    def bucket(self) -> str:
        """Return the name of the bucket that is made."""
        return f"cynthus-{self.plane}"

    @property
    def repository_id(self) -> int:
        """Return a number that no repository of GitHub has: theirs have ten digits."""
        return 10**14 + int.from_bytes(self.plane.encode()[-5:], "big")

    # ── instances ────────────────────────────────────────────────────────────────────────────

    def machine(self, kind: str, need: Resources) -> Order:
        """Return the order of this kind's instance, running; it is made once.

        Raises: Differs when it would be too dear, or never runs; the provider's refusals.
        """
        if kind in self.made:
            return self.made[kind]
        self.undo["instances"] = self._delete_all
        refused: list[str] = []
        for offer in self._spread(self.provider.offers(need)):
            before = self.spent_usd
            order = self._order(offer, need)
            try:
                self.provider.create(order, "")
                self._until_running(order.name)
            except NoCapacity as refusal:
                refused.append(str(refusal))
                self.spent_usd = before  # what never ran costs nothing
                continue
            self.made[kind] = order
            return order
        raise Differs(f"no zone had any: {'; '.join(refused)}")

    def _spread(self, offers: list[Offer]) -> Iterator[Offer]:
        """Yield the cheapest offer of each zone, the cheapest zone first."""
        seen: set[str] = set()
        for offer in sorted(offers, key=lambda offer: offer.usd_per_hour):
            if offer.place not in seen and len(seen) < PLACES_TRIED:
                seen.add(offer.place)
                yield offer

    def planned(self, need: Resources) -> Order:
        """Return an order that is not given yet; counted and cleaned up as if it were.

        Raises: Differs when it would be too dear; the provider's refusals.
        """
        self.undo["instances"] = self._delete_all
        return self._order(next(self._spread(self.provider.offers(need))), need)

    def _order(self, offer: Offer, need: Resources) -> Order:
        hours = Decimal(LIFE.total_seconds()) / 3600
        worst = (offer.usd_per_hour * hours).quantize(_CENT, ROUND_UP)
        if self.spent_usd + worst > self.most_usd:
            raise Differs(
                f"{offer.machine} may cost ${worst}, beside ${self.spent_usd} so far: more than"
                f" --max-usd {self.most_usd}. Nothing was ordered; raise it if you agree."
            )
        self.spent_usd += worst
        self.number += 1
        return Order(
            name=f"cynthus-{self.plane}-{self.number}",
            run_id=self.plane,
            attempt=self.number,
            repository_id=self.repository_id,
            offer=offer,
            need=need,
            max_life=LIFE,
        )

    def _until_running(self, name: str) -> None:
        def look() -> Instance | None:
            found = self.provider.get(name)
            return None if found.fate is Fate.STARTING else found

        self.until(f"{name} should leave STARTING", START_S, look)

    def until(self, what: str, limit_s: float, look: Callable[[], T | None]) -> T:
        """Look until there is an answer. Raises: Differs after `limit_s`."""
        for _ in range(int(limit_s / LOOK_S)):
            answer = look()
            if answer is not None:
                return answer
            self.wait(LOOK_S)
        raise Differs(f"{what} within {limit_s:.0f} s, found that it did not")

    def delete(self, name: str) -> str:
        """Delete an instance until the provider says "not found"; return its last words."""

        def look() -> str | None:
            try:
                self.provider.delete(name)
            except InstanceNotFound as gone:
                return str(gone)
            return None

        return self.until(f"{name} should be gone", GONE_S, look)

    # ── the way out ──────────────────────────────────────────────────────────────────────────

    def clean(self) -> list[str]:
        """Remove whatever was made, each thing whatever happens to the others; return faults."""
        faults = []
        for what, remove in self.undo.items():
            try:
                remove()
            except CynthusError as error:
                faults.append(f"{what}: {error}")
        return faults

    def clean_all(self) -> list[str]:
        """Remove what an earlier check with this name has left."""
        self.undo = {
            "instances": self._delete_all,
            "bucket": self.remove_bucket,
            "secret": self.remove_secret,
        }
        return self.clean()

    def _delete_all(self) -> None:
        """Delete by list, and by name what no list shows yet."""
        listed = {one.name for one in self.provider.list()}
        for name in sorted(listed | {f"cynthus-{self.plane}-{n + 1}" for n in range(self.number)}):
            self.delete(name)

    def remove_bucket(self) -> None:
        """Remove the bucket with its few objects. Safe to repeat."""
        from webhook_server.stores.google_access import spoken

        with closing(open_client(self.settings)) as client, spoken(f"gs://{self.bucket}", ""):
            found = client.lookup_bucket(self.bucket)
            if found is not None:
                found.delete(force=True)

    def remove_secret(self) -> None:
        """Remove the secret. Safe to repeat."""
        with closing(open_manager_secrets(self.settings)) as secrets:
            secrets.remove(self.repository_id, SECRET_NAME)


def some(names: list[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else "none"
