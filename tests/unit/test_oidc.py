"""Tokens of workflow jobs: what is refused, and what a good one may ask for."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from cynthus.errors import Transient, UserError
from cynthus.wire import RunRequest
from tests.stopwatch import Stopwatch
from webhook_server.auth.allowed import Allowed
from webhook_server.auth.fetch import fetch
from webhook_server.auth.jwks import COOL_DOWN, MAX_AGE
from webhook_server.auth.oidc import (
    Caller,
    Forbidden,
    Lookups,
    OidcVerifier,
    PullHead,
    admit,
    authorise,
)
from webhook_server.auth.signed_tokens import Unauthorised
from webhook_server.routes.answers import HttpRefusal
from webhook_server.routes.jobs import GithubJobs
from webhook_server.runs.model import RunKey

ISSUER = "https://token.actions.githubusercontent.com"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SHA, HEAD = "a" * 40, "b" * 40


@cache
def key(name: str = "github", bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def jwk(private: rsa.RSAPrivateKey, **members: Any) -> dict[str, Any]:
    public = RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
    public.pop("key_ops", None)
    return {**public, "kid": "k1", "use": "sig", "alg": "RS256", **members}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    begun = int(NOON.timestamp())
    found = {
        "iss": ISSUER,
        "aud": "cynthus",
        "sub": "repo:acme/digits:ref:refs/heads/main",
        "jti": "5e1f7f0a-0000-4000-8000-000000000001",
        "iat": begun,
        "nbf": begun - 600,
        "exp": begun + 300,
        "repository": "acme/digits",
        "repository_id": "41",
        "repository_owner": "acme",
        "repository_owner_id": "7",
        "repository_visibility": "private",
        "ref": "refs/heads/main",
        "sha": SHA,
        "event_name": "push",
        "actor": "octocat",
        "run_id": "900",
        "run_attempt": "1",
        "runner_environment": "github-hosted",
        "workflow_ref": "acme/digits/.github/workflows/train.yml@refs/heads/main",
        "job_workflow_ref": "acme/digits/.github/workflows/train.yml@refs/heads/main",
        **changes,
    }
    return {name: value for name, value in found.items() if value is not ...}


def token(header: dict[str, Any] | None = None, **changes: Any) -> str:
    return jwt.encode(
        claims(**changes), key(), algorithm="RS256", headers={"kid": "k1", **(header or {})}
    )


class Issuer:
    """Answers for the key set, and counts how often it is asked."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers) or [key_set(jwk(key()))]
        self.asked: list[str] = []

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def verifier(issuer: Issuer | None = None, clock: Clock | None = None) -> OidcVerifier:
    return OidcVerifier(
        issuer=ISSUER, audience="cynthus", fetch=issuer or Issuer(), now=clock or Clock()
    )


def b64(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: bytes | dict[str, Any], payload: bytes | dict[str, Any]) -> str:
    """Sign by hand with the issuer's real key, whatever stands in the parts."""
    text = f"{b64(header)}.{b64(payload)}"
    signature = key().sign(text.encode(), *_pkcs1())
    return f"{text}.{b64(signature)}"


def _pkcs1() -> tuple[Any, Any]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    return padding.PKCS1v15(), hashes.SHA256()


@pytest.mark.case("O1")
def test_a_good_token_says_who_calls() -> None:
    issuer = Issuer()
    caller = verifier(issuer).caller(token())
    assert caller == Caller(
        repository_id=41,
        owner_id=7,
        repository="acme/digits",
        sha=SHA,
        ref="refs/heads/main",
        event="push",
        actor="octocat",
        run_id="900",
        run_attempt=1,
        jti="5e1f7f0a-0000-4000-8000-000000000001",
        expires_at=NOON + timedelta(minutes=5),
        public=False,
        runner="github-hosted",
    )
    assert issuer.asked == [f"{ISSUER}/.well-known/jwks"]


def test_the_newer_form_of_sub_is_good_when_its_ids_agree() -> None:
    verifier().caller(token(sub="repo:acme@7/digits@41:ref:refs/heads/main"))


def test_a_sub_of_the_repositorys_own_making_is_no_obstacle() -> None:
    verifier().caller(token(sub="repository_owner_id:7:environment:a%3Ab"))


HS_SECRET = key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _hs256() -> str:
    text = f"{b64({'alg': 'HS256', 'typ': 'JWT', 'kid': 'k1'})}.{b64(claims())}"
    return f"{text}.{b64(hmac.digest(HS_SECRET, text.encode(), hashlib.sha256))}"


def _es256_zero() -> str:
    text = f"{b64({'alg': 'ES256', 'typ': 'JWT', 'kid': 'k1'})}.{b64(claims())}"
    return f"{text}.{b64(bytes(64))}"


RS256 = {"alg": "RS256", "typ": "JWT", "kid": "k1"}

FORGED: dict[str, Callable[[], str]] = {
    # O1
    "no algorithm": lambda: f"{b64({**RS256, 'alg': 'none'})}.{b64(claims())}.",
    "no algorithm, other case": lambda: f"{b64({**RS256, 'alg': 'nOnE'})}.{b64(claims())}.AA",
    "HS256 with the public key": _hs256,
    "ES256 with a zero signature": _es256_zero,
    "RS512": lambda: jwt.encode(claims(), key(), algorithm="RS512", headers={"kid": "k1"}),
    "RS256 header, PS256 signature": lambda: (
        b64(RS256)
        + "."
        + jwt.encode(claims(), key(), algorithm="PS256", headers={"kid": "k1"}).split(".", 1)[1]
    ),
    "ES256 by a stranger": lambda: jwt.encode(
        claims(), ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers={"kid": "k1"}
    ),
    # O2
    "a stranger's key under the known id": lambda: jwt.encode(
        claims(), key("stranger"), algorithm="RS256", headers={"kid": "k1"}
    ),
    "no key id": lambda: jwt.encode(claims(), key(), algorithm="RS256"),
    "an unknown key id": lambda: token({"kid": "k9"}),
    "key id as a path": lambda: token({"kid": "../../etc/passwd"}),
    "key id as SQL": lambda: token({"kid": "' OR 1=1 --"}),
    "key id as a list": lambda: signed({**RS256, "kid": ["k1"]}, claims()),
    "key id of 9 kB": lambda: token({"kid": "k" * 9000}),
    # O3, O4
    "jwk": lambda: token({"jwk": jwk(key("stranger"))}),
    "jku": lambda: token({"jku": "https://evil.example/jwks"}),
    "x5u": lambda: token({"x5u": "https://evil.example/cert"}),
    "x5c": lambda: token({"x5c": ["AAAA"]}),
    "unknown crit": lambda: signed({**RS256, "crit": ["exp"]}, claims()),
    "b64": lambda: signed({**RS256, "b64": False}, claims()),
    "another type": lambda: token({"typ": "at+jwt"}),
    # O5
    "30 000 dots": lambda: "." * 30_000,
    "two parts": lambda: "a.b",
    "empty": lambda: "",
    "spaces": lambda: token().replace(".", " ."),
    "a line end": lambda: token() + "\n",
    "padding": lambda: token() + "=",
    "not ASCII": lambda: token()[:-1] + "é",
    "too long": lambda: signed(RS256, claims(pad="x" * 13_000)),
    "deep header": lambda: signed(b"[" * 6000 + b"]" * 6000, claims()),
    "deep claims": lambda: signed(RS256, b'{"a":' * 1500 + b"1" + b"}" * 1500),
    "duplicate claims": lambda: signed(
        RS256, json.dumps(claims())[:-1].encode() + b',"repository_id":"42"}'
    ),
    "exp NaN": lambda: signed(RS256, json.dumps(claims(exp=float("nan"))).encode()),
    "exp infinite": lambda: signed(RS256, json.dumps(claims(exp=float("inf"))).encode()),
    "exp 1e400": lambda: signed(
        RS256, json.dumps(claims()).replace(f'"exp": {claims()["exp"]}', '"exp": 1e400').encode()
    ),
    "a number of 6 000 digits": lambda: signed(
        RS256, json.dumps(claims())[:-1].encode() + b',"n":' + b"9" * 6000 + b"}"
    ),
    "claims are a list": lambda: signed(RS256, json.dumps([claims()]).encode()),
    "claims are not UTF-8": lambda: signed(RS256, b'{"iss":"\xff"}'),
    # O6
    "issuer with a slash": lambda: token(iss=ISSUER + "/"),
    "issuer of an enterprise": lambda: token(iss=ISSUER + "/acme"),
    "issuer as a prefix": lambda: token(iss=ISSUER + ".evil.example"),
    "issuer in a list": lambda: signed(RS256, claims(iss=[ISSUER])),
    "no issuer": lambda: token(iss=...),
    # O7
    "another audience": lambda: token(aud="sts.amazonaws.com"),
    "GitHub's default audience": lambda: token(aud="https://github.com/acme"),
    "audience list with ours": lambda: token(aud=["cynthus", "other"]),
    "audience list of ours alone": lambda: token(aud=["cynthus"]),
    "audience in another case": lambda: token(aud="Cynthus"),
    "no audience": lambda: token(aud=...),
    # O8
    "expired": lambda: token(exp=int(NOON.timestamp()) - 31, iat=int(NOON.timestamp()) - 300),
    "no exp": lambda: token(exp=...),
    "no iat": lambda: token(iat=...),
    "no nbf": lambda: token(nbf=...),
    "exp as text": lambda: signed(RS256, claims(exp="never")),
    "exp true": lambda: signed(RS256, claims(exp=True)),
    "ten years": lambda: token(exp=int(NOON.timestamp()) + 10 * 365 * 86400),
    "issued in the future": lambda: token(
        iat=int(NOON.timestamp()) + 31, exp=int(NOON.timestamp()) + 300
    ),
    "good from later": lambda: token(nbf=int(NOON.timestamp()) + 31),
    "ends before it begins": lambda: token(
        iat=int(NOON.timestamp()), exp=int(NOON.timestamp()) - 5
    ),
    # O10-O15: required claims and their shapes
    "sub of another repository": lambda: token(sub="repo:evil/digits:ref:refs/heads/main"),
    "sub with another owner id": lambda: token(sub="repo:acme@8/digits@41:ref:refs/heads/main"),
    "sub with another repository id": lambda: token(sub="repo:acme@7/digits@42:ref:x"),
    "sub with one id": lambda: token(sub="repo:acme@7/digits:ref:refs/heads/main"),
    "sub twisted": lambda: token(sub="repo:acme/digits"),
    "no sub": lambda: token(sub=...),
    "no jti": lambda: token(jti=...),
    "jti with a line end": lambda: token(jti="abcdefgh\n"),
    "owner and repository disagree": lambda: token(repository_owner="evil"),
    "repository id 0": lambda: token(repository_id="0"),
    "repository id with a sign": lambda: token(repository_id="+41"),
    "repository id in other digits": lambda: token(repository_id="٤١"),
    "repository id of 2^65": lambda: token(repository_id=str(2**65)),
    "repository id as a number": lambda: token(repository_id=41),
    "no repository id": lambda: token(repository_id=...),
    "no owner id": lambda: token(repository_owner_id=...),
    "no sha": lambda: token(sha=...),
    "short sha": lambda: token(sha="a" * 7),
    "sha like an option": lambda: token(sha="--upload-pack=x".ljust(40, "a")),
    "no ref": lambda: token(ref=...),
    "ref like an option": lambda: token(ref="--exec"),
    "ref with a space": lambda: token(ref="refs/heads/a b"),
    "no runner environment": lambda: token(runner_environment=...),
}


@pytest.mark.case("O1", "O2", "O4", "O5", "O6", "O7", "O8", "O15")
@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
def test_a_token_that_is_not_exactly_right_is_refused(forge: Callable[[], str]) -> None:
    text = forge()
    begun = time.process_time()
    with pytest.raises(Unauthorised):
        verifier().caller(text)
    assert time.process_time() - begun < 0.5  # O5: no input costs much


@pytest.mark.case("O3")
@pytest.mark.parametrize("name", ["jku", "x5u"])
def test_a_url_in_a_token_is_never_fetched(name: str) -> None:
    issuer = Issuer()
    with pytest.raises(Unauthorised):
        verifier(issuer).caller(token({name: "https://evil.example/keys"}))
    assert issuer.asked == []


@pytest.mark.case("O13")
@pytest.mark.parametrize(
    "event",
    ["pull_request_target", "workflow_run", "issue_comment", "release", "deployment"],
)
def test_events_that_strangers_can_cause_are_refused(event: str) -> None:
    with pytest.raises(Forbidden, match=event):
        verifier().caller(token(event_name=event))


WORKFLOWS = [
    "evil/digits/.github/workflows/train.yml@refs/heads/main",
    "acme/other/.github/workflows/train.yml@refs/heads/main",
    "acme/digits/.github/workflows/train.yml@refs/heads/evil",
    "acme/digits/.github/workflows/../../evil.yml@refs/heads/main",
    "acme/digits/.github/workflows/a@b.yml@refs/heads/main",
    "acme/digits/train.yml@refs/heads/main",
    "acme/digits/.github/workflows/train.yml",
    "",
    None,
    7,
]


@pytest.mark.case("O14")
@pytest.mark.parametrize("claim", ["workflow_ref", "job_workflow_ref"])
@pytest.mark.parametrize("value", WORKFLOWS)
def test_only_the_repositorys_own_workflow_at_its_own_ref_counts(claim: str, value: Any) -> None:
    with pytest.raises(Forbidden, match=claim):
        verifier().caller(token(**{claim: value}))


@pytest.mark.case("O8")
def test_thirty_seconds_of_leeway_are_given() -> None:
    clock = Clock()
    clock.now = NOON + timedelta(minutes=5, seconds=29)
    verifier(clock=clock).caller(token())
    clock.now = NOON - timedelta(seconds=30)
    verifier(clock=clock).caller(token())


# ── the backstop: what PyJWT itself refuses is refused with the checks before it ────────────────


@pytest.mark.parametrize(
    "name", ["HS256 with the public key", "a stranger's key under the known id"]
)
def test_the_library_would_refuse_it_too(name: str) -> None:
    with pytest.raises(jwt.PyJWTError):
        jwt.decode(FORGED[name](), key().public_key(), algorithms=["RS256"], audience="cynthus")


def test_the_library_alone_would_let_a_strangers_repository_through() -> None:
    text = token(repository_id="42", sub="repo:acme@7/digits@41:x")
    jwt.decode(
        text,
        key().public_key(),
        algorithms=["RS256"],
        audience="cynthus",
        issuer=ISSUER,
        options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
    )
    with pytest.raises(Unauthorised):
        verifier().caller(text)


# ── the issuer's keys: O17 to O20 ───────────────────────────────────────────────────────────────

BAD_SETS: dict[str, bytes | Exception] = {
    "an outage": Transient("HTTP 500"),
    "a reset": ConnectionResetError(),
    "empty": b"",
    "HTML": b"<html>503</html>",
    "no keys": b'{"keys": []}',
    "not an object": b"[1]",
    "deep": b"[" * 100_000,
    "keys of the wrong kind": b'{"keys": [1, null, "x", {}]}',
}


@pytest.mark.case("O17")
@pytest.mark.parametrize("answer", BAD_SETS.values(), ids=BAD_SETS.keys())
def test_known_keys_outlive_any_trouble_of_the_issuer(answer: bytes | Exception) -> None:
    issuer, clock = Issuer(key_set(jwk(key())), answer), Clock()
    found = verifier(issuer, clock)
    found.caller(token())
    clock.now = NOON + MAX_AGE + timedelta(minutes=1)
    later = {name: int(clock.now.timestamp()) + add for name, add in (("iat", 0), ("exp", 300))}
    found.caller(token(**later))
    assert len(issuer.asked) == 2


@pytest.mark.parametrize("answer", BAD_SETS.values(), ids=BAD_SETS.keys())
def test_without_any_key_the_answer_is_try_again(answer: bytes | Exception) -> None:
    with pytest.raises(Transient):
        verifier(Issuer(answer)).caller(token())


BAD_KEYS = {
    "symmetric": {"kty": "oct", "k": "AAAA", "kid": "k1"},
    "for encryption": jwk(key(), use="enc"),
    "another algorithm": jwk(key(), alg="RS512"),
    "no id": {k: v for k, v in jwk(key()).items() if k != "kid"},
    "id is a number": jwk(key(), kid=1),
    "broken": jwk(key(), n="!!"),
    "without modulus": {"kty": "RSA", "kid": "k1", "e": "AQAB"},
}


@pytest.mark.case("O18")
@pytest.mark.parametrize("entry", BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_keys_of_another_kind_are_never_used(entry: dict[str, Any]) -> None:
    other = jwk(key("other"), kid="k2")
    with pytest.raises(Unauthorised):
        verifier(Issuer(key_set(entry, other))).caller(token())


@pytest.mark.case("O18")
def test_a_short_key_is_never_used() -> None:
    weak = key("weak", 1024)
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        text = jwt.encode(claims(), weak, algorithm="RS256", headers={"kid": "weak"})
    with pytest.raises(Unauthorised):
        verifier(Issuer(key_set(jwk(weak, kid="weak"), jwk(key())))).caller(text)


@pytest.mark.case("O18")
def test_two_keys_under_one_id_are_both_refused() -> None:
    keys = key_set(jwk(key("stranger")), jwk(key()), jwk(key("other"), kid="k2"))
    with pytest.raises(Unauthorised):
        verifier(Issuer(keys)).caller(token())


@pytest.mark.case("O2", "O19", "O20")
def test_a_new_key_works_after_one_cool_down_and_strangers_cause_no_flood() -> None:
    issuer = Issuer(key_set(jwk(key("old"), kid="k0")), key_set(jwk(key())))
    clock = Clock()
    found = verifier(issuer, clock)
    with pytest.raises(Unauthorised):
        found.caller(token())
    for number in range(500):
        with pytest.raises(Unauthorised):
            found.caller(token({"kid": f"unknown-{number}"}))
    assert len(issuer.asked) == 1
    clock.now = NOON + COOL_DOWN
    found.caller(token())
    assert len(issuer.asked) == 2


# ── the fetch: bounded in time and size ─────────────────────────────────────────────────────────


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@pytest.fixture
def serving() -> Iterator[Callable[[bytes, bool], str]]:
    servers: list[_Server] = []
    stop = threading.Event()

    def serve(answer: bytes, drip: bool) -> str:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.rfile.readline()
                for part in [answer[i : i + 1] for i in range(len(answer))] if drip else [answer]:
                    try:
                        self.wfile.write(part)
                    except OSError:
                        return
                    if drip and stop.wait(0.05):
                        return

        server = _Server(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/jwks"

    yield serve
    stop.set()
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_key_set_is_read(serving: Callable[[bytes, bool], str]) -> None:
    url = serving(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", False)
    assert fetch(url) == b"{}"


@pytest.mark.case("O17", "A17")
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000,
        b"nonsense\r\n\r\n",
        b"",
    ],
)
def test_anything_but_one_small_good_answer_is_trouble(
    serving: Callable[[bytes, bool], str], answer: bytes
) -> None:
    with pytest.raises(Transient):
        fetch(serving(answer, False))


@pytest.mark.case("O17")
@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_slow_drip_is_cut(serving: Callable[[bytes, bool], str], head: bytes) -> None:
    begun = Stopwatch()
    with suppress(Transient):  # a body without a length just ends when it is cut
        assert len(fetch(serving(head + b"x" * 500, True), limit_s=0.5)) < 500
    assert begun.s < 5


# ── what a proven job may ask for: O10 to O16, O21 ──────────────────────────────────────────────

PUSH = RunRequest(
    repository_id=41,
    repository="acme/digits",
    commit_sha=SHA,
    ref="refs/heads/main",
    event="push",
    trigger="push",
    spec_path="cynthus.yaml",
    spec_text="version: 1",
    image="r/i@sha256:" + "0" * 64,
)
PULL = replace(
    PUSH,
    commit_sha=HEAD,
    ref="refs/pull/3/merge",
    event="pull_request",
    trigger="pull_request/3",
    pull_request=3,
)


def allowed(*entries: str, kept: dict[str, str] | None = None) -> Allowed:
    pins: dict[str, str] = {} if kept is None else kept
    return Allowed(entries, state=pins.get, keep_state=pins.setdefault)


def pull_token() -> str:
    ref = "refs/pull/3/merge"
    path = f"acme/digits/.github/workflows/train.yml@{ref}"
    return token(event_name="pull_request", ref=ref, workflow_ref=path, job_workflow_ref=path)


def no_pull(caller: Caller, number: int) -> PullHead:
    raise AssertionError("GitHub is asked for pull requests only")


def own_pull(caller: Caller, number: int) -> PullHead:
    assert number == 3
    return PullHead(sha=HEAD, repository_id=41)


def no_run(key: RunKey) -> bool:
    raise AssertionError("runs that wait are looked for upon a dispatch only")


def ask(
    text: str,
    request: RunRequest,
    *,
    pull_head: Any = no_pull,
    entries: str = "41",
    branch: str = "main",
    waits: Callable[[RunKey], bool] = no_run,
) -> None:
    lookups = Lookups(pull_head=pull_head, default_branch=lambda _: branch, waits=waits)
    caller = verifier().caller(text)
    authorise(caller, request, allowed=allowed(*entries.split(",")), lookups=lookups)


@pytest.mark.parametrize("entries", ["41", "7", "acme", "ACME", "acme/Digits", "other,acme"])
def test_a_listed_repository_may_run_its_own_commit(entries: str) -> None:
    ask(token(), PUSH, entries=entries)


@pytest.mark.case("O10")
@pytest.mark.parametrize("entries", ["42", "evil", "acme/other", "digits"])
def test_a_repository_that_is_not_listed_may_not(entries: str) -> None:
    with pytest.raises(Forbidden, match="not known"):
        ask(token(), PUSH, entries=entries)


def test_an_empty_list_allows_nobody() -> None:
    assert not allowed().permits(41, 7, "acme/digits")


@pytest.mark.case("O10")
def test_a_run_of_another_repository_gets_the_same_text_as_an_unknown_one() -> None:
    with pytest.raises(Forbidden) as other:
        ask(token(), replace(PUSH, repository_id=42))
    with pytest.raises(Forbidden) as unknown:
        ask(token(), PUSH, entries="1")
    assert str(other.value) == str(unknown.value)


@pytest.mark.case("O16")
@pytest.mark.parametrize(
    "request_",
    [
        replace(PUSH, commit_sha=HEAD),
        replace(PUSH, ref="refs/heads/other"),
        replace(PUSH, event="workflow_dispatch"),
        replace(PUSH, trigger="workflow_dispatch/900"),
        replace(PUSH, trigger="rerun/1"),
        replace(PUSH, pull_request=3),
        PULL,
        replace(PUSH, workflow_run_url="https://evil.example/phish"),
        replace(PUSH, workflow_run_url="javascript://x/acme/digits/actions/runs/900"),
        replace(PUSH, workflow_run_url="https://github.com/acme/digits/actions/runs/901"),
    ],
)
def test_the_body_never_overrides_the_token(request_: RunRequest) -> None:
    with pytest.raises(Forbidden):
        ask(token(), request_)


def test_a_link_to_the_own_workflow_run_is_taken() -> None:
    url = "https://github.com/acme/digits/actions/runs/900"
    ask(token(), replace(PUSH, workflow_run_url=url))


def test_a_dispatched_workflow_names_its_own_trigger() -> None:
    request = replace(PUSH, event="workflow_dispatch", trigger="workflow_dispatch/900")
    ask(token(event_name="workflow_dispatch"), request)


def test_a_pull_request_is_run_at_the_head_that_github_names() -> None:
    ask(pull_token(), PULL, pull_head=own_pull)


@pytest.mark.parametrize(
    ("head", "request_"),
    [
        (PullHead(sha="c" * 40, repository_id=41), PULL),
        (PullHead(sha=HEAD, repository_id=99), PULL),
        (PullHead(sha=HEAD, repository_id=None), PULL),
        (PullHead(sha=HEAD, repository_id=41), replace(PULL, commit_sha=SHA)),
        (PullHead(sha=HEAD, repository_id=41), replace(PULL, pull_request=4)),
        (PullHead(sha=HEAD, repository_id=41), replace(PULL, trigger="pull_request/4")),
    ],
)
def test_a_stale_head_or_a_fork_is_refused(head: PullHead, request_: RunRequest) -> None:
    with pytest.raises(Forbidden):
        ask(pull_token(), request_, pull_head=lambda *_: head)


# ── a build that the server asked for ───────────────────────────────────────────────────────────

ASKED = replace(
    PUSH,
    commit_sha=HEAD,
    event="repository_dispatch",
    trigger="comment/77/0",
    pull_request=3,
)
KEY = RunKey(repository_id=41, commit_sha=HEAD, spec_path="cynthus.yaml", trigger="comment/77/0")


def dispatched(**changes: Any) -> str:
    return token(event_name="repository_dispatch", **changes)


def test_a_dispatch_may_bring_what_a_run_waits_for() -> None:
    ask(dispatched(), ASKED, waits=lambda key: key == KEY)


@pytest.mark.case("O16")
@pytest.mark.parametrize(
    "request_",
    [
        replace(ASKED, commit_sha=SHA),  # the default branch's own commit, which the token names
        replace(ASKED, trigger="comment/77/1"),
        replace(ASKED, trigger="push"),
        replace(ASKED, spec_path="other.yaml"),
        replace(ASKED, ref="refs/pull/3/head"),
        replace(ASKED, event="push"),
        replace(ASKED, repository_id=42),
        replace(ASKED, workflow_run_url="https://evil.example/phish"),
    ],
)
def test_a_dispatch_may_bring_nothing_else(request_: RunRequest) -> None:
    with pytest.raises(Forbidden):
        ask(dispatched(), request_, waits=lambda key: key == KEY)


def test_a_dispatch_for_which_no_run_waits_any_more_is_refused() -> None:
    with pytest.raises(Forbidden, match="waits for its image"):
        ask(dispatched(), ASKED, waits=lambda _: False)


@pytest.mark.case("O13")
@pytest.mark.parametrize("branch", ["trunk", "", "main2", "heads/main"])
def test_a_dispatch_counts_from_the_default_branch_only(branch: str) -> None:
    with pytest.raises(Forbidden, match="default branch"):
        ask(dispatched(), ASKED, branch=branch, waits=lambda _: True)


@pytest.mark.case("O14")
def test_a_dispatched_workflow_of_another_branch_is_refused() -> None:
    path = "acme/digits/.github/workflows/train.yml@refs/heads/evil"
    with pytest.raises(Forbidden, match="workflow_ref"):
        verifier().caller(dispatched(workflow_ref=path))


@pytest.mark.case("O16")
def test_a_push_may_not_bring_the_image_of_a_run_that_a_comment_asked_for() -> None:
    with pytest.raises(Forbidden):
        ask(token(), replace(ASKED, event="push", commit_sha=SHA, pull_request=None))


@pytest.mark.case("O21")
def test_a_self_hosted_runner_counts_only_in_a_private_repository() -> None:
    ask(token(runner_environment="self-hosted"), PUSH)
    with pytest.raises(Forbidden, match="self-hosted"):
        ask(token(runner_environment="self-hosted", repository_visibility="public"), PUSH)


@pytest.mark.case("O11")
def test_a_name_registered_again_by_somebody_else_is_refused() -> None:
    kept: dict[str, str] = {}
    assert allowed("acme", "octo/digits", kept=kept).permits(41, 7, "acme/digits")
    assert allowed("octo/digits", kept=kept).permits(50, 9, "octo/digits")
    again = allowed("acme", "octo/digits", kept=kept)
    assert not again.permits(77, 1234, "acme/digits")
    assert not again.permits(78, 1235, "octo/digits")


@pytest.mark.case("O12")
def test_a_renamed_repository_stays_allowed() -> None:
    kept: dict[str, str] = {}
    assert allowed("octo/digits", kept=kept).permits(50, 9, "octo/digits")
    assert allowed("octo/digits", kept=kept).permits(50, 9, "octo/numbers")


@pytest.mark.parametrize("entry", ["a b", "acme/", "/x", "a/b/c", "0", "-x", "*", "acme/*"])
def test_an_entry_that_names_nothing_stops_the_server(entry: str) -> None:
    with pytest.raises(UserError, match="CYNTHUS_ALLOWED"):
        allowed(entry)


def test_a_job_without_a_run_request_is_let_in_by_the_same_rules() -> None:
    own = verifier().caller(token())
    url = f"https://github.com/{own.repository}/actions/runs/{own.run_id}"
    admit(own, allowed=allowed("41"), workflow_run_url=url)
    admit(own, allowed=allowed("41"))
    for stranger in (f"{url}0", "https://github.com/other/repo/actions/runs/1", "javascript:1"):
        with pytest.raises(Forbidden, match="workflow_run_url"):
            admit(own, allowed=allowed("41"), workflow_run_url=stranger)
    with pytest.raises(Forbidden, match="not known to this server"):
        admit(own, allowed=allowed("42"))
    with pytest.raises(Forbidden, match="self-hosted"):
        admit(replace(own, runner="self-hosted", public=True), allowed=allowed("41"))


def test_the_gate_turns_a_refusal_into_the_doors_answer() -> None:
    gate = GithubJobs(verifier(), allowed("42"), NoRepositories(), no_run)
    with pytest.raises(HttpRefusal, match="not known to this server") as refused:
        gate.admit(gate.identify(token()))
    assert refused.value.status == 403
    GithubJobs(verifier(), allowed("41"), NoRepositories(), no_run).admit(gate.identify(token()))


class NoRepositories:
    """Nothing is asked of GitHub before a run request."""

    def default_branch(self, caller: Caller) -> str:
        raise AssertionError(caller)

    def pull_head(self, caller: Caller, number: int) -> PullHead:
        raise AssertionError((caller, number))
