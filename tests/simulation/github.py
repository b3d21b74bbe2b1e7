"""GitHub in memory: what it holds, what it shows of that and when, and its own log of both.

What is written here shows itself to readers after a lag, since GitHub's servers do not all know
everything at once. The log is the outside's own truth: oracles compare ours with it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

APP_ID = "41"
#: A new head, comment or check run is missing from other answers this long, at most.
LAG = timedelta(seconds=8)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Something that came to be, or changed, on GitHub."""

    at: datetime
    what: str  # check_run.created, check_run.updated, comment.created, role.changed, pushed, …
    repository_id: int
    id: int = 0
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A delivery, as the app's log has it: https://docs.github.com/rest/apps/webhooks."""

    id: int
    guid: str
    event: str
    body: bytes
    delivered_at: datetime
    status: int  # what was answered; 0: nothing
    genuine: bool = True  # False: somebody else sent a body that was caught

    @property
    def acked(self) -> bool:
        """Say whether whoever sent it may forget it."""
        return 200 <= self.status < 300


@dataclass
class Account:
    """Somebody."""

    id: int
    login: str
    kind: str = "User"

    def told(self) -> dict[str, Any]:
        """Return it as payloads have it."""
        return {"id": self.id, "login": self.login, "type": self.kind}


@dataclass
class Commit:
    """The files of a commit, and from when on every server of GitHub knows it."""

    sha: str
    files: Mapping[str, bytes]
    known_at: datetime


@dataclass
class PullRow:
    """A pull request."""

    number: int
    author: Account
    branch: str
    head_repository_id: int
    base_branch: str
    shas: list[tuple[datetime, str]]  # every head, with the moment from which all servers show it
    base_sha: str
    updated_at: datetime
    open: bool = True
    draft: bool = False
    locked: bool = False


@dataclass
class CommentRow:
    """A comment at a pull request."""

    id: int
    number: int
    author: Account
    body: str
    created_at: datetime
    known_at: datetime
    ours: bool = False
    reactions: list[str] = field(default_factory=list)


@dataclass
class CheckRow:
    """A check run; once completed it stays so."""

    id: int
    head_sha: str
    name: str
    external_id: str
    known_at: datetime
    status: str = "queued"
    conclusion: str | None = None
    output: dict[str, Any] = field(default_factory=dict)
    annotations: list[Any] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)


@dataclass
class AssetRow:
    """A file of a release."""

    id: int
    name: str
    data: bytes
    uploaded: bool = True


@dataclass
class ReleaseRow:
    """A release."""

    id: int
    tag: str
    commit: str
    title: str
    body: str
    known_at: datetime
    draft: bool = True
    assets: dict[int, AssetRow] = field(default_factory=dict)


@dataclass
class Repo:
    """A repository with all that we ask of it."""

    id: int
    owner: Account
    name: str
    installation_id: int
    default_branch: str = "main"
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    pulls: dict[int, PullRow] = field(default_factory=dict)
    comments: dict[int, CommentRow] = field(default_factory=dict)
    check_runs: dict[int, CheckRow] = field(default_factory=dict)
    releases: dict[int, ReleaseRow] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)  # by login
    dispatched: list[Mapping[str, Any]] = field(default_factory=list)
    has_app: bool = True

    @property
    def full_name(self) -> str:
        """Return owner/name."""
        return f"{self.owner.login}/{self.name}"

    def told(self) -> dict[str, Any]:
        """Return it as payloads have it."""
        return {
            "id": self.id,
            "full_name": self.full_name,
            "default_branch": self.default_branch,
            "owner": self.owner.told(),
        }


class Github:
    """Everything at GitHub. `tell` hands on each event's payload: the webhooks are made of them."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        chance: random.Random,
        lag: timedelta = LAG,
    ) -> None:
        self.now, self._chance, self._lag = now, chance, lag
        self.tell: Callable[[str, dict[str, Any]], None] = lambda _event, _payload: None
        self.redeliver: Callable[[int], None] = lambda _id: None
        self.dispatch: Callable[[Repo, dict[str, Any]], None] = lambda _repo, _payload: None
        self.deliveries: list[Sent] = []
        self.repos: dict[int, Repo] = {}
        self.accounts: dict[str, Account] = {}
        self.log: list[Shown] = []
        self.tokens: dict[str, tuple[int, frozenset[int], datetime]] = {}
        self._ids = 1000

    # ── what there is ───────────────────────────────────────────────────────────────────────────

    def new_id(self) -> int:
        """Return a number that nothing else has: ids are GitHub's own, across repositories."""
        self._ids += 1
        return self._ids

    def note(self, what: str, repo: Repo, id: int = 0, **detail: Any) -> None:  # noqa: A002 - GitHub's word
        """Write the outside's log."""
        self.log.append(
            Shown(at=self.now(), what=what, repository_id=repo.id, id=id, detail=detail)
        )

    def known_at(self) -> datetime:
        """Return from when on all servers know what happens now; mostly at once."""
        if self._chance.random() < 0.8:
            return self.now()
        return self.now() + self._chance.random() * self._lag

    def account(self, login: str, kind: str = "User") -> Account:
        """Return the account of this name; made where there was none."""
        if login not in self.accounts:
            self.accounts[login] = Account(id=self.new_id(), login=login, kind=kind)
        return self.accounts[login]

    def repo_named(self, full_name: str) -> Repo | None:
        """Return the repository that has this name now."""
        return next((r for r in self.repos.values() if r.full_name == full_name), None)

    def add_repo(self, owner: str, name: str, repository_id: int) -> Repo:
        """Make a repository on which the app is installed."""
        repo = Repo(
            id=repository_id,
            owner=self.account(owner),
            name=name,
            installation_id=repository_id * 10,
        )
        self.repos[repo.id] = repo
        return repo

    # ── what people do ──────────────────────────────────────────────────────────────────────────

    def set_role(self, repo: Repo, login: str, role: str) -> None:
        """Give somebody a role; "none" takes it away."""
        self.account(login)
        repo.roles[login] = role
        self.note("role.changed", repo, self.accounts[login].id, login=login, role=role)

    def commit(self, repo: Repo, files: Mapping[str, bytes], seed: str) -> str:
        """Put a commit into the repository; no branch has it yet."""
        parts = [seed, *(f"{path}:{data!r}" for path, data in sorted(files.items()))]
        sha = hashlib.sha1("\n".join(parts).encode()).hexdigest()
        repo.commits[sha] = Commit(sha=sha, files=files, known_at=self.known_at())
        return sha

    def push(self, repo: Repo, login: str, branch: str, sha: str) -> None:
        """Move a branch to a commit, with those pull requests that it is the head of."""
        before = repo.branches.get(branch)
        repo.branches[branch] = sha
        self.note("pushed", repo, sha=sha, branch=branch, by=login)
        self.tell(
            "push",
            {
                "ref": f"refs/heads/{branch}",
                "after": sha,
                "before": before or "0" * 40,
                "created": before is None,
                "commits": [{"added": [], "removed": [], "modified": ["cynthus.yaml"]}],
                "repository": {**repo.told(), "pushed_at": int(self.now().timestamp())},
                **self._from(repo, login),
            },
        )
        for pull in repo.pulls.values():
            if pull.branch == branch and pull.open and pull.head_repository_id == repo.id:
                self.new_head(repo, pull, sha, login)

    def open_pull(
        self, repo: Repo, login: str, branch: str, sha: str, *, head_repository_id: int
    ) -> PullRow:
        """Open a pull request."""
        now = self.now()
        pull = PullRow(
            number=len(repo.pulls) + 1,
            author=self.account(login),
            branch=branch,
            head_repository_id=head_repository_id,
            base_branch=repo.default_branch,
            shas=[(now, sha)],
            base_sha=repo.branches[repo.default_branch],
            updated_at=now,
        )
        repo.pulls[pull.number] = pull
        self.note("pull.headed", repo, pull.number, sha=sha, fork=head_repository_id != repo.id)
        self._tell_pull(repo, pull, "opened", login)
        return pull

    def new_head(self, repo: Repo, pull: PullRow, sha: str, login: str) -> None:
        """Give a pull request another head."""
        pull.shas.append((self.known_at(), sha))
        pull.updated_at = self.now()
        fork = pull.head_repository_id != repo.id
        self.note("pull.headed", repo, pull.number, sha=sha, fork=fork)
        self._tell_pull(repo, pull, "synchronize", login)

    def close_pull(self, repo: Repo, pull: PullRow, login: str) -> None:
        """Close a pull request."""
        pull.open, pull.updated_at = False, self.now()
        self.note("pull.closed", repo, pull.number)
        self._tell_pull(repo, pull, "closed", login)

    def write_comment(self, repo: Repo, pull: PullRow, login: str, body: str) -> CommentRow:
        """Write a comment at a pull request, as a person."""
        row = self.add_comment(repo, pull.number, self.account(login), body, ours=False)
        stamp = _stamp(row.created_at)
        comment = {"id": row.id, "body": body, "user": row.author.told(), "created_at": stamp}
        payload = {
            "action": "created",
            "issue": {"number": pull.number, "pull_request": {}},
            "comment": comment,
            "repository": repo.told(),
            **self._from(repo, login),
        }
        self.tell("issue_comment", payload)
        return row

    def press(self, repo: Repo, row: CheckRow, login: str, identifier: str) -> None:
        """Press a button of a check run; "rerequested" is GitHub's own."""
        action = "rerequested" if identifier == "rerequested" else "requested_action"
        payload: dict[str, Any] = {
            "action": action,
            "check_run": {"id": row.id, "head_sha": row.head_sha, "external_id": row.external_id},
            "repository": repo.told(),
            **self._from(repo, login),
        }
        if action == "requested_action":
            payload["requested_action"] = {"identifier": identifier}
        self.note("pressed", repo, row.id, identifier=identifier, by=login)
        self.tell("check_run", payload)

    # ── what is written through the API and by people alike ─────────────────────────────────────

    def add_comment(
        self, repo: Repo, number: int, author: Account, body: str, *, ours: bool
    ) -> CommentRow:
        """Keep a new comment."""
        row = CommentRow(
            id=self.new_id(),
            number=number,
            author=author,
            body=body,
            created_at=self.now(),
            known_at=self.known_at(),
            ours=ours,
        )
        repo.comments[row.id] = row
        self.note(
            "comment.created", repo, row.id, body=body, by=author.login, ours=ours, number=number
        )
        return row

    def is_known(self, known_at: datetime) -> bool:
        """Say whether the server that answers knows of something already."""
        return known_at <= self.now()

    def head_shown(self, pull: PullRow) -> str:
        """Return the head that readers see: an older one for moments after a push."""
        shown = [sha for known_at, sha in pull.shas if self.is_known(known_at)]
        return shown[-1] if shown else pull.shas[0][1]

    def _tell_pull(self, repo: Repo, pull: PullRow, action: str, login: str) -> None:
        self.tell(
            "pull_request",
            {
                "action": action,
                "number": pull.number,
                "pull_request": {
                    "number": pull.number,
                    "state": "open" if pull.open else "closed",
                    "draft": pull.draft,
                    "updated_at": _stamp(pull.updated_at),
                    "user": pull.author.told(),
                    "head": {
                        "sha": pull.shas[-1][1],
                        "ref": pull.branch,
                        "repo": {"id": pull.head_repository_id},
                    },
                    "base": {"sha": pull.base_sha, "ref": pull.base_branch},
                },
                "repository": repo.told(),
                **self._from(repo, login),
            },
        )

    def _from(self, repo: Repo, login: str) -> dict[str, Any]:
        return {
            "sender": self.account(login).told(),
            "installation": {"id": repo.installation_id},
        }


def _stamp(moment: datetime) -> str:
    """Return a moment as GitHub writes it: in whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
