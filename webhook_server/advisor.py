"""Ask the provider of a finished run for something cheaper that would have held it."""

from __future__ import annotations

from collections.abc import Mapping

from webhook_server.providers.provider import Provider, ProviderRefusal
from webhook_server.runs.model import Run
from webhook_server.runs.sizing import Advice, advice, wish
from webhook_server.runs.usage import Usage


class Advisor:
    """Knows the providers of this process."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers = providers

    def advise(self, run: Run, usage: Usage) -> Advice | None:
        """Return what is cheaper there; None: nothing, or it cannot be asked. Changes nothing."""
        need = wish(run, usage)
        provider = self._providers.get(run.attempt.offer.provider) if run.attempt else None
        if need is None or provider is None:
            return None
        try:
            return advice(run, usage, provider.offers(need))
        except ProviderRefusal:
            return None  # it is advice: nobody waits for a better moment
