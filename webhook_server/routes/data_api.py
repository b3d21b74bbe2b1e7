"""Answer `cynthus data`: what is cached, have it evicted, remove a repository's bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from fastapi import APIRouter, Query, Request, Response

from cynthus.codec import encode
from cynthus.errors import Refused, Transient
from cynthus.wire_kept import CollectView, DataView, PurgeView, TreeView, UseView
from webhook_server.acting import under
from webhook_server.data_keeper import Collected, DataKeeper
from webhook_server.routes.answers import HttpRefusal
from webhook_server.routes.asking import by_job, by_operator
from webhook_server.routes.authorities import of_operator
from webhook_server.routes.bodies import json_answer
from webhook_server.routes.parts import Job, Parts
from webhook_server.runs.data_cache import BRANCHES, TRUNK, KeptTree, Scope
from webhook_server.runs.trail import Deed, DeedVerb
from webhook_server.stores.data_store import DataStore
from webhook_server.stores.repository_store import RepositoryStore
from webhook_server.stores.trail_store import TrailStore

T = TypeVar("T")
_NAME = Query("", max_length=200)  # of a filter's text: a full name has at most 140 characters

#: What a purge cannot reach, each with who can.
REMAINS = (
    "Releases on GitHub with their files: delete them there.",
    "What a bucket's soft delete keeps of deleted objects, 7 days unless it was turned off:"
    " `cynthus gcp setup-storage` turns it off.",
    "Disks of instances until each is deleted, those kept warm included.",
    "Images in the registry: `prune` of the Action deletes those that no run needs.",
    "Records and logs of runs, the trail and sent check runs: they stay in the database and on"
    " GitHub.",
    "Data that its policy shares with the owner's other repositories: it is theirs as well.",
)


def kept_router(parts: Parts, keeper: DataKeeper, stopwatch: Callable[[], float]) -> APIRouter:
    """Return the doors: a job sees its own repository's, all else is the operator's."""
    router = APIRouter(prefix="/api/v1/data", tags=["data"])
    who, first = by_job(parts), [by_operator(parts)]

    @router.get("")
    def data(job: Job | None = who, repository: str = _NAME) -> Response:
        """Return what is cached, the last used first."""
        return json_answer(200, encode(_data(parts, _asked(parts, job, repository))))

    @router.post("/gc", dependencies=first)
    def collect(request: Request, *, dry_run: bool = Query(default=False)) -> Response:
        """Give up what is too old or too much, as the server does each hour; safe to repeat."""
        with under(of_operator(request.scope, parts.now())):
            return json_answer(200, encode(_collect(parts, keeper, dry_run=dry_run)))

    @router.post("/purge", dependencies=first)
    def purge(request: Request, repository: str = _NAME) -> Response:
        """Remove a repository's bytes for some seconds; repeat it while there is more."""
        repository_id = _asked(parts, None, repository)
        if repository_id is None:
            raise HttpRefusal(422, "repository: should be named. Write owner/name or its number.")
        with under(of_operator(request.scope, parts.now())):
            return json_answer(200, encode(_purge(parts, keeper, repository_id, stopwatch)))

    return router


def _asked(parts: Parts, job: Job | None, text: str) -> int | None:
    """Return whose data is meant; None: everybody's. Raises: HttpRefusal (403, 422)."""
    found = _repository_id(parts, text) if text else None
    if job is None or parts.jobs is None:
        return found
    parts.jobs.admit(job)
    if text not in {"", str(job.repository_id), job.repository}:
        raise HttpRefusal(403, "repository: should be the token's own. Leave it out.")
    return job.repository_id


def _repository_id(parts: Parts, text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= len(str(2**63 - 1)):
        return int(text)
    found = RepositoryStore(parts.database).id_of(text)
    if found is None:
        raise HttpRefusal(
            422, "repository: should be one this server knows. Write owner/name or its number."
        )
    return found


def _data(parts: Parts, repository_id: int | None) -> DataView:
    store = DataStore(parts.database)
    tenant = None if repository_id is None else str(repository_id)
    trees = store.trees(tenant)
    uses = tuple(
        UseView(tenant=use.tenant, blobs=use.blobs, size_bytes=use.size_bytes)
        for use in store.usage()
        if tenant in {None, use.tenant}
    )
    settings = parts.settings
    return DataView(
        trees=_told(parts, trees, store.live_keys()),
        uses=uses,
        limit_bytes=settings.data_cache_bytes,
        limit_days=settings.data_cache_days,
    )


def _told(
    parts: Parts, trees: Iterable[KeptTree], live: Mapping[str, tuple[str, ...]]
) -> tuple[TreeView, ...]:
    repositories = RepositoryStore(parts.database)
    names: dict[int, str] = {}

    def name(scope: Scope) -> str:
        if scope.owner:
            return ""
        if scope.tenant_id not in names:
            known = repositories.get(scope.tenant_id)
            names[scope.tenant_id] = known.full_name if known else ""
        return names[scope.tenant_id]

    return tuple(
        TreeView(
            repository_id=None if tree.scope.owner else tree.scope.tenant_id,
            owner_id=tree.scope.tenant_id if tree.scope.owner else None,
            repository=name(tree.scope),
            part=_part(tree.scope.part),
            key=tree.key,
            source=tree.source,
            revision=tree.revision,
            files=tree.files,
            size_bytes=tree.size_bytes,
            state="ready" if tree.ready else "fetching",
            created_at=tree.created_at,
            used_at=tree.used_at,
            used_by=live.get(tree.key, ()),
        )
        for tree in trees
    )


def _part(part: int) -> str:
    named = {TRUNK: "default branch", BRANCHES: "other branches"}
    return named.get(part, f"pull request {part}")


def _collect(parts: Parts, keeper: DataKeeper, *, dry_run: bool) -> CollectView:
    done = Collected(trees=keeper.planned()) if dry_run else _spoken(keeper.collect)
    if not dry_run:
        text = f"{len(done.trees)} datasets evicted, {done.blobs} blobs deleted"
        deed = Deed(verb=DeedVerb.COLLECT, text=text, after={"bytes": done.size_bytes})
        TrailStore(parts.database).tell(deed, parts.now())
    return CollectView(
        trees=_told(parts, done.trees, {}),
        blobs=done.blobs,
        size_bytes=done.size_bytes,
        dry_run=dry_run,
    )


def _purge(
    parts: Parts, keeper: DataKeeper, repository_id: int, stopwatch: Callable[[], float]
) -> PurgeView:
    if parts.runs.live(repository_id):
        raise HttpRefusal(
            409,
            "repository: should have no live run, which may need the bytes. Cancel them:"
            " `cynthus cancel`, then ask again.",
        )
    done = _spoken(lambda: keeper.purge(repository_id, stopwatch))
    count = sum(done.blobs.values())
    deed = Deed(
        verb=DeedVerb.PURGE,
        repository_id=repository_id,
        text=f"{count} blobs deleted{', more to come' if done.more else ''}",
        after={"blobs": done.blobs, "bytes": done.size_bytes},
    )
    TrailStore(parts.database).tell(deed, parts.now())
    return PurgeView(
        repository_id=repository_id,
        blobs=done.blobs,
        size_bytes=done.size_bytes,
        more=done.more,
        remains=REMAINS,
    )


def _spoken(work: Callable[[], T]) -> T:
    try:
        return work()
    except (Transient, Refused) as error:
        raise HttpRefusal(503, str(error), retry_after_s=10) from error
    except OSError as error:
        text = "storage: does not answer. Try again."
        raise HttpRefusal(503, text, retry_after_s=10) from error
