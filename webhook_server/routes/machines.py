"""Admit lent machines by the identity tokens of their cloud."""

from __future__ import annotations

from datetime import datetime

from webhook_server.auth.google_identity import GoogleIdentity
from webhook_server.auth.signed_tokens import Unauthorised
from webhook_server.providers.provider import Provider, ProviderRefusal
from webhook_server.routes.answers import HttpRefusal


class GoogleMachines:
    """The gate for instances of Google Cloud."""

    provider_name = "gcp"

    def __init__(self, identity: GoogleIdentity, provider: Provider | None) -> None:
        self._identity, self._provider = identity, provider

    def identify(self, token: str, *, instance: str, place: str, ordered_at: datetime) -> None:
        """Check that this very instance holds the token. Raises: HttpRefusal (401), Transient."""
        try:
            number = self._identity.verify(
                token, instance=instance, place=place, ordered_at=ordered_at
            )
        except Unauthorised as error:
            raise HttpRefusal(401, str(error)) from error
        wanted = self._number(instance)
        if wanted and number != wanted:
            raise HttpRefusal(
                401, "identity token: `instance_id` is not that of the instance we ordered."
            )

    def _number(self, instance: str) -> str:
        """Return the number that the provider tells, empty when it cannot tell.

        Asked last, so that nobody makes us ask who has not shown a good token.
        """
        try:
            return self._provider.get(instance).vendor_id if self._provider else ""
        except ProviderRefusal:  # an outage there must not hold up what Google has signed
            return ""
