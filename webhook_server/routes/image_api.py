"""Answer builders of images: the lock of before, the lease of a build, which images are in use.

A workflow job shows the same kind of token as for a run request, but here one token may be shown
again: nothing is started by it, and asking twice changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Depends, Query, Response

from cynthus.codec import encode
from cynthus.wire_image import IMAGES_LIMIT, BuildLeaseAsk, BuildLeaseView, ImagesInUse, LockView
from webhook_server.routes.answers import HttpRefusal
from webhook_server.routes.asking import by_job
from webhook_server.routes.bodies import json_answer, limited_body
from webhook_server.routes.money_api import read_message
from webhook_server.routes.parts import Job, Parts
from webhook_server.routes.run_requests import fits_key
from webhook_server.runs.environments import image_digest
from webhook_server.stores.build_lease_store import BuildLeaseStore
from webhook_server.stores.environment_store import EnvironmentStore
from webhook_server.stores.repository_store import RepositoryStore

BODY_LIMIT_BYTES = 8 << 10  # a key and a URL
_MARK_LIMIT = 100  # characters after `#`: a job's name and its number


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """For whom is asked: as a job's token proves it, or as the operator says."""

    repository_id: int
    owner_id: int | None  # GitHub's number; 0: there is no repository; None: not known


def image_router(parts: Parts) -> APIRouter:
    """Return the doors; of another repository nothing is ever told."""
    router = APIRouter(prefix="/api/v1", tags=["images"])
    body = Depends(limited_body(BODY_LIMIT_BYTES))

    who = by_job(parts)

    @router.get("/locks")
    def lock(
        job: Job | None = who,
        *,
        commit: str = Query(pattern="^[0-9a-f]{40}$"),
        spec: str = Query(min_length=1, max_length=255),
        repository_id: int | None = Query(None, ge=0, le=2**63 - 1),
    ) -> Response:
        """Return what this commit and spec were built with before."""
        tenant = _tenant(parts, job, repository_id)
        if not spec.isprintable():  # as in a run request; PostgreSQL takes no NUL at all
            raise HttpRefusal(422, "spec: should have no control characters. Send its path.")
        return json_answer(200, encode(_lock(parts, tenant, commit, spec)))

    @router.get("/images")
    def images(
        job: Job | None = who, repository_id: int | None = Query(None, ge=0, le=2**63 - 1)
    ) -> Response:
        """Return the images that live runs and releases stand on: all of them, or a refusal."""
        tenant = _tenant(parts, job, repository_id)
        return json_answer(200, encode(_images(parts, tenant)))

    @router.post("/build-leases")
    def build_lease(job: Job | None = who, content: bytes = body) -> Response:
        """Lend the right to build an environment; safe to repeat."""
        ask = _lease_ask(content)
        tenant = _tenant(parts, job, None, holder=ask.holder)
        return json_answer(200, encode(_build_lease(parts, tenant, ask)))

    return router


def _tenant(
    parts: Parts, job: Job | None, repository_id: int | None, *, holder: str | None = None
) -> Tenant:
    """Return for whom is asked; no job is the operator. Raises: HttpRefusal (403)."""
    if job is None or parts.jobs is None:
        return _named(parts, repository_id or 0)
    url = None if holder is None else holder.partition("#")[0]
    parts.jobs.admit(job, workflow_run_url=url)
    if repository_id not in {None, job.repository_id}:
        raise HttpRefusal(403, "repository_id: should be the token's own. Leave it out.")
    return Tenant(repository_id=job.repository_id, owner_id=job.owner_id)


def _named(parts: Parts, repository_id: int) -> Tenant:
    """Return whom the operator means."""
    if repository_id == 0:
        return Tenant(repository_id=0, owner_id=0)
    known = RepositoryStore(parts.database).get(repository_id)
    return Tenant(repository_id=repository_id, owner_id=known.owner_id if known else None)


def _lock(parts: Parts, tenant: Tenant, commit: str, spec: str) -> LockView:
    found = EnvironmentStore(parts.database).lock(tenant.repository_id, commit, spec)
    if found is None:
        raise HttpRefusal(404, "lock: is not known for this commit and spec. Resolve anew.")
    return found


def _images(parts: Parts, tenant: Tenant) -> ImagesInUse:
    """Return everything that is in use; a list that is cut off would be a list to delete by."""
    if tenant.owner_id is None:
        raise HttpRefusal(404, "repository_id: is not known to this server. Check it.")
    store, most = EnvironmentStore(parts.database), IMAGES_LIMIT + 1
    images = store.images_in_use(tenant.repository_id, most)
    keys = store.keys_in_use(tenant.owner_id, most)
    if max(len(images), len(keys)) > IMAGES_LIMIT:
        raise HttpRefusal(
            409,
            f"images: should be at most {IMAGES_LIMIT} in use to be told, found more."
            " Delete none: which of them are free cannot be said.",
        )
    digests = dict.fromkeys(digest for image in images if (digest := image_digest(image)))
    return ImagesInUse(digests=tuple(digests), keys=keys)


def _lease_ask(content: bytes) -> BuildLeaseAsk:
    ask = read_message(BuildLeaseAsk, "build_lease_ask", content)
    if not fits_key(ask.key):  # a schema's `$` lets a newline through
        raise HttpRefusal(422, "key: should be 32 hex digits. Send the environment's key.")
    if not ask.holder.isprintable() or len(ask.holder.partition("#")[2]) > _MARK_LIMIT:
        raise HttpRefusal(422, "holder: should be plain text, URL#JOB. Send the workflow run's.")
    return ask


def _build_lease(parts: Parts, tenant: Tenant, ask: BuildLeaseAsk) -> BuildLeaseView:
    leases, owner_id = BuildLeaseStore(parts.database), tenant.owner_id or 0
    if ask.done:
        return leases.give_back(owner_id, ask, parts.now())
    return leases.ask(owner_id, ask, parts.now())
