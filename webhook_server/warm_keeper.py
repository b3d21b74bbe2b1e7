"""Give back the instances that waited in vain for their repository's next run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cynthus.errors import Transient
from webhook_server.providers.provider import InstanceNotFound, Provider, ProviderRefusal
from webhook_server.runs.observations import Kept
from webhook_server.runs.warm import is_over
from webhook_server.stores.warm_store import WarmStore

log = logging.getLogger(__name__)

#: While something is being given back; a deletion takes a cloud half a minute.
RETRY = timedelta(seconds=5)
#: While something waits: its agent may fall silent, which nobody else would notice.
LOOK = timedelta(seconds=30)


@dataclass(frozen=True)
class WarmKeeper:
    """Ends what is kept; several replicas may do so at once, since every step is repeatable."""

    store: WarmStore
    providers: Mapping[str, Provider]
    now: Callable[[], datetime]

    def step(self) -> float:
        """Take one step with everything that waits; return the seconds until the next."""
        now = self.now()
        waiting = self.store.unfinished()
        ending = [one for one in waiting if is_over(one, now)]
        for one in ending:
            try:
                if self.store.end(one, now):  # from here on no run can take it
                    self._give_back(one)
            except Transient as error:
                log.warning("warm instance not ended name=%s detail=%s", one.machine, error)
            except Exception:  # one instance's fault must not keep the others
                log.exception("warm instance failed name=%s", one.machine)
        coming = [one.until - now for one in waiting if one not in ending]
        soonest = min([RETRY if ending else LOOK, *coming])
        return max(soonest.total_seconds(), 0.0)

    def _give_back(self, one: Kept) -> None:
        provider = self.providers.get(one.offer.provider)
        if provider is None:
            log.error("warm instance of a provider that is not configured name=%s", one.machine)
            return
        try:
            provider.delete(one.machine)
            provider.get(one.machine)
        except InstanceNotFound:
            self.store.gone(
                one, self.now()
            )  # it may have gone only while the answer was waited for
            log.info("warm instance ended name=%s run=%s", one.machine, one.run_id)
        except ProviderRefusal as refusal:
            log.warning("deletion refused name=%s detail=%s", one.machine, refusal)
