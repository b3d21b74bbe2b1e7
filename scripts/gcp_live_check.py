"""Check what only the real Google Cloud can show: `python -m scripts.gcp_live_check`.

See docs/gcp-live-check.md. It acts by the server's settings (CYNTHUS_GCP_*), as a control plane
of its own: it touches nothing that it did not make, and removes what it made whatever happens.
Exit codes: 0 all as it should be, 1 something is not (or not removed), 2 it could not begin.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation

from cynthus.errors import CynthusError
from demo.processes import ended_by_signals, undisturbed
from scripts.gcp_live.ground import Ground
from scripts.gcp_live.steps import STEPS, Step
from webhook_server.settings_reader import read

RIGHT, WRONG, NOT_BEGUN = 0, 1, 2
MOST_USD = Decimal("0.50")  # a CPU machine for 20 minutes is a cent, a T4 on demand 20
_NAMES = tuple(step.name for step in STEPS)


def main(
    words: Sequence[str],
    environment: Mapping[str, str] | None = None,
    wait: Callable[[float], None] | None = None,
) -> int:
    """Run the check; `environment` holds the settings (default: the process's), `wait` pauses."""
    args = _parser().parse_args(words)
    steps = [step for step in STEPS if _is_wanted(step, args)]
    if args.dry_run:
        for step in steps:
            print(f"{step.name:<10} {step.what}\n{'':<10} → {step.see}; costs {step.cost}")
        return RIGHT
    plane = args.clean or f"check-{secrets.token_hex(4)}"
    try:
        ground = Ground(
            settings=read(environment),
            plane=plane,
            most_usd=args.max_usd,
            wait=wait or _pause,
        )
        if args.clean:
            return _end(ground, ground.clean_all())
        ground.door.project()
    except CynthusError as error:
        print(error, file=sys.stderr)
        return NOT_BEGUN
    print(f"this check is {plane}; if it is killed: --clean {plane}", flush=True)
    wrong, code = 1, WRONG
    try:
        with ended_by_signals():
            wrong = sum(not _is_right(step, ground) for step in steps)
    except KeyboardInterrupt:
        print("interrupted: removing what was made", flush=True)
    finally:
        with undisturbed():  # an impatient second Ctrl-C would leave something that costs
            code = _end(ground, ground.clean())
    print(f"{wrong} wrong, at worst ${ground.spent_usd} of ${args.max_usd}")
    return WRONG if wrong else code


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.gcp_live_check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", nargs="+", choices=_NAMES, metavar="STEP", help="of: " + " ".join(_NAMES)
    )
    parser.add_argument("--dry-run", action="store_true", help="print the steps, ask nothing")
    parser.add_argument("--gpu", action="store_true", help="boot a GPU machine too")
    parser.add_argument("--preempt", action="store_true", help="have a Spot machine taken back too")
    parser.add_argument(
        "--max-usd",
        type=_usd,
        default=MOST_USD,
        metavar="USD",
        help=f"order nothing that may cost more, all together (default {MOST_USD})",
    )
    parser.add_argument(
        "--clean", metavar="NAME", help="only remove what the check of this name has left"
    )
    return parser


def _usd(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise argparse.ArgumentTypeError(f"should be US dollars such as 0.50, found {text!r}")
    return amount


def _is_wanted(step: Step, args: argparse.Namespace) -> bool:
    if args.only is not None:
        return step.name in args.only
    return not step.asked_for or bool(getattr(args, step.name))


def _is_right(step: Step, ground: Ground) -> bool:
    """Take a step and print its line."""
    try:
        verdict, text = "ok", step.run(ground)
    except CynthusError as error:
        verdict, text = "WRONG", str(error)
    except Exception as error:  # noqa: BLE001 - the other steps, and the cleaning, go on
        verdict, text = "WRONG", f"{type(error).__name__}: {error}"
    print(f"{verdict:<6} {step.name:<10} {text}", flush=True)
    if verdict != "ok":
        print(f"{'':<17} should be: {step.see}", flush=True)
    return verdict == "ok"


def _end(ground: Ground, faults: Sequence[str]) -> int:
    for fault in faults:
        print(f"NOT REMOVED {fault}", file=sys.stderr)
    if faults:
        print(f"try again: --clean {ground.plane}", file=sys.stderr)
    return WRONG if faults else RIGHT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
