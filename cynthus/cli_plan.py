"""cynthus plan: what a run would get and cost, before anything is ordered."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cynthus.cli_connection import add_server_argument, connect, harmless
from cynthus.cli_table import print_table
from cynthus.cli_validate import read_bytes, to_json
from cynthus.codec import encode
from cynthus.drivers import is_older
from cynthus.errors import UserError
from cynthus.money import usd, usd_left
from cynthus.specfile import parse
from cynthus.wire_money import BudgetView, OfferView, PlanAsk, PlanView

DONE, WOULD_FAIL, WRONG_INPUT = 0, 1, 2
_COLUMNS = ("try", "place", "machine", "gpu", "spot", "an hour", "expected", "at most", "quota")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Name what can be asked."""
    parser.add_argument("file", metavar="FILE", help="a spec, or - for standard input")
    parser.add_argument("--json", action="store_true", help="print JSON, amounts as exact text")
    parser.add_argument(
        "--repository-id",
        type=int,
        default=0,
        metavar="ID",
        help="GitHub's number of the repository whose budgets count (default: none)",
    )
    parser.add_argument(
        "--minimum-driver",
        metavar="VERSION",
        help="the oldest NVIDIA driver that the environment runs with, as a run's page names it",
    )
    add_server_argument(parser)
    parser.epilog = (
        "Without --server and CYNTHUS_SERVER this machine is asked. Exit code 1: a run of this"
        " spec would end at once."
    )


def run(args: argparse.Namespace) -> int:
    """Print the plan; 2 when the spec has a fault, 1 when its run would end at once."""
    content = read_bytes(args.file)
    name = "standard input" if args.file == "-" else args.file
    try:
        parse(content, name)
    except UserError as error:
        return _tell_faults(error, as_json=args.json)
    ask = PlanAsk(
        spec_path=Path(name).name,
        spec_text=content.decode(),
        repository_id=args.repository_id,
        minimum_driver=args.minimum_driver,
    )
    plan = _asked(args, ask)
    if args.json:
        print(json.dumps(encode(plan), indent=2))
    else:
        _print(plan, args.minimum_driver or "")
    return WOULD_FAIL if plan.refusal else DONE


def _tell_faults(error: UserError, *, as_json: bool) -> int:
    if as_json:
        print(to_json(list(error.faults)))
    else:
        for fault in error.faults:
            print(fault, file=sys.stderr)
    return WRONG_INPUT


def _asked(args: argparse.Namespace, ask: PlanAsk) -> PlanView:
    if args.server or os.environ.get("CYNTHUS_SERVER"):
        return connect(args).plan(ask)
    return _asked_here(ask)


def _asked_here(ask: PlanAsk) -> PlanView:
    """Ask a server that lives as long as the question."""
    # Imported late: a plan of another server needs no programs here.
    from cynthus.embedded import Embedded
    from cynthus.interrupts import Interrupts

    with tempfile.TemporaryDirectory(prefix="cynthus-plan-") as scratch, Interrupts() as heard:
        server = Embedded(Path(scratch), {})
        try:
            return server.client().plan(ask)
        finally:
            server.stop(heard, now=True)


# ── for people ──────────────────────────────────────────────────────────────────────────────────


def _print(plan: PlanView, minimum_driver: str) -> None:
    several = f" on {plan.nodes} instances" if plan.nodes > 1 else ""
    limit = "" if plan.max_cost_usd is None else f", at most {usd(plan.max_cost_usd)}"
    _say(f"{plan.name}: {plan.provider}{several}, at most {_span(plan.max_duration_s)}{limit}")
    if plan.offers:
        rows = [_row(number, one, minimum_driver) for number, one in enumerate(plan.offers, 1)]
        print_table(_COLUMNS, rows)
    for line in (*_prices(plan.offers), *map(_budget, plan.budgets), *_remarks(plan)):
        _say(line)


def _span(seconds: int) -> str:
    """Return a duration as specs write it."""
    parts = ((seconds // 3600, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s"))
    return "".join(f"{amount}{unit}" for amount, unit in parts if amount) or "0s"


def _say(line: str) -> None:
    print(harmless(line))


def _row(number: int, offer: OfferView, minimum_driver: str) -> tuple[str, ...]:
    old = is_older(offer.driver, minimum_driver)
    place = offer.place if offer.place != offer.machine else offer.provider
    at_most = usd(offer.most_usd)
    return (
        str(number),
        place,
        offer.machine,
        _gpu(offer, old=old),
        "yes" if offer.spot else "no",
        f"${offer.usd_per_hour}",
        usd(offer.expected_usd),
        f"{at_most} (too much)" if offer.refusal and not old else at_most,
        offer.waits or offer.quota or "-",
    )


def _gpu(offer: OfferView, *, old: bool) -> str:
    if not offer.gpu_type:
        return "-"
    driver = f", driver {offer.driver}" if offer.driver else ""
    return f"{offer.gpu_count} {offer.gpu_type}{driver}{' (too old)' if old else ''}"


def _prices(offers: Sequence[OfferView]) -> list[str]:
    sources = dict.fromkeys(offer.price_source for offer in offers if offer.price_source)
    return [f"prices are estimates by {source}" for source in sources]


def _budget(budget: BudgetView) -> str:
    return (
        f"budget of the {budget.scope}: {usd_left(budget.left_usd)} left of"
        f" {usd(budget.limit_usd)} until {budget.turns_at:%Y-%m-%d} (UTC)"
    )


def _remarks(plan: PlanView) -> list[str]:
    lines = [f"note: {notice}" for notice in plan.notices]
    lines += [f"it would wait: {plan.waits}"] if plan.waits else []
    lines += [f"it would not start: {plan.refusal}"] if plan.refusal else []
    return lines
