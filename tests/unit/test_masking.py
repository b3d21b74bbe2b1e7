"""Secrets stay hidden in every spelling and across every split."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_images.agent.masking import HIDDEN, Masks, spellings

SECRET = 'hunter2/with+odd=chars&"quotes" é'
SPELT = {
    "plain": SECRET,
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64 after one byte": base64.b64encode(b"x" + SECRET.encode()).decode(),
    "base64 after two bytes": base64.b64encode(b"xy" + SECRET.encode() + b"z").decode(),
    "base64url": base64.urlsafe_b64encode(SECRET.encode()).decode(),
    "hex": SECRET.encode().hex(),
    "upper hex": SECRET.encode().hex().upper(),
    "url": quote(SECRET, safe=""),
    "url with slashes": quote(SECRET),
    "form": quote_plus(SECRET),
    "json": json.dumps({"token": SECRET}),
    "json in utf-8": json.dumps(SECRET, ensure_ascii=False),
    "stack trace": f"ValueError: bad token {SECRET!r} in header",
    "file name": f"/tmp/{SECRET}.txt",
}


@pytest.mark.case("A8")
@pytest.mark.parametrize("text", SPELT.values(), ids=SPELT.keys())
def test_a_secret_is_hidden_in_every_spelling(text: str) -> None:
    hidden = Masks([SECRET]).hide(f"before {text} after")
    assert HIDDEN in hidden
    for spelling in spellings(SECRET):
        assert spelling not in hidden
    assert hidden.startswith("before ")
    assert hidden.endswith(" after")


@pytest.mark.parametrize("text", SPELT.values(), ids=SPELT.keys())
def test_a_secret_is_hidden_wherever_the_text_is_split(text: str) -> None:
    masks = Masks([SECRET])
    whole = f"a {text} b {text}"
    for cut in range(len(whole) + 1):
        first, held = masks.hide_ready(whole[:cut])
        assert first + masks.hide(held + whole[cut:]) == masks.hide(whole)


@given(
    secrets=st.lists(st.text("abc", min_size=4, max_size=9), min_size=1, max_size=4),
    text=st.text("abc", max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=5),
)
def test_splits_never_change_what_is_hidden_even_of_overlapping_secrets(
    secrets: list[str], text: str, cuts: list[int]
) -> None:
    masks = Masks(secrets)
    shown, held, last = "", "", 0
    for cut in sorted(min(cut, len(text)) for cut in cuts):
        part, held = masks.hide_ready(held + text[last:cut])
        shown, last = shown + part, cut
    shown += masks.hide(held + text[last:])
    assert shown == masks.hide(text)
    assert not any(secret in shown for secret in secrets)


def test_overlapping_secrets_leave_nothing_of_either() -> None:
    assert Masks(["abcdefgh", "efghijkl"]).hide("x abcdefghijkl y") == f"x {HIDDEN} y"


def test_a_secret_of_several_lines_is_hidden_line_by_line_and_as_a_whole() -> None:
    secret = "-----BEGIN KEY-----\nMIIBfirstlinexyz\nsecondlineabc\n-----END KEY-----\n"
    masks = Masks([secret])
    assert masks.hide("got secondlineabc") == f"got {HIDDEN}"
    assert "firstline" not in masks.hide(json.dumps(secret))
    wrapped = base64.encodebytes(secret.encode()).decode()
    assert not set(wrapped.splitlines()[:1]) & set(masks.hide(wrapped).splitlines())


@pytest.mark.parametrize("short", ["", "a", "on", "123"])
def test_a_word_too_short_to_hide_is_refused(short: str) -> None:
    masks = Masks()
    assert not masks.add(short)
    assert masks.hide("a on 123 x") == "a on 123 x"


def test_bytes_of_a_file_are_searched_for_the_plain_value() -> None:
    masks = Masks([SECRET])
    assert masks.in_bytes(b"\0\1" + SECRET.encode() + b"\2")
    assert not masks.in_bytes(b"nothing")
    assert masks.overlap_bytes == len(SECRET.encode()) - 1
