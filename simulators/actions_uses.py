"""Find what `uses:` names: a folder of the workspace, of the machine, or a repository on GitHub."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from simulators.actions_folders import lend
from simulators.actions_git import GitError, Mirror
from simulators.actions_workflow import Action, WorkflowError, parse_action

BUILT_IN = frozenset({"actions/checkout", "actions/setup-python"})
_REMOTE = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?P<path>/[^@]*)?@(?P<ref>[^\s@]+)\Z", re.ASCII)


class UsesError(Exception):
    """An action that cannot be had, in GitHub's words."""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """`OWNER/REPO/path@ref`."""

    repo: str
    path: str
    ref: str


@dataclass(frozen=True, kw_only=True)
class Located:
    """An action on disk: its own folder, and the top of the repository it came with."""

    folder: Path
    root: Path
    repo: str = ""
    ref: str = ""


def parse_remote(uses: str) -> Remote:
    """Read `OWNER/REPO@REF`."""
    match = _REMOTE.match(uses)
    if match is None:
        raise UsesError(f"Expected format {{org}}/{{repo}}[/path]@ref. Actual '{uses}'")
    return Remote(repo=match["repo"], path=(match["path"] or "").strip("/"), ref=match["ref"])


class ActionStore:
    """Where one job's actions come from and lie; `kept` is the runner's own, for all jobs."""

    def __init__(self, server: str, folders: Mapping[str, Path], kept: Path, into: Path) -> None:
        self._server = server
        self._folders = {name.lower(): folder for name, folder in folders.items()}
        self._kept = kept
        self._into = into

    def fetch(self, remote: Remote, say: Callable[[str], None]) -> Located:
        """Bring a remote action to the job, once."""
        root = self._into / remote.repo / remote.ref.replace("/", "_")
        if not root.exists():
            root.parent.mkdir(parents=True, exist_ok=True)
            self._bring(remote, root, say)
        folder = root / remote.path if remote.path else root
        return Located(folder=folder, root=root, repo=remote.repo, ref=remote.ref)

    def _bring(self, remote: Remote, root: Path, say: Callable[[str], None]) -> None:
        folder = self._folders.get(remote.repo.lower())
        name = f"{remote.repo}@{remote.ref}"
        if folder is not None:
            say(f"Download action repository '{name}' (stand-in: the folder {folder}, as it is)")
            lend(folder, self._kept, root)
            return
        commit = self._clone(remote, root)
        say(f"Download action repository '{name}' (SHA:{commit})")

    def _clone(self, remote: Remote, root: Path) -> str:
        mirror = Mirror(
            self._into / ".git-mirrors" / remote.repo, f"{self._server}/{remote.repo}.git"
        )
        name = f"{remote.repo}@{remote.ref}"
        try:
            mirror.update()
        except GitError as fault:
            raise UsesError(f"Unable to resolve action `{name}`, repository not found") from fault
        try:
            commit = mirror.resolve(remote.ref)
        except GitError as fault:
            raise UsesError(f"Unable to resolve action `{name}`, unable to find version `{remote.ref}`") from fault  # fmt: skip # noqa: E501 - GitHub's own words
        mirror.export(commit, root)
        return commit


def load_action(located: Located) -> Action:
    """Read the action file of a folder."""
    for name in ("action.yml", "action.yaml"):
        if (file := located.folder / name).is_file():
            try:
                return parse_action(file.read_text(encoding="utf-8"), str(file))
            except WorkflowError as fault:
                raise UsesError(str(fault)) from fault
    if (located.folder / "Dockerfile").is_file():
        raise UsesError("This simulator runs composite actions; docker actions are not supported.")
    raise UsesError(f"Can't find 'action.yml', 'action.yaml' or 'Dockerfile' under '{located.folder}'. Did you forget to run actions/checkout before running your local action?")  # fmt: skip # noqa: E501 - GitHub's own words
