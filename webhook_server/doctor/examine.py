"""Look at everything at the same time; what does not answer in time is told as such."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cynthus.errors import CynthusError
from cynthus.wire_doctor import Finding, fail

LIMIT_S = 15.0  # whoever asks waits for the slowest: half of the command line's patience
Look = Callable[[], Sequence[Finding]]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing to look at; what `look` raises becomes its finding."""

    name: str
    look: Look
    remedy: str  # what to do when it fails, or does not answer


def examine(checks: Sequence[Check], limit_s: float = LIMIT_S) -> tuple[Finding, ...]:
    """Return what all checks found, in their order, after `limit_s` at the latest."""
    found: dict[str, Sequence[Finding]] = {}
    done = threading.Condition()

    def run(check: Check) -> None:
        findings = _looked(check)
        with done:
            found[check.name] = findings
            done.notify_all()

    for check in checks:
        # Daemons: one that hangs for ever must not hold up the server's end.
        threading.Thread(target=run, args=(check,), name=check.name, daemon=True).start()
    with done:
        done.wait_for(lambda: len(found) == len(checks), limit_s)
        return tuple(
            finding
            for check in checks
            for finding in found.get(check.name) or (_silent(check, limit_s),)
        )


def _looked(check: Check) -> Sequence[Finding]:
    try:
        return check.look()
    except CynthusError as error:
        return (fail(check.name, str(error), check.remedy),)
    except Exception:  # a fault of ours in one check must not hide what the others found
        log.exception("check failed name=%s", check.name)
        text = "the check itself has a fault, which the server's log tells"
        return (fail(check.name, text, check.remedy),)


def _silent(check: Check, limit_s: float) -> Finding:
    return fail(check.name, f"no answer within {limit_s:.0f} s", check.remedy)
