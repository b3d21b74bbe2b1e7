"""What the lines of a comment ask for: data only.

An *ask* is one line `/cynthus …` as it was written; what is admitted of it becomes a run, or a
wish for one. `comment_reader` makes asks of a comment's text.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cynthus.repository_policy import Verb


@dataclass(frozen=True, kw_only=True)
class AskRun:
    """Start runs of specs at the pull request's head."""

    names: tuple[str, ...] = ()  # of specs; empty: all that the commit has
    overrides: tuple[tuple[str, str], ...] = ()  # key=value, in the order written
    sha: str | None = None  # 7 to 40 hex digits: the head that is meant
    verb = Verb.RUN


@dataclass(frozen=True, kw_only=True)
class AskPlan:
    """Say what a run would get and cost."""

    names: tuple[str, ...] = ()
    overrides: tuple[tuple[str, str], ...] = ()
    verb = Verb.PLAN


@dataclass(frozen=True, kw_only=True)
class AskStatus:
    """Say where the pull request's runs stand."""

    target: str | None = None  # as `Target`s are written; None: all of the pull request
    verb = Verb.STATUS


@dataclass(frozen=True, kw_only=True)
class AskLogs:
    """Show the end of a run's log."""

    target: str | None = None
    last: int = 50  # lines
    grep: str | None = None  # plain text, not a pattern: a stranger's pattern could take for ever
    verb = Verb.LOGS


@dataclass(frozen=True, kw_only=True)
class AskWhy:
    """Explain why a run waits, or ended."""

    target: str | None = None
    verb = Verb.WHY


@dataclass(frozen=True, kw_only=True)
class AskCancel:
    """End live runs."""

    target: str | None = None
    verb = Verb.CANCEL


@dataclass(frozen=True, kw_only=True)
class AskRetry:
    """Run a finished run again."""

    target: str | None = None
    on_demand: bool = False  # not spot this time
    verb = Verb.RETRY


@dataclass(frozen=True, kw_only=True)
class AskExtend:
    """Give live runs more time."""

    more: timedelta
    target: str | None = None
    verb = Verb.EXTEND


@dataclass(frozen=True, kw_only=True)
class AskCompare:
    """Show the differences of two runs; `right` None: the default branch's last release."""

    left: str
    right: str | None = None
    verb = Verb.COMPARE


@dataclass(frozen=True, kw_only=True)
class AskApprove:
    """Let what waits for approval at this head go on."""

    sha: str  # 7 to 40 hex digits
    verb = Verb.APPROVE


@dataclass(frozen=True, kw_only=True)
class AskSweep:
    """Start one run for each combination of values."""

    axes: tuple[tuple[str, tuple[str, ...]], ...]
    name: str | None = None
    verb = Verb.SWEEP


@dataclass(frozen=True, kw_only=True)
class AskReproduce:
    """Run again exactly what a run or a release was made from."""

    target: str
    verb = Verb.REPRODUCE


@dataclass(frozen=True, kw_only=True)
class AskDestroy:
    """End all runs of the pull request, with the instances that they keep warm."""

    verb = Verb.DESTROY


@dataclass(frozen=True, kw_only=True)
class AskHelp:
    """Say what can be asked."""

    verb = Verb.HELP


@dataclass(frozen=True, kw_only=True)
class Misread:
    """A line that begins like an ask and is none: what is wrong, and what to write."""

    text: str
    verb: Verb | None = None  # as far as it could be read


Ask = (
    AskRun
    | AskPlan
    | AskStatus
    | AskLogs
    | AskWhy
    | AskCancel
    | AskRetry
    | AskExtend
    | AskCompare
    | AskApprove
    | AskSweep
    | AskReproduce
    | AskDestroy
    | AskHelp
)

#: Those that change nothing and ask for an answer.
Reading = AskStatus | AskLogs | AskWhy | AskPlan | AskCompare | AskHelp


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a comment that is meant for us."""

    number: int  # among such lines of its comment, from 0: with the comment's id its identity
    written: str  # as it stands there, at most a few hundred characters
    ask: Ask | Misread
