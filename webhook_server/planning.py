"""Ask providers and budgets what a run of a spec would get and cost; nothing is ordered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from cynthus.errors import Transient
from cynthus.frozen import replace
from cynthus.spec import Spec
from cynthus.wire_money import PlanView
from webhook_server.observe import no_such_provider, with_offers
from webhook_server.providers.provider import Provider
from webhook_server.runs.budget import BudgetSeen
from webhook_server.runs.lending import CoolDown
from webhook_server.runs.model import Grant
from webhook_server.runs.observations import DataSeen, Observations
from webhook_server.runs.plan import Question, plan
from webhook_server.runs.policy import policy_of, within
from webhook_server.settings import Settings
from webhook_server.sources.pins import OnBehalf, Pins
from webhook_server.stores.budget_store import BudgetStore, limits_of
from webhook_server.stores.cool_down_store import CoolDownStore
from webhook_server.stores.database import Database

NO_PROVIDERS = (
    "this door: should be asked of a server that lends instances, found one with doors only. Ask"
    " one that runs with --role all."
)


@dataclass(frozen=True, kw_only=True)
class ToPlan:
    """What is to be planned, and for whom."""

    spec: Spec
    repository_id: int = 0  # whose budgets; 0: no GitHub repository
    repository: str = ""  # owner/name, for people
    minimum_driver: str | None = None  # of the environment, as far as it is known
    monthly_usd: Decimal | None = None  # what the repository's policy allows a month
    stranger: bool = False  # a fork's commit: its data is looked up without tokens
    grant: Grant = field(default_factory=Grant)  # orders keep room for what may be asked later


class NoProviders(Transient):
    """This server lends nothing: it has doors only."""


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Plans with what this process can ask. Changes nothing; safe to repeat."""

    providers: Mapping[str, Provider]
    default_provider: str
    longest: timedelta  # the server's own limit of a run
    budgets: Callable[[int, datetime, Decimal | None], tuple[BudgetSeen, ...]]
    cooling: Callable[[str, datetime], tuple[CoolDown, ...]]
    now: Callable[[], datetime]
    pins: Pins | None = None  # None: what data is, is not looked up

    def provider_of(self, spec: Spec) -> str:
        """Name the provider that would be asked."""
        return spec.resources.provider or self.default_provider

    def plan(self, what: ToPlan) -> PlanView:
        """Return the plan; a provider's refusal is part of it. A cloud is asked: it takes a second.

        Raises: NoProviders where this process lends from none.
        """
        if not self.providers:
            raise NoProviders(NO_PROVIDERS)
        now, name = self.now(), self.provider_of(what.spec)
        question = Question(
            spec=what.spec,
            repository_id=what.repository_id,
            repository=what.repository,
            provider=name,
            policy=within(policy_of(name), self.longest),
            minimum_driver=what.minimum_driver,
            grant=what.grant,
        )
        budgets = self.budgets(what.repository_id, now, what.monthly_usd)
        seen = Observations(budgets=budgets, data=self._data(what))
        return plan(question, self._with_offers(name, what.spec, seen), now)

    def _data(self, what: ToPlan) -> DataSeen | None:
        if self.pins is None or not what.spec.data:
            return None
        whose = OnBehalf(repository_id=what.repository_id, stranger=what.stranger)
        return self.pins.of_spec(what.spec, whose)

    def _with_offers(self, name: str, spec: Spec, seen: Observations) -> Observations:
        refusal = no_such_provider(name, self.providers)
        if refusal is not None:
            return replace(seen, offers=(), offers_refusal=refusal)
        cooling = self.cooling(name, self.now())
        return with_offers(self.providers[name], spec.resources, replace(seen, cooling=cooling))


def open_planner(
    settings: Settings,
    database: Database,
    providers: Mapping[str, Provider],
    now: Callable[[], datetime],
    pins: Pins | None,
) -> Planner:
    """Return the planner of a server; without providers it refuses to plan."""
    return Planner(
        providers=providers,
        default_provider=settings.provider,
        longest=settings.max_duration,
        budgets=BudgetStore(database, limits_of(settings)).of_repository,
        cooling=CoolDownStore(database).current,
        now=now,
        pins=pins,
    )
