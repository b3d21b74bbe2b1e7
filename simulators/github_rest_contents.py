"""REST: files and folders of a repository, as `contents` shows them."""

from __future__ import annotations

import base64
import posixpath
from urllib.parse import quote, unquote

from simulators import github_shapes as shapes
from simulators.github_auth import allowed, repo_of
from simulators.github_git import Git, TreeEntry
from simulators.github_http import Answer, ApiError, Call, Route, not_found
from simulators.github_state import Doc

# https://docs.github.com/rest/repos/contents (notes on size)
BASE64_LIMIT = 1 << 20
RAW_LIMIT = 100 << 20
FOLDER_LIMIT = 1000
_DOCS = "https://docs.github.com/rest/repos/contents#get-repository-content"


def get_contents(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/contents/{path}."""
    repo = repo_of(call)
    allowed(call, repo, "contents:read")
    git = call.world.git(repo)
    ref = call.params.get("ref") or repo["default_branch"]
    commit = git.resolve(ref)
    if commit is None:
        if not git.refs():
            raise ApiError(404, "This repository is empty.", docs=_DOCS)
        raise ApiError(404, f"No commit found for the ref {ref}", docs=_DOCS)
    path = unquote(call.args.get("path", "")).strip("/")
    if any(part in {".", ".."} for part in path.split("/")):
        raise ApiError(400, "path contains a malformed path component", docs=_DOCS)
    view = View(call, repo, git, commit, ref)
    return view.folder(path) if not path else view.show(path)


class View:
    """A repository at one commit, as `contents` shows it."""

    def __init__(self, call: Call, repo: Doc, git: Git, commit: str, ref: str) -> None:
        self._call = call
        self._repo = repo
        self._git = git
        self._commit = commit
        self._ref = ref

    def show(self, path: str) -> Answer:
        """Show whatever lies at a path."""
        entry = self._git.entry(self._commit, path)
        if entry is None:
            raise not_found(_DOCS)
        if entry.type == "tree":
            return self.folder(path)
        if entry.type == "commit":
            return Answer(json=self._submodule(entry))
        if entry.mode == "120000":
            return self._symlink(entry)
        return self._file(entry)

    def folder(self, path: str) -> Answer:
        """List a folder; more than a thousand entries are left out."""
        entries = self._git.tree(self._commit, path)[:FOLDER_LIMIT]
        prefix = f"{path}/" if path else ""
        listed = [self._listed(entry, prefix + entry.path) for entry in entries]
        if "object" in self._call.headers.get("accept", ""):
            shape = self._common("dir", path, self._folder_sha(path), 0)
            return Answer(json=shape | {"entries": listed})
        return Answer(json=listed)

    def _folder_sha(self, path: str) -> str:
        return self._git.asked("rev-parse", f"{self._commit}:{path}")

    def _listed(self, entry: TreeEntry, path: str) -> Doc:
        type_ = "dir" if entry.type == "tree" else "file"
        if entry.type == "commit":
            modern = self._call.headers.get("x-github-api-version") == "2026-03-10"
            type_ = "submodule" if modern else "file"
        elif entry.mode == "120000":
            type_ = "symlink"
        return self._common(type_, path, entry.sha, entry.size or 0)

    def _common(self, type_: str, path: str, sha: str, size: int) -> Doc:
        world, quoted = self._call.world, quote(path)
        url = shapes.api_url(world, self._repo, f"/contents/{quoted}?ref={self._ref}")
        kind = "trees" if type_ == "dir" else "blobs"
        git_url = shapes.api_url(world, self._repo, f"/git/{kind}/{sha}")
        page = "tree" if type_ == "dir" else "blob"
        html = shapes.html_url(world, self._repo, f"/{page}/{self._ref}/{quoted}")
        raw = shapes.html_url(world, self._repo, f"/raw/{self._ref}/{quoted}")
        return {
            "name": posixpath.basename(path),
            "path": path,
            "sha": sha,
            "size": size,
            "url": url,
            "html_url": html,
            "git_url": git_url,
            "download_url": None if type_ in {"dir", "submodule"} else raw,
            "type": type_,
            "_links": {"self": url, "git": git_url, "html": html},
        }

    def _file(self, entry: TreeEntry) -> Answer:
        size = entry.size or 0
        accept = self._call.headers.get("accept", "")
        if size > RAW_LIMIT:
            raise ApiError(
                403,
                "This API returns blobs up to 100 MB in size. The requested blob is too large to "
                "fetch via the API, but you can always clone this repository via Git.",
                errors=[{"resource": "Blob", "field": "data", "code": "too_large"}],
                docs=_DOCS,
            )
        if "raw" in accept:
            return Answer(
                raw=self._git.blob(entry.sha),
                media_type="application/vnd.github.raw+json; charset=utf-8",
            )
        small = size <= BASE64_LIMIT
        content = base64.encodebytes(self._git.blob(entry.sha)).decode() if small else ""
        return Answer(
            json=self._common("file", entry.path, entry.sha, size)
            | {"content": content, "encoding": "base64" if small else "none"}
        )

    def _symlink(self, entry: TreeEntry) -> Answer:
        target = self._git.blob(entry.sha).decode(errors="replace")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(entry.path), target))
        if not target.startswith("/") and not path.startswith(".."):
            found = self._git.entry(self._commit, path)
            # A link to a file inside the repository is followed; any other is shown as a link.
            if found and found.type == "blob" and found.mode != "120000":
                return self._file(found)
        shape = self._common("symlink", entry.path, entry.sha, entry.size or 0)
        return Answer(json=shape | {"target": target})

    def _submodule(self, entry: TreeEntry) -> Doc:
        return self._common("submodule", entry.path, entry.sha, 0) | {
            "submodule_git_url": None,
            "download_url": None,
        }


_CONTENTS = "/repos/{owner}/{repo}/contents"
ROUTES = (
    Route(method="GET", template=_CONTENTS, handler=get_contents),
    Route(method="GET", template=f"{_CONTENTS}/{{path...}}", handler=get_contents),
)
