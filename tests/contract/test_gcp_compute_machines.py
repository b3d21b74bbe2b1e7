"""What the simulated Compute Engine asks of its machines, and what it signs for them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest

from simulators.gcp_http import Answer, Request, Router
from simulators.gcp_identity import bearer
from simulators.gcp_machines import Machine, NoMachines
from simulators.gcp_sim import all_routes
from simulators.gcp_world import World

ZONE = "us-central1-a"
START = f"/compute/v1/projects/cynthus-sim/zones/{ZONE}/instances"
ORDER = {
    "name": "vm",
    "machineType": f"zones/{ZONE}/machineTypes/n1-standard-8",
    "guestAccelerators": [
        {
            "acceleratorType": f"zones/{ZONE}/acceleratorTypes/nvidia-tesla-t4",
            "acceleratorCount": 2,
        }
    ],
    "disks": [
        {
            "boot": True,
            "autoDelete": True,
            "initializeParams": {
                "sourceImage": "projects/cos-cloud/global/images/family/cos-stable",
                "diskSizeGb": "30",
            },
        }
    ],
    "networkInterfaces": [{"network": "global/networks/default"}],
    "scheduling": {"provisioningModel": "SPOT", "instanceTerminationAction": "DELETE"},
    "serviceAccounts": [
        {"email": "default", "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}
    ],
    "metadata": {"items": [{"key": "user-data", "value": "#cloud-config\n"}]},
}


class Recorder(NoMachines):
    """Machines that write down what was asked of them."""

    def __init__(self) -> None:
        super().__init__()
        self.machines: list[Machine] = []
        self.deeds: list[tuple[str, ...]] = []
        self.sign: Callable[[str, str, str], str]
        self.issue: Callable[[str], Mapping[str, Any]]

    def boot(self, machine: Machine) -> str:
        self.machines.append(machine)
        return super().boot(machine)

    def write(self, name: str, path: str, value: object) -> None:
        self.deeds.append(("write", name, path, str(value)))

    def soft_off(self, name: str) -> None:
        self.deeds.append(("soft_off", name))
        super().soft_off(name)

    def remove(self, name: str) -> None:
        self.deeds.append(("remove", name))
        super().remove(name)

    def sign_identity(self, sign: Callable[[str, str, str], str]) -> None:
        self.sign = sign

    def issue_token(self, issue: Callable[[str], Mapping[str, Any]]) -> None:
        self.issue = issue


@dataclass
class Stage:
    """A world without a socket."""

    world: World
    machines: Recorder
    router: Router = field(init=False)

    def __post_init__(self) -> None:
        self.router = Router(all_routes(self.world))
        with self.world.lock:
            for starter in self.world.starters:
                starter()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        found = self.router.find(method, path)
        assert found is not None
        route, args = found
        data = b"" if body is None else json.dumps(body).encode()
        request = Request(
            method=method, path=path, query="", headers={}, source=io.BytesIO(data), args=args
        )
        with self.world.lock:
            answer: Answer = route.handler(request)
            return answer.json

    def boot(self) -> None:
        """Have the instance of ORDER run."""
        self.call("POST", START, ORDER)
        self.world.advance(10)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    machines = Recorder()
    world = World(tmp_path, machines=machines)
    yield Stage(world, machines)
    world.close()


def test_a_machine_is_what_was_ordered(stage: Stage) -> None:
    stage.boot()
    (machine,) = stage.machines.machines
    assert (machine.name, machine.cpus, machine.memory_bytes) == ("vm", 8, 30 << 30)
    assert (machine.gpus, machine.gpu_model, machine.disk_bytes) == (2, "Tesla T4", 30 << 30)
    assert machine.boot_image.startswith("projects/cos-cloud/global/images/cos-stable-")


def test_its_metadata_is_the_tree_that_google_documents(stage: Stage) -> None:
    stage.boot()
    tree = stage.machines.machines[0].metadata
    instance = tree["instance"]
    assert tree["project"]["project-id"] == "cynthus-sim"
    assert instance["attributes"] == {"user-data": "#cloud-config\n"}
    assert instance["zone"].endswith(f"/zones/{ZONE}")
    assert instance["machine-type"].endswith("/machineTypes/n1-standard-8")
    assert instance["preempted"] == "FALSE"
    assert instance["maintenance-event"] == "NONE"
    assert instance["scheduling"]["preemptible"] == "TRUE"
    assert instance["id"] == int(stage.call("GET", f"{START}/vm")["id"])
    assert instance["service-accounts"]["default"]["email"].endswith("gserviceaccount.com")


def test_a_preempted_machine_is_told_before_its_power_button_is_pressed(stage: Stage) -> None:
    stage.boot()
    stage.call("POST", "/_sim/instances/vm/preempt")
    stage.world.advance(40)
    assert stage.machines.deeds == [
        ("write", "vm", "instance/preempted", "TRUE"),
        ("soft_off", "vm"),
        ("remove", "vm"),
    ]


def test_new_metadata_reach_the_machine(stage: Stage) -> None:
    stage.boot()
    print_ = stage.call("GET", f"{START}/vm")["metadata"]["fingerprint"]
    items = [{"key": "note", "value": "hello"}]
    stage.call("POST", f"{START}/vm/setMetadata", {"fingerprint": print_, "items": items})
    assert stage.machines.deeds == [
        ("write", "vm", "instance/attributes/note", "hello"),
        ("write", "vm", "instance/attributes/user-data", "None"),
    ]


def verified(stage: Stage, token: str, audience: str) -> dict[str, Any]:
    """Return the claims of a token that the published keys vouch for."""
    keys = jwt.PyJWKSet.from_dict(stage.call("GET", "/oauth2/v3/certs"))
    kid = jwt.get_unverified_header(token)["kid"]
    (key,) = [each.key for each in keys.keys if each.key_id == kid]
    claims: dict[str, Any] = jwt.decode(
        token, key, algorithms=["RS256"], audience=audience, options={"verify_iat": False}
    )
    return claims


def test_an_identity_token_names_the_instance(stage: Stage) -> None:
    stage.boot()
    vm = stage.call("GET", f"{START}/vm")
    claims = verified(
        stage, stage.machines.sign("vm", "https://cynthus", "full"), "https://cynthus"
    )
    about = claims["google"]["compute_engine"]
    assert claims["iss"] == "https://accounts.google.com"
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["email"] == vm["serviceAccounts"][0]["email"]
    assert (about["project_id"], about["zone"]) == ("cynthus-sim", ZONE)
    assert (about["instance_name"], about["instance_id"]) == ("vm", vm["id"])
    assert about["instance_creation_timestamp"] == int(World.epoch(vm["creationTimestamp"]))


def test_a_standard_identity_token_names_nobody(stage: Stage) -> None:
    stage.boot()
    claims = verified(stage, stage.machines.sign("vm", "a", "standard"), "a")
    assert "google" not in claims
    assert "email" not in claims


def test_old_keys_stay_known_until_they_are_forgotten(stage: Stage) -> None:
    stage.boot()
    token = stage.machines.sign("vm", "a", "full")
    stage.call("POST", "/_sim/identity/rotate")
    assert verified(stage, token, "a")["aud"] == "a"
    stage.call("POST", "/_sim/identity/rotate", {"forget": True})
    with pytest.raises(ValueError, match="unpack"):
        verified(stage, token, "a")


def test_nobody_signs_for_what_is_not_there(stage: Stage) -> None:
    with pytest.raises(LookupError, match="nobody"):
        stage.machines.sign("nobody", "a", "full")


def test_an_access_token_can_be_checked(stage: Stage) -> None:
    stage.boot()
    token = stage.machines.issue("vm")
    assert (token["token_type"], token["expires_in"]) == ("Bearer", 3599)
    request = Request(
        method="GET",
        path="/",
        query="",
        headers={"authorization": f"Bearer {token['access_token']}"},
        source=io.BytesIO(),
    )
    seen = bearer(stage.world, request)
    assert seen is not None
    assert seen["scopes"] == ["https://www.googleapis.com/auth/cloud-platform"]
