"""Say what an hour costs: a table with its source and date, shipped or refreshed.

Every figure is an estimate: Spot prices change, and discounts of an account are not known. Where
no figure is known none is made up, but for parts (attached GPUs, disks), see `_part`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from importlib import resources

from webhook_server.providers.gcp_machines import Gpu

HOURS_A_MONTH = 730  # by which Google itself divides: https://cloud.google.com/compute/all-pricing
HOME = "us-central1"  # the region whose prices of parts are known
# An address in use: https://cloud.google.com/vpc/network-pricing#ipaddress
ADDRESS_USD = Decimal("0.005")
_GAUGE = "n1-standard-8"  # sold in every region: it shows how dear a region is
_FIELDS = 4


@dataclass(frozen=True, kw_only=True)
class Rate:
    """USD for one unit, on demand and as Spot; None: not sold so, or not known."""

    usd: Decimal | None
    usd_spot: Decimal | None

    def of(self, *, spot: bool) -> Decimal | None:
        """Return the one that applies."""
        return self.usd_spot if spot else self.usd


@dataclass(frozen=True, kw_only=True)
class PriceTable:
    """Rates by region and thing: a machine type, `gpu:ACCELERATOR` or `disk:TYPE`.

    Machines and GPUs are for an hour, disks for a GiB and a month.
    """

    rates: Mapping[tuple[str, str], Rate]
    source: str  # for people, with its date

    def machine(self, region: str, machine: str, *, spot: bool) -> Decimal | None:
        """Return USD per hour of a machine type with what is built into it, or None."""
        rate = self.rates.get((region, machine))
        return rate.of(spot=spot) if rate else None

    def gpus(self, region: str, gpu: Gpu, count: int, *, spot: bool) -> Decimal | None:
        """Return USD per hour of attached GPUs, or None."""
        each = self._part(region, f"gpu:{gpu.accelerator}", spot=spot)
        return None if each is None else each * count

    def disk(self, region: str, disk_type: str, size_gib: int) -> Decimal:
        """Return USD per hour of a disk; of an unknown type as of the dearest known."""
        month = self._part(region, f"disk:{disk_type}", spot=False)
        if month is None:
            month = max(
                rate.usd
                for (_, thing), rate in self.rates.items()
                if thing.startswith("disk:") and rate.usd is not None
            )
        return month * size_gib / HOURS_A_MONTH

    def _part(self, region: str, thing: str, *, spot: bool) -> Decimal | None:
        """Return the rate of a part; where it is unknown, home's, raised as machines are there.

        Rather too much than too little: a run's limit must hold.
        """
        here, home = self.rates.get((region, thing)), self.rates.get((HOME, thing))
        known = here.of(spot=spot) if here else None
        if known is not None or home is None:
            return known
        gauge, gauge_home = (self.machine(r, _GAUGE, spot=False) for r in (region, HOME))
        dearer = gauge / gauge_home if gauge and gauge_home else Decimal(1)
        at_home = home.of(spot=spot)
        return None if at_home is None else at_home * max(Decimal(1), dearer)


@cache
def shipped() -> PriceTable:
    """Return the table that comes with this package."""
    text = resources.files(__package__).joinpath("gcp_prices.csv").read_text("utf-8")
    return read(text)


def read(text: str) -> PriceTable:
    """Return the table of a file: `# source` in the first line, then rows below a header.

    Raises: ValueError naming the line.
    """
    first, *rest = text.splitlines() or [""]
    if not first.startswith("# "):
        raise ValueError("line 1: should be '# ' and the source of the prices")
    rows = csv.reader(rest)
    next(rows, None)
    rates = {}
    for number, row in enumerate(rows, start=3):
        if len(row) != _FIELDS:
            raise ValueError(f"line {number}: should have {_FIELDS} fields, found {len(row)}")
        region, thing, usd, usd_spot = row
        rates[region, thing] = Rate(usd=_amount(usd, number), usd_spot=_amount(usd_spot, number))
    return PriceTable(rates=rates, source=first.removeprefix("# "))


def _amount(text: str, line: int) -> Decimal | None:
    if not text:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"line {line}: should be an amount of USD, found {text!r}")
    return amount


def write(source: str, rates: Iterable[tuple[str, str, Rate]]) -> str:
    """Return the text of a table, which `read` reads back."""
    lines = [f"# {source}", "region,thing,usd,usd_spot"]
    for region, thing, rate in sorted(rates, key=lambda row: row[:2]):
        usd = "" if rate.usd is None else f"{rate.usd:f}"
        usd_spot = "" if rate.usd_spot is None else f"{rate.usd_spot:f}"
        lines.append(f"{region},{thing},{usd},{usd_spot}")
    return "\n".join(lines) + "\n"
