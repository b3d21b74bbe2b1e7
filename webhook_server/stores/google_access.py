"""Come to Google Cloud: credentials, patience, and foreign faults in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import google.auth
import requests
from google.api_core import exceptions as faults
from google.api_core.retry import Retry, if_exception_type
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, MutualTLSChannelError

from cynthus.errors import Refused, Transient, UserError

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
# What is asked while an agent waits for an answer: its door gives up after 10 s.
ASK_S = 8.0
ASK_TIMEOUT = (3.05, 5.0)  # to connect (just above TCP's first resend), and to answer
_PASSING = (
    faults.TooManyRequests,
    faults.InternalServerError,
    faults.BadGateway,
    faults.ServiceUnavailable,
    faults.GatewayTimeout,
    requests.ConnectionError,
    requests.Timeout,
)
#: For requests that are safe to repeat: a quarter of a second, doubled, within what is waited for.
ASK_RETRY = Retry(
    predicate=if_exception_type(*_PASSING), initial=0.25, maximum=2.0, multiplier=2.0, timeout=ASK_S
)


def open_credentials(*, emulated: bool) -> Credentials:
    """Return the credentials of this process; an emulator is asked without, as Google's own are.

    The order is Google's own: https://cloud.google.com/docs/authentication/application-default-credentials
    Raises: UserError when there are none.
    """
    if emulated:
        return AnonymousCredentials()
    try:
        found, _ = google.auth.default(scopes=[SCOPE])
    except (DefaultCredentialsError, MutualTLSChannelError, ValueError) as error:
        raise UserError(
            f"Google Cloud: should have credentials, found none ({_first_line(error)})."
            " Run on an instance with a service account, or set GOOGLE_APPLICATION_CREDENTIALS."
        ) from error
    return found


@contextmanager
def spoken(place: str, remedy: str) -> Iterator[None]:
    """Turn Google's faults into ours; `remedy` says which role to grant where access is denied.

    Raises: Transient (also for lost permissions: an operator can give them back), Refused.
    """
    try:
        yield
    except (faults.Forbidden, faults.Unauthorized) as error:
        raise Transient(
            f"{place}: should let this server in, found {told(error)}. {remedy}"
        ) from error
    except _PASSING as error:
        raise Transient(f"{place}: does not answer now ({told(error)}). Try again.") from error
    except (faults.RetryError, GoogleAuthError, requests.RequestException) as error:
        raise Transient(f"{place}: does not answer now ({told(error)}). Try again.") from error
    except faults.GoogleAPICallError as error:
        raise Refused(f"{place}: refused the request: {told(error)}.") from error


def told(error: Any) -> str:
    """Return a foreign fault in one line, without addresses: these may be signed."""
    if isinstance(error, faults.RetryError) and error.cause is not None:
        return told(error.cause)
    if isinstance(error, faults.GoogleAPICallError):
        text = (error.message or "").rpartition(": ")[2]
        return f"{error.code} {_short(text)}".strip()
    return (
        type(error).__name__ if isinstance(error, requests.RequestException) else _first_line(error)
    )


def _first_line(error: object) -> str:
    return _short(str(error).partition("\n")[0])


def _short(text: str) -> str:
    return text[:200].rstrip(". ")
