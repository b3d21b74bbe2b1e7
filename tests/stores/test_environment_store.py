"""What images consist of, and which of them are still to be pulled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cynthus.wire_image import Environment, LockView
from tests.builders import NOON, a_draft, a_key, an_environment, seconds
from tests.stores.test_run_store import claim_one
from webhook_server.runs.commands import Decision
from webhook_server.runs.environments import kept
from webhook_server.runs.model import Origin, State
from webhook_server.runs.observations import ImageArrived
from webhook_server.stores.database import Database
from webhook_server.stores.environment_store import EnvironmentStore, Texts
from webhook_server.stores.publication_store import PublicationKind, PublicationState
from webhook_server.stores.run_accepting import TokenReused
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.tables import environments, publications

OWNER = 41
OURS = Origin()
KEY = an_environment().key
COMMIT = a_key().commit_sha


@pytest.fixture
def store(db: Database) -> EnvironmentStore:
    return EnvironmentStore(db)


def an_image(letter: str) -> str:
    return "registry.test/digits@sha256:" + letter * 64


def accept(
    db: Database,
    number: int,
    *,
    letter: str = "a",
    environment: Environment | None = None,
    token_id: Any = None,
    owner_id: int = OWNER,
    origin: Origin = OURS,
    **key: Any,
) -> str:
    """Accept a run with its image, as the Action asks for it."""
    told = None if environment is None else kept(owner_id, environment)
    run_key = a_key(**({"trigger": f"t{number}"} | key))
    accepted = RunStore(db).accept(
        a_draft(id=f"run{number:09}", key=run_key, origin=origin),
        arrived=ImageArrived(image=an_image(letter), failure=None, environment=told),
        token_id=token_id,
        now=NOON + seconds(number),
        environment=environment,
    )
    return accepted.run_id


def stored(db: Database) -> int:
    with db.read() as connection:
        return len(connection.execute(environments.select()).all())


def finish(db: Database, run_id: str, release: PublicationState | None = None) -> None:
    """End a run as the loop would; its release stands as said."""
    runs = RunStore(db)
    now = NOON + seconds(60)
    for claim in runs.claim(limit=100, lease=seconds(60), now=now):
        if claim.run.id == run_id:
            over = replace(claim.run, state=State.FINISHED, finished_at=now)
            assert runs.save(claim, Decision(run=over), now)
        else:
            runs.release(claim)
    if release is None:
        return
    row = {"subject": run_id, "kind": PublicationKind.RELEASE.value, "repository_id": 7}
    with_state = publications.insert().values(**row, state=release.value, sent={})
    db.write(lambda connection: connection.execute(with_state).rowcount)


def test_lock_and_sbom_come_back_exactly(db: Database, store: EnvironmentStore) -> None:
    odd = an_environment(lock="naïve==1.0 # 日本\r\n", sbom='{"a": "<script>"}')
    run_id = accept(db, 1, environment=odd)
    image = RunStore(db).wishes(run_id).image
    assert image is not None
    assert image.environment == kept(OWNER, odd)
    assert store.texts(image.environment.id) == Texts(lock=odd.lock, sbom=odd.sbom)
    assert store.texts("0" * 64) == Texts()


def test_many_runs_share_what_is_the_same(db: Database) -> None:
    for number in range(4):
        accept(db, number, environment=an_environment())
    assert stored(db) == 1
    accept(db, 5, environment=an_environment(), owner_id=OWNER + 1, repository_id=8)
    assert stored(db) == 2  # another owner's is another one


def test_another_lock_under_a_known_key_changes_nobody_elses(
    db: Database, store: EnvironmentStore
) -> None:
    accept(db, 1, environment=an_environment())
    accept(db, 2, environment=an_environment(lock="evil==1\n"), commit_sha="f" * 40)
    found = store.lock(7, COMMIT, "cynthus.yaml")
    assert found == LockView(key=KEY, lock=an_environment().lock or "")


def test_the_first_image_stays_with_its_environment(db: Database, store: EnvironmentStore) -> None:
    accept(db, 1, environment=an_environment())
    accept(db, 1, letter="b", environment=an_environment(lock="later==1\n"))
    assert stored(db) == 1
    assert store.images_in_use(7, 9) == (an_image("a"),)


def test_a_token_that_was_used_stores_nothing(db: Database) -> None:
    token = ("jti-1", NOON + seconds(300))
    accept(db, 1, token_id=token)
    with pytest.raises(TokenReused):
        accept(db, 2, token_id=token, environment=an_environment())
    assert stored(db) == 0


def test_the_lock_of_a_fork_s_run_is_handed_to_nobody(
    db: Database, store: EnvironmentStore
) -> None:
    accept(db, 1, environment=an_environment(lock="ours==1\n"))
    accept(db, 2, environment=an_environment(lock="poisoned==1\n"), origin=Origin(fork=True))
    found = store.lock(7, COMMIT, "cynthus.yaml")
    assert found is not None
    assert found.lock == "ours==1\n"
    accept(
        db,
        3,
        environment=an_environment(lock="poisoned==1\n"),
        origin=Origin(fork=True),
        commit_sha="f" * 40,
    )
    assert store.lock(7, "f" * 40, "cynthus.yaml") is None


def test_the_newest_lock_of_the_commit_and_spec_is_handed_back(
    db: Database, store: EnvironmentStore
) -> None:
    accept(db, 1, environment=an_environment(lock="old==1\n"))
    accept(db, 2, environment=an_environment(lock="new==1\n"))
    accept(db, 3, environment=an_environment(lock=None))  # a Dockerfile of one's own
    accept(db, 4)
    newest = store.lock(7, COMMIT, "cynthus.yaml")
    assert newest is not None
    assert newest.lock == "new==1\n"
    assert store.lock(8, COMMIT, "cynthus.yaml") is None
    assert store.lock(7, "f" * 40, "cynthus.yaml") is None
    assert store.lock(7, COMMIT, "other.yaml") is None


def test_images_of_live_runs_and_of_releases_are_in_use(
    db: Database, store: EnvironmentStore
) -> None:
    alive = accept(db, 1, letter="a", environment=an_environment())
    ended = accept(db, 2, letter="b")
    released = accept(db, 3, letter="c", environment=an_environment(key="1" * 32))
    pending, refused = accept(db, 4, letter="d"), accept(db, 5, letter="e")
    accept(db, 6, letter="f", repository_id=8)
    finish(db, ended)
    finish(db, released, PublicationState.DONE)
    finish(db, pending, PublicationState.PENDING)
    finish(db, refused, PublicationState.REFUSED)
    assert alive
    assert store.images_in_use(7, 9) == (an_image("d"), an_image("c"), an_image("a"))


def test_an_image_is_in_use_from_the_request_on_and_however_often_it_is_saved(
    db: Database, store: EnvironmentStore
) -> None:
    accept(db, 1)
    assert store.images_in_use(7, 9) == (an_image("a"),)
    claim = claim_one(RunStore(db), seconds(2))
    assert claim.run.image is None  # no pass has taken it up yet
    assert RunStore(db).save(claim, Decision(run=claim.run), NOON)
    assert store.images_in_use(7, 9) == (an_image("a"),)


def test_each_image_counts_once_newest_first_up_to_the_limit(
    db: Database, store: EnvironmentStore
) -> None:
    for number, letter in enumerate("abacad"):
        accept(db, number, letter=letter)
    assert [image[-1] for image in store.images_in_use(7, 3)] == ["d", "a", "c"]
    assert len(store.images_in_use(7, 9)) == 4


def test_the_owners_repositories_keep_one_anothers_environments(
    db: Database, store: EnvironmentStore
) -> None:
    accept(db, 1, environment=an_environment())
    accept(db, 2, environment=an_environment(key="1" * 32), repository_id=8)
    accept(db, 3, environment=an_environment(key="2" * 32, lock="other==1\n"), repository_id=8)
    accept(db, 4, environment=an_environment(key="2" * 32), repository_id=8, owner_id=OWNER)
    ended = accept(db, 5, environment=an_environment(key="3" * 32))
    accept(db, 6, environment=an_environment(key="4" * 32), repository_id=9, owner_id=OWNER + 1)
    finish(db, ended)
    assert store.keys_in_use(OWNER, 9) == ("2" * 32, "1" * 32, KEY)
    assert store.keys_in_use(OWNER, 1) == ("2" * 32,)
    assert store.keys_in_use(OWNER + 2, 9) == ()
