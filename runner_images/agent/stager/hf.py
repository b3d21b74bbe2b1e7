"""Fetch from Hugging Face with its own client.

https://huggingface.co/docs/huggingface_hub/package_reference/file_download
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner_images.agent.stager.words import Asked, Fault, said

PAGE = 1000  # files a line: a line stays far below what a pipe and two JSON readers mind
# The client's own default: https://huggingface.co/docs/huggingface_hub/package_reference/file_download
WORKERS = 8


def fetch(asked: Asked) -> None:
    """Tell the tree, then have all its files but the skipped ones below the folder.

    Finished files of an earlier try in the same folder are kept. Raises: Fault.
    """
    try:
        from huggingface_hub import HfApi, snapshot_download
    except ImportError as error:
        raise Fault("client", f"huggingface_hub cannot be imported: {error}") from error
    request = asked.request
    where = {"repo_id": request["repo"], "repo_type": request["repo_type"]}
    folder = Path(request["folder"])
    _drop_unfinished(folder)
    try:
        api = HfApi(endpoint=request["endpoint"] or None, token=request["token"] or False)
        largest = _tell_tree(asked, api, where)
        ignored = [*request["ignore"], *(glob.escape(path) for path in asked.skipped())]
        _allow_large(largest)
        snapshot_download(
            **where,
            revision=request["revision"],
            endpoint=request["endpoint"] or None,
            token=request["token"] or False,
            local_dir=folder,
            cache_dir=folder.with_name("hf-cache"),  # refs alone: the files lie in `folder`
            allow_patterns=request["allow"] or None,
            ignore_patterns=ignored or None,
            max_workers=WORKERS,
        )
    except Exception as error:  # the client's dependencies raise their own too: all become a Fault
        raise _fault(error, request) from error


def _drop_unfinished(folder: Path) -> None:
    """Remove what a killed client left: it never goes on with a file that another one began."""
    for path in (folder / ".cache" / "huggingface" / "download").rglob("*.incomplete"):
        path.unlink(missing_ok=True)


def _tell_tree(asked: Asked, api: Any, where: dict[str, str]) -> int:
    """Tell every wanted file; return the bytes of the largest."""
    from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

    request = asked.request
    entries = api.list_repo_tree(**where, recursive=True, revision=request["revision"])
    wanted = filter_repo_objects(
        items=(entry for entry in entries if hasattr(entry, "blob_id")),  # folders have none
        allow_patterns=request["allow"] or None,
        ignore_patterns=request["ignore"] or None,
        key=lambda entry: entry.path,
    )
    largest, page = 0, []
    for entry in wanted:
        lfs = entry.lfs
        page.append(
            [entry.path, entry.size, lfs.sha256 if lfs else None, None if lfs else entry.blob_id]
        )
        largest = max(largest, entry.size)
        if len(page) == PAGE:
            asked.tell("tree", files=page)
            page = []
    asked.tell("tree", files=page)
    asked.tell("listed")
    return largest


def _allow_large(largest: int) -> None:
    """Let the client use Xet for what it refuses to fetch by plain HTTP.

    Else it stays off, so that the bytes come in order and can be hashed on their way.
    """
    from huggingface_hub import constants

    if largest > constants.MAX_HTTP_DOWNLOAD_SIZE:
        constants.HF_HUB_DISABLE_XET = False


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _fault(error: Exception, request: dict[str, Any]) -> Fault:
    """Say in a sentence what the client's exception means."""
    from huggingface_hub import errors

    known = list(_causes(error))

    def found(*kinds: type[BaseException]) -> BaseException | None:
        return next((one for one in known if isinstance(one, kinds)), None)

    repo, page = request["repo"], _page(request)
    if found(errors.GatedRepoError):
        text = f"{repo} is gated: accept its terms at {page} with the account of the token"
        return Fault("gated", text, page)
    if found(errors.RevisionNotFoundError):
        return Fault("absent", f"{repo} has no revision {request['revision']} any more", page)
    http = found(errors.HfHubHTTPError)
    status = getattr(getattr(http, "response", None), "status_code", 0)
    if found(errors.RepositoryNotFoundError) or status in {401, 403}:
        return Fault(*_unseen(repo, page, token=bool(request["token"])), page)
    if _is_full(known):
        return Fault("disk", "the instance's disk is full")
    if status and status < 500 and status not in {408, 429}:  # noqa: PLR2004 - RFC 9110, 15.6
        return Fault("absent", f"{repo}: the hub answered {status}", page)
    return Fault("network", f"{repo}: {said(error)}")


def _unseen(repo: str, page: str, *, token: bool) -> tuple[str, str]:
    """Say both: the hub tells a private repository from an absent one only to who may see it."""
    if token:
        return "absent", f"{repo} is not there, or HF_TOKEN may not read it: look at {page}"
    return "unauthorized", f"{repo} is not there, or private: {page} needs the secret HF_TOKEN"


def _page(request: dict[str, Any]) -> str:
    base = request["endpoint"] or "https://huggingface.co"
    folder = "datasets/" if request["repo_type"] == "dataset" else ""
    return f"{base.rstrip('/')}/{folder}{request['repo']}"


def _is_full(errors: list[BaseException]) -> bool:
    import errno

    full = {errno.ENOSPC, errno.EDQUOT}
    return any(isinstance(one, OSError) and one.errno in full for one in errors)
