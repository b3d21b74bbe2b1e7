"""Be the one door to Google's Compute Engine client: plain JSON in and out, one kind of error.

Only the unary methods are used: the waiting ones ask the real service whatever endpoint was set.
Creating and deleting are sent once; what only reads is repeated for a moment, as the client's own
policy does. The library takes seconds to import, so it is imported by the first call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cynthus.errors import CynthusError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

READ_S = 20.0  # a list of one page takes the service a second or two
WRITE_S = 30.0  # an insert is answered when the operation exists, not when the instance does
REPEAT_S = 5.0  # for all repeats of one read together: the engine asks again by itself
COMPUTE_SCOPE = "https://www.googleapis.com/auth/compute"
BILLING_SCOPE = "https://www.googleapis.com/auth/cloud-billing.readonly"
BILLING_URL = "https://cloudbilling.googleapis.com"
LONGEST_TEXT = 1000  # an error is shown on a check run
LARGEST_PAGE = 500  # the most that a page may have
_FINE_WARNINGS = ("NO_RESULTS_ON_PAGE",)  # of an empty zone

Resource = dict[str, Any]


class ApiError(CynthusError):
    """An answer that says no, or none at all: `status` is then None."""

    def __init__(
        self, text: str, *, status: int | None = None, reasons: tuple[str, ...] = ()
    ) -> None:
        super().__init__(text)
        self.status = status
        self.reasons = reasons  # "notFound", "quotaExceeded"; the service's own words


class NoCredentials(CynthusError):  # noqa: N818 - it reads as what it is
    """This server has no account to act as."""


class PartialList(CynthusError):  # noqa: N818 - it reads as what it is
    """A list that leaves something out, and says so."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """Where the services are, and as whom they are asked."""

    project: str
    compute_url: str = ""  # "": the real service, with this machine's own credentials
    billing_url: str = ""


class Door:
    """The calls that are made, thread-safe. Each raises ApiError, NoCredentials or PartialList."""

    def __init__(self, account: Account, *, page_size: int = LARGEST_PAGE) -> None:
        self._account = account
        self._page_size = page_size
        self._lock = threading.RLock()

    # ── what exists ──────────────────────────────────────────────────────────────────────────

    def instance(self, zone: str, name: str) -> Resource | None:
        """Return the instance, or None: not found."""
        return self._found("instances", "get", zone=zone, instance=name)

    def instances(self, condition: str) -> list[tuple[str, Resource]]:
        """Return (zone, instance) of all zones where the filter holds: all, or none at all."""
        return self._everywhere("instances", "instances", condition)

    def disks(self, condition: str) -> list[tuple[str, Resource]]:
        """Return (zone or region, disk) wherever the filter holds."""
        return self._everywhere("disks", "disks", condition)

    def addresses(self, condition: str) -> list[tuple[str, Resource]]:
        """Return (region or "global", address) wherever the filter holds."""
        return self._everywhere("addresses", "addresses", condition)

    def operations(self, zone: str, condition: str) -> list[Resource]:
        """Return the zone's operations where the filter holds."""
        return self._listed("zone_operations", zone=zone, filter=condition)

    def operations_everywhere(self, condition: str) -> list[tuple[str, Resource]]:
        """Return (zone, operation) of all zones where the filter holds."""
        return self._everywhere("global_operations", "operations", condition)

    # ── what can be had ──────────────────────────────────────────────────────────────────────

    def machine_types(self, condition: str) -> list[tuple[str, Resource]]:
        """Return (zone, machine type) of all zones."""
        return self._everywhere("machine_types", "machine_types", condition)

    def accelerator_types(self) -> list[tuple[str, Resource]]:
        """Return (zone, accelerator type) of all zones."""
        return self._everywhere("accelerator_types", "accelerator_types", "")

    def regions(self) -> list[Resource]:
        """Return all regions, with the account's quotas."""
        return self._listed("regions")

    def project(self) -> Resource:
        """Return the project, with the quotas that span all regions."""
        return self._asked("projects", "get", READ_S, self._repeats)

    def skus(self, service: str) -> Iterator[Resource]:
        """Return the Cloud Billing Catalog's entries for one service."""
        url = f"{self._account.billing_url or BILLING_URL}/v1/services/{service}/skus"
        token = ""
        while True:
            page = self._billing(url, {"pageSize": "5000", "pageToken": token})
            yield from page.get("skus", ())
            token = page.get("nextPageToken", "")
            if not token:
                return

    # ── what is done ─────────────────────────────────────────────────────────────────────────

    def insert_instance(self, zone: str, body: Mapping[str, Any], request_id: str) -> Resource:
        """Send one insert and return its operation, however far it is."""
        resource = self._made("Instance", body)
        return self._asked(
            "instances",
            "insert_unary",
            WRITE_S,
            None,
            zone=zone,
            instance_resource=resource,
            request_id=request_id,
        )

    def delete_instance(self, zone: str, name: str) -> Resource | None:
        """Send one delete and return its operation; None: not found."""
        return self._gone("instances", "delete_unary", zone=zone, instance=name)

    def delete_disk(self, zone: str, name: str) -> Resource | None:
        """Send one delete and return its operation; None: not found."""
        return self._gone("disks", "delete_unary", zone=zone, disk=name)

    def delete_address(self, region: str, name: str) -> Resource | None:
        """Send one delete and return its operation; None: not found."""
        return self._gone("addresses", "delete_unary", region=region, address=name)

    # ── how it is asked ──────────────────────────────────────────────────────────────────────

    def _found(self, service: str, method: str, **words: Any) -> Resource | None:
        try:
            return self._asked(service, method, READ_S, self._repeats, **words)
        except ApiError as error:
            if error.status == 404:  # noqa: PLR2004 - HTTP
                return None
            raise

    def _gone(self, service: str, method: str, **words: Any) -> Resource | None:
        try:
            return self._asked(service, method, WRITE_S, None, **words)
        except ApiError as error:
            if error.status == 404:  # noqa: PLR2004 - HTTP
                return None
            raise

    def _asked(
        self, service: str, method: str, limit_s: float, retry: Any, **words: Any
    ) -> Resource:
        call = getattr(self._client(service), method)
        request = {"project": self._account.project, **words}
        answer = self._translated(lambda: call(request=request, timeout=limit_s, retry=retry))
        return _plain(answer)

    def _listed(self, service: str, **words: Any) -> list[Resource]:
        """Return all pages of a list; none when one of them is not complete."""
        call = self._client(service).list
        request = {"project": self._account.project, "max_results": self._page_size, **words}
        found: list[Resource] = []

        def read() -> None:
            found.clear()
            for page in call(request=request, timeout=READ_S, retry=self._repeats).pages:
                plain = _plain(page)
                _check_complete(plain)
                found.extend(plain.get("items", ()))

        self._translated(read)
        return found

    def _everywhere(self, service: str, key: str, condition: str) -> list[tuple[str, Resource]]:
        call = self._client(service).aggregated_list
        request: dict[str, Any] = {"project": self._account.project, "max_results": self._page_size}
        if condition:
            request["filter"] = condition
        camel = _camel(key)
        found: list[tuple[str, Resource]] = []

        def read() -> None:
            found.clear()
            for page in call(request=request, timeout=READ_S, retry=self._repeats).pages:
                plain = _plain(page)
                _check_complete(plain)
                for scope, held in plain.get("items", {}).items():
                    _check_complete(held)
                    place = scope.rpartition("/")[2]
                    found.extend((place, resource) for resource in held.get(camel, ()))

        self._translated(read)
        return found

    def _billing(self, url: str, words: Mapping[str, str]) -> Resource:
        self._load()

        def ask() -> Resource:
            answer = self._billing_session.get(url, params=dict(words), timeout=READ_S)
            answer.raise_for_status()
            page: Resource = answer.json()
            return page

        found: Resource = self._translated(ask)
        return found

    # ── the library ──────────────────────────────────────────────────────────────────────────

    def _load(self) -> None:
        """Import the library; two threads that import parts of it at once can deadlock."""
        with self._lock:
            from google.cloud import compute_v1  # noqa: F401

    def _client(self, service: str) -> Any:
        with self._lock:  # one client and one set of credentials for all threads
            self._load()
            return self._clients(service)

    def _clients(self, service: str) -> Any:
        held: dict[str, Any] = self.__dict__.setdefault("_held", {})
        if service not in held:
            held[service] = self._opened(service)
        return held[service]

    def _opened(self, service: str) -> Any:
        from google.api_core.client_options import ClientOptions
        from google.cloud import compute_v1

        name = "".join(word.capitalize() for word in service.split("_")) + "Client"
        options = ClientOptions(api_endpoint=self._account.compute_url or None)
        return getattr(compute_v1, name)(client_options=options, credentials=self._credentials)

    @cached_property
    def _credentials(self) -> Credentials:
        if self._account.compute_url:
            from google.auth.credentials import AnonymousCredentials

            return AnonymousCredentials()
        return self._own_credentials(COMPUTE_SCOPE)

    def _own_credentials(self, scope: str) -> Credentials:
        import google.auth
        from google.auth.exceptions import GoogleAuthError

        try:
            credentials, _ = google.auth.default(scopes=[scope])
        except GoogleAuthError as error:
            raise NoCredentials(
                f"Google Cloud: this server has no credentials ({error})."
                " Run it as a service account, or set GOOGLE_APPLICATION_CREDENTIALS."
            ) from error
        return credentials

    @cached_property
    def _billing_session(self) -> Any:
        if self._account.billing_url:
            import requests

            return requests.Session()
        from google.auth.transport.requests import AuthorizedSession

        return AuthorizedSession(self._own_credentials(BILLING_SCOPE))

    @cached_property
    def _repeats(self) -> Any:
        from google.api_core.exceptions import ServiceUnavailable, TooManyRequests
        from google.api_core.retry import Retry, if_exception_type

        return Retry(
            predicate=if_exception_type(ServiceUnavailable, TooManyRequests),
            initial=0.2,
            maximum=1.0,
            timeout=REPEAT_S,
        )

    def _made(self, kind: str, body: Mapping[str, Any]) -> Any:
        import json

        self._load()
        from google.cloud import compute_v1

        return getattr(compute_v1, kind).from_json(json.dumps(body))

    def _translated(self, call: Callable[[], Any]) -> Any:
        """Call; every way in which the library fails comes out as one of ours."""
        self._load()
        import requests
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.auth.exceptions import GoogleAuthError
        from google.protobuf.json_format import ParseError

        try:
            return call()
        except GoogleAPICallError as error:
            raise _api_error(error) from error
        except RetryError as error:
            cause = error.cause
            if isinstance(cause, GoogleAPICallError):
                raise _api_error(cause) from error
            raise ApiError(f"Google Cloud did not answer: {error}") from error
        except GoogleAuthError as error:
            raise NoCredentials(
                f"Google Cloud refuses this server's credentials ({error})."
                " Look whether its service account still exists."
            ) from error
        except requests.HTTPError as error:
            raise ApiError(str(error), status=error.response.status_code) from error
        except (requests.JSONDecodeError, ParseError, AttributeError, TypeError) as error:
            # The library takes every body for Google's own; a proxy on the way has another shape.
            kind = type(error).__name__
            raise ApiError(f"Google Cloud: the answer cannot be read ({kind}).") from error
        except requests.RequestException as error:
            raise ApiError(f"Google Cloud did not answer: {error}") from error


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _plain(message: Any) -> Resource:
    """Return a message as the JSON that it came as: names in camel case, enums as words."""
    from google.protobuf.json_format import MessageToDict

    plain: Resource = MessageToDict(type(message).pb(message))
    return plain


def _check_complete(page: Mapping[str, Any]) -> None:
    """Raise PartialList for a page that says that it leaves something out."""
    missing = page.get("unreachables", ())
    warning = page.get("warning", {})
    code = warning.get("code", "")
    if missing or (code and code not in _FINE_WARNINGS):
        told = warning.get("message") or ", ".join(missing) or code
        raise PartialList(f"Google Cloud gave a part of a list only: {told}")


def _api_error(error: Any) -> ApiError:
    """Return what the service said, in its own words."""
    told = _told(error.response)
    entries = told.get("errors")
    reasons = tuple(
        str(entry.get("reason", ""))
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
    )
    status = int(error.code) if error.code is not None else None
    # Without Google's own words the library's text is the method, the URL and a page of HTML.
    text = told.get("message") or str(error.message).partition("<")[0].strip()
    return ApiError(str(text)[:LONGEST_TEXT], status=status, reasons=reasons)


def _told(response: Any) -> Resource:
    """Return the `error` of an answer; empty when it is none of Google's."""
    try:
        told = response.json()["error"]
    except (ValueError, AttributeError, KeyError, TypeError):  # also: no answer at all
        return {}
    return told if isinstance(told, dict) else {}
