"""Ask Google Cloud's metadata server: who this instance is, and whether it is being taken back.

https://cloud.google.com/compute/docs/metadata/querying-metadata
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from cynthus.errors import CynthusError
from runner_images.agent.metadata_guard import ADDRESS

DEFAULT_URL = f"http://{ADDRESS}"
TIMEOUT_S = 5.0  # it is one hop away; seconds only while the host is moved
ANSWER_LIMIT_BYTES = 64 * 1024  # an identity token has 2 kB
_ROOT = "/computeMetadata/v1/instance/"
_HEADERS = {"Metadata-Flavor": "Google"}  # without it the server answers 403
_OK = 200


class NoMetadata(CynthusError):  # noqa: N818 - reads as what happened
    """The metadata server did not answer, or said no."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """A value with the tag under which its next change can be waited for."""

    text: str
    etag: str


class Metadata:
    """The instance's own metadata server; every question opens a connection of its own."""

    def __init__(self, url: str = DEFAULT_URL) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or ADDRESS, parts.port or 80

    def value(self, path: str) -> Value:
        """Return what `instance/<path>` is now. Raises: NoMetadata."""
        return self._get(path, TIMEOUT_S)

    def next_value(self, path: str, seen: Value, wait_s: int) -> Value:
        """Return `instance/<path>` once it differs from `seen`, or after `wait_s` in any case.

        Raises: NoMetadata. https://cloud.google.com/compute/docs/metadata/querying-metadata#waitforchange
        """
        query = f"wait_for_change=true&last_etag={quote(seen.etag, safe='')}&timeout_sec={wait_s}"
        return self._get(f"{path}?{query}", wait_s + TIMEOUT_S)

    def address(self) -> str:
        """Return the instance's address in its network. Raises: NoMetadata."""
        return self.value("network-interfaces/0/ip").text.strip()

    def identity_token(self, audience: str) -> str:
        """Return Google's signed word on which instance this is. Raises: NoMetadata.

        https://cloud.google.com/compute/docs/instances/verifying-instance-identity
        """
        query = f"audience={quote(audience, safe='')}&format=full"
        return self.value(f"service-accounts/default/identity?{query}").text.strip()

    def access_token(self) -> str:
        """Return an access token of the instance's service account. Raises: NoMetadata."""
        answer = self.value("service-accounts/default/token").text
        try:
            return str(json.loads(answer)["access_token"])
        except (ValueError, KeyError, TypeError) as error:
            raise NoMetadata("metadata server: its access token cannot be read") from error

    def _get(self, path: str, timeout_s: float) -> Value:
        # Never through a proxy: http.client knows none.
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        try:
            connection.request("GET", _ROOT + path, headers=_HEADERS)
            answer = connection.getresponse()
            body = answer.read(ANSWER_LIMIT_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise NoMetadata(f"metadata server: {type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if answer.status != _OK:
            what = path.partition("?")[0]
            raise NoMetadata(f"metadata server: answered {answer.status} for instance/{what}")
        return Value(text=body.decode("utf-8", "replace"), etag=answer.headers.get("ETag", ""))
