"""What must hold once it is over, whatever happened: read from the outside's logs and the database.

Each oracle returns sentences, none when all is well. docs/chaos.md tells why each of them counts.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import requests

from tests.chaos.crew import Executed
from tests.chaos.stage import OWNER, PLACES, REPO, Stage, Wave

CONCLUSIONS = {
    "succeeded": "success",
    "failed": "failure",
    "cancelled": "cancelled",
    "timed_out": "timed_out",
    "infrastructure": "failure",
}
Row = Mapping[str, Any]


def judge(stage: Stage, wave: Wave, outcome: str = "succeeded") -> None:
    """Assert that a wave whose runs are over left everything as it should be."""
    ids = list(wave.run_ids)
    runs = stage.rows("SELECT * FROM runs WHERE id = ANY(:ids)", ids=ids)
    told = stage.rows(
        "SELECT run_id, body FROM events WHERE kind = 'state' AND run_id = ANY(:ids) ORDER BY seq",
        ids=ids,
    )
    operations = [one for place in PLACES for one in _operations(stage, place)]
    problems = [
        *not_ended_once(ids, runs, told, outcome),
        *left_in_cloud(ids, stage.cloud.sim("GET", "/instances")),
        *doubled_in_cloud(ids, operations),
        *executed_together(stage.crew.executed),
        *wrong_checks(runs, check_runs(stage, wave.commit), stage.doubted),
        *undercounted(runs, operations),
        *lost_deliveries(
            stage.github.sim("GET", "/deliveries"),
            stage.rows("SELECT guid, state FROM deliveries"),
        ),
    ]
    assert problems == [], "\n".join(problems)


def _operations(stage: Stage, place: str) -> list[Row]:
    path = f"/compute/v1/projects/{stage.cloud.project}/zones/{place}/operations"
    answer = requests.get(f"{stage.cloud.url}{path}", params={"maxResults": 500}, timeout=60)
    return list(answer.json().get("items", ()))


def check_runs(stage: Stage, commit: str) -> list[Row]:
    """Return all check runs of ours at a commit, older ones included, as GitHub shows them."""
    [installation] = list(stage.github.integration(stage.app).get_installations())
    token = stage.github.integration(stage.app).get_access_token(installation.id).token
    answer = requests.get(
        f"{stage.github.api_url}/repos/{OWNER}/{REPO}/commits/{commit}/check-runs",
        params={"filter": "all", "per_page": 100, "app_id": stage.app.id},
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    )
    return list(answer.json()["check_runs"])


def not_ended_once(
    ids: Sequence[str], runs: Sequence[Row], told: Sequence[Row], outcome: str
) -> Iterable[str]:
    """Each run has one outcome, told once, and one row."""
    found = {run["id"]: run for run in runs}
    ends = Counter(row["run_id"] for row in told if row["body"]["state"] == "finished")
    keys = Counter((run["commit_sha"], run["spec_path"], run["trigger"]) for run in runs)
    for run_id in ids:
        run = found.get(run_id)
        if run is None:
            yield f"run {run_id}: was accepted and is not there"
        elif (run["state"], run["outcome"]) != ("finished", outcome):
            yield f"run {run_id}: {run['state']} {run['outcome']}: {run['reason']}"
        elif ends[run_id] != 1:
            yield f"run {run_id}: its end was told {ends[run_id]} times"
    yield from (f"{key}: has {number} runs" for key, number in keys.items() if number > 1)


def left_in_cloud(ids: Sequence[str], instances: Sequence[Row]) -> Iterable[str]:
    """Nothing of a run is there any more."""
    for one in instances:
        if _run_of(one["name"]) in ids:
            yield f"{one['name']}: is left in the cloud ({one['status']})"


def doubled_in_cloud(ids: Sequence[str], operations: Sequence[Row]) -> Iterable[str]:
    """No instance was made twice, and each was deleted."""
    deeds: dict[str, Counter[str]] = defaultdict(Counter)
    for one in operations:
        if "error" not in one:
            deeds[_instance_of(one)][one["operationType"]] += 1
    for name, counted in deeds.items():
        if _run_of(name) in ids and counted["insert"] != 1:
            yield f"{name}: was made {counted['insert']} times"


def executed_together(executed: Sequence[Executed]) -> Iterable[str]:
    """Attempt n+1 executes only when attempt n does not any more."""
    by_run: dict[str, list[Executed]] = defaultdict(list)
    for one in executed:
        by_run[one.run_id].append(one)
    for run_id, several in by_run.items():
        several.sort(key=lambda one: one.begun)
        for before, after in itertools.pairwise(several):
            if after.begun < before.ended:
                yield f"run {run_id}: attempts {before.attempt} and {after.attempt} ran together"


def wrong_checks(
    runs: Sequence[Row], checks: Sequence[Row], doubted: Collection[str]
) -> Iterable[str]:
    """Each run has one check run, which ended as the run did.

    Where the answer to a create was lost there may be another, which ended alike.
    """
    by_run: dict[str, list[Row]] = defaultdict(list)
    for check in checks:
        by_run[str(check["external_id"])].append(check)
    for run in runs:
        shown = [check["conclusion"] for check in by_run.get(run["id"], ())]
        wanted = CONCLUSIONS.get(str(run["outcome"]))
        if set(shown) != {wanted} or (len(shown) > 1 and run["id"] not in doubted):
            yield f"run {run['id']}: {run['outcome']}, and its check runs say {shown}"


def undercounted(runs: Sequence[Row], operations: Sequence[Row]) -> Iterable[str]:
    """What a run is said to have cost is at least what its instances cost."""
    lives: dict[str, dict[str, datetime]] = defaultdict(dict)
    for one in operations:
        if "error" not in one and one["status"] == "DONE":
            lives[_instance_of(one)][one["operationType"]] = datetime.fromisoformat(one["endTime"])
    for run in runs:
        incurred = Decimal(0)
        for attempt in run["doc"]["attempts"]:
            for member in attempt["members"]:
                life = lives.get(member["name"], {})
                if {"insert", "delete"} <= life.keys():
                    hours = (life["delete"] - life["insert"]).total_seconds() / 3600
                    incurred += Decimal(hours) * Decimal(attempt["offer"]["usd_per_hour"])
        if Decimal(run["cost_usd"]) < incurred.quantize(Decimal("0.000001")):
            yield f"run {run['id']}: cost {incurred}, and {run['cost_usd']} was counted"


def lost_deliveries(sent: Sequence[Row], kept: Sequence[Row]) -> Iterable[str]:
    """What was answered with success is in the database, once, and handled."""
    states = {row["guid"]: row["state"] for row in kept}
    for one in sent:
        if one.get("status_code") == 202 and one["guid"] not in states:
            yield f"delivery {one['guid']} ({one['event']}): was answered 202 and is not there"
    for guid, state in states.items():
        if state not in {"done", "ignored"}:
            yield f"delivery {guid}: is {state}"


def _run_of(instance: str) -> str:
    return instance.split("-")[1] if instance.startswith("cynthus-") else ""


def _instance_of(operation: Row) -> str:
    return str(operation["targetLink"]).rpartition("/")[2]
