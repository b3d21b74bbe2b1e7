"""A policy file's tree → a RepositoryPolicy, noting every fault on the way.

Sections and their keys are listed in `KEYS`, which the schema must agree with.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from cynthus import grammar
from cynthus.filereader import (
    Fields,
    Reader,
    Vocabulary,
    distinct,
    duration,
    duration_or_zero,
    group,
    list_of,
    money,
    read_key,
    text_list,
    whole,
    words,
)
from cynthus.nodes import Place, Scalar
from cynthus.repository_policy import (
    VERSION,
    Allowance,
    ApprovalLine,
    CacheReach,
    DataRules,
    ForkLimits,
    Limits,
    RepositoryPolicy,
    Retention,
    Role,
    Superseded,
    SupersededRules,
    Verb,
)
from cynthus.spec import GpuNeed

KEYS: dict[str, tuple[str, ...]] = {
    "": (
        *("version", "rights", "limits", "approval", "superseded", "forks", "retention"),
        *("data", "bots"),
    ),
    "rights": tuple(verb.value for verb in Verb),
    "allowance": ("role", "people"),
    "limits": (
        *("providers", "gpus", "nodes", "max_cost", "max_duration", "monthly_budget"),
        *("keep_warm", "extend", "live_runs", "sweep"),
    ),
    "approval": ("cost", "duration", "gpus", "by"),
    "superseded": ("pull_request", "branch", "closed", "draft"),
    "forks": ("max_cost", "max_duration"),
    "retention": ("releases", "days"),
    "data": ("cache",),
}

# The field's other words for ours, so that a newcomer is told the right one.
_SYNONYMS = {
    "permissions": "rights",
    "roles": "rights",
    "who": "rights",
    "limit": "limits",
    "quota": "limits",
    "quotas": "limits",
    "approvals": "approval",
    "review": "approval",
    "concurrency": "live_runs",
    "max_runs": "live_runs",
    "budget": "monthly_budget",
    "timeout": "max_duration",
    "max_price": "max_cost",
    "cost_limit": "max_cost",
    "clouds": "providers",
    "provider": "providers",
    "gpu": "gpus",
    "accelerators": "gpus",
    "fork": "forks",
    "keep": "retention",
    "bot": "bots",
    "users": "people",
    "approvers": "by",
}

_ROLE = "role: write"
_VOCABULARY = Vocabulary(
    sections={name: keys for name, keys in KEYS.items() if name not in {"allowance", "rights"}},
    synonyms=_SYNONYMS,
    examples={
        ("", "version"): f"version: {VERSION}",
        ("approval/by", "role"): _ROLE,
        **{(f"rights/{verb.value}", "role"): _ROLE for verb in Verb},
    },
)

# Where no honest policy comes near; a list is read by people before it is trusted.
MOST_PEOPLE = 100
MOST_BOTS = 32
MOST_PROVIDERS = 32
MOST_GPUS = 64
MOST_NODES = 256  # as in a spec
MOST_LIVE_RUNS = 10_000
MOST_SWEEP = 256  # as many as one comment may ever ask for
MOST_RELEASES = 10_000
MOST_DAYS = 3650

W = TypeVar("W", bound=StrEnum)


def read_policy(root: Place) -> RepositoryPolicy | None:
    """Return the policy of a whole file; faults are noted in `root.faults`."""
    fields = _group(root, KEYS[""], required=("version",), what="a policy")
    if fields is None:
        return None
    read_key(fields, "version", _version, VERSION)
    return RepositoryPolicy(
        rights=read_key(fields, "rights", _rights, ()),
        limits=read_key(fields, "limits", _limits, Limits()),
        approval=read_key(fields, "approval", _approval, ApprovalLine()),
        superseded=read_key(fields, "superseded", _superseded, SupersededRules()),
        forks=read_key(fields, "forks", _forks, ForkLimits()),
        retention=read_key(fields, "retention", _retention, Retention()),
        data=read_key(fields, "data", _data, DataRules()),
        bots=read_key(fields, "bots", text_list(grammar.bot_login, MOST_BOTS, "bots"), ()),
    )


def _group(
    place: Place, keys: tuple[str, ...], required: tuple[str, ...] = (), what: str = "a group"
) -> Fields | None:
    return group(_VOCABULARY, place, keys, required, what)


def _version(place: Place) -> int | None:
    node = place.node
    if not (isinstance(node, Scalar) and node.plain and node.text == str(VERSION)):
        place.fault(
            f"the number {VERSION}, the only version there is", f"Write `version: {VERSION}`"
        )
        return None
    return VERSION


# --- who ---------------------------------------------------------------------------------------


def _rights(place: Place) -> tuple[tuple[Verb, Allowance], ...] | None:
    fields = _group(place, KEYS["rights"])
    if fields is None:
        return None
    found = ((Verb(name), _allowance(at)) for name, at in fields.items())
    return tuple((verb, allowance) for verb, allowance in found if allowance is not None)


def _allowance(place: Place) -> Allowance | None:
    if isinstance(place.node, Scalar):
        role = _role(place)
        return None if role is None else Allowance(role=role)
    what = "a role such as `write`, or a group"
    fields = _group(place, KEYS["allowance"], required=("role",), what=what)
    if fields is None:
        return None
    people = text_list(grammar.login, MOST_PEOPLE, "people")
    return Allowance(
        # Nobody but an administrator, where the role itself has a fault.
        role=read_key(fields, "role", _role, Role.ADMIN),
        people=read_key(fields, "people", people, ()),
    )


def _role(place: Place) -> Role | None:
    # `none` would be everybody, strangers too: a right that nobody grants by name.
    return _one_of(place, tuple(role for role in Role if role is not Role.NONE))


def _one_of(place: Place, choices: tuple[W, ...]) -> W | None:
    node = place.node
    for choice in choices:
        if isinstance(node, Scalar) and node.text == choice.value:
            return choice
    names = [f"`{choice.value}`" for choice in choices]
    place.fault(f"{', '.join(names[:-1])} or {names[-1]}", f"Write one such as {names[0]}")
    return None


# --- lines -------------------------------------------------------------------------------------


def _limits(place: Place) -> Limits | None:
    fields = _group(place, KEYS["limits"])
    if fields is None:
        return None
    sweep = whole(1, MOST_SWEEP, "sweep: 16")
    providers = text_list(grammar.provider_name, MOST_PROVIDERS, "providers", least=1)
    return Limits(
        providers=_maybe(fields, "providers", providers),
        gpus=_maybe(fields, "gpus", _gpus),
        nodes=_maybe(fields, "nodes", whole(1, MOST_NODES, "nodes: 1")),
        max_cost_usd=_maybe(fields, "max_cost", money("max_cost: 5.00")),
        max_duration=_maybe(fields, "max_duration", duration),
        monthly_budget_usd=_maybe(fields, "monthly_budget", money("monthly_budget: 200.00")),
        keep_warm=_maybe(fields, "keep_warm", duration_or_zero),
        extend=_maybe(fields, "extend", duration_or_zero),
        live_runs=_maybe(fields, "live_runs", whole(1, MOST_LIVE_RUNS, "live_runs: 4")),
        sweep=read_key(fields, "sweep", sweep, Limits().sweep),
    )


T = TypeVar("T")


def _maybe(fields: Fields, key: str, reader: Reader[T]) -> T | None:
    return reader(fields[key]) if key in fields else None


def _gpus(place: Place) -> tuple[tuple[str, int], ...] | None:
    """Return types with the most of each; an empty list allows none."""
    needs = list_of(place, words(grammar.gpu), MOST_GPUS, what="GPUs")
    if needs is None:
        return None
    alone = tuple(GpuNeed(need.type) for need in needs)  # the same type twice is a contradiction
    distinct(place, alone, "a GPU type")
    return tuple((need.type, need.count) for need in needs)


def _approval(place: Place) -> ApprovalLine | None:
    fields = _group(place, KEYS["approval"])
    if fields is None:
        return None
    return ApprovalLine(
        cost_usd=_maybe(fields, "cost", money("cost: 20.00")),
        duration=_maybe(fields, "duration", duration),
        gpus=read_key(fields, "gpus", text_list(grammar.gpu_type, MOST_GPUS, "GPU types"), ()),
        by=read_key(fields, "by", _allowance, ApprovalLine().by),
    )


def _superseded(place: Place) -> SupersededRules | None:
    fields = _group(place, KEYS["superseded"])
    if fields is None:
        return None
    rules = SupersededRules()
    return SupersededRules(
        pull_request=read_key(fields, "pull_request", _superseded_rule, rules.pull_request),
        branch=read_key(fields, "branch", _superseded_rule, rules.branch),
        closed=read_key(fields, "closed", _superseded_rule, rules.closed),
        draft=read_key(fields, "draft", _superseded_rule, rules.draft),
    )


def _superseded_rule(place: Place) -> Superseded | None:
    return _one_of(place, tuple(Superseded))


def _forks(place: Place) -> ForkLimits | None:
    fields = _group(place, KEYS["forks"])
    if fields is None:
        return None
    forks = ForkLimits()
    return ForkLimits(
        max_cost_usd=read_key(fields, "max_cost", money("max_cost: 2.00"), forks.max_cost_usd),
        max_duration=read_key(fields, "max_duration", duration, forks.max_duration),
    )


def _data(place: Place) -> DataRules | None:
    fields = _group(place, KEYS["data"])
    if fields is None:
        return None
    return DataRules(cache=read_key(fields, "cache", _reach, CacheReach.REPOSITORY))


def _reach(place: Place) -> CacheReach | None:
    return _one_of(place, tuple(CacheReach))


def _retention(place: Place) -> Retention | None:
    fields = _group(place, KEYS["retention"])
    if fields is None:
        return None
    return Retention(
        releases=_maybe(fields, "releases", whole(1, MOST_RELEASES, "releases: 20")),
        days=_maybe(fields, "days", whole(1, MOST_DAYS, "days: 90")),
    )
