"""The table of the steps, in the order in which they are taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scripts.gcp_live import instances, lists, stores
from scripts.gcp_live.ground import Ground


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing to find out."""

    name: str
    what: str
    see: str  # what should be seen
    cost: str = "nothing"
    asked_for: str = ""  # the option without which it is left out
    run: Callable[[Ground], str]


STEPS = (
    Step(
        name="account", what="credentials, project", see="the project's id", run=lists.see_account
    ),
    Step(
        name="catalogue",
        what="machine and accelerator types, beside the shipped table",
        see="no shape that differs, no accelerator without a word",
        run=lists.see_catalogue,
    ),
    Step(
        name="prices",
        what="the Billing Catalog, beside the shipped table",
        see="every entry is understood, none moved by over a tenth",
        run=lists.see_prices,
    ),
    Step(
        name="quotas",
        what="GPU quotas of the places",
        see="what you asked for",
        run=lists.see_quotas,
    ),
    Step(
        name="refusal",
        what="an order with a fault in it",
        see="HTTP 400, which ends a run at once",
        run=instances.see_refusal,
    ),
    Step(
        name="create",
        what="the cheapest machine without GPU",
        see="it runs within a minute",
        cost="a cent",
        run=instances.see_create,
    ),
    Step(
        name="shape",
        what="the instance as Google keeps it",
        see="maxRunDuration with DELETE, no external address",
        run=instances.see_shape,
    ),
    Step(
        name="repeat",
        what="the same order again, by its request id",
        see="one instance",
        run=instances.see_repeat,
    ),
    Step(
        name="taken",
        what="another order under the same name",
        see="409, and adoption by the labels only",
        cost="a cent",
        run=instances.see_taken,
    ),
    Step(
        name="list",
        what="all zones by label",
        see="the instance, with its price",
        run=instances.see_list,
    ),
    Step(
        name="delete",
        what='delete until "not found"',
        see="gone within two minutes, and it stays so",
        run=instances.see_delete,
    ),
    Step(
        name="storage",
        what="a bucket; signed PUT twice, signed GET",
        see="200, then 412; the bytes",
        run=stores.see_storage,
    ),
    Step(
        name="secrets",
        what="set, read, pinned version",
        see="the values, for one repository",
        run=stores.see_secrets,
    ),
    Step(
        name="identity",
        what="Google's keys; on an instance its own token",
        see="keys; a good token",
        run=stores.see_identity,
    ),
    Step(
        name="preempt",
        what="simulateMaintenanceEvent on a Spot machine",
        see="preempted, by the operations",
        cost="a cent",
        asked_for="--preempt",
        run=instances.see_preempt,
    ),
    Step(
        name="gpu",
        what="a T4 or L4 boots Container-Optimized OS with its driver",
        see="mark driver_ready on the serial port within 3 minutes",
        cost="up to $0.30",
        asked_for="--gpu",
        run=instances.see_gpu,
    ),
    Step(
        name="leftovers",
        what="everything with this check's label",
        see="nothing",
        run=instances.see_leftovers,
    ),
)
