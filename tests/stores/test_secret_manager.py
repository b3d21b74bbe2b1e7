"""Secrets in Secret Manager, by Google's own client: each repository's own, checked, pinned."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.cloud import secretmanager_v1 as manager

from cynthus.errors import Transient, UserError
from tests.cloud_fixture import Cloud
from webhook_server.stores.database import Database
from webhook_server.stores.run_secrets import RunSecrets
from webhook_server.stores.secret_probe import probe
from webhook_server.stores.secret_protocol import SERVER_SCOPE, SecretUnreadable

VALUE = "hf_0123456789abcdef"
_numbers = itertools.count(1000)


@pytest.fixture
def repository() -> int:
    return next(_numbers)


@pytest.fixture
def by_hand(cloud: Cloud) -> manager.SecretManagerServiceClient:
    """What an operator does with Google's own tools."""
    return cloud.secrets()._client


@pytest.fixture
def shared(cloud: Cloud, by_hand: Any, repository: int) -> Iterator[str]:
    """A secret of the operator's that our repository may use."""
    name = f"SHARED_{repository}"
    by_hand.create_secret(
        parent=f"projects/{cloud.sim.project}",
        secret_id=name,
        secret={
            "replication": {"automatic": {}},
            "labels": {f"cynthus_repository_{repository}": "allowed", "team": "ml"},
        },
    )
    by_hand.add_secret_version(parent=path(cloud, name), payload={"data": b"shared value 1"})
    return name


def path(cloud: Cloud, secret_id: str) -> str:
    return f"projects/{cloud.sim.project}/secrets/{secret_id}"


def text(cloud: Cloud, repository: int, name: str, version: str = "") -> str | None:
    found = cloud.secrets().get(repository, name, version)
    return None if found is None else found.text


def test_what_is_set_is_got_by_its_own_repository_alone(cloud: Cloud, repository: int) -> None:
    cloud.secrets().set(repository, "HF_TOKEN", VALUE)
    assert text(cloud, repository, "HF_TOKEN") == VALUE
    assert text(cloud, repository + 10**9, "HF_TOKEN") is None
    assert text(cloud, repository, "OTHER") is None
    assert cloud.secrets().names(repository) == ["HF_TOKEN"]
    assert cloud.secrets().names(repository + 10**9) == []


def test_the_servers_own_are_nobody_elses(cloud: Cloud, repository: int) -> None:
    secrets = cloud.secrets()
    probe(secrets)
    secrets.set(SERVER_SCOPE, "APP_7", VALUE)
    assert secrets.names(SERVER_SCOPE) == ["APP_7"]
    for number in (0, 1, repository):
        assert "APP_7" not in secrets.names(number)
        assert text(cloud, number, "APP_7") is None
    assert secrets.remove(SERVER_SCOPE, "APP_7")


def test_a_value_is_shown_by_no_repr(cloud: Cloud, repository: int) -> None:
    cloud.secrets().set(repository, "HF_TOKEN", VALUE)
    assert VALUE not in repr(cloud.secrets().get(repository, "HF_TOKEN"))


def test_a_shared_secret_is_got_by_whoever_its_label_names(
    cloud: Cloud, repository: int, shared: str
) -> None:
    assert text(cloud, repository, shared) == "shared value 1"
    assert text(cloud, repository + 10**9, shared) is None
    assert cloud.secrets().names(repository) == [shared]


def test_a_secret_without_the_label_is_nobodys(
    cloud: Cloud, by_hand: Any, repository: int, shared: str
) -> None:
    secret = by_hand.get_secret(name=path(cloud, shared))
    secret.labels = {
        f"cynthus_repository_{repository}": "denied",
        f"cynthus_repository_{repository}1": "allowed",
    }
    by_hand.update_secret(secret=secret, update_mask={"paths": ["labels"]})
    assert text(cloud, repository, shared) is None
    assert cloud.secrets().names(repository) == []


@pytest.mark.parametrize("spelled", ["cynthus-{}-HF_TOKEN", "../cynthus-{}-HF_TOKEN", "a/b"])
def test_no_name_in_a_spec_reaches_another_repositorys_secret(
    cloud: Cloud, repository: int, spelled: str
) -> None:
    cloud.secrets().set(repository, "HF_TOKEN", VALUE)
    with pytest.raises(UserError, match="should be the name of a secret"):
        cloud.secrets().get(repository + 10**9, spelled.format(repository))


def test_a_repositorys_own_secret_comes_before_a_shared_one(
    cloud: Cloud, repository: int, shared: str
) -> None:
    cloud.secrets().set(repository, shared, "own value of it")
    assert text(cloud, repository, shared) == "own value of it"
    assert cloud.secrets().names(repository) == [shared]


def test_removing_destroys_what_is_own_and_lets_go_of_what_is_shared(
    cloud: Cloud, by_hand: Any, repository: int, shared: str
) -> None:
    store = cloud.secrets()
    store.set(repository, "HF_TOKEN", VALUE)
    assert store.remove(repository, "HF_TOKEN")
    assert not store.remove(repository, "HF_TOKEN")
    assert store.remove(repository, shared)
    assert store.names(repository) == []
    assert dict(by_hand.get_secret(name=path(cloud, shared)).labels) == {"team": "ml"}


@pytest.mark.parametrize("name", ["PATH", "CYNTHUS_X", "a-b", ""])
def test_a_name_that_cannot_be_used_is_refused(cloud: Cloud, repository: int, name: str) -> None:
    with pytest.raises(UserError):
        cloud.secrets().set(repository, name, VALUE)


def test_a_secret_of_the_largest_size_travels_whole(cloud: Cloud, repository: int) -> None:
    value = "x" * (64 * 1024)
    cloud.secrets().set(repository, "LARGE", value)
    assert text(cloud, repository, "LARGE") == value


# ── versions ────────────────────────────────────────────────────────────────────────────────────


def test_a_version_is_named_by_its_number_and_stays(cloud: Cloud, repository: int) -> None:
    store = cloud.secrets()
    store.set(repository, "HF_TOKEN", VALUE)
    first = store.get(repository, "HF_TOKEN")
    assert first is not None
    assert first.version == f"cynthus-{repository}-HF_TOKEN/1"
    store.set(repository, "HF_TOKEN", "another value")
    assert text(cloud, repository, "HF_TOKEN") == "another value"
    assert text(cloud, repository, "HF_TOKEN", first.version) == VALUE


def test_a_pinned_version_is_given_to_its_own_repository_alone(
    cloud: Cloud, repository: int, shared: str
) -> None:
    assert text(cloud, repository + 10**9, shared, f"{shared}/1") is None


def test_every_attempt_of_a_run_gets_the_versions_of_the_first(
    cloud: Cloud, repository: int, db: Database
) -> None:
    store = cloud.secrets()
    store.set(repository, "HF_TOKEN", VALUE)
    secrets = RunSecrets(db, store)
    assert secrets.values("r1", repository, ["HF_TOKEN", "NONE"]) == (
        {"HF_TOKEN": VALUE},
        ("NONE",),
    )
    store.set(repository, "HF_TOKEN", "a newer value")
    assert secrets.values("r1", repository, ["HF_TOKEN"]) == ({"HF_TOKEN": VALUE}, ())
    assert secrets.values("r2", repository, ["HF_TOKEN"]) == ({"HF_TOKEN": "a newer value"}, ())


def test_two_that_ask_at_once_get_the_same_version(
    cloud: Cloud, repository: int, db: Database
) -> None:
    """The second resolves `latest` after a rotation, and has to give way to the first."""
    store = cloud.secrets()
    store.set(repository, "HF_TOKEN", VALUE)
    late = RunSecrets(db, _Meanwhile(store, lambda: _first_asks(db, store, repository)))
    assert late.values("r1", repository, ["HF_TOKEN"]) == ({"HF_TOKEN": VALUE}, ())


def _first_asks(db: Database, store: Any, repository: int) -> None:
    RunSecrets(db, store).values("r1", repository, ["HF_TOKEN"])
    store.set(repository, "HF_TOKEN", "a newer value")


class _Meanwhile:
    """A store on which something happens just before the first read."""

    def __init__(self, store: Any, happens: Callable[[], None]) -> None:
        self._store, self._happens = store, happens

    def get(self, repository_id: int, name: str, version: str = "") -> Any:
        happens, self._happens = self._happens, lambda: None
        happens()
        return self._store.get(repository_id, name, version)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_the_allowance_can_be_taken_back_while_a_run_lives(
    cloud: Cloud, repository: int, shared: str, db: Database
) -> None:
    secrets = RunSecrets(db, cloud.secrets())
    assert secrets.values("r1", repository, [shared]) == ({shared: "shared value 1"}, ())
    cloud.secrets().remove(repository, shared)
    assert secrets.values("r1", repository, [shared]) == ({}, (shared,))


@pytest.mark.parametrize("act", ["disable_secret_version", "destroy_secret_version"])
def test_a_version_that_is_disabled_says_what_to_do(
    cloud: Cloud, by_hand: Any, repository: int, shared: str, act: str
) -> None:
    getattr(by_hand, act)(name=f"{path(cloud, shared)}/versions/1")
    for version in ("", f"{shared}/1"):
        with pytest.raises(SecretUnreadable, match="Enable it, or add a version"):
            cloud.secrets().get(repository, shared, version)


def test_a_secret_without_a_version_is_missing(cloud: Cloud, by_hand: Any, repository: int) -> None:
    by_hand.create_secret(
        parent=f"projects/{cloud.sim.project}",
        secret_id=f"cynthus-{repository}-EMPTY",
        secret={
            "replication": {"automatic": {}},
            "labels": {f"cynthus_repository_{repository}": "allowed"},
        },
    )
    assert text(cloud, repository, "EMPTY") is None


# ── bad days ────────────────────────────────────────────────────────────────────────────────────


def test_a_value_that_changed_on_its_way_is_not_used(cloud: Cloud, repository: int) -> None:
    cloud.secrets().set(repository, "HF_TOKEN", VALUE)
    cloud.sim.fault("corrupt", {"secret": f"cynthus-{repository}-HF_TOKEN"})
    with pytest.raises(Transient, match="CRC32C"):
        cloud.secrets().get(repository, "HF_TOKEN")
    assert text(cloud, repository, "HF_TOKEN") == VALUE


@pytest.mark.parametrize("code", [429, 503])
def test_a_passing_refusal_is_tried_again(cloud: Cloud, repository: int, code: int) -> None:
    cloud.secrets().set(repository, "HF_TOKEN", VALUE)
    cloud.sim.fault("error", {"api": "secretmanager"}, code=code, times=2)
    assert text(cloud, repository, "HF_TOKEN") == VALUE


@pytest.mark.parametrize(
    ("permission", "role"),
    [
        ("secretmanager.versions.access", "roles/secretmanager.secretAccessor"),
        ("secretmanager.secrets.get", "roles/secretmanager.viewer"),
    ],
)
def test_a_lost_permission_names_the_role_and_never_the_value(
    cloud: Cloud, repository: int, permission: str, role: str
) -> None:
    cloud.secrets().set(repository, "HF_TOKEN", VALUE)
    cloud.sim.fault("denied", {"permission": permission}, times=-1)
    with pytest.raises(SecretUnreadable, match=role) as told:
        cloud.secrets().get(repository, "HF_TOKEN")
    assert VALUE not in str(told.value)


def test_a_lost_permission_to_list_names_the_role(cloud: Cloud, repository: int) -> None:
    cloud.sim.fault("denied", {"permission": "secretmanager.secrets.list"}, times=-1)
    with pytest.raises(SecretUnreadable, match="roles/secretmanager"):
        cloud.secrets().names(repository)


def test_no_value_is_ever_logged(
    cloud: Cloud, repository: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        cloud.secrets().set(repository, "HF_TOKEN", VALUE)
        text(cloud, repository, "HF_TOKEN")
    told = [str(vars(record)) + record.getMessage() for record in caplog.records]
    assert not any(VALUE in line for line in told)
