"""Write what a lent Google Cloud machine does from its boot until its agent runs: cloud-config.

What is generated are two lists of quoted values; the program that uses them is `gcp_boot.sh`, the
same on every machine. https://cloud.google.com/container-optimized-os/docs/how-to/create-configure-instance
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cache
from importlib import resources

from webhook_server.providers.gcp_drivers import DRIVER, installers_word
from webhook_server.providers.provider import Misconfigured

HOME = "/var/lib/cynthus"  # writable on Container-Optimized OS, where most is not
METADATA_URL = "http://169.254.169.254"  # the address: names may not resolve yet
# An installation takes about 40 s on a T4; a slow download several times that. Below the server's
# own limit for a boot, so that the cause is told before it.
DRIVER_LIMIT = timedelta(minutes=8)
# Google pulls the plug 30 s after it takes a Spot machine back; the agent's report is out by 25.
# https://cloud.google.com/compute/docs/instances/preemptible#preemption-process
STOP_LIMIT = timedelta(seconds=28)

_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")  # of an instance: RFC 1035
_PLANE = re.compile(r"[A-Za-z0-9_-]{1,63}")
_URL = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+(?:/[A-Za-z0-9._~/-]*)?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*@sha256:[0-9a-f]{64}")
# https://cloud.google.com/artifact-registry/docs/transition/transition-from-gcr
_GOOGLE_HOST = re.compile(r"[a-z0-9-]+-docker\.pkg\.dev|(?:[a-z]+\.)?gcr\.io")


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
    driver: str = ""  # of the offer; "": what the boot image has or takes
    gpu_count: int = 0
    nodes: int = 1  # of the gang, if it is one
    registries: tuple[str, ...] = ()  # Google's hosts, besides the agent image's own
    audience: str = ""  # of the identity token; "": `server_url`
    metadata_url: str = METADATA_URL


def boot_kind(image: str) -> BootKind:
    """Say what a boot image is by its project or family: `settings.gcp_image`."""
    return BootKind.COS if "cos-" in image else BootKind.UBUNTU


def user_data(order_name: str, max_life: timedelta, config: BootConfig) -> str:
    """Return the `user-data` metadata value of one instance; it carries no secret.

    Raises: Misconfigured, naming the setting.
    """
    values = _values(order_name, max_life, config)
    settings = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    return "\n".join(
        (
            "#cloud-config",
            "write_files:",
            *_file(f"{HOME}/settings", settings),
            *_file(f"{HOME}/boot.sh", _program()),
            *_file("/etc/systemd/system/cynthus.service", _unit(), "0644"),
            "runcmd:",
            "- [systemctl, daemon-reload]",
            # Not waited for: cloud-init would stand still until the agent ends.
            "- [systemctl, start, --no-block, cynthus.service]",
            "",
        )
    )


def _values(order_name: str, max_life: timedelta, config: BootConfig) -> dict[str, str]:
    """Return what the program is told, checked: the shell shall have nothing to misread."""
    server = config.server_url.rstrip("/")
    _check("instance name", order_name, _NAME)
    _check("control plane", config.control_plane, _PLANE)
    _check("CYNTHUS_PUBLIC_URL", server, _URL)
    _check("audience", config.audience or server, _URL)
    _check("metadata server", config.metadata_url, _URL)
    if config.agent_image:
        _check("CYNTHUS_GCP_AGENT_IMAGE", config.agent_image, _IMAGE)
    elif config.kind is BootKind.COS:
        raise Misconfigured(
            "CYNTHUS_GCP_AGENT_IMAGE: should name the agent's image by digest, found nothing."
            " Container-Optimized OS has no Python: set it, or boot an Ubuntu accelerator image."
        )
    return {
        "kind": config.kind.value,
        "instance": order_name,
        "server": server,
        "audience": config.audience or server,
        "control_plane": config.control_plane,
        "agent_image": config.agent_image,
        "registries": " ".join(_registries(config)),
        "driver": _wanted_driver(config),
        "gpu_count": str(int(config.gpu_count)),
        "gpu_mode": "cos" if config.kind is BootKind.COS else "toolkit",
        "nodes": str(int(config.nodes)),
        "max_life_s": str(int(max_life.total_seconds())),
        "driver_limit_s": str(int(DRIVER_LIMIT.total_seconds())),
        "metadata": config.metadata_url,
    }


def _wanted_driver(config: BootConfig) -> str:
    """Return what is installed; an Ubuntu image has it already."""
    if config.kind is not BootKind.COS or not config.driver:
        return ""
    _check("CYNTHUS_GCP_DRIVER", config.driver, DRIVER)
    return installers_word(config.driver)


def _check(name: str, value: str, pattern: re.Pattern[str]) -> None:
    if pattern.fullmatch(value) is None:
        raise Misconfigured(f"{name}: should match {pattern.pattern}, found {value!r}.")


def _registries(config: BootConfig) -> tuple[str, ...]:
    """Return the hosts that may be shown the machine's own token: Google's, and no others."""
    for host in config.registries:
        if _GOOGLE_HOST.fullmatch(host) is None:
            raise Misconfigured(f"registry {host!r}: should be one of Google's (*-docker.pkg.dev).")
    own = config.agent_image.partition("/")[0]
    known = (own,) if _GOOGLE_HOST.fullmatch(own) else ()
    return tuple(dict.fromkeys((*known, *config.registries)))


def _file(path: str, content: str, permissions: str = "0600") -> tuple[str, ...]:
    """Return one entry of `write_files`, its content as a YAML literal block."""
    lines = content.splitlines()
    return (
        f"- path: {path}",
        "  owner: root:root",
        f"  permissions: '{permissions}'",
        "  content: |",
        *(f"    {line}" if line else "" for line in lines),
    )


@cache
def _program() -> str:
    return resources.files(__package__).joinpath("gcp_boot.sh").read_text("utf-8")


def _unit() -> str:
    # Ordered after Docker, so that at a shutdown it is ended first, with time to report: a Spot
    # machine that is taken back gets the power button at the same moment as the notice.
    # Its own end switches the machine off: from there on it would only cost.
    needed = "network-online.target gcr-online.target docker.socket docker.service"
    return f"""\
[Unit]
Description=Cynthus' agent
Wants=network-online.target gcr-online.target docker.socket
After={needed} containerd.service

[Service]
ExecStart=/bin/sh {HOME}/boot.sh
ExecStopPost=-/bin/systemctl --no-block poweroff
KillMode=mixed
TimeoutStopSec={int(STOP_LIMIT.total_seconds())}
StandardOutput=journal+console
StandardError=journal+console
"""
