"""What a metadata server holds and answers: the rules, without a socket.

https://cloud.google.com/compute/docs/metadata/querying-metadata
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

ROOT = "/computeMetadata/v1"
# Below these a name is somebody's own word (an attribute's key, an address of an account), which
# JSON shows as it is; every other name is kebab-case in a path and camelCase in JSON.
OWN_WORDS = ("attributes", "guest-attributes", "service-accounts")
LONGEST_WAIT_S = 3600.0  # a wait without `timeout_sec` ends never; a client's own limit is shorter
GUEST_ATTRIBUTE_BYTES = (
    256 * 1024
)  # https://cloud.google.com/compute/docs/metadata/manage-guest-attributes

Json = Any


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request."""

    method: str
    path: str  # decoded, without the query
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer; `Metadata-Flavor: Google` goes with all of them."""

    status: int
    body: str = ""
    kind: str = "application/text"
    etag: str = ""
    location: str = ""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who makes this machine's tokens."""

    sign: Callable[[str, str], str]  # (audience, format) → a signed identity token
    token: Callable[[], Mapping[str, Any]]  # the access token of the service account


@dataclass
class Issuers:
    """Who makes the tokens of every machine; until they are given, tokens are empty."""

    sign: Callable[[str, str, str], str] = lambda name, audience, form: ""  # noqa: ARG005
    token: Callable[[str], Mapping[str, Any]] = lambda name: {}  # noqa: ARG005

    def of(self, name: str) -> Identity:
        """Return what one machine may ask for."""
        return Identity(
            sign=lambda audience, form: self.sign(name, audience, form),
            token=lambda: self.token(name),
        )


@dataclass
class Values:
    """A tree of values that can be waited upon. Safe to use from many threads."""

    tree: dict[str, Json]
    changed: threading.Condition = field(default_factory=threading.Condition)
    asked: set[str] = field(default_factory=set)  # every path that was asked for
    closed: bool = False

    def set(self, path: str, value: Json) -> None:
        """Set `instance/preempted` and the like, None removes; who waits for a change is woken."""
        *folders, name = _parts(path)
        with self.changed:
            place: Json = self.tree
            for folder in folders:
                place = _step(place, folder, make=True)
            if isinstance(place, list):
                place[int(name)] = value
            elif value is None:
                place.pop(name, None)
            else:
                place[name] = value
            self.changed.notify_all()

    def get(self, parts: list[str]) -> Json:
        """Return a copy of a value or a folder, None if there is none."""
        with self.changed:
            place: Json = self.tree
            for part in parts:
                place = _step(place, part)
            return copy.deepcopy(place)

    def wait(self, parts: list[str], last_etag: str, timeout_s: float) -> Json:
        """Return the value once it is another than the one with `last_etag`, or at the end."""
        until = time.monotonic() + timeout_s
        with self.changed:
            value = self.get(parts)
            known = last_etag or etag_of(value)
            while etag_of(value) == known and not self.closed:
                rest = until - time.monotonic()
                if rest <= 0 or not self.changed.wait(rest):
                    break
                value = self.get(parts)
            return self.get(parts)

    def close(self) -> None:
        """Let everybody who waits go."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()


def etag_of(value: Json) -> str:
    """Return the tag of a value: equal exactly for equal values."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def reply(values: Values, identity: Identity, question: Question) -> Reply:
    """Answer one request; one that waits for a change holds its thread. Never raises."""
    if question.path in ("", "/"):
        return Reply(status=200, body="0.1/\ncomputeMetadata/\n")
    refusal = _refusal(question)
    if refusal is not None:
        return refusal
    parts = _parts(question.path.removeprefix(ROOT))
    with values.changed:
        values.asked.add("/".join(parts))
    if parts[:2] == ["instance", "guest-attributes"]:
        return _guest_attribute(values, question, parts)
    if question.method != "GET":
        return _page(405, "Method Not Allowed", "This path cannot be written.")
    account = _account(values, parts)
    if account is not None:
        return _account_reply(values, identity, question, account)
    return _value_reply(values, question, parts)


def _refusal(question: Question) -> Reply | None:
    if question.headers.get("metadata-flavor") != "Google":
        return _page(403, "Forbidden", "Missing Metadata-Flavor:Google header.")
    if "x-forwarded-for" in question.headers:
        return _page(403, "Forbidden", "Request contains X-Forwarded-For, which is not allowed.")
    if question.path != ROOT and not question.path.startswith(ROOT + "/"):
        return _not_found(question)
    return None


def _value_reply(values: Values, question: Question, parts: list[str]) -> Reply:
    query = question.query
    if _true(query, "wait_for_change"):
        value = values.wait(parts, query.get("last_etag", ""), _seconds(query))
    else:
        value = values.get(parts)
    if value is None:
        return _not_found(question)
    etag = etag_of(value)
    recursive = _true(query, "recursive")
    folder = isinstance(value, (dict, list))
    if folder and not question.path.endswith("/"):
        location = question.path + "/"
        return Reply(status=301, location=location, body=f"{location}\n", etag=etag)
    if folder and not recursive:
        return Reply(status=200, body=_listing(value), etag=etag)
    as_json = query.get("alt", "json" if folder else "text") == "json"
    if as_json:
        own = bool(parts) and parts[-1] in OWN_WORDS
        body = json.dumps(_camel(value, own=own), separators=(",", ":"))
        return Reply(status=200, body=body, kind="application/json", etag=etag)
    body = "".join(_lines(value)) if folder else _text(value)
    return Reply(status=200, body=body, etag=etag)


# ── service accounts: their tokens are made, not kept ───────────────────────────────────────────


def _account(values: Values, parts: list[str]) -> tuple[str, str] | None:
    """Return (account, "token" | "identity") when a token is asked for."""
    if len(parts) == 4 and parts[:2] == ["instance", "service-accounts"]:
        account, what = parts[2:]
        if what in ("token", "identity") and values.get(parts[:3]) is not None:
            return account, what
    return None


def _account_reply(
    values: Values, identity: Identity, question: Question, account: tuple[str, str]
) -> Reply:
    if account[1] == "token":
        if not values.get(["instance", "service-accounts", account[0], "scopes"]):
            return _not_found(question)
        body = json.dumps(dict(identity.token()), separators=(",", ":"))
        return Reply(status=200, body=body, kind="application/json")
    audience = question.query.get("audience", "")
    if not audience:
        return _page(400, "Bad Request", "non-empty audience parameter required")
    form = question.query.get("format", "standard")
    if form not in ("standard", "full"):
        return _page(400, "Bad Request", f"invalid value for format parameter: {form}")
    return Reply(status=200, body=identity.sign(audience, form), kind="text/html")


# ── guest attributes: the only values that a machine may write ──────────────────────────────────


def _guest_attribute(values: Values, question: Question, parts: list[str]) -> Reply:
    if not _guest_attributes_on(values):
        return _page(403, "Forbidden", "Guest attributes endpoint access is disabled.")
    if question.method == "GET":
        return _value_reply(values, question, parts)
    if question.method not in ("PUT", "DELETE") or len(parts) != 4:
        return _page(400, "Bad Request", "A guest attribute is NAMESPACE/KEY.")
    if len(question.body) > GUEST_ATTRIBUTE_BYTES:
        return _page(413, "Payload Too Large", "A guest attribute has at most 256 KB.")
    text = question.body.decode("utf-8", "replace")
    values.set("/".join(parts), text if question.method == "PUT" else None)
    return Reply(status=200)


def _guest_attributes_on(values: Values) -> bool:
    for owner in ("instance", "project"):
        word = values.get([owner, "attributes", "enable-guest-attributes"])
        if word is not None:
            return str(word).upper() == "TRUE"
    return False


# ── forms ───────────────────────────────────────────────────────────────────────────────────────


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _step(place: Json, part: str, *, make: bool = False) -> Json:
    if isinstance(place, list):
        return place[int(part)] if part.isdigit() and int(part) < len(place) else None
    if not isinstance(place, dict):
        return None
    if make:
        return place.setdefault(part, {})
    return place.get(part)


def _listing(value: dict[str, Json] | list[Json]) -> str:
    items = value.items() if isinstance(value, dict) else ((str(i), v) for i, v in enumerate(value))
    names = [name + ("/" if isinstance(v, (dict, list)) else "") for name, v in items]
    return "".join(f"{name}\n" for name in sorted(names))


def _lines(value: Json, path: str = "") -> list[str]:
    if not isinstance(value, (dict, list)):
        return [f"{path} {_text(value)}\n"]
    items = value.items() if isinstance(value, dict) else ((str(i), v) for i, v in enumerate(value))
    return [line for name, v in items for line in _lines(v, f"{path}/{name}" if path else name)]


def _camel(value: Json, *, own: bool = False) -> Json:
    """Return JSON's form of a value: `network-interfaces` becomes `networkInterfaces`."""
    if isinstance(value, list):
        return [_camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name if own else re.sub("-([a-z0-9])", lambda m: m[1].upper(), name): _camel(
            item, own=name in OWN_WORDS
        )
        for name, item in value.items()
    }


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _true(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() == "true"


def _seconds(query: Mapping[str, str]) -> float:
    try:
        return max(0.0, float(query["timeout_sec"]))
    except (KeyError, ValueError):
        return LONGEST_WAIT_S


def _not_found(question: Question) -> Reply:
    missing = f"The requested URL {question.path} was not found on this server."
    return _page(404, "Not Found", missing)


def _page(status: int, title: str, text: str) -> Reply:
    body = (
        f"<!DOCTYPE html>\n<html lang=en>\n<title>Error {status} ({title})!!1</title>\n<p>{text}\n"
    )
    return Reply(status=status, body=body, kind="text/html; charset=UTF-8")
