"""Write amounts of money for people."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

_CENT = Decimal("0.01")


def usd(amount: Decimal) -> str:
    """Return an amount such as $0.42; cents are rounded up, so that nothing looks free."""
    return f"${amount.quantize(_CENT, ROUND_CEILING):,f}"


def usd_left(amount: Decimal) -> str:
    """Return what is left to spend; cents are rounded down, so that nothing is promised."""
    return f"${amount.quantize(_CENT, ROUND_FLOOR):,f}"


def of_limit(cost: Decimal, limit: Decimal | None) -> str:
    """Return a cost with its limit, `$0.42 of $5.00`, or the cost alone."""
    return usd(cost) if limit is None else f"{usd(cost)} of {usd_left(limit)}"
