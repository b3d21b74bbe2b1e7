"""Identity tokens of instances: what is refused, and that a good one is enough."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from cynthus.errors import Transient
from tests.unit.test_oidc import jwk, key, key_set
from webhook_server.auth.google_identity import CREATION_SKEW, GoogleIdentity
from webhook_server.auth.signed_tokens import Unauthorised

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
AUDIENCE = "https://cynthus.example"
CERTS = "https://www.googleapis.com/oauth2/v3/certs"
ORDERED_AT = NOON - timedelta(minutes=2)


def claims(machine: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return what Google signs, as its documentation shows it."""
    begun = int(NOON.timestamp())
    found: dict[str, Any] = {
        "iss": "https://accounts.google.com",
        "iat": begun,
        "exp": begun + 3600,
        "aud": AUDIENCE,
        "sub": "112179062720391305885",
        "azp": "112179062720391305885",
        "google": {
            "compute_engine": {
                "project_id": "acme-gpu",
                "project_number": 739419398126,
                "zone": "us-central1-a",
                "instance_id": "152986662232938449",
                "instance_name": "cynthus-r1-1",
                "instance_creation_timestamp": begun - 100,
                "instance_confidentiality": 0,
                **(machine or {}),
            }
        },
    }
    return {**found, **changes}


def signed(found: dict[str, Any], *, by: str = "google", **header: Any) -> str:
    return jwt.encode(found, key(by), algorithm="RS256", headers={"kid": "k1", **header})


def verifier(
    *, fetch: Callable[[str], bytes] | None = None, now: Callable[[], datetime] = lambda: NOON
) -> GoogleIdentity:
    return GoogleIdentity(
        project="acme-gpu",
        audience=AUDIENCE,
        certs_url=CERTS,
        fetch=fetch or (lambda _: key_set(jwk(key("google")))),
        now=now,
    )


def verify(token: str, identity: GoogleIdentity | None = None) -> str:
    return (identity or verifier()).verify(
        token, instance="cynthus-r1-1", place="us-central1-a", ordered_at=ORDERED_AT
    )


def test_the_instance_that_we_ordered_is_let_in_by_its_number() -> None:
    assert verify(signed(claims())) == "152986662232938449"


BEGUN = int(NOON.timestamp())
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "another audience": (claims(aud="https://other.example"), "another audience"),
    "an audience among others": (claims(aud=[AUDIENCE]), "another audience"),
    "another issuer": (claims(iss="https://evil.example"), "https://accounts.google.com"),
    "the issuer without its scheme": (claims(iss="accounts.google.com"), "should come from"),
    "another project": (claims({"project_id": "evil"}), "`project_id`"),
    "another zone": (claims({"zone": "us-central1-b"}), "`zone`"),
    "another run's instance": (claims({"instance_name": "cynthus-r2-1"}), "`instance_name`"),
    "an instance older than the order": (
        claims({"instance_creation_timestamp": BEGUN - 3600}),
        "older than the order",
    ),
    "no time of creation": (claims({"instance_creation_timestamp": None}), "should be a moment"),
    "no number": (claims({"instance_id": None}), "`instance_id`"),
    "a number that is none": (claims({"instance_id": "1 or 1=1"}), "`instance_id`"),
    "expired": (claims(iat=BEGUN - 7200, exp=BEGUN - 3600), "expired"),
    "not good yet": (claims(iat=BEGUN + 600, exp=BEGUN + 4200), "not good yet"),
    "good for a year": (claims(exp=BEGUN + 31536000), "longer"),
    "no end": ({k: v for k, v in claims().items() if k != "exp"}, "`exp`"),
    "the standard format without a machine": (claims(google=None), "format=full"),
    "a machine that is a list": (claims(google={"compute_engine": [1]}), "format=full"),
}


@pytest.mark.parametrize(("found", "text"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_claim_that_is_not_as_it_should_be_is_refused(found: dict[str, Any], text: str) -> None:
    with pytest.raises(Unauthorised) as refused:
        verify(signed(found))
    assert text in str(refused.value)


def unsigned(header: dict[str, Any]) -> str:
    parts = (json.dumps(part).encode() for part in (header, claims()))
    return ".".join(base64.urlsafe_b64encode(p).rstrip(b"=").decode() for p in parts) + "."


def test_only_googles_signature_counts() -> None:
    shared = "what-everybody-knows".ljust(64)
    for token in (
        unsigned({"alg": "none", "kid": "k1"}) + "AA",
        jwt.encode(claims(), shared, algorithm="HS256", headers={"kid": "k1"}),
        signed(claims(), by="evil"),
        signed(claims(), kid="k-unknown"),
        signed(claims(), jwk=jwk(key("evil"))),
        "not a token",
    ):
        with pytest.raises(Unauthorised):
            verify(token)


def test_an_instance_may_be_a_little_older_by_another_clock() -> None:
    created = int((ORDERED_AT - CREATION_SKEW).timestamp())
    assert verify(signed(claims({"instance_creation_timestamp": created})))


def test_the_keys_are_kept_through_an_outage_and_asked_for_where_they_are_published() -> None:
    asked: list[str] = []
    later = [NOON]

    def fetch(url: str) -> bytes:
        asked.append(url)
        if len(asked) > 1:
            raise Transient("no way out")
        return key_set(jwk(key("google")))

    identity = verifier(fetch=fetch, now=lambda: later[0])
    token = signed(claims())
    assert verify(token, identity)
    later[0] = NOON + timedelta(minutes=61)  # the keys are old, and cannot be read again
    again = claims(iat=int(later[0].timestamp()), exp=int(later[0].timestamp()) + 3600)
    assert verify(signed(again), identity)
    assert asked == [CERTS, CERTS]


def test_without_keys_nobody_is_turned_away_for_good() -> None:
    def fetch(_: str) -> bytes:
        raise Transient("no way out")

    with pytest.raises(Transient):
        verify(signed(claims()), verifier(fetch=fetch))


def test_a_refusal_is_cheap() -> None:
    identity = verifier()
    verify(signed(claims()), identity)
    forged = [signed(claims(), kid=f"other-{number}") for number in range(200)]
    began = time.process_time()
    for token in forged:
        with pytest.raises(Unauthorised):
            verify(token, identity)
    assert time.process_time() - began < 2  # no fetch for each: alone it takes 10 ms
