"""Which driver an instance will have is promised only where it is certain."""

from __future__ import annotations

import pytest

from cynthus.errors import UserError
from webhook_server.providers.gcp_drivers import installers_word, promised_drivers

COS = "projects/cos-cloud/global/images/family/cos-stable"
UBUNTU = "projects/ubuntu-os-accelerator-images/global/images/family/ubuntu-2404-with-nvidia-570"


@pytest.mark.parametrize(
    ("image", "setting", "promised"),
    [
        (COS, "", "580"),
        (COS, "default", ""),  # it changes with every release
        (COS, "570", "570"),
        (COS, "580.126.09", "580.126.09"),
        (UBUNTU, "", "570"),
        (UBUNTU, "default", "570"),
        (UBUNTU, "570.133", "570.133"),
        ("projects/acme/global/images/own-image", "", ""),
    ],
)
def test_a_driver_is_promised_as_the_image_and_the_setting_say(
    image: str, setting: str, promised: str
) -> None:
    drivers = promised_drivers(image, setting, installed=image == COS)
    assert {drivers[gpu] for gpu in ("t4", "l4", "h100", "b200")} == {promised}


def test_cards_for_which_the_release_has_older_branches_keep_its_default() -> None:
    drivers = promised_drivers(COS, "", installed=True)
    assert {gpu for gpu, driver in drivers.items() if not driver} == {"p4", "p100", "v100"}
    assert promised_drivers(COS, "470", installed=True)["p100"] == "470"


@pytest.mark.parametrize("setting", ["latest", "R580", "58", "580.126.09.1", "580; id", "580\n"])
def test_a_driver_that_is_no_version_stops_the_start(setting: str) -> None:
    with pytest.raises(UserError, match="CYNTHUS_GCP_DRIVER"):
        promised_drivers(COS, setting, installed=True)


@pytest.mark.parametrize(
    ("driver", "word"), [("", ""), ("580", "R580"), ("580.126.09", "580.126.09")]
)
def test_the_installer_is_told_a_branch_or_a_version(driver: str, word: str) -> None:
    assert installers_word(driver) == word
