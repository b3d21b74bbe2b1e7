"""What GitHub's answers tell of repositories, comments and check runs, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cynthus.errors import Transient
from webhook_server.github_api.door import Answer


@dataclass(frozen=True, kw_only=True)
class RepositoryFacts:
    """A repository as GitHub knows it now."""

    id: int
    owner_id: int
    full_name: str
    default_branch: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of a folder at a commit."""

    name: str
    kind: str  # file, dir, symlink, submodule
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class PullFacts:
    """A pull request now."""

    number: int
    sha: str
    branch: str
    head_repository_id: int | None  # None: the fork was deleted
    base_branch: str
    open: bool
    base_sha: str = ""
    author: str = ""  # empty: the account is gone
    draft: bool = False
    locked: bool = False
    updated_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Comment:
    """A comment of a pull request, as it stands now."""

    id: int
    body: str
    author: str  # login; empty: the account is gone
    author_id: int
    url: str


@dataclass(frozen=True, kw_only=True)
class CheckRunRef:
    """A check run of ours on GitHub."""

    id: int
    external_id: str
    url: str
    status: str
    conclusion: str | None
    name: str
    head_sha: str
    annotations: int


# ── from answers ────────────────────────────────────────────────────────────────────────────────


def entry_of(item: Mapping[str, Any]) -> Entry:
    """Return the entry that one item of a folder's list is."""
    kind = str(item.get("type", ""))
    # Version 2022-11-28 lists a submodule as a file that has no size and no download.
    if kind == "file" and item.get("submodule_git_url"):
        kind = "submodule"
    if kind == "file" and item.get("size") == 0 and item.get("download_url", "") is None:
        kind = "submodule"
    size = item.get("size")
    return Entry(
        name=str(item.get("name", "")), kind=kind, size_bytes=size if isinstance(size, int) else 0
    )


def pull_of(answer: Answer, number: int) -> PullFacts:
    """Return the pull request of this number that GitHub tells of."""
    head = answer.value["head"] if isinstance(answer.value.get("head"), dict) else {}
    repository = head.get("repo")  # null once the fork was deleted
    return PullFacts(
        number=number,
        sha=text_at(answer, "head", "sha"),
        branch=text_at(answer, "head", "ref"),
        head_repository_id=repository.get("id") if isinstance(repository, dict) else None,
        base_branch=text_at(answer, "base", "ref"),
        open=answer.value.get("state") == "open",
        base_sha=text_at(answer, "base", "sha"),
        author=_login(answer.value.get("user")),
        draft=answer.value.get("draft") is True,
        locked=answer.value.get("locked") is True,
        updated_at=_moment(answer.value.get("updated_at")),
    )


def comment_of(answer: Answer) -> Comment:
    """Return the comment that GitHub tells of."""
    value = answer.value if isinstance(answer.value, dict) else {}
    user = value.get("user")
    author_id = user.get("id") if isinstance(user, dict) else 0
    return Comment(
        id=whole_at(answer, "id"),
        body=str(value.get("body") or ""),
        author=_login(user),
        author_id=author_id if isinstance(author_id, int) else 0,
        url=str(value.get("html_url") or ""),
    )


def check_run_of(answer: Answer) -> CheckRunRef:
    """Return the check run that GitHub tells of."""
    value = answer.value if isinstance(answer.value, dict) else {}
    return CheckRunRef(
        id=whole_at(answer, "id"),
        external_id=str(value.get("external_id") or ""),
        url=str(value.get("html_url") or ""),
        status=str(value.get("status") or ""),
        conclusion=value.get("conclusion"),
        name=str(value.get("name") or ""),
        head_sha=str(value.get("head_sha") or ""),
        annotations=whole_at(answer, "output", "annotations_count"),
    )


def _login(user: Any) -> str:
    login = user.get("login") if isinstance(user, dict) else None
    return login if isinstance(login, str) else ""


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def member_at(answer: Answer, path: tuple[str, ...]) -> Any:
    """Return what the answer has at this path; None: nothing."""
    value = answer.value
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def whole_at(answer: Answer, *path: str) -> int:
    """Return the number at this path. Raises: Transient."""
    value = member_at(answer, path)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Transient(f"GitHub's answer should have a number at {'/'.join(path)}.")
    return value


def text_at(answer: Answer, *path: str) -> str:
    """Return the text at this path. Raises: Transient."""
    value = member_at(answer, path)
    if not isinstance(value, str):
        raise Transient(f"GitHub's answer should have text at {'/'.join(path)}.")
    return value
