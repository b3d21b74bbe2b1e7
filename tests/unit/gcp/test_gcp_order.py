"""What is asked of Compute Engine for an order."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from google.cloud import compute_v1
from hypothesis import given
from hypothesis import strategies as st

from cynthus.spec import Resources
from tests.unit.gcp.parts import PLANE, an_offer, an_order, around
from webhook_server.providers import gcp_order
from webhook_server.providers.gcp_order import instance, is_for, is_of, labels, request_id
from webhook_server.providers.provider import Misconfigured


def body(**changes: Any) -> dict[str, Any]:
    return instance(an_order(**changes), around(), "#cloud-config")


def test_a_body_is_what_the_official_client_takes() -> None:
    for offer in (an_offer(), an_offer(machine="n1-standard-8+2xt4", gpu_type="t4", gpu_count=2)):
        made = body(offer=offer)
        assert compute_v1.Instance.from_json(json.dumps(made)).name == made["name"]


@pytest.mark.parametrize(
    ("offer", "maintenance", "model"),
    [
        (an_offer(), "TERMINATE", "STANDARD"),
        (an_offer(spot=True), "TERMINATE", "SPOT"),
        (an_offer(machine="e2-standard-4", gpu_type=None, gpu_count=0), "MIGRATE", "STANDARD"),
        (
            an_offer(machine="e2-standard-4", gpu_type=None, gpu_count=0, spot=True),
            "TERMINATE",
            "SPOT",
        ),
    ],
)
def test_what_cannot_migrate_says_so(offer: Any, maintenance: str, model: str) -> None:
    scheduling = body(offer=offer)["scheduling"]
    assert scheduling["onHostMaintenance"] == maintenance
    assert scheduling["provisioningModel"] == model
    assert scheduling["instanceTerminationAction"] == "DELETE"
    assert scheduling["automaticRestart"] is False


@given(life=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=400)))
def test_every_instance_ends_by_itself_within_googles_bounds(life: timedelta) -> None:
    seconds = int(body(max_life=life)["scheduling"]["maxRunDuration"]["seconds"])
    assert 30 <= seconds <= 120 * 86400
    assert seconds >= min(life, timedelta(days=120)).total_seconds()


def test_attached_gpus_are_named_and_built_in_ones_are_not() -> None:
    attached = body(offer=an_offer(machine="n1-standard-8+2xt4", gpu_type="t4", gpu_count=2))
    assert attached["machineType"] == "zones/us-central1-a/machineTypes/n1-standard-8"
    assert attached["guestAccelerators"] == [
        {
            "acceleratorType": "zones/us-central1-a/acceleratorTypes/nvidia-tesla-t4",
            "acceleratorCount": 2,
        }
    ]
    assert "guestAccelerators" not in body()


@pytest.mark.parametrize(
    ("machine", "disk_type"),
    [
        ("g2-standard-8", "pd-balanced"),
        ("a3-highgpu-8g", "pd-balanced"),
        ("g4-standard-48", "hyperdisk-balanced"),
        ("a4-highgpu-8g", "hyperdisk-balanced"),
    ],
)
def test_the_boot_disk_goes_with_its_instance_and_is_of_the_familys_type(
    machine: str, disk_type: str
) -> None:
    [disk] = body(offer=an_offer(machine=machine))["disks"]
    assert disk["autoDelete"] is True
    assert disk["initializeParams"]["diskType"].endswith(f"/diskTypes/{disk_type}")
    assert disk["initializeParams"]["labels"][gcp_order.LABEL_PLANE] == PLANE


def test_a_key_of_the_operator_encrypts_the_disk() -> None:
    key = "projects/acme/locations/us-central1/keyRings/r/cryptoKeys/k"
    made = instance(an_order(), around(kms_key=key), "")
    assert made["disks"][0]["diskEncryptionKey"] == {"kmsKeyName": key}
    disk = compute_v1.Instance.from_json(json.dumps(made)).disks[0]
    assert disk.disk_encryption_key.kms_key_name == key
    assert "diskEncryptionKey" not in body()["disks"][0]


@pytest.mark.parametrize(
    ("asked", "gib"), [(None, 50), (10**9, 50), (100 * 10**9, 94), (1 << 37, 128)]
)
def test_a_disk_has_at_least_what_was_asked_for(asked: int | None, gib: int) -> None:
    [disk] = body(need=Resources(disk_bytes=asked))["disks"]
    assert disk["initializeParams"]["diskSizeGb"] == str(gib)


def test_no_address_outside_unless_the_operator_wants_one() -> None:
    assert "accessConfigs" not in body()["networkInterfaces"][0]
    open_one = instance(an_order(), around(external_ip=True), "")
    assert open_one["networkInterfaces"][0]["accessConfigs"] == [
        {"name": "External NAT", "type": "ONE_TO_ONE_NAT"}
    ]


@pytest.mark.parametrize(
    ("subnetwork", "told"),
    [
        ("", None),
        ("runs", "regions/us-central1/subnetworks/runs"),
        ("projects/host/regions/us-central1/subnetworks/s",) * 2,
    ],
)
def test_a_subnetwork_is_that_of_the_zones_region(subnetwork: str, told: str | None) -> None:
    made = instance(an_order(), around(subnetwork=subnetwork), "")
    assert made["networkInterfaces"][0].get("subnetwork") == told


@pytest.mark.case("A19", "A20")
def test_the_account_may_only_read() -> None:
    [account] = body()["serviceAccounts"]
    assert account["email"] == "runner@cynthus.iam.gserviceaccount.com"
    assert all("read" in scope for scope in account["scopes"])


@pytest.mark.case("A20")
def test_nothing_in_the_metadata_but_the_boot_and_two_locks() -> None:
    items = {item["key"]: item["value"] for item in body()["metadata"]["items"]}
    assert items == {
        "user-data": "#cloud-config",
        "block-project-ssh-keys": "TRUE",
        "serial-port-enable": "FALSE",
    }


@pytest.mark.case("P15")
def test_labels_tell_whose_it_is_and_a_users_cannot_imitate_ours() -> None:
    theirs = (
        ("Team", "Vision & Sound"),
        ("cynthus-run", "another"),
        ("CYNTHUS_CONTROL_PLANE", "evil"),
        ("9lives", "x" * 100),
    )
    made = labels(an_order(labels=theirs, rank=3), PLANE)
    assert made == {
        "cynthus-control-plane": PLANE,
        "cynthus-repository": "4711",
        "cynthus-run": "arun00000001",
        "cynthus-attempt": "1",
        "cynthus-rank": "3",
        "team": "vision___sound",
        "lives": "x" * 63,
    }


@given(
    pairs=st.lists(st.tuples(st.text(max_size=80), st.text(max_size=80)), max_size=80).map(tuple)
)
def test_labels_are_always_ones_that_google_takes(pairs: tuple[tuple[str, str], ...]) -> None:
    made = labels(an_order(labels=pairs), PLANE)
    assert len(made) <= 64
    assert made["cynthus-control-plane"] == PLANE
    for key, value in made.items():
        assert gcp_order._LABEL_VALUE.fullmatch(value)
        assert gcp_order._LABEL_VALUE.fullmatch(key)
        assert key[0].isalpha()


@pytest.mark.parametrize("plane", ["", "UPPER", "a b", "x" * 64])
def test_a_control_plane_that_cannot_be_a_label_is_refused(plane: str) -> None:
    with pytest.raises(Misconfigured, match="control plane id"):
        labels(an_order(), plane)


@pytest.mark.parametrize("name", ["", "Upper", "1x", "a-", "x" * 64, "../x"])
def test_a_name_that_google_would_refuse_is_never_sent(name: str) -> None:
    with pytest.raises(Misconfigured, match="instance name"):
        body(name=name)


def test_a_machine_in_no_known_form_is_never_sent() -> None:
    with pytest.raises(Misconfigured, match=r"'n1-standard-8\+t4' should be TYPE"):
        body(offer=an_offer(machine="n1-standard-8+t4"))


def test_the_request_id_is_the_same_for_ever_and_anothers_is_another() -> None:
    assert request_id("plane", "name") == "964b97fa-b2bb-5e8e-9cb7-87e5ac8fc4cc"
    assert request_id("plane", "name") != request_id("plane2", "name")
    assert request_id("plane", "name") != request_id("plane", "name2")


def test_what_is_adopted_is_ours_to_the_attempt() -> None:
    made = {"labels": labels(an_order(), PLANE)}
    assert is_for(made, an_order(), PLANE)
    assert is_of(made, PLANE)
    assert not is_for(made, an_order(attempt=2), PLANE)
    assert not is_for(made, an_order(rank=1), PLANE)
    assert not is_for(made, an_order(run_id="another00001"), PLANE)
    assert not is_of(made, "another")
    assert not is_of({}, PLANE)
