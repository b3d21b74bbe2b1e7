"""Sign addresses of Cloud Storage: with the key in the credentials, or by asking IAM to sign."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

from google.api_core.exceptions import from_http_response
from google.auth.credentials import AnonymousCredentials, Credentials, Signing
from google.auth.transport.requests import AuthorizedSession, Request
from google.cloud.storage import Blob
from google.oauth2 import service_account

from webhook_server.stores.google_access import ASK_RETRY, ASK_TIMEOUT, spoken

IAM_URL = "https://iamcredentials.googleapis.com"
# Both from https://cloud.google.com/storage/docs/access-control/signed-urls#signing-process
LONGEST_BY_KEY = timedelta(days=7)
LONGEST_BY_IAM = timedelta(hours=12)  # after which IAM may have replaced the key it signed with
_REMEDY = "Grant it roles/iam.serviceAccountTokenCreator on {email} (on itself)."


class IamSigner(Signing):
    """Signs by `signBlob`, so that no key file need exist; one request a signature."""

    def __init__(self, credentials: Credentials, email: str, iam_url: str = "") -> None:
        self._email = email
        self._url = f"{iam_url or IAM_URL}/v1/projects/-/serviceAccounts/{email}:signBlob"
        self._session = AuthorizedSession(credentials)

    @property
    def signer_email(self) -> str:
        """Return who signs."""
        return self._email

    @property
    def signer(self) -> IamSigner:
        """Return itself: `sign_bytes` is all that Cloud Storage's library asks."""
        return self

    def close(self) -> None:
        """End kept connections. Safe to repeat."""
        self._session.close()

    def sign_bytes(self, message: bytes) -> bytes:
        """Return the signature; safe to repeat. Raises: Transient, Refused.

        https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/signBlob
        """
        with spoken(f"signBlob of {self._email}", _REMEDY.format(email=self._email)):
            answer = ASK_RETRY(self._ask)(message)
            return base64.b64decode(answer["signedBlob"])

    def _ask(self, message: bytes) -> dict[str, Any]:
        payload = {"payload": base64.b64encode(message).decode()}
        answer = self._session.post(self._url, json=payload, timeout=ASK_TIMEOUT)
        if answer.status_code != 200:  # noqa: PLR2004 - RFC 9110
            raise from_http_response(answer)
        found: dict[str, Any] = answer.json()
        return found


def open_signer(credentials: Credentials, iam_url: str) -> Signing | None:
    """Return who can sign for these credentials; None: nobody (a person's own, an emulator's)."""
    if isinstance(credentials, service_account.Credentials):
        return credentials
    if isinstance(credentials, AnonymousCredentials):
        return None
    email = _email(credentials)
    return IamSigner(credentials, email, iam_url) if email else None


def _email(credentials: Credentials) -> str:
    email = str(getattr(credentials, "service_account_email", None) or "")
    if email == "default":  # an instance's own account is named by its metadata server
        with spoken("metadata server", "Attach a service account to this instance."):
            credentials.refresh(Request())
        email = str(getattr(credentials, "service_account_email", ""))
    return email


def signed_url(
    blob: Blob,
    signer: Signing,
    method: str,
    life: timedelta,
    **terms: Any,
) -> str:
    """Return an address good for one method on one object; all `terms` are part of it.

    Raises: ValueError for a life longer than Cloud Storage grants.
    """
    longest = LONGEST_BY_IAM if isinstance(signer, IamSigner) else LONGEST_BY_KEY
    if not timedelta(0) < life <= longest:
        raise ValueError(f"a signed address lives at most {longest}")
    url: str = blob.generate_signed_url(
        version="v4", expiration=life, method=method, credentials=signer, **terms
    )
    return url
