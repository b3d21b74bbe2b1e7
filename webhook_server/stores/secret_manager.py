"""Keep the secrets of repositories in Secret Manager.

A repository's own secret NAME is `cynthus-<repository id>-NAME`; one that several share is `NAME`
itself. Either counts only while it wears the label `cynthus_repository_<id>: allowed`: the id
comes from GitHub, not from a name, and a name in a spec has no `-`, so that no repository can
spell another's secret. The server's own are `cynthus-server-NAME`, labelled `cynthus_server`.
https://cloud.google.com/secret-manager/docs/best-practices
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import google_crc32c
from google.api_core import exceptions as faults
from google.api_core.client_options import ClientOptions
from google.cloud import secretmanager_v1 as manager

from cynthus.errors import Transient, UserError
from webhook_server.settings import Settings
from webhook_server.stores.google_access import ASK_RETRY, open_credentials, spoken
from webhook_server.stores.secret_protocol import (
    NAME,
    SERVER_SCOPE,
    SecretUnreadable,
    SecretValue,
    check,
)

# With underscores: a filter reads `labels.a-b` as a subtraction in some of Google's APIs.
_LABEL = "cynthus_repository_{}"
_ALLOWED = "allowed"
_READER = "Grant it roles/secretmanager.secretAccessor and roles/secretmanager.viewer on {}."
_WRITER = "Grant it roles/secretmanager.admin on {}, or set the secret as yourself."
_PATIENCE: dict[str, Any] = {"timeout": 5.0, "retry": ASK_RETRY}


def open_manager_secrets(settings: Settings) -> ManagerSecrets:
    """Return the store at `gcp://project`; asks nothing of Secret Manager yet.

    Raises: UserError without credentials.
    """
    url = settings.gcp_secrets_url
    client = manager.SecretManagerServiceClient(
        credentials=open_credentials(emulated=bool(url)),
        transport="rest",  # one port for HTTP, and no gRPC threads that outlive a fork
        client_options=ClientOptions(api_endpoint=url or None),
    )
    return ManagerSecrets(client, urlsplit(settings.secrets_url).netloc)


class ManagerSecrets:
    """Secrets of one project; nothing is kept on this machine."""

    def __init__(self, client: manager.SecretManagerServiceClient, project: str) -> None:
        self._client, self._project = client, project

    def get(self, repository_id: int, name: str, version: str = "") -> SecretValue | None:
        """Return the newest value, or that of `version`; None when there is none for it.

        Raises: SecretUnreadable, Transient.
        """
        secret_id, _, number = version.rpartition("/")
        found = secret_id or self._find(repository_id, name)
        if found is None or (secret_id and not self._is_allowed(secret_id, repository_id)):
            return None
        return self._access(found, number or "latest", name)

    def close(self) -> None:
        """End kept connections. Safe to repeat."""
        self._client.transport.close()

    def _find(self, repository_id: int, name: str) -> str | None:
        if not NAME.match(name):
            raise UserError(f"{name!r}: should be the name of a secret. Check its spelling.")
        for secret_id in (_own(repository_id, name), name):
            if self._is_allowed(secret_id, repository_id):
                return secret_id
        return None

    def _is_allowed(self, secret_id: str, repository_id: int) -> bool:
        secret = self._secret(secret_id)
        return secret is not None and _wears(secret, repository_id)

    def _secret(self, secret_id: str) -> manager.Secret | None:
        with self._spoken(secret_id, _READER):
            try:
                return self._client.get_secret(name=self._path(secret_id), **_PATIENCE)
            except faults.NotFound:
                return None

    def _access(self, secret_id: str, number: str, name: str) -> SecretValue | None:
        path = f"{self._path(secret_id)}/versions/{number}"
        with self._spoken(f"{secret_id}, version {number}", _READER):
            try:
                found = self._client.access_secret_version(name=path, **_PATIENCE)
            except faults.NotFound:
                return None  # a secret without a version
            except faults.BadRequest as error:
                raise SecretUnreadable(
                    f"secret {name}: version {number} of {secret_id} should be enabled, found that"
                    " it is not. Enable it, or add a version and start a new run."
                ) from error
        return SecretValue(
            text=_checked(found.payload, name),
            # The answer names the version by its number, whatever the question was.
            version=f"{secret_id}/{found.name.rpartition('/')[2]}",
        )

    def names(self, repository_id: int) -> list[str]:
        """Return the names, sorted. Raises: SecretUnreadable, Transient."""
        request = {
            "parent": f"projects/{self._project}",
            "filter": f"labels.{_label(repository_id)}={_ALLOWED}",
        }
        with self._spoken("list of secrets", _READER):
            # Looked at again: what a filter means is not ours to say.
            found = [
                secret.name.rpartition("/")[2]
                for secret in self._client.list_secrets(request=request, **_PATIENCE)
                if _wears(secret, repository_id)
            ]
        own = _own(repository_id, "")
        return sorted({name for i in found if NAME.match(name := i.removeprefix(own))})

    def set(self, repository_id: int, name: str, value: str) -> None:
        """Add a version to the repository's own secret, which is made when it is not there.

        Older versions stay for the runs that have begun with them.
        Raises: UserError, SecretUnreadable, Transient.
        """
        check(name, value)
        secret_id, data = _own(repository_id, name), value.encode()
        with self._spoken(secret_id, _WRITER):
            self._create(secret_id, repository_id)
            payload = manager.SecretPayload(data=data, data_crc32c=google_crc32c.value(data))
            self._client.add_secret_version(
                parent=self._path(secret_id), payload=payload, **_PATIENCE
            )

    def _create(self, secret_id: str, repository_id: int) -> None:
        labels = {_label(repository_id): _ALLOWED}
        replication = manager.Replication(automatic=manager.Replication.Automatic())
        secret = manager.Secret(replication=replication, labels=labels)
        try:
            self._client.create_secret(
                parent=f"projects/{self._project}",
                secret_id=secret_id,
                secret=secret,
                **_PATIENCE,
            )
        except faults.Conflict:
            found = self._secret(secret_id)
            if found is not None and not _wears(found, repository_id):
                self._relabel(found, {**found.labels, **labels})

    def remove(self, repository_id: int, name: str) -> bool:
        """Destroy the repository's own secret, or take its label off a shared one.

        Returns whether there was one. Raises: SecretUnreadable, Transient.
        """
        secret_id = self._find(repository_id, name)
        if secret_id is None:
            return False
        with self._spoken(secret_id, _WRITER):
            if secret_id != name:
                self._client.delete_secret(name=self._path(secret_id), **_PATIENCE)
                return True
            found = self._secret(secret_id)
            if found is not None:
                label = _label(repository_id)
                self._relabel(found, {k: v for k, v in found.labels.items() if k != label})
        return True

    def _relabel(self, secret: manager.Secret, labels: dict[str, str]) -> None:
        changed = manager.Secret(name=secret.name, labels=labels, etag=secret.etag)
        request = {"secret": changed, "update_mask": {"paths": ["labels"]}}
        self._client.update_secret(request=request, **_PATIENCE)

    def _path(self, secret_id: str) -> str:
        return f"projects/{self._project}/secrets/{secret_id}"

    @contextmanager
    def _spoken(self, what: str, remedy: str) -> Iterator[None]:
        place = f"Secret Manager of {self._project}, {what}"
        with spoken(place, ""):
            try:
                yield
            except (faults.Forbidden, faults.Unauthorized) as error:
                raise SecretUnreadable(
                    f"{place}: should let this server in, found that it does not."
                    f" {remedy.format(self._project)}"
                ) from error


def _own(repository_id: int, name: str) -> str:
    scope = "server" if repository_id == SERVER_SCOPE else str(int(repository_id))
    return f"cynthus-{scope}-{name}"


def _label(repository_id: int) -> str:
    if repository_id == SERVER_SCOPE:
        return "cynthus_server"
    return _LABEL.format(int(repository_id))


def _wears(secret: manager.Secret, repository_id: int) -> bool:
    return bool(secret.labels.get(_label(repository_id)) == _ALLOWED)


def _checked(payload: manager.SecretPayload, name: str) -> str:
    if google_crc32c.value(payload.data) != payload.data_crc32c:
        raise Transient(
            f"secret {name}: came with another CRC32C than Secret Manager told. Try again."
        )
    try:
        return str(payload.data.decode())
    except UnicodeDecodeError:
        raise SecretUnreadable(
            f"secret {name}: should be text in UTF-8, found other bytes. Encode it, in base64."
        ) from None
