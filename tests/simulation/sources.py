"""A hub of data as replicas reach it: each look-up has a fate, and finds another commit."""

from __future__ import annotations

from cynthus.errors import Transient
from cynthus.spec import DataSource
from tests.simulation.fates import Fate, Fates
from tests.simulation.scheduler import Scheduler
from webhook_server.runs.model import Run
from webhook_server.runs.observations import DataSeen
from webhook_server.runs.pinning import bind

ENTRY = DataSource(name="train", source="hf://datasets/acme/demo@main", mount="/data/train")
#: A look-up changes nothing at the hub: nothing of it comes late.
_CAN = tuple(fate for fate in Fate if fate is not Fate.LATE)


class Sources:
    """Pins data as `sources.pins` does; each look finds another commit."""

    def __init__(self, scheduler: Scheduler, fates: Fates) -> None:
        self._scheduler, self._fates = scheduler, fates

    def of_run(self, run: Run) -> DataSeen:
        """Return what the run's data is now, or that it cannot be looked up."""
        assert run.spec is not None
        entries = run.spec.data
        revision = f"{int(self._scheduler.now * 1000):040x}"
        try:
            return self._fates.call(
                "hub.pin",
                lambda: DataSeen(datasets=tuple(bind(one, revision) for one in entries)),
                refused=lambda: Transient("the hub answers 500 now"),
                lost=lambda: Transient("the hub does not answer"),
                name=run.id,
                can=_CAN,
            )
        except Transient as error:
            return DataSeen(detail=str(error))
