"""Try whether a store of secrets keeps what it is given, before something is lost by it."""

from __future__ import annotations

from secrets import token_hex

from webhook_server.stores.secret_protocol import SERVER_SCOPE, SecretStore, SecretUnreadable

_NAME = "PROBE"


def probe(store: SecretStore) -> None:
    """Write, read and remove a secret of the server's own. Safe to repeat.

    Raises: SecretUnreadable where the server may not, or gets something else back; Transient.
    """
    value = token_hex(16)
    store.set(SERVER_SCOPE, _NAME, value)
    found = store.get(SERVER_SCOPE, _NAME)
    store.remove(SERVER_SCOPE, _NAME)
    if found is None or found.text != value:
        raise SecretUnreadable(
            "secrets: should give back what they are given, found that they do not."
            " Look at CYNTHUS_SECRETS_URL."
        )
