"""Say which NVIDIA driver an instance of Google Cloud will have, before it is ordered: pure.

Container-Optimized OS installs at each boot what it is told: its release's default, which differs
by GPU and changes with the releases, the newest of a branch, or one version:
https://cloud.google.com/container-optimized-os/docs/how-to/run-gpus#install-driver
An Ubuntu accelerator image has one already, and its name says which branch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cynthus.errors import UserError
from webhook_server.providers.gcp_machines import GPUS

# The branch that NVIDIA supports longest, until June 2028, and that runs CUDA 13 and older:
# https://docs.nvidia.com/datacenter/tesla/drivers/supported-drivers-and-cuda-toolkit-versions.html
BRANCH = "580"
# Before Turing: Container-Optimized OS has older branches for them than for the others.
_OLDER_CARDS = frozenset({"p4", "p100", "v100"})
OWN_DEFAULT = "default"  # in the setting: whatever the release installs by itself
DRIVER = re.compile(r"[1-9][0-9]{2}(?:\.[0-9]{1,3}){0,2}")
_NAMED = re.compile(r"-with-nvidia-([1-9][0-9]{2})\b")


def promised_drivers(image: str, setting: str, *, installed: bool) -> Mapping[str, str]:
    """Return by the name of a GPU which driver comes with it, or its branch; empty: not known.

    `installed`: at each boot, as we say. Raises: UserError naming the setting.
    """
    if setting not in {"", OWN_DEFAULT} and DRIVER.fullmatch(setting) is None:
        raise UserError(
            "CYNTHUS_GCP_DRIVER: should be a branch or a version of NVIDIA's driver, or"
            f" {OWN_DEFAULT}, found {setting!r}. Write for example 580 or 580.126.09."
        )
    return {gpu.name: _promised(image, setting, gpu.name, installed=installed) for gpu in GPUS}


def _promised(image: str, setting: str, gpu: str, *, installed: bool) -> str:
    if setting not in {"", OWN_DEFAULT}:
        return setting
    named = _NAMED.search(image)
    if named is not None:
        return named[1]
    ours = installed and not setting and gpu not in _OLDER_CARDS
    return BRANCH if ours else ""


def installers_word(driver: str) -> str:
    """Return what `cos-extensions install gpu -- -version=` is told; empty: nothing."""
    return driver if not driver or "." in driver else f"R{driver}"
