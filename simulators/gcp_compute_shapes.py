"""How Compute Engine words things: links, ids, fingerprints, refusals."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

from simulators.gcp_http import GoogleError
from simulators.gcp_state import Doc

# Links in answers name this host whatever endpoint was asked.
BASE = "https://www.googleapis.com/compute/v1"
NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1035, up to 63 characters
_URL = re.compile(r"(?:https?://[^/]+/(?:compute/(?:v1|beta|alpha)/)?)?(?P<path>.+)")


def link(project: str, *parts: str) -> str:
    """Return the full URL of a resource of a project."""
    return "/".join((BASE, "projects", project, *parts))


def path_of(url: str) -> str:
    """Return what stands after the version in a full URL; a partial URL as it is."""
    found = _URL.fullmatch(url)
    return found["path"] if found else url


def last(url: str) -> str:
    """Return the last part of a URL: the resource's name."""
    return url.rpartition("/")[2]


def number(*parts: str) -> str:
    """Return an id of up to 19 digits that belongs to these words."""
    digest = hashlib.sha256("/".join(parts).encode()).digest()
    return str(10**18 + int.from_bytes(digest[:8], "big") % (8 * 10**18))


def fingerprint(value: Any) -> str:
    """Return the fingerprint of labels or metadata: eight bytes, base64."""
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def shown(doc: Doc) -> Doc:
    """Return a document without what only the simulator knows."""
    return {name: value for name, value in doc.items() if not name.startswith("_")}


def not_found(project: str, path: str) -> GoogleError:
    """Return the refusal for what does not exist."""
    return GoogleError(
        404, f"The resource 'projects/{project}/{path}' was not found", reason="notFound"
    )


def already_exists(project: str, path: str) -> GoogleError:
    """Return the refusal for a name that is taken."""
    return GoogleError(
        409, f"The resource 'projects/{project}/{path}' already exists", reason="alreadyExists"
    )


def invalid(field: str, value: Any, why: str) -> GoogleError:
    """Return the refusal of one field's value."""
    return GoogleError(
        400, f"Invalid value for field '{field}': '{_text(value)}'. {why}", reason="invalid"
    )


def bad_request(message: str, reason: str = "badRequest") -> GoogleError:
    """Return a refusal of the request as a whole."""
    return GoogleError(400, message, reason=reason)


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)
