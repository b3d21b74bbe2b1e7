"""GitHub's signature on a delivery."""

from __future__ import annotations

import hmac

import pytest

from cynthus.errors import UserError
from webhook_server.auth.signature import secrets_of, verified, well_formed

OLD, NEW = b"o" * 32, b"n" * 32
BODY = b'{"zen":"Keep it logically awesome."}'


def signature(secret: bytes, body: bytes) -> bytes:
    return b"sha256=" + hmac.new(secret, body, "sha256").hexdigest().encode()


def test_githubs_own_example_is_verified() -> None:
    # https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
    header = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert verified((b"It's a Secret to Everybody",), b"Hello, World!", header)


@pytest.mark.case("W21")
@pytest.mark.parametrize("secret", [OLD, NEW])
def test_both_secrets_are_good_while_one_replaces_the_other(secret: bytes) -> None:
    assert verified((NEW, OLD), BODY, signature(secret, BODY))


@pytest.mark.case("W21")
def test_a_retired_secret_is_refused() -> None:
    assert not verified((NEW,), BODY, signature(OLD, BODY))


GOOD = signature(NEW, BODY)


@pytest.mark.case("W1")
@pytest.mark.parametrize(
    "header",
    [
        b"",
        GOOD[:-1],
        GOOD + b"0",
        GOOD.upper(),
        b" " + GOOD,
        GOOD + b"\n",
        GOOD.replace(b"sha256=", b"sha1="),
        GOOD.removeprefix(b"sha256="),
        b"sha256=" + b"0" * 64,
        b"sha256=" + "é".encode() * 32,
        b"sha256=" + b"\xff" * 64,
        b"sha256=" * 10_000,
        signature(b"", BODY),
        signature(NEW, BODY + b" "),
    ],
)
def test_anything_but_the_signature_of_these_bytes_is_refused(header: bytes) -> None:
    assert not verified((NEW, OLD), BODY, header)


def test_the_shape_is_known_before_the_body() -> None:
    assert well_formed(GOOD)
    assert not well_formed(b"sha1=abc")


@pytest.mark.case("W2")
@pytest.mark.parametrize(
    "setting", ["", "short", " , ", f"{'a' * 24},short", "a" * 23, ",".join(["a" * 30] * 3)]
)
def test_the_server_refuses_secrets_that_can_be_guessed(setting: str) -> None:
    with pytest.raises(UserError, match="CYNTHUS_WEBHOOK_SECRET") as error:
        secrets_of(setting)
    assert "short" not in str(error.value).replace("shortest", "")


def test_one_or_two_long_secrets_are_taken() -> None:
    assert secrets_of(f"{'a' * 24}, {'b' * 40}") == (b"a" * 24, b"b" * 40)
