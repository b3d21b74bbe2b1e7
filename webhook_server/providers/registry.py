"""Name every provider once, with how it is made from the settings."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from cynthus.errors import UserError
from webhook_server.providers.local import Local, Machine
from webhook_server.providers.provider import Provider
from webhook_server.settings import Settings

# What a program needs to find its files, its engine and its certificates; no CYNTHUS_ variable.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "DOCKER_HOST", "SSL_CERT_FILE")


@dataclass(frozen=True, kw_only=True)
class Server:
    """What a provider must know of the server it lends for."""

    url: str  # under which the instances reach it
    control_plane: str  # this server's id: it marks everything that is lent


def _local(settings: Settings, server: Server) -> Provider:
    cores = os.cpu_count() or 1
    return Local(
        Machine(
            state_dir=settings.state_dir.resolve(),
            server_url=server.url,
            control_plane=server.control_plane,
            slots=settings.local_slots or max(1, cores // 2),
            engine_socket=_engine_socket(os.environ.get("DOCKER_HOST", "")),
            environment={name: os.environ[name] for name in PASSED_ON if name in os.environ},
        )
    )


def _engine_socket(docker_host: str) -> str:
    """Return the engine's socket, the same that the agents use."""
    if docker_host.startswith("unix://"):
        return docker_host.removeprefix("unix://")
    return "/var/run/docker.sock"


def _gcp(settings: Settings, server: Server) -> Provider:
    if not settings.gcp_project:
        raise UserError(
            "CYNTHUS_GCP_PROJECT: should name the project that lends instances, found nothing."
            " Set it, or choose another provider."
        )
    from webhook_server.providers import gcp  # only who lends from it pays for it

    return gcp.opened(settings, server.url, server.control_plane, clock=time.monotonic)


#: One line per provider.
PROVIDERS: dict[str, Callable[[Settings, Server], Provider]] = {
    "gcp": _gcp,
    "local": _local,
}


def configured(settings: Settings) -> tuple[str, ...]:
    """Name the providers that these settings say enough about.

    A project alone is also named for outputs and secrets; without an account for its instances
    nothing is lent from it, unless it is the default and its absence must be told.
    """
    meant = settings.gcp_service_account or settings.provider == "gcp"
    lends = bool(settings.gcp_project and meant)
    return tuple(name for name in PROVIDERS if name != "gcp" or lends)


def open_provider(name: str, settings: Settings, server: Server) -> Provider:
    """Return the provider of that name.

    Raises: UserError when there is none.
    """
    if name not in PROVIDERS:
        known = ", ".join(sorted(PROVIDERS))
        raise UserError(f"provider: should be one of {known}, found {name!r}.")
    return PROVIDERS[name](settings, server)
