"""What a simulated Hugging Face tells about repositories: `/api/…`.

https://huggingface.co/docs/hub/api
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, urlencode

from simulators.hub_hf_doors import Doors, commit_at, refused
from simulators.hub_hf_shapes import file, folder, history_line, info
from simulators.hub_hf_state import Commit, Kind, Repository
from simulators.hub_http import Answer, Request, json_answer, unknown

# https://github.com/huggingface/huggingface_hub/blob/main/src/huggingface_hub/hf_api.py: "capped by
# the Hub (1000 entries per page, 50 when `expand=True`)".
PAGE, EXPANDED_PAGE = 1000, 50
_COMMITS_A_PAGE = 50
_ALWAYS = ("_id", "id")  # what `expand` cannot take away
_WORDS = ("revision", "tree", "paths-info", "refs", "commits", "auth-check")
_SOME = "|".join(_WORDS)
_ROUTE = re.compile(
    rf"(?P<name>[^/]+(?:/(?!(?:{_SOME})(?:/|$))[^/]+)?)(?:/(?P<word>{_SOME})(?:/(?P<rest>.+))?)?"
)


class Api:
    """The listings of one hub."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self.url = ""

    def answer(self, request: Request, kind: Kind, path: str) -> Answer:
        """Answer `/api/models/PATH` or `/api/datasets/PATH`; `path` still has its percent signs.

        Raises: Refusal.
        """
        found = _ROUTE.fullmatch(path)
        handler = self._handler(request.method, found["word"] or "") if found else None
        if found is None or handler is None:
            raise unknown({"error": "Sorry, we can't find the page you are looking for."})
        parts = Request(**{**vars(request), "path": found["rest"] or ""}).parts
        repository = self._doors.repository(request, kind, found["name"])
        return handler(request, repository, parts if found["rest"] else [])

    def whoami(self, request: Request) -> Answer:
        """Tell whose token is shown.

        Raises: Refusal.
        """
        user = self._doors.user(request)
        if user is None:
            raise refused(401, "Invalid username or password.")
        told = {
            "type": "user",
            "id": user.name,
            "name": user.name,
            "fullname": user.name,
            "isPro": False,
            "orgs": [{"type": "org", "name": name} for name in user.organizations],
            "auth": {
                "type": "access_token",
                "accessToken": {"displayName": "simulator", "role": "read"},
            },
        }
        return json_answer(told)

    def _handler(
        self, method: str, word: str
    ) -> Callable[[Request, Repository, list[str]], Answer] | None:
        return {
            ("GET", ""): self._info,
            ("GET", "revision"): self._info,
            ("GET", "tree"): self._tree,
            ("POST", "paths-info"): self._paths_info,
            ("GET", "refs"): self._refs,
            ("GET", "commits"): self._commits,
            ("GET", "auth-check"): self._auth_check,
        }.get((method, word))

    def _info(self, request: Request, repository: Repository, parts: list[str]) -> Answer:
        commit = commit_at(repository, "/".join(parts) or "main")
        told = info(repository, commit, blobs=_flag(request.params.get("blobs")))
        wanted = [*request.lists.get("expand", []), *request.lists.get("expand[]", [])]
        if wanted:
            told = {name: told[name] for name in (*_ALWAYS, *wanted) if name in told}
        return json_answer(told)

    def _tree(self, request: Request, repository: Repository, parts: list[str]) -> Answer:
        revision, above = parts[0] if parts else "main", "/".join(parts[1:]).strip("/")
        commit = commit_at(repository, revision)
        if above not in commit.folders:
            message = f'{above} does not exist on "{revision}"'
            raise refused(404, message, "EntryNotFound", **{"X-Repo-Commit": commit.id})
        params = request.params
        expanded = _flag(params.get("expand"))
        paths = _below(commit, above, recursive=_flag(params.get("recursive")))
        most = EXPANDED_PAGE if expanded else PAGE
        limit = params.get("limit", "")
        page = min(int(limit), most) if limit.isdecimal() and int(limit) else most
        start = _start(params.get("cursor"))
        lines = [
            _line(repository, commit, path, expanded=expanded)
            for path in paths[start : start + page]
        ]
        more = start + page < len(paths)
        headers = self._next(request, {"cursor": _cursor(start + page)}) if more else {}
        return json_answer(lines, headers=headers)

    def _next(self, request: Request, params: dict[str, Any]) -> dict[str, str]:
        query = urlencode({**request.params, **params})
        return {"Link": f'<{self.url}{request.path}?{query}>; rel="next"'}

    def _paths_info(self, request: Request, repository: Repository, parts: list[str]) -> Answer:
        commit = commit_at(repository, "/".join(parts) or "main")
        paths, expanded = _wanted_paths(request)
        lines = [
            _line(repository, commit, path, expanded=expanded)
            for path in paths
            if path in commit.files or (path and path in commit.folders)
        ]
        return json_answer(lines)

    def _refs(self, request: Request, repository: Repository, _parts: list[str]) -> Answer:
        heads = repository.branches
        pulls = {name: to for name, to in heads.items() if name.startswith("refs/pr/")}
        converts = {name: to for name, to in heads.items() if name.startswith("refs/convert/")}
        branches = {name: to for name, to in heads.items() if not name.startswith("refs/")}
        told = {
            "branches": [_ref(name, f"refs/heads/{name}", to) for name, to in branches.items()],
            "converts": [
                _ref(name.removeprefix("refs/convert/"), name, to) for name, to in converts.items()
            ],
            "tags": [_ref(name, f"refs/tags/{name}", to) for name, to in repository.tags.items()],
        }
        if _flag(request.params.get("include_prs")):
            told["pullRequests"] = [
                _ref(name.removeprefix("refs/pr/"), name, to) for name, to in pulls.items()
            ]
        return json_answer(told)

    def _commits(self, request: Request, repository: Repository, parts: list[str]) -> Answer:
        commit: Commit | None = commit_at(repository, "/".join(parts) or "main")
        history = []
        while commit is not None:
            history.append(history_line(commit))
            commit = repository.commits[commit.parent] if commit.parent else None
        text = request.params.get("p", "0")
        page = int(text) if text.isdecimal() else 0
        start = page * _COMMITS_A_PAGE
        headers = {"X-Total-Count": str(len(history))}
        if start + _COMMITS_A_PAGE < len(history):
            headers |= self._next(request, {"p": page + 1})
        return json_answer(history[start : start + _COMMITS_A_PAGE], headers=headers)

    def _auth_check(self, request: Request, repository: Repository, _parts: list[str]) -> Answer:
        self._doors.check_gate(request, repository)
        return json_answer({})


def _below(commit: Commit, above: str, *, recursive: bool) -> Sequence[str]:
    prefix = f"{above}/" if above else ""
    inside = [
        path
        for path in (*commit.folders, *commit.files)
        if path and path.startswith(prefix) and path != above
    ]
    if not recursive:
        inside = [path for path in inside if "/" not in path.removeprefix(prefix)]
    return sorted(inside)


def _line(repository: Repository, commit: Commit, path: str, *, expanded: bool) -> dict[str, Any]:
    if path in commit.folders:
        return folder(path, commit.folders[path], commit if expanded else None)
    entry = commit.files[path]
    return file(path, entry, repository.commits[entry.commit] if expanded else None)


def _wanted_paths(request: Request) -> tuple[list[str], bool]:
    if "json" in request.headers.get("content-type", ""):
        wish = request.json()
        paths = wish.get("paths", [])
        return ([paths] if isinstance(paths, str) else list(paths)), bool(wish.get("expand"))
    form = parse_qs(request.body.decode("utf-8", "replace"))
    return form.get("paths", []), _flag(form.get("expand", [""])[0])


def _ref(name: str, ref: str, commit: str) -> dict[str, str]:
    return {"name": name, "ref": ref, "targetCommit": commit}


def _flag(text: str | None) -> bool:
    return (text or "").lower() in {"true", "1"}


def _cursor(start: int) -> str:
    return base64.urlsafe_b64encode(json.dumps({"start": start}).encode()).decode()


def _start(cursor: str | None) -> int:
    if cursor is None:
        return 0
    try:
        return int(json.loads(base64.urlsafe_b64decode(cursor))["start"])
    except (ValueError, KeyError, TypeError):
        raise refused(400, "Invalid cursor") from None
