"""JSON as the database keeps it: what is written is what the contract's own writer means."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select

from cynthus.codec import decode, encode
from cynthus.wire import EventKind
from tests.builders import NOON, a_run
from webhook_server.runs.model import Run
from webhook_server.stores.database import Database
from webhook_server.stores.json_text import JsonText, from_json, to_json
from webhook_server.stores.tables import events

TEXTS = st.text(st.characters(exclude_categories=()))  # half characters of UTF-16 as well
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_any_value_comes_back_as_it_was(value: Any) -> None:
    text = to_json(value)
    assert json.loads(text) == from_json(text) == value
    assert from_json(text.encode("utf-8")) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("within", [lambda one: one, lambda one: {"a": [one]}])
def test_what_is_no_number_is_refused(value: float, within: Callable[[float], Any]) -> None:
    with pytest.raises(ValueError, match="JSON"):
        to_json(within(value))


def test_the_words_of_infinity_are_texts_like_others() -> None:
    assert from_json(to_json(["NaN", "-Infinity"])) == ["NaN", "-Infinity"]


def test_what_is_text_already_is_not_written_again() -> None:
    assert to_json(JsonText('{"a":1}')) == '{"a":1}'
    assert to_json('{"a":1}') == r'"{\"a\":1}"'


def test_a_run_is_written_as_the_contract_has_it() -> None:
    run = a_run(state_since=NOON + timedelta(microseconds=5), cost_usd=Decimal("0.000100"))
    assert json.loads(to_json(run)) == encode(run)
    assert decode(Run, from_json(to_json(run))) == run


def test_what_is_no_json_is_said() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        from_json("{")


@pytest.mark.parametrize("text", ["½ ★ 𝄞", "plain"])
def test_both_databases_keep_it(db: Database, text: str) -> None:
    row = {"run_id": "a", "attempt": 1, "kind": EventKind.NOTICE.value, "at": NOON}
    body = {text: [text, 0.1, 10**18, None, True]}
    db.write(lambda connection: connection.execute(insert(events), {**row, "body": body}) and None)
    with db.read() as connection:
        assert connection.execute(select(events.c.body)).scalar_one() == body
