"""The simulated Secret Manager, through Google's own client.

Over REST the client tells errors apart by their HTTP status alone: what gRPC calls
FAILED_PRECONDITION and INVALID_ARGUMENT are both BadRequest here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
from google.api_core.exceptions import (
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    TooManyRequests,
)
from google.cloud.secretmanager_v1 import SecretManagerServiceClient, SecretVersion

from tests.contract.gcp_cloud import Cloud, a_cloud

AUTOMATIC: dict[str, Any] = {"replication": {"automatic": {}}}
_numbers = count(1)


@pytest.fixture(scope="module")
def module_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with a_cloud(tmp_path_factory.mktemp("gcp")) as cloud:
        yield cloud


@pytest.fixture
def cloud(module_cloud: Cloud) -> Iterator[Cloud]:
    """Return the module's cloud; what the test sent is judged when it ends."""
    yield module_cloud
    module_cloud.simulator.sim("DELETE", "/faults")
    assert module_cloud.problems() == []


@pytest.fixture
def client(cloud: Cloud) -> SecretManagerServiceClient:
    return cloud.secrets()


@pytest.fixture
def secret(cloud: Cloud, client: SecretManagerServiceClient) -> str:
    """Return the name of a new secret."""
    return made(cloud, client)


def made(cloud: Cloud, client: SecretManagerServiceClient, **more: Any) -> str:
    found = client.create_secret(
        parent=f"projects/{cloud.project}",
        secret_id=f"secret-{next(_numbers)}",
        secret={**AUTOMATIC, **more},
    )
    return found.name


def add(client: SecretManagerServiceClient, secret: str, data: bytes) -> SecretVersion:
    return client.add_secret_version(parent=secret, payload={"data": data})


def read(client: SecretManagerServiceClient, name: str) -> bytes:
    return client.access_secret_version(name=name).payload.data


def test_a_secret_is_read_back_with_its_checksum_and_concrete_version(
    cloud: Cloud, client: SecretManagerServiceClient
) -> None:
    client.create_secret(parent=f"projects/{cloud.project}", secret_id="hf", secret=AUTOMATIC)
    version = client.add_secret_version(
        parent=f"projects/{cloud.project}/secrets/hf",
        payload={"data": b"token", "data_crc32c": google_crc32c.value(b"token")},
    )
    assert version.state is SecretVersion.State.ENABLED
    assert version.client_specified_payload_checksum
    found = client.access_secret_version(
        name=f"projects/{cloud.project}/secrets/hf/versions/latest"
    )
    assert found.name == "projects/482107553920/secrets/hf/versions/1"
    assert found.payload.data == b"token"
    assert found.payload.data_crc32c == google_crc32c.value(b"token")


def test_versions_are_numbered_and_latest_is_the_newest_even_when_disabled(
    client: SecretManagerServiceClient, secret: str
) -> None:
    for data in [b"one", b"two"]:
        add(client, secret, data)
    assert read(client, f"{secret}/versions/1") == b"one"
    assert read(client, f"{secret}/versions/latest") == b"two"
    disabled = client.disable_secret_version(name=f"{secret}/versions/2")
    assert disabled.state is SecretVersion.State.DISABLED
    with pytest.raises(BadRequest, match="DISABLED") as refused:
        read(client, f"{secret}/versions/latest")
    assert refused.value.response.json()["error"]["status"] == "FAILED_PRECONDITION"
    listed = client.list_secret_versions(parent=secret)
    assert [(v.name[-1], v.state.name) for v in listed] == [("2", "DISABLED"), ("1", "ENABLED")]
    enabled = client.list_secret_versions(request={"parent": secret, "filter": "state=ENABLED"})
    assert [v.name[-1] for v in enabled] == ["1"]
    client.enable_secret_version(name=f"{secret}/versions/2")
    assert read(client, f"{secret}/versions/latest") == b"two"


def test_what_is_destroyed_never_comes_back(
    client: SecretManagerServiceClient, secret: str
) -> None:
    add(client, secret, b"x")
    destroyed = client.destroy_secret_version(name=f"{secret}/versions/1")
    assert destroyed.state is SecretVersion.State.DESTROYED
    assert destroyed.destroy_time is not None
    with pytest.raises(BadRequest, match="DESTROYED"):
        read(client, f"{secret}/versions/1")
    with pytest.raises(BadRequest):
        client.enable_secret_version(name=f"{secret}/versions/1")
    assert add(client, secret, b"y").name.endswith("/2")


def test_what_is_absent_is_not_found(
    cloud: Cloud, client: SecretManagerServiceClient, secret: str
) -> None:
    with pytest.raises(NotFound, match=r"secrets/nothing\] not found"):
        read(client, f"projects/{cloud.project}/secrets/nothing/versions/latest")
    with pytest.raises(NotFound, match="has no versions"):
        read(client, f"{secret}/versions/latest")
    add(client, secret, b"x")
    with pytest.raises(NotFound, match="versions/9"):
        read(client, f"{secret}/versions/9")
    client.delete_secret(name=secret)
    with pytest.raises(NotFound):
        client.get_secret(name=secret)


def test_a_secret_is_made_once(
    cloud: Cloud, client: SecretManagerServiceClient, secret: str
) -> None:
    with pytest.raises(Conflict):
        client.create_secret(
            parent=f"projects/{cloud.project}",
            secret_id=secret.rpartition("/")[2],
            secret=AUTOMATIC,
        )


@pytest.mark.parametrize(
    ("secret_id", "body", "words"),
    [
        ("with space", AUTOMATIC, "Secret ID"),
        ("x" * 256, AUTOMATIC, "Secret ID"),
        ("fine", {}, "replication"),
        ("fine", {**AUTOMATIC, "labels": {"Upper": "x"}}, "label"),
        ("fine", {**AUTOMATIC, "labels": {"a" * 64: "x"}}, "label"),
        ("fine", {**AUTOMATIC, "labels": {f"k{n}": "" for n in range(65)}}, "64 labels"),
    ],
)
def test_what_a_secret_cannot_be_is_refused(
    cloud: Cloud,
    client: SecretManagerServiceClient,
    secret_id: str,
    body: dict[str, Any],
    words: str,
) -> None:
    with pytest.raises(BadRequest, match=words):
        client.create_secret(parent=f"projects/{cloud.project}", secret_id=secret_id, secret=body)


def test_a_payload_has_bytes_but_not_more_than_64_kib(
    client: SecretManagerServiceClient, secret: str
) -> None:
    with pytest.raises(BadRequest, match="empty"):
        add(client, secret, b"")
    with pytest.raises(BadRequest, match="65536"):
        add(client, secret, bytes(65537))
    add(client, secret, bytes(range(256)) * 256)
    assert read(client, f"{secret}/versions/1") == bytes(range(256)) * 256
    with pytest.raises(BadRequest, match="CRC32C"):
        client.add_secret_version(parent=secret, payload={"data": b"x", "data_crc32c": 7})


def test_secrets_are_listed_by_label_and_page(
    cloud: Cloud, client: SecretManagerServiceClient
) -> None:
    mine = [made(cloud, client, labels={"cynthus-repository-7": "allowed"}) for _ in range(3)]
    other = made(cloud, client, labels={"cynthus-repository-8": "allowed"})

    def found(text: str) -> list[str]:
        parent = f"projects/{cloud.project}"
        pages = client.list_secrets(request={"parent": parent, "filter": text, "page_size": 2})
        return sorted(each.name for each in pages)

    assert found("labels.cynthus-repository-7=allowed") == sorted(mine)
    assert found("labels.cynthus-repository-8:*") == [other]
    assert (
        found("labels.cynthus-repository-7=allowed AND labels.cynthus-repository-8=allowed") == []
    )
    assert found("labels.cynthus-repository-7=denied") == []
    last = mine[0].rpartition("/")[2]
    assert mine[0] in found(f"name:{last}")


def test_labels_change_under_the_etag_that_was_read(
    cloud: Cloud, client: SecretManagerServiceClient, secret: str
) -> None:
    before = client.get_secret(name=secret)
    changed = client.update_secret(
        secret={"name": secret, "labels": {"a": "b"}, "etag": before.etag},
        update_mask={"paths": ["labels"]},
    )
    assert dict(changed.labels) == {"a": "b"}
    assert changed.etag != before.etag
    with pytest.raises(BadRequest, match="etag"):
        client.update_secret(
            secret={"name": secret, "labels": {}, "etag": before.etag},
            update_mask={"paths": ["labels"]},
        )
    with pytest.raises(BadRequest):
        client.update_secret(secret={"name": secret}, update_mask={"paths": ["replication"]})
    with pytest.raises(BadRequest):
        client.delete_secret(request={"name": secret, "etag": before.etag})


def test_a_secret_with_an_end_is_gone_then(tmp_path: Path) -> None:
    with a_cloud(tmp_path) as cloud:
        client = cloud.secrets()
        short = made(cloud, client, ttl={"seconds": 600})
        add(client, short, b"x")
        cloud.simulator.kill()
        cloud.simulator.start()
        assert read(client, f"{short}/versions/latest") == b"x"
        cloud.simulator.post("/clock", advance_s=601)
        with pytest.raises(NotFound):
            read(client, f"{short}/versions/latest")


def test_an_access_policy_is_kept(client: SecretManagerServiceClient, secret: str) -> None:
    policy = client.get_iam_policy(request={"resource": secret})
    policy.bindings.add(role="roles/secretmanager.secretAccessor", members=["serviceAccount:a@b"])
    client.set_iam_policy(request={"resource": secret, "policy": policy})
    found = client.get_iam_policy(request={"resource": secret})
    assert found.bindings[0].members == ["serviceAccount:a@b"]
    held = client.test_iam_permissions(
        request={"resource": secret, "permissions": ["secretmanager.versions.access"]}
    )
    assert list(held.permissions) == ["secretmanager.versions.access"]


def test_refusals_on_demand_are_told_apart(
    cloud: Cloud, client: SecretManagerServiceClient, secret: str
) -> None:
    add(client, secret, b"x")
    name = f"{secret}/versions/1"
    cloud.simulator.fault("denied", {"permission": r"secretmanager\.versions\.access"})
    with pytest.raises(Forbidden, match=r"secretmanager\.versions\.access"):
        read(client, name)
    match = {"verb": r"secretmanager\..*"}
    cloud.simulator.fault("error", match, code=429, status="RESOURCE_EXHAUSTED", message="Quota")
    with pytest.raises(TooManyRequests):
        client.access_secret_version(name=name, retry=None)
    cloud.simulator.fault("corrupt", {"secret": secret.rpartition("/")[2]})
    payload = client.access_secret_version(name=name).payload
    assert payload.data_crc32c != google_crc32c.value(payload.data)
    assert read(client, name) == b"x"


def test_another_project_is_none_of_ours(client: SecretManagerServiceClient) -> None:
    with pytest.raises(Forbidden):
        client.list_secrets(parent="projects/somebody-else")


def test_with_auth_switched_on_nobody_reads_without_a_token(
    cloud: Cloud, client: SecretManagerServiceClient, secret: str
) -> None:
    cloud.simulator.post("/settings", {"auth": True})
    try:
        answer = cloud.call("GET", f"/v1/{secret}")
        assert (answer.status_code, answer.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    finally:
        cloud.simulator.post("/settings", {"auth": False})
    client.get_secret(name=secret)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("?secretId=odd", {"replication": {"automatic": {}}, "color": "red"}),
        ("/SECRET:addVersion", {"payload": {"data": "eA==", "crc": "1"}}),
        ("/SECRET:addVersion", {"data": "eA=="}),
    ],
)
def test_unknown_fields_are_refused(
    cloud: Cloud, secret: str, path: str, body: dict[str, Any]
) -> None:
    path = path.replace("SECRET", secret.rpartition("/")[2])
    answer = cloud.call("POST", f"/v1/projects/{cloud.project}/secrets{path}", json=body)
    assert answer.status_code == 400
    assert "Unknown name" in answer.json()["error"]["message"]
