"""Keep the GitHub App that set-up made: its keys among the secrets, the rest in the database."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from sqlalchemy import Connection, delete, insert, select

from cynthus.frozen import replace
from webhook_server.acting import authority
from webhook_server.runs.trail import Deed, DeedVerb
from webhook_server.settings import Secret, Settings
from webhook_server.stores import trail_store
from webhook_server.stores.database import Database
from webhook_server.stores.secret_protocol import SERVER_SCOPE, SecretStore
from webhook_server.stores.tables import server_state

# https://docs.github.com/apps/sharing-github-apps/registering-a-github-app-from-a-manifest
ASK_LIFE = timedelta(hours=1)  # all of GitHub's steps have to be done within it
_APP, _ASK = "app", "app_ask"


@dataclass(frozen=True, kw_only=True)
class StoredApp:
    """The App, without anything secret."""

    id: str
    slug: str
    name: str
    url: str  # its page on GitHub
    owner: str
    allowed: tuple[str, ...]  # who may use the server, unless CYNTHUS_ALLOWED says otherwise
    made_at: str


@dataclass(frozen=True, kw_only=True)
class AppKeys:
    """What the App proves itself with, and its deliveries."""

    private_key: Secret
    webhook_secret: Secret
    client_secret: Secret


@dataclass(frozen=True, kw_only=True)
class AppAsk:
    """What somebody wished for when they left for GitHub."""

    allowed: tuple[str, ...]


class AppStore:
    """Reads and writes the App. Calls that touch keys may raise SecretUnreadable, Transient."""

    def __init__(self, database: Database, secrets: SecretStore) -> None:
        self._database, self._secrets = database, secrets

    def get(self) -> StoredApp | None:
        """Return the App that set-up made, if it did."""
        text = self._database.state(_APP)
        if text is None:
            return None
        found = json.loads(text)
        return StoredApp(**{**found, "allowed": tuple(found["allowed"])})

    def keys(self, app: StoredApp) -> AppKeys | None:
        """Return its keys; None where this server's store of secrets does not have them."""
        value = self._secrets.get(SERVER_SCOPE, _secret_name(app.id))
        if value is None:
            return None
        found = json.loads(value.text)
        return AppKeys(**{name: Secret(text) for name, text in found.items()})

    def put(self, app: StoredApp, keys: AppKeys) -> None:
        """Keep the App; its keys first, so that whoever sees it finds them. Safe to repeat."""
        self._secrets.set(SERVER_SCOPE, _secret_name(app.id), json.dumps(asdict(keys)))
        by, text = authority(), json.dumps(asdict(app))

        def work(connection: Connection) -> None:
            query = select(server_state.c.value).where(server_state.c.key == _APP)
            if connection.execute(query).scalar_one_or_none() == text:
                return
            connection.execute(delete(server_state).where(server_state.c.key == _APP))
            connection.execute(insert(server_state).values(key=_APP, value=text))
            done = _deed(DeedVerb.SET_UP, app)
            trail_store.add(connection, by, [done], self._database.now())

        self._database.write(work)

    def forget(self) -> StoredApp | None:
        """Forget the App and its keys; return which one it was. Safe to repeat."""
        app = self.get()
        if app is not None:
            self._database.write(self._drop(app))
            self._secrets.remove(SERVER_SCOPE, _secret_name(app.id))
        return app

    def _drop(self, app: StoredApp) -> Callable[[Connection], None]:
        by = authority()

        def work(connection: Connection) -> None:
            if connection.execute(delete(server_state).where(server_state.c.key == _APP)).rowcount:
                done = _deed(DeedVerb.FORGET, app)
                trail_store.add(connection, by, [done], self._database.now())

        return work

    # ── the way to GitHub and back ──────────────────────────────────────────────────────────────

    def begin(self, state: str, ask: AppAsk, now: datetime) -> None:
        """Remember that somebody leaves for GitHub with `state`; whoever left before is late."""
        kept = {**asdict(ask), "digest": _digest(state), "ends_at": (now + ASK_LIFE).isoformat()}
        self._database.set_state(_ASK, json.dumps(kept))

    def end(self, state: str, now: datetime) -> AppAsk | None:
        """Take back what was asked for with `state`, once; None: not asked for, or not any more."""

        def work(connection: Connection) -> AppAsk | None:
            query = select(server_state.c.value).where(server_state.c.key == _ASK)
            text = connection.execute(query.with_for_update()).scalar_one_or_none()
            found = json.loads(text) if text else {"digest": "", "ends_at": now.isoformat()}
            if not hmac.compare_digest(found["digest"], _digest(state)):
                return None
            connection.execute(delete(server_state).where(server_state.c.key == _ASK))
            in_time = now < datetime.fromisoformat(found["ends_at"])
            return AppAsk(allowed=tuple(found["allowed"])) if in_time else None

        return self._database.write(work)


def _deed(verb: DeedVerb, app: StoredApp) -> Deed:
    told = {"owner": app.owner, "allowed": list(app.allowed)}
    return Deed(verb=verb, subject=f"App {app.id} ({app.slug})", after=told)


def _secret_name(app_id: str) -> str:
    return f"APP_{app_id}"


def _digest(state: str) -> str:
    # A digest, so that who can read the database cannot finish what another began.
    return sha256(state.encode("utf-8", "surrogatepass")).hexdigest()


def with_app(
    settings: Settings, app: StoredApp | None, keys: AppKeys | None
) -> tuple[Settings, tuple[str, ...]]:
    """Return the settings with the App that set-up made, and what the operator should know.

    What the environment says wins. An App that it names is served whole, since one App's number
    with another's key would be neither.
    """
    if app is None:
        return settings, ()
    if settings.github_app_id:
        return settings, _other_app(settings, app)
    if keys is None:
        return settings, (
            f"the keys of the App {app.slug!r} should be among this server's secrets, found none:"
            " GitHub is not served. Give all servers the same CYNTHUS_SECRETS_URL.",
        )
    merged = replace(
        settings,
        github_app_id=app.id,
        github_private_key=settings.github_private_key or keys.private_key,
        webhook_secret=settings.webhook_secret or keys.webhook_secret,
        allowed=settings.allowed or app.allowed,
    )
    return merged, tuple(_differences(settings, app, keys))


def _other_app(settings: Settings, app: StoredApp) -> tuple[str, ...]:
    if settings.github_app_id == app.id:
        return ()
    return (
        f"CYNTHUS_GITHUB_APP_ID names App {settings.github_app_id}, set-up made App {app.id}"
        f" ({app.slug!r}): the environment's is served. Unset it, or forget the other with"
        " `python -m webhook_server forget-app`.",
    )


def _differences(settings: Settings, app: StoredApp, keys: AppKeys) -> list[str]:
    pairs = (
        ("GITHUB_PRIVATE_KEY", settings.github_private_key, keys.private_key),
        ("WEBHOOK_SECRET", settings.webhook_secret, keys.webhook_secret),
        ("ALLOWED", settings.allowed, app.allowed),
    )
    return [
        f"CYNTHUS_{name} differs from what set-up stored: the environment's is used."
        " Unset it unless that is meant."
        for name, said, stored in pairs
        if said and said != stored
    ]
