"""The doors of those who build images: only for one's own repository, and never a half list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import insert

from cynthus.codec import encode
from cynthus.wire_image import IMAGES_LIMIT, LOCK_LIMIT, SBOM_LIMIT, Framework
from tests.builders import an_environment
from tests.doors.conftest import IMAGE, SPEC, Answer, Site, open_site
from webhook_server.routes.answers import HttpRefusal
from webhook_server.runs.model import State
from webhook_server.settings import Settings
from webhook_server.stores.repository_store import Repository, RepositoryStore
from webhook_server.stores.tables import runs

ENVIRONMENT: dict[str, Any] = encode(an_environment())
KEY = ENVIRONMENT["key"]
COMMIT = "c" * 40
GPU_SPEC = SPEC + "resources:\n  gpu: l4\n"
CPU_ONLY = {**ENVIRONMENT, "frameworks": [{"name": "torch", "version": "2.7.0", "cuda": None}]}


@dataclass(frozen=True)
class OneJob:
    repository_id: int
    owner_id: int = 41
    repository: str = "acme/digits"
    actor: str = "ada"
    jti: str = "jti-1"
    expires_at: datetime = datetime(2099, 1, 1, tzinfo=UTC)


class Jobs:
    """Believes `repository.jti.here`; repository 9 is on no list. The real gate has its tests."""

    def identify(self, token: str) -> OneJob:
        repository, jti, _ = token.split(".")
        if not repository.isdecimal():
            raise HttpRefusal(401, "token: the signature is not good.")
        return OneJob(int(repository), jti=jti)

    def admit(self, job: Any, workflow_run_url: str | None = None) -> None:
        own = f"https://github.test/{job.repository}/actions/runs/{job.repository_id}"
        if job.repository_id == 9:
            raise HttpRefusal(403, "repository: is not known to this server.")
        if workflow_run_url not in {None, own}:
            raise HttpRefusal(403, "workflow_run_url: should be this job's workflow run.")

    def authorise(self, job: Any, request: Any) -> None:  # noqa: ARG002 - the protocol has it
        self.admit(job)

    def default_branch(self, job: Any) -> str:  # noqa: ARG002 - the protocol has it
        return "main"


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    with open_site(settings, Jobs()) as opened:
        yield opened


def submit(site: Site, *, repository_id: int = 7, jti: str = "j1", **change: Any) -> Answer:
    request = {
        "repository_id": repository_id,
        "repository": "acme/digits",
        "commit_sha": COMMIT,
        "ref": "refs/heads/main",
        "event": "push",
        "trigger": "push",
        "spec_path": "cynthus.yaml",
        "spec_text": SPEC,
        "image": IMAGE,
        "environment": ENVIRONMENT,
        **change,
    }
    return site.ask("POST", "/api/v1/runs", value=request, token=f"{repository_id}.{jti}.x")


def lease(site: Site, mark: str = "", *, repository: int = 7, **change: Any) -> Answer:
    holder = f"https://github.test/acme/digits/actions/runs/{repository}{mark}"
    value = {"key": KEY, "holder": holder, **change}
    return site.ask("POST", "/api/v1/build-leases", value=value, token=f"{repository}.j.x")


def ask(site: Site, path: str, token: str = "7.again.x") -> Answer:
    return site.ask("GET", f"/api/v1/{path}", token=token)


LOCK = f"locks?commit={COMMIT}&spec=cynthus.yaml"


# ── run requests ────────────────────────────────────────────────────────────────────────────────


def test_a_run_keeps_its_environment_and_its_view_shows_it(site: Site) -> None:
    answer = submit(site)
    assert answer.status == 202, answer.body
    run_id = answer.json["run_id"]
    arrived = site.parts.runs.wishes(run_id).image
    assert arrived is not None
    site.enter(run_id, State.QUEUED, image=arrived.image, environment=arrived.environment)
    view = site.ask("GET", f"/api/v1/runs/{run_id}", token=answer.json["token"]).json
    told = view["environment"]
    assert (told["key"], told["python"], told["minimum_driver"]) == (KEY, "3.11", "570.26")
    assert len(told["lock_sha256"]) == 64
    assert "lock" not in told


def test_a_page_shows_an_environment_as_text_and_never_its_sbom(site: Site) -> None:
    hostile = {
        **ENVIRONMENT,
        "base": "<script>alert(1)</script>",
        "frameworks": [{"name": "<b>torch", "version": "{{7*7}}", "cuda": "<i>"}],
        "sbom": "<script>alert(2)</script>",
    }
    run_id = submit(site, environment=hostile).json["run_id"]
    arrived = site.parts.runs.wishes(run_id).image
    assert arrived is not None
    site.enter(run_id, State.QUEUED, image=arrived.image, environment=arrived.environment)
    page = site.ask("GET", f"/runs/{run_id}").body.decode()
    assert KEY in page
    for attached in ("requirements.lock", "sbom.cdx.json"):
        assert f"<code>{attached}</code>, SHA-256" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "{{7*7}}" in page
    for raw in ("<script>alert", "<b>torch", "<i>", "alert(2)"):
        assert raw not in page


def test_the_largest_lock_and_sbom_are_taken(site: Site) -> None:
    line = 'a"\n'
    large = {
        **ENVIRONMENT,
        "lock": (line * LOCK_LIMIT)[:LOCK_LIMIT],
        "sbom": (line * SBOM_LIMIT)[:SBOM_LIMIT],
    }
    assert submit(site, environment=large).status == 202
    assert ask(site, LOCK).json["lock"] == large["lock"]
    too_large = {**large, "lock": large["lock"] + "x"}
    assert submit(site, jti="j2", environment=too_large).status == 422


FAULTS = {
    "a short key": ({"key": "abc"}, "environment/key"),
    "a key with a line's end": ({"key": "0" * 32 + "\n"}, "environment/key"),
    "no digest": ({"base_digest": "sha256:abc"}, "environment/base_digest"),
    "a driver that is none": ({"minimum_driver": "newest"}, "environment/minimum_driver"),
    "a driver with a line's end": ({"minimum_driver": "570.26\n"}, "environment/minimum_driver"),
    "a base with control characters": ({"base": "a\x1b[31m"}, "environment: "),
    "a framework's too": (
        {"frameworks": [{"name": "torch", "version": "1\n2", "cuda": None}]},
        "environment: ",
    ),
    "a NUL in the lock": ({"lock": "a\0"}, "environment/lock"),
    "a password in the lock": (
        {"lock": "--index-url https://ada:secret@pypi.acme.test/simple\n"},
        "environment/lock",
    ),
    "a token in the SBOM": ({"sbom": '{"url": "https://ghp_x@github.com/a/b"}'}, "sbom"),
    "half a character": ({"lock": "\ud800"}, "surrogate"),
}


@pytest.mark.parametrize(("change", "told"), FAULTS.values(), ids=FAULTS.keys())
def test_a_faulty_environment_is_refused_by_name(
    site: Site, change: dict[str, Any], told: str
) -> None:
    answer = submit(site, environment={**ENVIRONMENT, **change})
    assert answer.status == 422
    assert told in answer.fault
    assert "secret" not in answer.fault
    assert site.parts.runs.is_empty()


def test_a_location_without_a_password_is_no_secret(site: Site) -> None:
    lock = "pkg @ git+ssh://git@github.com/a/b\nother @ https://x.test/@scope/y.whl\n"
    assert submit(site, environment={**ENVIRONMENT, "lock": lock}).status == 202


def test_a_gpu_for_frameworks_without_cuda_is_refused_and_the_run_ends_with_it(
    site: Site,
) -> None:
    answer = submit(site, spec_text=GPU_SPEC, environment=CPU_ONLY)
    assert answer.status == 422
    assert "resources/gpu" in answer.fault
    assert "torch 2.7.0" in answer.fault
    [row] = site.parts.runs.list(repository_id=7, limit=2, before=None)
    arrived = site.parts.runs.wishes(row.id).image
    assert arrived is not None  # the check run tells what the answer told
    assert (arrived.image, arrived.failure) == (None, answer.fault)
    assert ask(site, LOCK).status == 404
    assert ask(site, "images").json == {"digests": [], "keys": []}


def test_without_a_word_on_its_environment_a_gpu_run_is_taken(site: Site) -> None:
    assert submit(site, spec_text=GPU_SPEC, environment=None).status == 202
    with_cuda = {**ENVIRONMENT, "frameworks": [encode(Framework(name="jax", version="1"))]}
    with_cuda["frameworks"] += ENVIRONMENT["frameworks"]
    more = submit(site, jti="j2", spec_text=GPU_SPEC, environment=with_cuda)
    assert more.status == 202


# ── locks and images ────────────────────────────────────────────────────────────────────────────


def test_the_lock_of_before_is_for_the_same_repository_only(site: Site) -> None:
    assert ask(site, LOCK).status == 404
    submit(site)
    for _ in range(2):  # the same token may ask again
        assert ask(site, LOCK).json == {"key": KEY, "lock": ENVIRONMENT["lock"]}
    assert ask(site, LOCK, token="8.other.x").status == 404
    assert ask(site, f"{LOCK}&repository_id=7", token="8.other.x").status == 403
    assert ask(site, LOCK, token="9.stranger.x").status == 403
    assert ask(site, LOCK, token="bad.token.x").status == 401
    assert ask(site, LOCK, token="guess").status == 401


def test_the_operator_names_the_repository(site: Site) -> None:
    submit(site)
    assert ask(site, LOCK, token="").status == 404  # a folder on this machine
    assert ask(site, f"{LOCK}&repository_id=7", token="").json["key"] == KEY
    assert ask(site, "images?repository_id=7", token="").status == 404  # whose is it?
    known = Repository(
        id=7, owner_id=41, full_name="acme/digits", default_branch="main", installation_id=None
    )
    RepositoryStore(site.parts.database).upsert(known, site.parts.now())
    assert ask(site, "images?repository_id=7", token="").json["keys"] == [KEY]
    assert ask(site, "images", token="").json == {"digests": [], "keys": []}


@pytest.mark.parametrize(
    "path",
    [
        "locks",
        "locks?commit=main&spec=cynthus.yaml",
        f"locks?commit={COMMIT}%0a&spec=cynthus.yaml",
        f"locks?commit={COMMIT}&spec={'x' * 256}",
        f"locks?commit={COMMIT}&spec=cynthus%00.yaml",  # PostgreSQL takes no NUL, SQLite does
        "images?repository_id=-1",
        f"images?repository_id={2**63}",
    ],
)
def test_a_question_that_means_nothing_is_refused(site: Site, path: str) -> None:
    answer = ask(site, path)
    assert answer.status == 422
    assert answer.json["error"]["message"]


def test_images_in_use_are_told_to_their_repository(site: Site) -> None:
    submit(site)
    digest = IMAGE.partition("@")[2]
    assert ask(site, "images").json == {"digests": [digest], "keys": [KEY]}
    # The owner's repositories may share their environments, never their runs.
    assert ask(site, "images", token="8.other.x").json == {"digests": [], "keys": [KEY]}


def test_a_list_that_would_be_cut_off_is_refused(site: Site) -> None:
    run_id = submit(site).json["run_id"]
    parts = site.parts
    with parts.database.read() as connection:
        row = dict(connection.execute(runs.select()).mappings().one())
    several = [
        {
            **row,
            "id": f"r{number}",
            "seq": row["seq"] + number,
            "trigger": f"t{number}",
            "image": f"ghcr.io/acme/digits@sha256:{number:064x}",
            "look_again_at": None,
        }
        for number in range(1, IMAGES_LIMIT + 1)
    ]
    assert run_id == row["id"]
    parts.database.write(lambda connection: connection.execute(insert(runs), several[:-1]).rowcount)
    full = ask(site, "images")
    assert len(full.json["digests"]) == IMAGES_LIMIT
    parts.database.write(lambda connection: connection.execute(insert(runs), several[-1:]).rowcount)
    refused = ask(site, "images")
    assert refused.status == 409
    assert "Delete none" in refused.fault


# ── build leases ────────────────────────────────────────────────────────────────────────────────


def test_one_job_builds_and_the_others_of_its_owner_wait(site: Site) -> None:
    first = lease(site, "#train-1")
    assert (first.status, first.json["granted"]) == (200, True)
    assert lease(site, "#train-1").json["granted"]  # asked again: it is kept
    for other in (lease(site, "#train-2"), lease(site, repository=8)):
        assert (other.json["granted"], other.json["holder"]) == (False, first.json["holder"])
    assert lease(site, "#train-2", done=True).json["holder"] == first.json["holder"]
    assert not lease(site, "#train-2").json["granted"]
    lease(site, "#train-1", done=True)
    assert lease(site, "#train-2").json["granted"]


def test_a_lease_is_held_for_ones_own_workflow_run_only(site: Site) -> None:
    answer = lease(site, holder="https://github.test/acme/digits/actions/runs/8")
    assert answer.status == 403
    assert lease(site, repository=9).status == 403


@pytest.mark.parametrize(
    "change",
    [
        {"key": "x"},
        {"key": KEY + "\n"},
        {"holder": ""},
        {"holder": "a\nb"},
        {"done": "yes"},
        {"key": 1},
    ],
)
def test_a_faulty_ask_is_refused(site: Site, change: dict[str, Any]) -> None:
    assert lease(site, **change).status == 422


def test_a_mark_is_short(site: Site) -> None:
    assert lease(site, "#" + "x" * 100).status == 200
    assert lease(site, "#" + "x" * 101).status == 422


def test_the_doors_are_described(site: Site) -> None:
    described = ask(site, "openapi.json", token="").json["paths"]
    lease_door = described["/api/v1/build-leases"]["post"]
    assert "build_lease_ask" in str(lease_door["requestBody"])
    assert "build_lease_view" in str(lease_door["responses"]["200"])
    for path, answer in (("/api/v1/locks", "lock_view"), ("/api/v1/images", "images_in_use")):
        assert answer in str(described[path]["get"]["responses"]["200"])
