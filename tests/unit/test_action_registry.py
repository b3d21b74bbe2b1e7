"""What registries say, read without one: challenges, refusals, tokens, the table."""

from __future__ import annotations

import json
from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from action.failures import BlobsMissing, RegistryAway, RegistryRefused
from action.registry.challenge import Challenge, parse_challenges
from action.registry.faults import Asked, refusal, retry_after_s
from action.registry.registries import BY_NAME, kind_of
from action.registry.tokens import BadRealmError, Credentials, read_token, token_request

LOGIN = Credentials(username="robot", password="p:w")
TOKEN_PAGE = Challenge(scheme="bearer", realm="https://auth.example/token", service="reg")


def headers(**values: str) -> Message:
    found = Message()
    for name, value in values.items():
        found[name.replace("_", "-")] = value
    return found


def asked(kind: str = "distribution", *, with_login: bool = True) -> Asked:
    return Asked(
        host="reg.example",
        repository="a/b",
        wish="take the blob x",
        kind=BY_NAME[kind],
        with_login=with_login,
    )


@pytest.mark.parametrize(
    ("given_headers", "found"),
    [
        (['Basic realm="x"'], Challenge(scheme="basic")),
        (["basic"], Challenge(scheme="basic")),
        (
            ['Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:u/i:pull"'],
            Challenge(scheme="bearer", realm="https://ghcr.io/token", service="ghcr.io"),
        ),
        (
            ['Basic realm="x", Bearer realm="https://a/t", service="s, t=\\"u\\""'],
            Challenge(scheme="bearer", realm="https://a/t", service='s, t="u"'),
        ),
        (["Bearer realm=unquoted"], Challenge(scheme="bearer", realm="unquoted")),
        (["Negotiate", "NTLM"], None),
        (["Bearer"], None),
        ([""], None),
        ([], None),
    ],
)
def test_a_challenge_is_read(given_headers: list[str], found: Challenge | None) -> None:
    assert parse_challenges(given_headers) == found


@given(st.lists(st.text(alphabet=st.sampled_from('Bearerbasic =,"\\\tλrealm://x;-'), max_size=200)))
def test_no_challenge_breaks_its_reader(given_headers: list[str]) -> None:
    found = parse_challenges(given_headers)
    assert found is None or found.scheme in {"basic", "bearer"}


@given(st.text(max_size=100))
def test_no_text_at_all_breaks_it(text: str) -> None:
    parse_challenges([text])
    retry_after_s(headers(Retry_After="".join(c for c in text if c.isprintable() and c.isascii())))
    read_token(text.encode("utf-8", "surrogatepass"), 0)


@pytest.mark.parametrize(
    ("kind", "hosts"),
    [
        ("ghcr", ["ghcr.io"]),
        ("artifact-registry", ["europe-west4-docker.pkg.dev", "gcr.io", "eu.gcr.io"]),
        ("hub", ["registry-1.docker.io"]),
        ("ecr", ["123.dkr.ecr.eu-west-1.amazonaws.com"]),
        ("distribution", ["127.0.0.1:5000", "quay.io", "ghcr.io.evil.example", "xghcr.io"]),
    ],
)
def test_a_host_has_one_line_in_the_table(kind: str, hosts: list[str]) -> None:
    assert {kind_of(host).name for host in hosts} == {kind}


def said(status: int, code: str = "", message: str = "", **more: object) -> bytes:
    error = {"code": code, "message": message, **more}
    return json.dumps({"errors": [error]} if status else {}).encode()


def test_a_missing_right_names_the_vendors_remedy() -> None:
    fault = refusal(asked("ghcr"), 403, headers(), said(403, "DENIED", "permission_denied"))
    assert isinstance(fault.error, RegistryRefused)
    assert not fault.passes
    assert str(fault.error) == (
        "reg.example/a/b: should take the blob x, found 403 (DENIED: permission_denied). "
        + BY_NAME["ghcr"].push_remedy
    )


def test_a_failure_that_passes_is_known_by_its_status() -> None:
    for status in (429, 500, 502, 503, 504):
        fault = refusal(asked(), status, headers(), b"<html>bad gateway</html>")
        assert isinstance(fault.error, RegistryAway)
        assert fault.passes
        assert "html" not in str(fault.error)


def test_missing_blobs_are_found_wherever_they_are_named() -> None:
    one, two = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    errors = [
        {"code": "MANIFEST_BLOB_UNKNOWN", "detail": one},
        {"code": "MANIFEST_BLOB_UNKNOWN", "detail": {"digest": two}},
        {"code": "MANIFEST_BLOB_UNKNOWN", "message": f"unknown blob {one}"},
    ]
    fault = refusal(asked(), 404, headers(), json.dumps({"errors": errors}).encode())
    assert isinstance(fault.error, RegistryRefused)
    fault = refusal(asked(), 400, headers(), json.dumps({"errors": errors}).encode())
    assert isinstance(fault.error, BlobsMissing)
    assert fault.error.digests == (one, two)


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b'{"errors": 1}', b'{"errors": [1, null]}', b"\xff\x1b[31m", b"[" * 9999],
)
def test_a_refusal_that_is_no_json_is_still_a_sentence(body: bytes) -> None:
    text = str(refusal(asked(), 400, headers(), body).error)
    assert text.startswith("reg.example/a/b: should take the blob x, found 400")
    assert text.isprintable()
    assert len(text) < 600


@pytest.mark.parametrize(
    ("given_headers", "seconds"),
    [
        ({"Retry_After": "30"}, 30),
        (
            {
                "Retry_After": "Sun, 22 Nov 2026 12:00:30 GMT",
                "Date": "Sun, 22 Nov 2026 12:00:00 GMT",
            },
            30,
        ),
        (
            {
                "Retry_After": "Sun, 22 Nov 2026 11:00:00 GMT",
                "Date": "Sun, 22 Nov 2026 12:00:00 GMT",
            },
            0,
        ),
        ({"Retry_After": "Sun, 22 Nov 2026 12:00:30 GMT"}, None),
        ({"Retry_After": "-1"}, None),
        ({"Retry_After": "soon"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait(given_headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers(**given_headers)) == seconds


def test_a_wait_that_is_too_long_is_a_refusal() -> None:
    assert not refusal(asked(), 429, headers(Retry_After="121"), b"").passes
    assert refusal(asked(), 429, headers(Retry_After="120"), b"").passes


def test_a_token_is_asked_for_with_each_scope_of_its_own() -> None:
    request = token_request(
        "reg.example", TOKEN_PAGE, ("repository:a:pull", "repository:b:pull"), LOGIN
    )
    assert request.url == (
        "https://auth.example/token?service=reg&scope=repository%3Aa%3Apull"
        "&scope=repository%3Ab%3Apull&account=robot"
    )
    assert request.headers == {"Authorization": "Basic cm9ib3Q6cDp3"}
    assert token_request("reg.example", TOKEN_PAGE, (), None).headers == {}


@pytest.mark.parametrize(
    ("host", "realm", "allowed"),
    [
        ("reg.example", "http://reg.example/token", False),
        ("reg.example", "http://127.0.0.1/token", False),
        ("reg.example", "ftp://auth.example/token", False),
        ("reg.example", "https://user:pw@auth.example/token", False),
        ("reg.example", "/token", False),
        ("127.0.0.1:5000", "http://127.0.0.1:5001/token", True),
        ("127.0.0.1:5000", "http://10.0.0.1/token", False),
        ("reg.example", "https://auth.example/token", True),
    ],
)
def test_a_login_goes_nowhere_in_the_open(host: str, realm: str, allowed: bool) -> None:
    challenge = Challenge(scheme="bearer", realm=realm)
    if allowed:
        assert token_request(host, challenge, (), LOGIN).url.startswith(realm)
    else:
        with pytest.raises(BadRealmError):
            token_request(host, challenge, (), LOGIN)


@pytest.mark.parametrize(
    ("answer", "text", "until"),
    [
        ({"token": "t", "expires_in": 300}, "t", 385.0),
        ({"access_token": "t", "expires_in": 20}, "t", 115.0),
        ({"token": "t"}, "t", 145.0),
        ({"token": "t", "expires_in": "soon"}, "t", 145.0),
        ({"token": "t", "expires_in": -5}, "t", 145.0),
        ({"token": "two\nlines"}, "", 100.0),
        ({"token": 5}, "", 100.0),
        ([], "", 100.0),
    ],
)
def test_a_token_ends_before_its_time(answer: object, text: str, until: float) -> None:
    found = read_token(json.dumps(answer).encode(), asked_at=100.0)
    assert (found.text, found.until) == (text, until)
    assert "t'" not in repr(found)
