"""Lines for people and for programs: their fields, what they are about, and never a secret."""

from __future__ import annotations

import ast
import io
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.canaries import hits
from webhook_server.about import about, subjects
from webhook_server.logs import RESERVED, TEMPLATE, set_up
from webhook_server.settings_reader import read

ROOT = Path(__file__).parents[2]
SECRET = 'canary "quoted" \\ sécret-0123456789'
KEY = b"\x01" * 32
log = logging.getLogger("webhook_server.anything")


class State(StrEnum):
    RUNNING = "running"


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, as it was before."""
    found = logging.getLogger()
    before, level = found.handlers, found.level
    yield found
    found.handlers = before
    found.setLevel(level)


def written(root: logging.Logger, form: str) -> io.StringIO:
    set_up(read({"CYNTHUS_API_TOKEN": SECRET, "CYNTHUS_LOG_FORMAT": form}), KEY)
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    stream = io.StringIO()
    handler.setStream(stream)
    return stream


@pytest.fixture
def as_json(root: logging.Logger) -> io.StringIO:
    return written(root, "json")


@pytest.fixture
def as_text(root: logging.Logger) -> io.StringIO:
    return written(root, "text")


def only(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_fields_become_members_with_their_types(as_json: io.StringIO) -> None:
    log.warning("state changed run=%s state=%s tries=%d outcome=%s", "r1", State.RUNNING, 3, None)
    line = only(as_json)
    assert line["event"] == "state changed"
    assert line["level"] == "warning"
    assert (line["run"], line["state"], line["tries"], line["outcome"]) == (
        "r1",
        "running",
        3,
        None,
    )
    assert line["logger"] == "webhook_server.anything"
    assert line["ts"].endswith("Z")
    assert line["replica"]


def test_a_value_cannot_pretend_to_be_a_field_or_a_line(as_json: io.StringIO) -> None:
    log.info("pass failed run=%s reason=%s", "r1", 'x run=r2 level=error\n{"event": "forged"}')
    line = only(as_json)
    assert line["run"] == "r1"
    assert line["level"] == "info"
    assert line["reason"] == 'x run=r2 level=error\n{"event": "forged"}'


def test_all_that_is_logged_while_a_run_is_handled_names_it(as_json: io.StringIO) -> None:
    with about(run="r1"), about(delivery="d1"):
        logging.getLogger("a.library").warning("retrying %r in %.1f s", "x", 0.5)
    logging.getLogger("a.library").warning("alone")
    inside, after = map(json.loads, as_json.getvalue().splitlines())
    assert (inside["run"], inside["delivery"]) == ("r1", "d1")
    assert inside["event"] == "retrying 'x' in 0.5 s"
    assert "run" not in after
    assert dict(subjects()) == {}


def test_what_work_is_about_goes_with_its_context_into_another_thread() -> None:
    with about(run="r1"), ThreadPoolExecutor(1) as pool:
        carried = pool.submit(copy_context().run, lambda: dict(subjects())).result()
        bare = pool.submit(lambda: dict(subjects())).result()
    assert carried == {"run": "r1"}
    assert bare == {}


def test_text_stays_one_line_and_says_its_run_once(as_text: io.StringIO) -> None:
    with about(run="r1", door="pages"):
        log.info("pass failed run=%s tries=%d", "r1", 1)
        log.info("cache refreshed")
        log.info("odd value=%s", "a\nb")
    first, second, third = as_text.getvalue().splitlines()
    assert first.endswith("INFO pass failed run=r1 tries=1")
    assert second.endswith("INFO cache refreshed run=r1")
    assert third.endswith("INFO odd value=a\\nb run=r1")


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_in_any_spelling_reaches_a_line(root: logging.Logger, form: str) -> None:
    stream = written(root, form)
    log.info("pass failed reason=%s", f"token {SECRET} refused")
    log.info("pass failed reason=%s", {"header": f"Bearer {SECRET}"})
    logging.getLogger("a.library").warning("sent %s", SECRET.encode().hex())
    with about(run=SECRET):
        log.info("pass failed")
    try:
        raise ValueError(SECRET)
    except ValueError:
        log.exception("pass failed run=%s", "r1")
    assert stream.getvalue().count("pass failed") >= 4
    assert hits([SECRET], [("log", stream.getvalue().encode())]) == []
    assert "***" in stream.getvalue()


def test_a_traceback_is_a_member_of_its_line(as_json: io.StringIO) -> None:
    try:
        raise KeyError("x")
    except KeyError:
        log.exception("pass failed run=%s", "r1")
    line = only(as_json)
    assert line["error"] == "KeyError"
    assert "test_logs.py" in line["traceback"]


# ── over the code: what every call looks like ───────────────────────────────────────────────────


@cache
def calls() -> list[tuple[str, ast.Call]]:
    """Every call of a logger's method in the server."""
    return list(_calls())


def _calls() -> Iterator[tuple[str, ast.Call]]:
    levels = {"debug", "info", "warning", "error", "exception", "critical"}
    for path in sorted((ROOT / "webhook_server").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            named = node.func.value
            if node.func.attr in levels and isinstance(named, ast.Name) and named.id == "log":
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def fault(call: ast.Call) -> str | None:
    first = call.args[0] if call.args else None
    if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        return "its template should be written there, as text"
    found = TEMPLATE.fullmatch(first.value)
    if found is None:
        return f"should be words, then fields as ` name=%s`: {first.value!r}"
    names = [one.partition("=")[0] for one in found["fields"].split()]
    if len(names) != len(call.args) - 1:
        return f"has {len(names)} fields for {len(call.args) - 1} values"
    if RESERVED & set(names) or len(set(names)) != len(names):
        return f"has a field twice, or one that every line has: {names}"
    return None


def test_every_call_says_words_then_fields() -> None:
    found = calls()
    assert len(found) > 40, "the server logs more than that"
    assert {where: why for where, call in found if (why := fault(call)) is not None} == {}


@pytest.mark.parametrize(
    "text",
    [
        'log.info(f"run {x}")',
        'log.info("run %s failed", x)',
        'log.info("pass failed run=%s", x, y)',
        'log.info("pass failed level=%s", x)',
        'log.info("pass failed run=%s run=%s", x, y)',
        'log.info("pass failed because: %s", x)',
    ],
)
def test_a_call_that_does_otherwise_is_found(text: str) -> None:
    node = ast.parse(text, mode="eval").body
    assert isinstance(node, ast.Call)
    assert fault(node) is not None
