"""Service accounts, tokens and federation of the simulated cloud, through google-auth."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from google.api_core.exceptions import Forbidden
from google.auth import identity_pool
from google.auth.credentials import Credentials
from google.auth.exceptions import InvalidOperation, OAuthError, RefreshError
from google.auth.transport.requests import Request
from google.oauth2 import credentials as oauth2
from google.oauth2 import service_account

from tests.contract.gcp_cloud import Cloud, a_cloud

ALL = "https://www.googleapis.com/auth/cloud-platform"
READING = "https://www.googleapis.com/auth/devstorage.read_only"
JWT = "urn:ietf:params:oauth:token-type:jwt"


@pytest.fixture(scope="module")
def module_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with a_cloud(tmp_path_factory.mktemp("gcp")) as cloud:
        yield cloud


@pytest.fixture
def cloud(module_cloud: Cloud) -> Iterator[Cloud]:
    """Return the module's cloud; what the test sent is judged when it ends."""
    yield module_cloud
    module_cloud.simulator.sim("DELETE", "/faults")
    assert module_cloud.problems() == []


@pytest.fixture
def closed(cloud: Cloud) -> Iterator[Cloud]:
    """Return the cloud with tokens asked of everybody."""
    cloud.simulator.post("/settings", {"auth": True})
    yield cloud
    cloud.simulator.post("/settings", {"auth": False})


def account(cloud: Cloud, name: str) -> str:
    email: str = cloud.simulator.post("/service-accounts", {"name": name})["email"]
    return email


def act(cloud: Cloud, email: str, method: str, body: dict[str, Any], token: str = "") -> Any:
    return cloud.call(
        "POST",
        f"/v1/projects/-/serviceAccounts/{email}:{method}",
        json=body,
        headers={"Authorization": f"Bearer {token}"} if token else {},
    )


def token_for(cloud: Cloud, *scopes: str, life_s: int = 3600) -> Credentials:
    wish = {"account": "me@example.org", "scopes": list(scopes), "life_s": life_s}
    return oauth2.Credentials(cloud.simulator.post("/tokens", wish)["access_token"])


# the issuer of somebody else's tokens -----------------------------------------------------


class Issuer:
    """An OpenID Connect issuer on loopback."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.url = ""

    def documents(self) -> dict[str, Any]:
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {
            "/.well-known/openid-configuration": {"jwks_uri": f"{self.url}/keys"},
            "/keys": {"keys": [{**key, "kid": "k1", "alg": "RS256", "use": "sig"}]},
        }

    def token(self, *, key: Any = None, **claims: Any) -> str:
        now = int(time.time())
        usual = {"iss": self.url, "sub": "repo:o/r:ref:refs/heads/main", "iat": now}
        usual |= {"exp": now + 300, "repository_id": "7", "repository_owner_id": "9"}
        return jwt.encode(
            {**usual, **claims}, key or self.key, algorithm="RS256", headers={"kid": "k1"}
        )


@contextmanager
def an_issuer() -> Iterator[Issuer]:
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(issuer.documents()[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with an_issuer() as found:
        yield found


def provider(cloud: Cloud, issuer: Issuer, **more: Any) -> str:
    """Make a provider and return its audience."""
    wish = {"pool": "github", "provider": "p", "issuer": issuer.url, "audiences": ["us"], **more}
    audience: str = cloud.simulator.post("/workload-providers", wish)["audience"]
    return audience


def federated(cloud: Cloud, audience: str, token: str, folder: Path, **more: Any) -> Credentials:
    """Return google-auth's own credentials for a token in a file."""
    file = folder / "token"
    file.write_text(token)
    return identity_pool.Credentials(
        audience=audience,
        subject_token_type=JWT,
        token_url=f"{cloud.url}/v1/token",
        credential_source={"file": str(file)},
        scopes=[ALL],
        **more,
    )


# tokens -----------------------------------------------------------------------------------


def test_without_a_token_nothing_is_done_when_tokens_are_asked_for(closed: Cloud) -> None:
    answer = closed.call("POST", "/storage/v1/b?project=p", json={"name": "closed-1"})
    assert answer.status_code == 401
    assert answer.json()["error"]["errors"][0]["reason"] == "required"
    with pytest.raises(InvalidOperation, match="cannot be refreshed"):  # the client has no other
        closed.storage().create_bucket("closed-1")
    closed.storage(token_for(closed, ALL)).create_bucket("closed-1")


def test_a_token_opens_what_its_scope_says(closed: Cloud) -> None:
    bucket = closed.storage(token_for(closed, ALL)).create_bucket("closed-2")
    bucket.blob("a").upload_from_string(b"x")
    reader = closed.storage(token_for(closed, READING)).bucket("closed-2")
    assert reader.blob("a").download_as_bytes() == b"x"
    with pytest.raises(Forbidden):
        reader.blob("b").upload_from_string(b"x")


def test_a_token_that_is_shown_is_checked_even_where_none_is_asked_for(cloud: Cloud) -> None:
    answer = cloud.call("GET", "/storage/v1/b?project=p", headers={"Authorization": "Bearer x"})
    assert answer.status_code == 401


def test_a_token_ends(tmp_path: Path) -> None:
    with a_cloud(tmp_path) as cloud:
        client = cloud.storage(token_for(cloud, ALL, life_s=60))
        client.create_bucket("ends-1")
        cloud.simulator.post("/clock", advance_s=61)
        # The client would fetch another token; this one has no way to.
        with pytest.raises(RefreshError):
            client.create_bucket("ends-2")


def test_a_key_file_buys_tokens_by_its_signature(closed: Cloud) -> None:
    good = closed.signer("keyed")
    closed.storage(good).create_bucket("keyed-1")
    assert str(good.token).startswith("ya29.")
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    now = int(time.time())
    claims = {"iss": good.service_account_email, "aud": f"{closed.url}/token", "iat": now}
    forged = jwt.encode({**claims, "exp": now + 60}, other, algorithm="RS256")
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": forged}
    answer = closed.call("POST", "/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


# iamcredentials ---------------------------------------------------------------------------


def test_one_account_acts_for_another(closed: Cloud) -> None:
    email = account(closed, "acted")
    token = str(token_for(closed, ALL).token)
    wish = {"scope": [ALL], "lifetime": "600s"}
    issued = act(closed, email, "generateAccessToken", wish, token).json()
    closed.storage(oauth2.Credentials(issued["accessToken"])).create_bucket("acted-1")
    signed = act(closed, email, "signBlob", {"payload": "eA=="}, token).json()
    assert len(base64.b64decode(signed["signedBlob"])) == 256
    identity = {"audience": "https://us", "includeEmail": True}
    id_token = act(closed, email, "generateIdToken", identity, token).json()["token"]
    keys = jwt.PyJWKSet.from_dict(requests.get(f"{closed.url}/oauth2/v3/certs", timeout=60).json())
    claims = jwt.decode(id_token, keys.keys[0].key, algorithms=["RS256"], audience="https://us")
    assert claims["email"] == email
    payload = json.dumps({"sub": "x"})
    assert "signedJwt" in act(closed, email, "signJwt", {"payload": payload}, token).json()


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        ("signBlob", {}, "INVALID_ARGUMENT"),
        ("signBlob", {"payload": "%%"}, "INVALID_ARGUMENT"),
        ("signJwt", {"payload": "no json"}, "INVALID_ARGUMENT"),
        ("generateAccessToken", {"scope": []}, "INVALID_ARGUMENT"),
        ("generateAccessToken", {"scope": [ALL], "lifetime": "7200s"}, "INVALID_ARGUMENT"),
        ("generateAccessToken", {"scope": [ALL], "lifetime": "-1s"}, "INVALID_ARGUMENT"),
        ("generateIdToken", {}, "INVALID_ARGUMENT"),
    ],
)
def test_what_makes_no_sense_is_refused(
    cloud: Cloud, method: str, body: dict[str, Any], status: str
) -> None:
    answer = act(cloud, account(cloud, "strict"), method, body)
    assert answer.json()["error"]["status"] == status


def test_an_account_that_is_not_there_signs_nothing(cloud: Cloud) -> None:
    answer = act(cloud, "nobody@example.org", "signBlob", {"payload": "eA=="})
    assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")


def test_a_lost_permission_is_told_by_its_name(cloud: Cloud) -> None:
    email = account(cloud, "denied")
    cloud.simulator.fault("denied", {"permission": r"iam\.serviceAccounts\.signBlob"})
    error = act(cloud, email, "signBlob", {"payload": "eA=="}).json()["error"]
    assert error["status"] == "PERMISSION_DENIED"
    assert error["details"][0]["reason"] == "IAM_PERMISSION_DENIED"


# federation -------------------------------------------------------------------------------


def test_a_foreign_token_becomes_one_of_the_clouds(
    closed: Cloud, issuer: Issuer, tmp_path: Path
) -> None:
    audience = provider(
        closed,
        issuer,
        condition="assertion.repository_owner_id == '9' && assertion.repository_id in ['7', '8']",
        mapping={"google.subject": "assertion.repository_id + ':' + assertion.sub"},
    )
    found = federated(closed, audience, issuer.token(aud="us"), tmp_path)
    closed.storage(found).create_bucket("federated-1")


def test_a_federated_identity_acts_only_for_accounts_that_let_it(
    closed: Cloud, issuer: Issuer, tmp_path: Path
) -> None:
    mine, other = account(closed, "mine"), account(closed, "other")
    audience = provider(closed, issuer, pool="acting", impersonates=[mine])
    place = f"{closed.url}/v1/projects/-/serviceAccounts/{{}}:generateAccessToken"
    for email in [mine, other]:
        found = federated(
            closed,
            audience,
            issuer.token(aud="us"),
            tmp_path,
            service_account_impersonation_url=place.format(email),
        )
        if email == mine:
            closed.storage(found).create_bucket("federated-2")
        else:
            with pytest.raises(RefreshError, match="IAM_PERMISSION_DENIED"):
                found.refresh(Request())


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"aud": "them"}, "audience"),
        ({"aud": "us", "iss": "https://evil.example"}, "issuer"),
        ({"aud": "us", "exp": 1}, "stale"),
        ({"aud": "us", "repository_owner_id": "10"}, "rejected by the attribute condition"),
        ({"aud": "us", "sub": "x" * 128}, "127 bytes"),
        ({"aud": "us", "key": "another"}, "verifying"),
    ],
)
def test_a_foreign_token_that_does_not_fit_is_refused(
    cloud: Cloud, issuer: Issuer, tmp_path: Path, claims: dict[str, Any], words: str
) -> None:
    audience = provider(
        cloud, issuer, pool="strict", condition="assertion.repository_owner_id == '9'"
    )
    if "key" in claims:
        claims = {**claims, "key": rsa.generate_private_key(public_exponent=65537, key_size=2048)}
    found = federated(cloud, audience, issuer.token(**claims), tmp_path)
    with pytest.raises(OAuthError, match=words):
        found.refresh(Request())


def test_an_unknown_provider_and_a_bare_github_issuer_are_refused(
    cloud: Cloud, issuer: Issuer, tmp_path: Path
) -> None:
    audience = provider(cloud, issuer).replace("/providers/p", "/providers/q")
    with pytest.raises(OAuthError, match="invalid_target"):
        federated(cloud, audience, issuer.token(aud="us"), tmp_path).refresh(Request())
    with pytest.raises(RuntimeError, match="attribute condition"):
        cloud.simulator.post(
            "/workload-providers", {"issuer": "https://token.actions.githubusercontent.com"}
        )


def test_the_key_file_is_what_google_auth_reads(cloud: Cloud, tmp_path: Path) -> None:
    key_file = cloud.simulator.post("/service-accounts", {"name": "filed", "key_file": True})
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key_file))
    found = service_account.Credentials.from_service_account_file(str(path), scopes=[ALL])
    found.refresh(Request())
    assert found.valid


def test_the_xml_interface_refuses_in_xml(closed: Cloud) -> None:
    closed.storage(token_for(closed, ALL)).create_bucket("closed-3")
    answer = closed.call("PUT", "/closed-3/a", data=b"x")
    assert answer.status_code == 403
    assert "<Code>AccessDenied</Code>" in answer.text
    assert "storage.objects.create" in answer.text
    own = {"Authorization": f"Bearer {token_for(closed, ALL).token}"}
    assert closed.call("PUT", "/closed-3/a", data=b"x", headers=own).status_code == 200
