"""The files of a simulated Hugging Face: `/NAME/resolve/REVISION/PATH`.

A small file is answered by a redirect on the same host to an address that names its commit, as the
hub does since 2025 (https://github.com/huggingface/swift-transformers/pull/209); a large one by a
redirect to a storage on another host that takes no token.
"""

from __future__ import annotations

from urllib.parse import quote

from simulators.hub_hf_doors import Doors, commit_at, refused
from simulators.hub_hf_state import Commit, Entry, Kind, Repository
from simulators.hub_http import Answer, Request, plain_answer
from simulators.hub_ranges import Shown, stretch
from simulators.hub_storage import Kept, Storage

ADDRESS_LIFE_S = 3600  # what `X-Amz-Expires` of the hub's addresses says


class Files:
    """Gives the files of repositories."""

    def __init__(self, doors: Doors, storage: Storage) -> None:
        self._doors, self._storage = doors, storage

    def resolve(self, request: Request, kind: Kind, name: str, rest: list[str]) -> Answer:
        """Answer `resolve/REVISION/PATH`.

        Raises: Refusal.
        """
        repository = self._doors.repository(request, kind, name)
        self._doors.check_gate(request, repository)
        commit, path, entry = _found(repository, rest)
        headers = {"X-Repo-Commit": commit.id, "Accept-Ranges": "bytes"}
        if not entry.lfs:
            etag = quote(f'"{entry.oid}"')
            to = f"/api/resolve-cache/{kind}/{repository.name}/{commit.id}/{quote(path)}"
            to += f"?{quote(request.path, safe='')}=&etag={etag}"
            return _redirect(307, to, headers)
        headers["X-Linked-Size"] = str(entry.content.size)
        headers["X-Linked-ETag"] = f'"{entry.content.sha256}"'
        headers["ETag"] = f'"{entry.content.sha256}"'
        return _redirect(302, self._address(repository, commit, entry), headers)

    def cached(self, request: Request, kind: Kind, parts: list[str]) -> Answer:
        """Answer `/api/resolve-cache/KIND/NAME/COMMIT/PATH`.

        Raises: Refusal.
        """
        place = next((at for at in (1, 2) if len(parts) > at and len(parts[at]) == 40), 1)
        repository = self._doors.repository(request, kind, "/".join(parts[:place]))
        self._doors.check_gate(request, repository)
        commit, path, entry = _found(repository, parts[place:])
        shown = Shown(etag=f'"{entry.oid}"', modified_at=commit.at.timestamp())
        answer = stretch(request, entry.content, shown, "text/plain; charset=utf-8")
        name = path.rpartition("/")[2]
        answer.headers |= {
            "X-Repo-Commit": commit.id,
            "Content-Disposition": f"inline; filename*=UTF-8''{quote(name)}; filename=\"{name}\";",
        }
        del answer.headers["Last-Modified"]  # the hub tells none
        return answer

    def _address(self, repository: Repository, commit: Commit, entry: Entry) -> str:
        place = f"repos/{repository.kind}/{repository.name}/{entry.content.sha256}"
        kept = Kept(
            content=entry.content,
            etag=entry.content.sha256,
            media_type="binary/octet-stream",
            modified_at=commit.at.timestamp(),
        )
        return self._storage.address(place, kept, life_s=ADDRESS_LIFE_S)


def _found(repository: Repository, rest: list[str]) -> tuple[Commit, str, Entry]:
    commit = commit_at(repository, rest[0] if rest else "")
    path = "/".join(rest[1:])
    entry = commit.files.get(path)
    if entry is None:
        told = {"X-Repo-Commit": commit.id}
        raise refused(404, "Entry not found", "EntryNotFound", **told)
    return commit, path, entry


def _redirect(status: int, to: str, headers: dict[str, str]) -> Answer:
    reason = {302: "Found", 307: "Temporary Redirect"}[status]
    return plain_answer(f"{reason}. Redirecting to {to}", status, {**headers, "Location": to})
