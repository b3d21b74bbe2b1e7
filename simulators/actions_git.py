"""Run git for the runner: mirrors of pushed repositories, and files at a commit."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Say = Callable[[str], None]
_NO_COMMIT = "0" * 40
# The empty tree that git knows without being told, for the first push of a repository.
_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_LIMIT_S = 300


class GitError(Exception):
    """Git said no; the text is what it said."""


def git_environment() -> dict[str, str]:
    """Give git nothing of the person who runs the simulator, but the way to the network."""
    kept = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME"}}
    return kept | {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
    }


def login_header(token: str) -> str:
    """Write the header with which git says who it is."""
    encoded = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    return f"AUTHORIZATION: basic {encoded}"


def _with_header(header: str) -> dict[str, str]:
    """Hand a header to git by its environment, so that no list of processes shows it."""
    if not header:
        return {}
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "http.extraheader",
        "GIT_CONFIG_VALUE_0": header,
    }


def git(arguments: Sequence[str], folder: Path, header: str = "") -> str:
    """Run one git command and return what it printed."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=git_environment() | _with_header(header),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise GitError(done.stderr.decode(errors="replace").strip())
    return done.stdout.decode(errors="surrogateescape")


class Mirror:
    """A bare copy of one repository, kept in the state folder."""

    def __init__(self, folder: Path, url: str, token: str = "") -> None:
        self._folder = folder
        self._url = url
        self._header = login_header(token) if token else ""
        if not (folder / "HEAD").exists():
            folder.mkdir(parents=True, exist_ok=True)
            git(["init", "--bare", "--quiet"], folder)

    def update(self) -> None:
        """Fetch every branch, tag and pull request."""
        refs = [
            "+refs/heads/*:refs/heads/*",
            "+refs/tags/*:refs/tags/*",
            "+refs/pull/*:refs/pull/*",
        ]
        fetch = ["fetch", "--quiet", "--force", "--no-tags", self._url, *refs]
        git(fetch, self._folder, self._header)

    def has(self, commit: str) -> bool:
        """Say whether a commit is here."""
        try:
            git(["cat-file", "-e", f"{commit}^{{commit}}"], self._folder)
        except GitError:
            return False
        return True

    def fetch_commit(self, commit: str) -> None:
        """Fetch a commit that no branch holds any more."""
        if not self.has(commit):
            git(["fetch", "--quiet", "--no-tags", self._url, commit], self._folder, self._header)

    def resolve(self, name: str) -> str:
        """Turn a branch, tag or commit into a commit id."""
        return git(["rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"], self._folder).strip()

    def workflow_paths(self, commit: str) -> list[str]:
        """List the workflow files of a commit."""
        listed = git(["ls-tree", "--name-only", "-z", commit, ".github/workflows/"], self._folder)
        return [path for path in listed.split("\0") if path.endswith((".yml", ".yaml"))]

    def read(self, commit: str, path: str) -> str:
        """Read a file at a commit."""
        return git(["show", f"{commit}:{path}"], self._folder)

    def export(self, commit: str, into: Path) -> None:
        """Write all files of a commit into a folder."""
        into.mkdir(parents=True, exist_ok=True)
        git([f"--work-tree={into}", "checkout", "--force", commit, "--", "."], self._folder)

    def changed(self, event: str, payload: dict[str, Any], sha: str) -> list[str]:
        """List the paths an event changed, as `paths:` compares them.

        https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#git-diff-comparisons
        """
        if event == "pull_request":
            base = str(payload["pull_request"]["base"]["sha"])
            return self._diff(f"{base}...{payload['pull_request']['head']['sha']}")
        before = str(payload.get("before", _NO_COMMIT))
        if before != _NO_COMMIT and self.has(before):
            return self._diff(before, sha)
        return self._diff(self._before_the_push(payload, sha), sha)

    def _before_the_push(self, payload: dict[str, Any], sha: str) -> str:
        commits = payload.get("commits") or [{"id": sha}]
        try:
            return self.resolve(f"{commits[0]['id']}^")
        except GitError:
            return _EMPTY_TREE

    def _diff(self, *range_: str) -> list[str]:
        listed = git(["diff", "--name-only", "--no-renames", "-z", *range_], self._folder)
        return [path for path in listed.split("\0") if path]
