"""A server's engine, the real provider `gcp`, a simulated cloud: one clock for all, stepped."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from google.api_core.exceptions import ServiceUnavailable, TooManyRequests
from google.api_core.retry import Retry as Repeats
from google.api_core.retry import if_exception_type

from cynthus.spec import GpuNeed, Resources, Retry, Spot
from cynthus.wire import EventKind
from tests.builders import NOON, a_key, a_spec, an_exit
from tests.engine.world import RUN, World
from tests.gcp_fixture import GcpSimulator
from webhook_server.providers import gcp
from webhook_server.providers.gcp import Gcp
from webhook_server.providers.gcp_kept import Kept
from webhook_server.providers.gcp_machines import Catalogue
from webhook_server.providers.provider import Instance, ProviderUnavailable
from webhook_server.runs.model import Cause, Outcome, Run, State
from webhook_server.runs.policy import policy_of
from webhook_server.settings import Settings

IMAGE = f"us-docker.pkg.dev/cynthus/agent/agent@sha256:{'0' * 64}"
HERE, THERE = "us-central1-a", "us-central1-b"
BEAT = timedelta(seconds=10)
SECOND = timedelta(seconds=1)
_numbers = itertools.count(1)
# Reads are repeated at once, and few times: the service's pauses are real ones.
_AT_ONCE = Repeats(
    predicate=if_exception_type(ServiceUnavailable, TooManyRequests),
    initial=0.001,
    maximum=0.002,
    timeout=0.02,
)


class CloudWorld(World):
    """One control plane in the simulated project, with a database of its own."""

    def __init__(self, sim: GcpSimulator, folder: Path, catalogue: Kept[Catalogue]) -> None:
        self.sim = sim
        self.folder = folder
        self.catalogue = catalogue
        self.number = next(_numbers)
        self.plane = f"plane{self.number}"
        self.began = sim.exchanges.stat().st_size if sim.exchanges.exists() else 0
        super().__init__(f"sqlite:///{folder}/{self.plane}.db", {"gcp": policy_of("gcp")})

    def start(self) -> None:
        """Start a server: it remembers what its database does, and nothing else."""
        super().start()
        self.gcp = self.opened()
        self.providers.clear()
        self.providers["gcp"] = self.gcp  # type: ignore[assignment]

    def opened(self) -> Gcp:
        settings = Settings(
            state_dir=self.folder,
            gcp_project=self.sim.project,
            gcp_compute_url=self.sim.url,
            gcp_billing_url=self.sim.url,
            gcp_service_account=f"runner@{self.sim.project}.iam.gserviceaccount.com",
            gcp_agent_image=IMAGE,
        )

        def clock() -> float:
            return (self.now - NOON).total_seconds()

        made = gcp.opened(settings, "https://cynthus.example", self.plane, clock=clock)
        made._catalogue = self.catalogue  # the same for all; reading it takes a second
        made._door.__dict__["_repeats"] = _AT_ONCE
        return made

    # ── people, programs, time ──────────────────────────────────────────────────────────────────

    def id_of(self, run_id: str) -> str:
        """Return an id of this world alone: the cloud remembers what had a name before."""
        return f"{run_id}p{self.number}"

    def submit(self, run_id: str = RUN, **changes: Any) -> str:
        return super().submit(self.id_of(run_id), **changes)

    def run(self, run_id: str = RUN) -> Run:
        return super().run(self.id_of(run_id))

    def ask_for(self, *places: str, spot: Spot = Spot.NEVER, run_id: str = RUN, **of: Any) -> str:
        """Ask for a run on an L4; its order goes out at once."""
        need = Resources(gpu=(GpuNeed("l4"),), spot=spot, places=places or (HERE, THERE))
        need = Resources(provider="gcp", gpu=need.gpu, spot=spot, places=need.places)
        given = {"resources": need, "outputs": (), "retry": Retry(3)} | of
        self.submit(run_id, spec=a_spec(**given), key=a_key(trigger=run_id, repository_id=0))
        self.step()
        return run_id

    def wait(self, duration: timedelta, beats: bool = False) -> None:
        """Let time pass here and in the cloud, from one thing that is due to the next."""
        end = self.now + duration
        while self.now < end:
            self._pass_time(end - self.now, beats=beats)

    def _pass_time(self, most: timedelta, *, beats: bool = False) -> None:
        """Go to what is due next, a second on at least; the agents beat in time."""
        if beats:
            most = min(most, BEAT)
        due = self.runs.next_due(self.now) or self.now + most
        duration = min(most, max(due - self.now, SECOND))
        self.sim.post("/clock", advance_s=duration.total_seconds())
        self.now += duration
        for name in list(self.seqs) if beats else ():
            self.beat(name)
        self.step()

    def wait_for(self, state: State, limit: timedelta, beats: bool = False) -> timedelta:
        """Wait until the run is in a state; return how long it took."""
        began_at = self.now
        while self.state() is not state:
            assert self.now < began_at + limit, f"{self.state()}: {self.run().reason}"
            self._pass_time(BEAT, beats=beats)
        return self.now - began_at

    def executing(self, run_id: str = RUN) -> str:
        """Let the agent come and the command begin; return the instance's name."""
        self.wait(timedelta(seconds=2))
        name = self.enrol(run_id)
        self.step()
        self.beat(name)
        assert self.state(run_id) is State.RUNNING, self.run(run_id).reason
        return name

    def replaced(self, old: str, limit: timedelta = timedelta(minutes=3)) -> timedelta:
        """Wait for an instance in the place of one that was lost; return how long it took."""
        self.seqs.pop(old, None)
        began_at = self.now
        while self.run().living == () or self.name() == old:
            assert self.now < began_at + limit, f"{self.state()}: {self.run().reason}"
            self._pass_time(BEAT)
        return self.now - began_at

    def succeeds(self, limit: timedelta = timedelta(minutes=30)) -> None:
        """Let the newest instance's agent do the work; the run ends well, with nothing left."""
        self.seqs.clear()
        name = self.executing()
        self.finish_work(name, an_exit(0))
        self.wait_for(State.FINISHED, limit)
        assert self.run().outcome is Outcome.SUCCEEDED, self.run().reason
        assert self.left() == []

    # ── what is so ──────────────────────────────────────────────────────────────────────────────

    def left(self) -> list[str]:
        """Return everything of this control plane that exists, seen or unseen, with its kind."""
        mine = [one for one in self.sim.sim("GET", "/instances") if self._is_mine(one)]
        hidden = {f"instance {one['name']}" for one in mine}
        return sorted(hidden | {f"{one.kind} {one.name}" for one in self._listed()})

    def _listed(self) -> list[Instance]:
        """Return what a list shows; a refusal meant for the engine may strike the test first."""
        for _ in range(3):
            with contextlib.suppress(ProviderUnavailable):
                return list(self.opened().list())
        return list(self.opened().list())

    def _is_mine(self, instance: Mapping[str, Any]) -> bool:
        return f"'{self.plane}'" in str(instance)

    def asked(self, verb: str) -> list[dict[str, Any]]:
        """Return the exchanges of one verb since this world began."""
        with self.sim.exchanges.open() as file:
            file.seek(self.began)
            found = [json.loads(line) for line in file]
        return [one for one in found if one["verb"] == f"compute.instances.{verb}"]

    def zones(self) -> list[str]:
        """Return the zones that instances were ordered in, in order, repeats of one order once."""
        asked = [one["path"].split("/zones/")[1].split("/")[0] for one in self.asked("insert")]
        return [zone for zone, _ in itertools.groupby(asked)]

    def ending(self, run_id: str = RUN) -> tuple[State, Outcome | None, Cause]:
        run = self.run(run_id)
        return run.state, run.outcome, run.reason.cause

    def states(self) -> list[str]:
        found = self.events.after(self.id_of(RUN), 0, limit=100, kinds=[EventKind.STATE])
        return [str(event.body["state"]) for event in found]
