"""What we read of repositories, and what we write of check runs."""

from __future__ import annotations

import base64
import binascii
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from github import Auth

from cynthus.errors import Refused, Transient, UserError
from cynthus.repository_policy import Role
from webhook_server.github_api.door import (
    PER_PAGE,
    Answer,
    Door,
    Manners,
    NotFound,
    Way,
)
from webhook_server.github_api.kept_answers import KeptAnswers
from webhook_server.github_api.pace import OwnPaces, Pace, PaceKeeper
from webhook_server.github_api.tokens import InstallationTokens
from webhook_server.intents import Place
from webhook_server.runs.github_pace import WRITE_SPACING

_APP = 0  # the app itself, where its installations have their numbers
_MOST_FILES = 3000  # GitHub lists no more of a pull request
_MOST_PAGES = 30  # of comments: 3,000, of which ours is among the first where there is one


@dataclass(frozen=True, kw_only=True)
class AppSettings:
    """Who we are towards GitHub, and where it is."""

    api_url: str
    uploads_url: str  # empty: where GitHub's answers say
    app_id: str
    private_key: str  # PEM text, or the path of a PEM file
    write_spacing: timedelta = WRITE_SPACING


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


class GithubApi:
    """GitHub as the app sees it; safe to use from many threads.

    Every method raises Transient (ask again at `retry_at`), NotFound, Invalid or Refused.
    """

    def __init__(
        self,
        settings: AppSettings,
        *,
        now: Callable[[], datetime],
        wait: Callable[[float], None],
        paces: PaceKeeper | None = None,
        way: Way | None = None,
    ) -> None:
        """`paces`: where several replicas keep them together; None: this is the only one."""
        self._settings, self._now, self._wait = settings, now, wait
        self._keeper, self._way = paces or OwnPaces(), way or Way()
        self._kept = KeptAnswers()
        self.requests: Counter[str] = Counter()  # by verb and shape of path, for /metrics
        self._lock = threading.Lock()
        self._paces: dict[int, Pace] = {}
        self._doors: dict[tuple[int, int], Door] = {}
        identity = Auth.AppAuth(settings.app_id, _pem(settings.private_key))
        # Asking for tokens notifies nobody: no spacing, but pauses hold here as well.
        self.app = self._door(lambda _: identity, self._pace(_APP, spacing=timedelta(0)))
        self._tokens = InstallationTokens(self.app, now=now, lock=self._way.lock)

    # ── doors ───────────────────────────────────────────────────────────────────────────────────

    def door(self, place: Place) -> Door:
        """Return the door to one repository.

        Raises: NotFound when the app is not installed there.
        """
        installation_id = place.installation_id
        if not installation_id:
            raise NotFound(f"{place.full_name}: the app is not installed there. Install it.")
        key = (installation_id, place.id)
        with self._lock:
            if key not in self._doors:

                def auth(fresh: bool) -> Auth.Auth:
                    return self._tokens.find(*key, fresh=fresh)

                self._doors[key] = self._door(auth, self._pace(installation_id))
            return self._doors[key]

    def write_ready_at(self, place: Place) -> datetime:
        """Return when this installation may write again."""
        with self._lock:
            return self._pace(place.installation_id or 0).write_ready_at()

    def total_requests(self) -> int:
        """Return how many requests were sent."""
        with self._lock:
            return self.requests.total()

    def sent(self) -> dict[str, int]:
        """Return how many requests were sent, by verb and shape of path."""
        with self._lock:
            return dict(self.requests)

    def uploads_url(self) -> str:
        """Return the upload host that the settings name, if they do."""
        return self._settings.uploads_url

    def api_url(self) -> str:
        """Return GitHub's REST API."""
        return self._settings.api_url

    def paused_until(self, installation_id: int) -> datetime:
        """Return until when GitHub wants silence, or does not answer; a past moment: it does."""
        with self._lock:
            return self._pace(installation_id).state().paused_until

    def is_scarce(self, place: Place) -> bool:
        """Say whether little is left of the installation's hour: news that can wait should."""
        with self._lock:
            return self._pace(place.installation_id or 0).is_scarce()

    def write_spacing(self) -> timedelta:
        """Return the least time between two writes of an installation."""
        return self._settings.write_spacing

    def paces(self) -> dict[int, Pace]:
        """Return the pace of every installation that was asked of, for /metrics."""
        with self._lock:
            return {key: found for key, found in self._paces.items() if key != _APP}

    def _pace(self, installation_id: int, spacing: timedelta | None = None) -> Pace:
        if installation_id not in self._paces:
            gap = self._settings.write_spacing if spacing is None else spacing
            self._paces[installation_id] = Pace(
                installation_id, self._keeper, now=self._now, spacing=gap
            )
        return self._paces[installation_id]

    def _door(self, auth: Callable[[bool], Auth.Auth], pace: Pace) -> Door:
        manners = Manners(
            pace=pace, wait=self._wait, count=self._count, kept=self._kept, way=self._way
        )
        return Door(api_url=self._settings.api_url, auth=auth, manners=manners)

    def _count(self, what: str) -> None:
        with self._lock:
            self.requests[what] += 1

    # ── reading ─────────────────────────────────────────────────────────────────────────────────

    def installation_of(self, full_name: str) -> int:
        """Return the installation that covers the repository of this name."""
        answer = self.app.get(f"/repos/{_name(full_name)}/installation")
        return _whole(answer, "id")

    def installation_works(self, installation_id: int) -> bool:
        """Say whether the app is still installed there, and not suspended."""
        try:
            answer = self.app.get(f"/app/installations/{installation_id}")
        except NotFound:
            return False
        return _member(answer, ("suspended_at",)) is None

    def repository(self, place: Place) -> RepositoryFacts:
        """Return the repository as it is now.

        Raises: NotFound also when the name belongs to another repository by now.
        """
        answer = self.door(place).get(f"/repos/{_name(place.full_name)}")
        if _whole(answer, "id") != place.id:
            raise NotFound(f"{place.full_name}: is another repository now.")
        return RepositoryFacts(
            id=place.id,
            owner_id=_whole(answer, "owner", "id"),
            full_name=_text(answer, "full_name"),
            default_branch=_text(answer, "default_branch"),
        )

    def branch_head(self, place: Place, branch: str) -> str | None:
        """Return the newest commit of the branch; None: it is gone.

        https://docs.github.com/rest/branches/branches#get-a-branch
        """
        path = f"/repos/{_name(place.full_name)}/branches/{quote(branch, safe='')}"
        try:
            return _text(self.door(place).get(path), "commit", "sha")
        except NotFound:
            return None

    def folder(self, place: Place, path: str, sha: str) -> tuple[Entry, ...]:
        """List a folder at a commit (GitHub stops at 1,000 entries).

        Raises: NotFound when there is no such commit or folder.
        """
        answer = self.door(place).get(_contents(place, path), ref=sha)
        if not isinstance(answer.value, list):
            raise NotFound(f"{place.full_name}: {path} is not a folder at {sha}.")
        return tuple(_entry(item) for item in answer.value if isinstance(item, dict))

    def file(self, place: Place, path: str, sha: str) -> bytes:
        """Return a file of at most 1 MB at a commit.

        Raises: Refused for what is not an ordinary file of that size.
        """
        answer = self.door(place).get(_contents(place, path), ref=sha)
        if not isinstance(answer.value, dict) or answer.value.get("type") != "file":
            raise Refused(f"{path}: should be an ordinary file.")
        if answer.value.get("encoding") != "base64":
            raise Refused(f"{path}: should be at most 1 MB.")
        try:
            return base64.b64decode(_text(answer, "content"))
        except binascii.Error as error:
            raise Transient(f"GitHub answered {path} with something unreadable.") from error

    def role(self, place: Place, login: str, account_id: int) -> Role:
        """Return this account's role here, at this moment.

        A role that the organisation made itself counts as the permission that it is based on.
        A name can be given up and taken by somebody else, a number cannot: both must fit.
        Raises: Transient, and Refused too, when it cannot be told;
        NotFound: no such account.
        https://docs.github.com/rest/collaborators/collaborators#get-repository-permissions-for-a-user
        """
        path = f"/repos/{_name(place.full_name)}/collaborators/{quote(login, safe='')}/permission"
        answer = self.door(place).get(path)
        if _whole(answer, "user", "id") != account_id:
            raise Refused(f"{login}: is another account now.")
        permission = _text(answer, "permission")
        named = answer.value.get("role_name")
        for word in (named, permission):
            if word in set(Role):
                return Role(word)
        raise Transient(f"GitHub named a permission that is not known: {permission[:40]!r}.")

    def pull(self, place: Place, number: int) -> PullFacts:
        """Return the pull request as it is now."""
        answer = self.door(place).get(f"/repos/{_name(place.full_name)}/pulls/{number}")
        if _whole(answer, "base", "repo", "id") != place.id:
            raise NotFound(f"{place.full_name}: is another repository now.")
        head = answer.value["head"] if isinstance(answer.value.get("head"), dict) else {}
        repository = head.get("repo")  # null once the fork was deleted
        return PullFacts(
            number=number,
            sha=_text(answer, "head", "sha"),
            branch=_text(answer, "head", "ref"),
            head_repository_id=repository.get("id") if isinstance(repository, dict) else None,
            base_branch=_text(answer, "base", "ref"),
            open=answer.value.get("state") == "open",
            base_sha=_text(answer, "base", "sha"),
            author=_login(answer.value.get("user")),
            draft=answer.value.get("draft") is True,
            locked=answer.value.get("locked") is True,
            updated_at=_moment(answer.value.get("updated_at")),
        )

    def pull_paths(self, place: Place, number: int) -> tuple[str, ...] | None:
        """Return the paths that a pull request changes, old names too; None: more than 3,000.

        https://docs.github.com/rest/pulls/pulls#list-pull-requests-files
        """
        found: list[str] = []
        for page in range(1, _MOST_FILES // PER_PAGE + 1):
            path = f"/repos/{_name(place.full_name)}/pulls/{number}/files"
            answer = self.door(place).get(path, per_page=PER_PAGE, page=page)
            items = answer.value if isinstance(answer.value, list) else []
            for item in items:
                names = (item.get("filename"), item.get("previous_filename"))
                found += [name for name in names if isinstance(name, str)]
            if len(items) < PER_PAGE:
                return tuple(found)
        return None

    # ── comments ────────────────────────────────────────────────────────────────────────────────

    def comment(self, place: Place, comment_id: int) -> Comment | None:
        """Return a comment as it stands now; None: it is gone."""
        path = f"/repos/{_name(place.full_name)}/issues/comments/{comment_id}"
        try:
            return _comment(self.door(place).get(path))
        except NotFound:
            return None

    def find_comment(self, place: Place, number: int, marker: str) -> Comment | None:
        """Return our own first comment of a pull request that has the marker in it, if any."""
        return next(self.comments_of(place, number, marker), None)

    def comments_of(self, place: Place, number: int, marker: str) -> Iterator[Comment]:
        """Yield our own comments of a pull request that have the marker in them, oldest first."""
        for page in range(1, _MOST_PAGES + 1):
            path = f"/repos/{_name(place.full_name)}/issues/{number}/comments"
            answer = self.door(place).get(path, per_page=PER_PAGE, page=page)
            items = answer.value if isinstance(answer.value, list) else []
            for item in items:
                app = item.get("performed_via_github_app") or {}
                ours = str(app.get("id", "")) == self._settings.app_id
                if ours and marker in str(item.get("body", "")):
                    yield _comment(Answer(answer.headers, item))
            if len(items) < PER_PAGE:
                return

    def create_comment(self, place: Place, number: int, body: str) -> Comment:
        """Write a comment. Not safe to repeat: look for its marker first."""
        path = f"/repos/{_name(place.full_name)}/issues/{number}/comments"
        return _comment(self.door(place).write("POST", path, {"body": body}))

    def update_comment(self, place: Place, comment_id: int, body: str) -> None:
        """Change a comment of ours; safe to repeat."""
        path = f"/repos/{_name(place.full_name)}/issues/comments/{comment_id}"
        self.door(place).write("PATCH", path, {"body": body})

    def delete_comment(self, place: Place, comment_id: int) -> None:
        """Delete a comment of ours. Raises: NotFound when it is gone."""
        path = f"/repos/{_name(place.full_name)}/issues/comments/{comment_id}"
        self.door(place).write("DELETE", path)

    def react(self, place: Place, comment_id: int, content: str) -> None:
        """Put an emoji on a comment (eyes, rocket, confused, …); safe to repeat."""
        path = f"/repos/{_name(place.full_name)}/issues/comments/{comment_id}/reactions"
        self.door(place).write("POST", path, {"content": content})

    def dispatch(self, place: Place, event: str, payload: Mapping[str, Any]) -> None:
        """Send the repository's workflows an event; they run the default branch's files.

        Not safe to repeat: each call starts the workflows that listen to it.
        https://docs.github.com/rest/repos/repos#create-a-repository-dispatch-event
        """
        path = f"/repos/{_name(place.full_name)}/dispatches"
        body = {"event_type": event, "client_payload": dict(payload)}
        self.door(place).write("POST", path, body)

    # ── check runs ──────────────────────────────────────────────────────────────────────────────

    def find_check_run(
        self, place: Place, sha: str, external_id: str, *, newer_than: int = 0
    ) -> CheckRunRef | None:
        """Return our newest check run of this commit with this external id, if GitHub has one.

        `newer_than` is the id of an earlier one that no longer counts.
        """
        found = self._check_runs(place, f"commits/{sha}/check-runs")
        ours = [c for c in found if c.external_id == external_id and c.id > newer_than]
        return max(ours, key=lambda check_run: check_run.id, default=None)

    def check_runs_of(self, place: Place, sha: str, external_id: str) -> tuple[CheckRunRef, ...]:
        """Return all our check runs of this commit with this external id, the newest of a name too.

        https://docs.github.com/rest/checks/runs#list-check-runs-for-a-git-reference: `filter`
        """
        found = self._check_runs(place, f"commits/{sha}/check-runs", filter="all")
        return tuple(one for one in found if one.external_id == external_id)

    def check_runs_of_suite(self, place: Place, suite_id: int) -> tuple[CheckRunRef, ...]:
        """Return the newest check runs of a suite."""
        return self._check_runs(place, f"check-suites/{suite_id}/check-runs")

    def check_run(self, place: Place, check_run_id: int) -> CheckRunRef:
        """Return one check run, whether or not it is the newest of its name."""
        path = f"/repos/{_name(place.full_name)}/check-runs/{check_run_id}"
        return _check_run(self.door(place).get(path))

    def _check_runs(self, place: Place, rest: str, **wish: str) -> tuple[CheckRunRef, ...]:
        path = f"/repos/{_name(place.full_name)}/{rest}"
        answer = self.door(place).get(path, per_page=100, **wish)
        items = answer.value.get("check_runs") if isinstance(answer.value, dict) else None
        if not isinstance(items, list):
            raise Transient("GitHub answered the list of check runs with something unreadable.")
        return tuple(_check_run(Answer(answer.headers, item)) for item in items)

    def create_check_run(self, place: Place, body: Mapping[str, Any]) -> CheckRunRef:
        """Create a check run. Not safe to repeat: look for its external id first."""
        path = f"/repos/{_name(place.full_name)}/check-runs"
        return _check_run(self.door(place).write("POST", path, body))

    def update_check_run(self, place: Place, check_run_id: int, body: Mapping[str, Any]) -> None:
        """Change a check run; safe to repeat, but that annotations are added each time."""
        path = f"/repos/{_name(place.full_name)}/check-runs/{check_run_id}"
        self.door(place).write("PATCH", path, body)


def web_url(api_url: str) -> str:
    """Return where people see what the API at this address tells of.

    https://docs.github.com/enterprise-server/rest/quickstart: a server of one's own has its API
    below the address that people use.
    """
    parts = urlsplit(api_url)
    host = parts.netloc.removeprefix("api.")
    return f"{parts.scheme}://{host}"


def _pem(key: str) -> str:
    """Return the PEM text. The value is never shown: it may be the key itself, mistyped."""
    if "-----BEGIN" in key:
        return key.replace("\\n", "\n")  # how a PEM travels in one line of an .env file
    try:
        text = Path(key).read_text("ascii")
    except (OSError, ValueError):
        text = ""
    if "-----BEGIN" not in text:
        raise UserError(
            "CYNTHUS_GITHUB_PRIVATE_KEY: should be the App's private key (PEM), or the path of a "
            "file with it, found neither. Download one on the App's settings page."
        )
    return text


def _name(full_name: str) -> str:
    return quote(full_name, safe="/")


def _contents(place: Place, path: str) -> str:
    return f"/repos/{_name(place.full_name)}/contents/{quote(path.strip('/'), safe='/')}"


def _entry(item: Mapping[str, Any]) -> Entry:
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


def _check_run(answer: Answer) -> CheckRunRef:
    value = answer.value if isinstance(answer.value, dict) else {}
    return CheckRunRef(
        id=_whole(answer, "id"),
        external_id=str(value.get("external_id") or ""),
        url=str(value.get("html_url") or ""),
        status=str(value.get("status") or ""),
        conclusion=value.get("conclusion"),
        name=str(value.get("name") or ""),
        head_sha=str(value.get("head_sha") or ""),
        annotations=_whole(answer, "output", "annotations_count"),
    )


def _comment(answer: Answer) -> Comment:
    value = answer.value if isinstance(answer.value, dict) else {}
    user = value.get("user")
    author_id = user.get("id") if isinstance(user, dict) else 0
    return Comment(
        id=_whole(answer, "id"),
        body=str(value.get("body") or ""),
        author=_login(user),
        author_id=author_id if isinstance(author_id, int) else 0,
        url=str(value.get("html_url") or ""),
    )


def _login(user: Any) -> str:
    login = user.get("login") if isinstance(user, dict) else None
    return login if isinstance(login, str) else ""


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _member(answer: Answer, path: tuple[str, ...]) -> Any:
    value = answer.value
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _whole(answer: Answer, *path: str) -> int:
    value = _member(answer, path)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Transient(f"GitHub's answer should have a number at {'/'.join(path)}.")
    return value


def _text(answer: Answer, *path: str) -> str:
    value = _member(answer, path)
    if not isinstance(value, str):
        raise Transient(f"GitHub's answer should have text at {'/'.join(path)}.")
    return value
