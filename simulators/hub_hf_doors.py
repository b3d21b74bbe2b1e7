"""Who may see what on a simulated Hugging Face, and how it says no.

https://huggingface.co/docs/hub/models-gated, and the header codes that huggingface_hub reads:
https://github.com/huggingface/huggingface_hub/blob/main/src/huggingface_hub/utils/_http.py
"""

from __future__ import annotations

from simulators.hub_hf_state import Commit, Kind, Repository, User, World
from simulators.hub_http import Refusal, Request

_SINGULAR = {"models": "model", "datasets": "dataset"}


class Doors:
    """Looks up what a request names, for whoever asks."""

    def __init__(self, world: World) -> None:
        self._world = world

    def user(self, request: Request) -> User | None:
        """Return whose token is shown; None without one.

        Raises: Refusal (401) for a token that nobody has, whatever is asked for.
        """
        header = request.headers.get("authorization", "")
        if not header:
            return None
        user = self._world.users.get(header.removeprefix("Bearer "))
        if user is None or not header.startswith("Bearer "):
            raise refused(401, "Invalid credentials in Authorization header")
        return user

    def repository(self, request: Request, kind: Kind, name: str) -> Repository:
        """Return a repository that may be known to whoever asks.

        Raises: Refusal; one that is hidden is answered as if it were not there.
        """
        user = self.user(request)
        found = self._world.repository(kind, name)
        if found is None:
            found = self._world.repository(kind, self._world.moved.get((kind, name.lower()), ""))
        if found is None or not found.may_read(user):
            if user is None:
                raise refused(401, "Invalid username or password.", "RepoNotFound")
            raise refused(404, "Repository not found", "RepoNotFound")
        if found.disabled:
            raise refused(403, "Access to this resource is disabled.")
        if found.name.lower() != name.lower():
            raise _moved(request, name, found.name)
        return found

    def check_gate(self, request: Request, repository: Repository) -> None:
        """Let those through who accepted the terms.

        Raises: Refusal.
        """
        user = self.user(request)
        if repository.may_download(user):
            return
        what = f"{_SINGULAR[repository.kind]} {repository.name}"
        if user is None:
            message = (
                f"Access to {what} is restricted. You must have access to it and be authenticated "
                "to access it. Please log in."
            )
            raise refused(401, message, "GatedRepo")
        if user.name in repository.pending:
            message = f"Your request to access {what} is awaiting a review from the repo authors."
            raise refused(403, message, "GatedRepo")
        prefix = "datasets/" if repository.kind == "datasets" else ""
        message = (
            f"Access to {what} is restricted and you are not in the authorized list. Visit "
            f"https://huggingface.co/{prefix}{repository.name} to ask for access."
        )
        raise refused(403, message, "GatedRepo")


def _moved(request: Request, name: str, now: str) -> Refusal:
    """Send whoever knows the old name of a repository to its new one.

    https://huggingface.co/docs/hub/repositories-settings#renaming-or-transferring-a-repo
    """
    query = f"?{request.query}" if request.query else ""
    to = request.path.replace(name, now, 1) + query
    message = f"Temporary Redirect. Redirecting to {to}"
    return Refusal(307, message, {"Location": to}, "text/plain; charset=utf-8")


def commit_at(repository: Repository, revision: str) -> Commit:
    """Return a revision.

    Raises: Refusal (404).
    """
    found = repository.at(revision)
    if found is None:
        raise refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return found


def refused(status: int, message: str, code: str = "", **headers: str) -> Refusal:
    """Return a refusal as the hub sends one: once in the headers, once as JSON."""
    told = {"X-Error-Message": message, **headers}
    if code:
        told["X-Error-Code"] = code
    return Refusal(status, {"error": message}, told)
