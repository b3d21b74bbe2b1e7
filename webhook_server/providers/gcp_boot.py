"""Write what a lent Google Cloud machine does from its boot until its agent runs: cloud-config."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class BootKind(StrEnum):
    """What the boot image is."""

    COS = "cos"  #: Container-Optimized OS: Docker is there, the driver is an extension
    UBUNTU = "ubuntu"  #: an Ubuntu accelerator image: the driver is there, Docker may not be


@dataclass(frozen=True, kw_only=True)
class BootConfig:
    """What the server's settings and the offer say of every boot; nothing of it is secret."""

    server_url: str  # as the instances reach it
    control_plane: str  # id put on everything that is started
    agent_image: str = ""  # name@sha256:…; "": /agent.pyz is fetched, Ubuntu only
    kind: BootKind = BootKind.COS
    gpu_count: int = 0
    registries: tuple[str, ...] = ()  # Google's hosts, besides the agent image's own
    audience: str = ""  # of the identity token; "": `server_url`


def boot_kind(image: str) -> BootKind:
    """Say what a boot image is by its project or family: `settings.gcp_image`."""
    return BootKind.COS if "cos-" in image else BootKind.UBUNTU


def user_data(order_name: str, max_life: timedelta, config: BootConfig) -> str:
    """Return the `user-data` metadata value of one instance; it carries no secret.

    Raises: Misconfigured, naming the setting.
    """
    raise NotImplementedError
