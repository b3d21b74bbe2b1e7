"""Say which Google Cloud instance sent an enrolment: the identity tokens of Compute Engine.

https://cloud.google.com/compute/docs/instances/verifying-instance-identity
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from webhook_server.auth.jwks import IssuerKeys
from webhook_server.auth.signed_tokens import LEEWAY, Unauthorised, moment, proven

ISSUER = "https://accounts.google.com"
# Google's live an hour: https://cloud.google.com/docs/authentication/token-types#id
MAX_LIFE = timedelta(hours=1) + LEEWAY
# An instance is created after the order for it was saved; two clocks may see that a little apart.
CREATION_SKEW = timedelta(minutes=1)


class GoogleIdentity:
    """Verify the identity tokens that the instances of one project show to one audience."""

    def __init__(
        self,
        *,
        project: str,
        audience: str,
        certs_url: str,
        fetch: Callable[[str], bytes],
        now: Callable[[], datetime],
    ) -> None:
        self._project, self._audience, self._now = project, audience, now
        self._keys = IssuerKeys(certs_url, fetch=fetch, now=now)

    def verify(self, token: str, *, instance: str, place: str, ordered_at: datetime) -> str:
        """Check that the instance we ordered under this name holds the token; return its number.

        The number is Google's own (`instance_id`), for whoever knows which it should be.
        Raises: Unauthorised; Transient when Google's keys cannot be read.
        """
        claims = proven(token, self._keys)
        self._check_issue(claims)
        self._check_times(claims)
        machine = _machine(claims)
        self._check_equal(machine, "project_id", self._project)
        self._check_equal(machine, "zone", place)
        self._check_equal(machine, "instance_name", instance)
        created_at = moment(machine, "instance_creation_timestamp")
        if created_at < ordered_at - CREATION_SKEW:
            raise Unauthorised("identity token: its instance is older than the order for it.")
        return _instance_id(machine)

    def _check_issue(self, claims: Mapping[str, Any]) -> None:
        if claims.get("iss") != ISSUER:
            raise Unauthorised(f"identity token: should come from {ISSUER}.")
        # A list that also names us is refused: such a token was meant for others too.
        if claims.get("aud") != self._audience:
            raise Unauthorised(
                "identity token: is meant for another audience. Ask for this server's address"
                " (CYNTHUS_PUBLIC_URL)."
            )

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._now()
        issued, ends = moment(claims, "iat"), moment(claims, "exp")
        if ends <= issued or ends - issued > MAX_LIFE:
            raise Unauthorised("identity token: lives longer than an instance's token does.")
        if ends + LEEWAY <= now:
            raise Unauthorised(
                "identity token: has expired. Ask the metadata server for a new one."
            )
        if issued - LEEWAY > now:
            raise Unauthorised("identity token: is not good yet. Compare the clocks.")

    def _check_equal(self, machine: Mapping[str, Any], name: str, wanted: str) -> None:
        # What was found is not told: the asker need not learn what this server ordered where.
        if machine.get(name) != wanted:
            raise Unauthorised(f"identity token: `{name}` is not that of the instance we ordered.")


def _machine(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    google = claims.get("google")
    machine = google.get("compute_engine") if isinstance(google, dict) else None
    if not isinstance(machine, dict):
        raise Unauthorised(
            "identity token: names no instance. Ask the metadata server with `format=full`."
        )
    return machine


def _instance_id(machine: Mapping[str, Any]) -> str:
    found = machine.get("instance_id")
    if not isinstance(found, str) or not found.isascii() or not found.isdigit():
        raise Unauthorised("identity token: the claim `instance_id` should be a number.")
    return found
