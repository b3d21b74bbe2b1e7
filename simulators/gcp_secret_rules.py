"""What Secret Manager allows: names, labels, payloads, filters. Pure.

https://cloud.google.com/secret-manager/docs/reference/rest and its quotas page.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

import google_crc32c

from simulators.gcp_http import GoogleError
from simulators.gcp_state import Doc

LARGEST_PAYLOAD = 64 << 10  # bytes
_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
_MOST_LABELS = 64
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")  # letters of other scripts are refused here
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
LARGEST_ANNOTATIONS = 16 << 10
_DURATION = re.compile(r"(\d+)(?:\.\d+)?s")


def bad(message: str) -> GoogleError:
    """Return the refusal of a request that can never succeed."""
    return GoogleError(400, message, status="INVALID_ARGUMENT")


def precondition(message: str) -> GoogleError:
    """Return the refusal of a change that the present state forbids."""
    return GoogleError(400, message, status="FAILED_PRECONDITION")


def missing(message: str) -> GoogleError:
    """Return the refusal for what is not there."""
    return GoogleError(404, message, status="NOT_FOUND")


def check_id(text: str | None) -> str:
    """Return a secret's id, or refuse."""
    if text is None or not _ID.fullmatch(text):
        raise bad(
            f"The provided Secret ID [{text}] does not match the expected format [[a-zA-Z_0-9]+]"
        )
    return text


def check_labels(labels: Any) -> dict[str, str]:
    """Return labels, or refuse."""
    if not isinstance(labels, dict) or len(labels) > _MOST_LABELS:
        raise bad(f"Field [secret.labels] takes at most {_MOST_LABELS} labels.")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(str(value)):
            raise bad(f"Invalid label: [{key}: {value}].")
    return {key: str(value) for key, value in labels.items()}


def check_annotations(found: Any) -> dict[str, str]:
    """Return annotations, or refuse."""
    size = sum(len(k.encode()) + len(str(v).encode()) for k, v in dict(found).items())
    if size > LARGEST_ANNOTATIONS:
        raise bad(f"Annotations exceed {LARGEST_ANNOTATIONS} bytes.")
    return dict(found)


def check_replication(found: Any) -> Doc:
    """Return where a secret is kept, or refuse: it must be said, once and for ever."""
    if not isinstance(found, dict) or len(found) != 1:
        raise bad("The secret.replication field must be set to automatic or userManaged.")
    kind, value = next(iter(found.items()))
    if kind == "automatic":
        return {"automatic": value or {}}
    places = [r.get("location") for r in (value or {}).get("replicas", [])]
    if kind != "userManaged" or not places or len(set(places)) != len(places):
        raise bad("Field [secret.replication.userManaged.replicas] must name distinct locations.")
    return {"userManaged": value}


def duration_s(text: str) -> float:
    """Return a duration in seconds, or refuse."""
    found = _DURATION.fullmatch(text)
    if not found or int(found[1]) == 0:
        raise bad(f"Invalid duration [{text}].")
    return float(text[:-1])


def check_payload(body: Mapping[str, Any]) -> tuple[bytes, bool]:
    """Return the bytes of a new version, and whether their checksum was given and is right."""
    payload = body.get("payload") or {}
    try:
        data = base64.b64decode(str(payload.get("data", "")).replace("-", "+").replace("_", "/"))
    except binascii.Error:
        raise bad("Invalid value at 'payload.data' (TYPE_BYTES), Base64 decoding failed.") from None
    if not data:
        raise bad("Secret Payload cannot be empty.")
    if len(data) > LARGEST_PAYLOAD:
        raise bad(
            f"The size of the secret payload ({len(data)} bytes) exceeds the limit "
            f"of {LARGEST_PAYLOAD} bytes."
        )
    claimed = payload.get("dataCrc32c")
    if claimed is None:
        return data, False
    if int(claimed) != crc32c(data):
        raise bad("The provided CRC32C checksum does not match the one computed of the payload.")
    return data, True


def crc32c(data: bytes) -> int:
    """Return the checksum as Secret Manager writes it: a number."""
    return int(google_crc32c.value(data))


_TERM = re.compile(
    r"(?P<not>NOT\s+|-)?(?P<field>[\w.\-/]+)\s*(?P<sign>!=|=|:)\s*(?P<value>\"[^\"]*\"|\*|[^\s()]+)"
)


def fits(filter_: str, resource: Mapping[str, Any]) -> bool:
    """Say whether a secret or version passes a list filter.

    `field=value`, `field:part`, `labels.k:*`, joined by AND or OR (OR binds tighter):
    https://cloud.google.com/secret-manager/docs/filtering
    """
    parts = [part for part in re.split(r"\s+AND\s+", filter_.strip()) if part]
    return all(
        any(_term(term, resource) for term in re.split(r"\s+OR\s+", part.strip("() ")))
        for part in parts
    )


def _term(text: str, resource: Mapping[str, Any]) -> bool:
    found = _TERM.fullmatch(text.strip())
    if not found:
        raise bad(f"Invalid list filter: [{text}]")
    value: Any = resource
    for name in found["field"].split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    wanted = found["value"].strip('"')
    match found["sign"]:
        case ":" if wanted == "*":
            holds = value is not None
        case ":":
            # `name:x` looks into the last part of a name; of a map it looks at keys.
            holds = wanted in value if isinstance(value, Mapping) else wanted in str(value or "")
        case "=":
            holds = str(value) == wanted
        case _:
            holds = str(value) != wanted
    return holds != bool(found["not"])
