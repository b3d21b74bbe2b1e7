"""What we read of repositories, and what we write of check runs."""

from __future__ import annotations

import base64
import binascii
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from github import Auth

from cynthus.errors import Refused, Transient
from cynthus.repository_policy import Role
from webhook_server.auth.app_proof import signing
from webhook_server.github_api.app_settings import AppSettings, pem
from webhook_server.github_api.door import (
    PER_PAGE,
    Answer,
    Door,
    Manners,
    NotFound,
    Way,
)
from webhook_server.github_api.facts import (
    CheckRunRef,
    Comment,
    Entry,
    PullFacts,
    RepositoryFacts,
    check_run_of,
    comment_of,
    entry_of,
    member_at,
    pull_of,
    text_at,
    whole_at,
)
from webhook_server.github_api.kept_answers import KeptAnswers
from webhook_server.github_api.pace import OwnPaces, Pace, PaceKeeper
from webhook_server.github_api.tokens import InstallationTokens
from webhook_server.intents import Place

_APP = 0  # the app itself, where its installations have their numbers
_MOST_FILES = 3000  # GitHub lists no more of a pull request
_MOST_PAGES = 30  # of comments: 3,000, of which ours is among the first where there is one


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
        sign = signing(pem(settings.private_key))
        identity = Auth.AppAuth(settings.app_id, sign_func=sign)
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
        return whole_at(answer, "id")

    def installation_works(self, installation_id: int) -> bool:
        """Say whether the app is still installed there, and not suspended."""
        try:
            answer = self.app.get(f"/app/installations/{installation_id}")
        except NotFound:
            return False
        return member_at(answer, ("suspended_at",)) is None

    def repository(self, place: Place) -> RepositoryFacts:
        """Return the repository as it is now.

        Raises: NotFound also when the name belongs to another repository by now.
        """
        answer = self.door(place).get(f"/repos/{_name(place.full_name)}")
        if whole_at(answer, "id") != place.id:
            raise NotFound(f"{place.full_name}: is another repository now.")
        return RepositoryFacts(
            id=place.id,
            owner_id=whole_at(answer, "owner", "id"),
            full_name=text_at(answer, "full_name"),
            default_branch=text_at(answer, "default_branch"),
        )

    def branch_head(self, place: Place, branch: str) -> str | None:
        """Return the newest commit of the branch; None: it is gone.

        https://docs.github.com/rest/branches/branches#get-a-branch
        """
        path = f"/repos/{_name(place.full_name)}/branches/{quote(branch, safe='')}"
        try:
            return text_at(self.door(place).get(path), "commit", "sha")
        except NotFound:
            return None

    def folder(self, place: Place, path: str, sha: str) -> tuple[Entry, ...]:
        """List a folder at a commit (GitHub stops at 1,000 entries).

        Raises: NotFound when there is no such commit or folder.
        """
        answer = self.door(place).get(_contents(place, path), ref=sha)
        if not isinstance(answer.value, list):
            raise NotFound(f"{place.full_name}: {path} is not a folder at {sha}.")
        return tuple(entry_of(item) for item in answer.value if isinstance(item, dict))

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
            return base64.b64decode(text_at(answer, "content"))
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
        if whole_at(answer, "user", "id") != account_id:
            raise Refused(f"{login}: is another account now.")
        permission = text_at(answer, "permission")
        named = answer.value.get("role_name")
        for word in (named, permission):
            if word in set(Role):
                return Role(word)
        raise Transient(f"GitHub named a permission that is not known: {permission[:40]!r}.")

    def pull(self, place: Place, number: int) -> PullFacts:
        """Return the pull request as it is now."""
        answer = self.door(place).get(f"/repos/{_name(place.full_name)}/pulls/{number}")
        if whole_at(answer, "base", "repo", "id") != place.id:
            raise NotFound(f"{place.full_name}: is another repository now.")
        return pull_of(answer, number)

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
            return comment_of(self.door(place).get(path))
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
                    yield comment_of(Answer(answer.headers, item))
            if len(items) < PER_PAGE:
                return

    def create_comment(self, place: Place, number: int, body: str) -> Comment:
        """Write a comment. Not safe to repeat: look for its marker first."""
        path = f"/repos/{_name(place.full_name)}/issues/{number}/comments"
        return comment_of(self.door(place).write("POST", path, {"body": body}))

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
        return check_run_of(self.door(place).get(path))

    def _check_runs(self, place: Place, rest: str, **wish: str) -> tuple[CheckRunRef, ...]:
        path = f"/repos/{_name(place.full_name)}/{rest}"
        answer = self.door(place).get(path, per_page=100, **wish)
        items = answer.value.get("check_runs") if isinstance(answer.value, dict) else None
        if not isinstance(items, list):
            raise Transient("GitHub answered the list of check runs with something unreadable.")
        return tuple(check_run_of(Answer(answer.headers, item)) for item in items)

    def create_check_run(self, place: Place, body: Mapping[str, Any]) -> CheckRunRef:
        """Create a check run. Not safe to repeat: look for its external id first."""
        path = f"/repos/{_name(place.full_name)}/check-runs"
        return check_run_of(self.door(place).write("POST", path, body))

    def update_check_run(self, place: Place, check_run_id: int, body: Mapping[str, Any]) -> None:
        """Change a check run; safe to repeat, but that annotations are added each time."""
        path = f"/repos/{_name(place.full_name)}/check-runs/{check_run_id}"
        self.door(place).write("PATCH", path, body)


def _name(full_name: str) -> str:
    return quote(full_name, safe="/")


def _contents(place: Place, path: str) -> str:
    return f"/repos/{_name(place.full_name)}/contents/{quote(path.strip('/'), safe='/')}"
