"""Ask questions of the bare git repositories and change their refs."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

NO_COMMIT = "0" * 40
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
# Names of objects as questions write them: `ID`, `^ID`, `ID..ID`, `ID:PATH`, `ID^{commit}`.
_BY_ID = re.compile(r"\^?[0-9a-f]{40}(\.\.[0-9a-f]{40}|:.*|\^\{\w+\})?", re.DOTALL)
_SHORT_BYTES = 64 << 10  # files that tests push are smaller; a large one is not worth the memory
_KEPT = 2000  # answers: 128 MB at the very most
_answers: dict[tuple[Path, tuple[str, ...]], bytes] = {}
# Nothing of the machine's own git configuration may leak into what GitHub would do.
GIT_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",  # a pushed `refs/replace/…` changes nothing on github.com
    "GIT_AUTHOR_NAME": "GitHub",
    "GIT_AUTHOR_EMAIL": "noreply@github.com",
    "GIT_COMMITTER_NAME": "GitHub",
    "GIT_COMMITTER_EMAIL": "noreply@github.com",
}


@dataclass(frozen=True, kw_only=True)
class TreeEntry:
    """One line of a git tree."""

    mode: str
    type: str
    sha: str
    size: int | None
    path: str


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A commit as `git log` tells it."""

    sha: str
    tree: str
    parents: tuple[str, ...]
    author: tuple[str, str, str]
    committer: tuple[str, str, str]
    message: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a commit or a comparison did to one file."""

    status: str
    path: str
    old_path: str | None
    sha: str
    additions: int
    deletions: int
    patch: str | None


class Git:
    """One bare repository on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str, stdin: bytes | None = None) -> bytes:
        """Run git here and return what it printed; raise GitFailed when it refuses."""
        done = subprocess.run(
            ["git", "--git-dir", str(self.folder), *words],
            input=stdin,
            capture_output=True,
            env=GIT_ENVIRONMENT,
            check=False,
        )
        if done.returncode:
            raise GitFailed(done.stderr.decode(errors="replace"))
        return done.stdout

    def ask(self, *words: str) -> bytes:
        """Run git once for a question about objects named by id: its answer never changes.

        One that names something else is asked anew. What git refuses is asked again too, for a push
        may bring the object. A program costs more than all else that an answer of ours needs.
        """
        if not _by_id(words):
            return self.run(*words)
        key = (self.folder, words)
        found = _answers.get(key)
        if found is None:
            found = self.run(*words)
            if len(_answers) >= _KEPT:
                _answers.clear()
            if len(found) <= _SHORT_BYTES:
                _answers[key] = found
        return found

    def text(self, *words: str) -> str:
        """Run git here and return what it printed, as text."""
        return self.run(*words).decode(errors="replace").strip()

    def asked(self, *words: str) -> str:
        """Return what `ask` does, as text."""
        return self.ask(*words).decode(errors="replace").strip()

    def create(self, default_branch: str) -> None:
        """Make the bare repository with the settings GitHub's own have."""
        init = ["git", "init", "--quiet", "--bare", f"--initial-branch={default_branch}"]
        subprocess.run([*init, str(self.folder)], check=True, env=GIT_ENVIRONMENT)
        for key, value in (
            ("http.receivepack", "true"),
            ("uploadpack.allowAnySHA1InWant", "true"),
            ("uploadpack.allowFilter", "true"),
            ("receive.hideRefs", "refs/pull"),
            ("receive.denyDeleteCurrent", "refuse"),
            ("core.logAllRefUpdates", "false"),
            ("gc.auto", "0"),
        ):
            self.run("config", key, value)

    def refs(self) -> dict[str, str]:
        """Return every branch and tag with what it points at."""
        lines = self.text("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        pairs = (line.split(" ", 1) for line in lines)
        return {name: sha for name, sha in pairs if name.startswith(("refs/heads/", "refs/tags/"))}

    def resolve(self, name: str) -> str | None:
        """Return the commit that a branch, tag, full ref or SHA names, or None."""
        if not name or name.startswith("-") or any(mark in name for mark in " ~^:?*[\\@{\n\0"):
            return None
        names = [f"{candidate}^{{commit}}" for candidate in _candidates(name)]
        if _by_id(("rev-parse", *names)):
            try:
                return self.asked("rev-parse", "--verify", "--quiet", *names)
            except GitFailed:
                return None
        listed = "\n".join(names).encode()
        found = self.run("cat-file", "--batch-check=%(objectname)", stdin=listed).decode()
        # A line is an id, or what was asked for with `missing` or `ambiguous` behind it.
        return next((line for line in found.splitlines() if " " not in line), None)

    def has_object(self, sha: str) -> bool:
        """Say whether this full object id is here."""
        if len(sha) != 40 or set(sha) - set("0123456789abcdef"):
            return False
        try:
            self.ask("cat-file", "-e", sha)
        except GitFailed:
            return False
        return True

    def object_type(self, sha: str) -> str:
        """Return `commit`, `tree`, `blob` or `tag`."""
        return self.asked("cat-file", "-t", sha)

    def tree(self, treeish: str, path: str = "", *, recursive: bool = False) -> list[TreeEntry]:
        """List a tree; `path` narrows to one folder."""
        flags = ["-z", "--long", *(["-r", "-t"] if recursive else [])]
        spec = f"{treeish}:{path}" if path else treeish
        found = self.ask("ls-tree", *flags, spec).decode(errors="replace")
        return [_tree_entry(line) for line in found.split("\0") if line]

    def entry(self, commit: str, path: str) -> TreeEntry | None:
        """Return what lies at a path of a commit, or None."""
        found = self.ask("ls-tree", "-z", "--long", commit, "--", f":(literal){path}").decode()
        lines = [line for line in found.split("\0") if line]
        return _tree_entry(lines[0]) if lines else None

    def blob(self, sha: str) -> bytes:
        """Return the content of a blob."""
        return self.ask("cat-file", "blob", sha)

    def commit(self, sha: str) -> Commit:
        """Return one commit."""
        return self.log("--max-count=1", sha)[0]

    def log(self, *words: str) -> list[Commit]:
        """Return the commits that `git log WORDS` lists."""
        fields = "%H%x00%T%x00%P%x00%an%x00%ae%x00%aI%x00%cn%x00%ce%x00%cI%x00%B%x01"
        found = self.ask("log", f"--format={fields}", *words).decode(errors="replace")
        return [_commit(part.lstrip("\n")) for part in found.split("\x01") if part.strip()]

    def changes(self, before: str, after: str, *, patches: bool = True) -> list[Change]:
        """Return what differs between two trees, renames found."""
        raw = self.ask("diff-tree", "-r", "-M", "-z", "--raw", "--numstat", before, after)
        changes = _changes(raw.decode(errors="replace").split("\0"))
        return [self._with_patch(c, before, after) for c in changes] if patches else changes

    def _with_patch(self, change: Change, before: str, after: str) -> Change:
        names = [name for name in (change.old_path, change.path) if name]
        pathspecs = [f":(literal){name}" for name in names]
        text = self.ask("diff-tree", "-r", "-M", "-p", before, after, "--", *pathspecs)
        _, mark, hunks = text.decode(errors="replace").partition("\n@@")
        patch = f"@@{hunks}".rstrip("\n") if mark else None
        return Change(**{**change.__dict__, "patch": patch})

    def merge_base(self, one: str, other: str) -> str | None:
        """Return the best common ancestor, or None for strangers."""
        try:
            return self.asked("merge-base", one, other)
        except GitFailed:
            return None

    def count(self, *words: str) -> int:
        """Return how many commits a range has."""
        return int(self.asked("rev-list", "--count", *words))

    def set_ref(self, ref: str, sha: str) -> None:
        """Point a ref at an object."""
        self.run("update-ref", ref, sha)

    def delete_ref(self, ref: str) -> None:
        """Remove a ref; absent is fine."""
        self.run("update-ref", "-d", ref)


class GitFailed(Exception):  # noqa: N818 - reads as what happened
    """Git refused; the text is what it said."""


def _by_id(words: tuple[str, ...]) -> bool:
    """Say whether all objects that a question is about are named by their ids."""
    start = 2 if words[:2] == ("cat-file", "blob") else 1
    end = words.index("--") if "--" in words else len(words)
    names = [word for word in words[start:end] if not word.startswith("-")]
    return bool(names) and all(_BY_ID.fullmatch(name) for name in names)


def _candidates(name: str) -> tuple[str, ...]:
    # GitHub takes no branch or tag of forty hexadecimal digits: such a name is a commit's.
    if name.startswith("refs/") or _BY_ID.fullmatch(name):
        return (name,)
    return (f"refs/heads/{name}", f"refs/tags/{name}", f"refs/{name}", name)


def _tree_entry(line: str) -> TreeEntry:
    head, path = line.split("\t", 1)
    mode, type_, sha, size = head.split()
    return TreeEntry(
        mode=mode, type=type_, sha=sha, size=None if size == "-" else int(size), path=path
    )


def _commit(text: str) -> Commit:
    sha, tree, parents, an, ae, ad, cn, ce, cd, message = text.split("\0", 9)
    return Commit(
        sha=sha,
        tree=tree,
        parents=tuple(parents.split()),
        author=(an, ae, ad),
        committer=(cn, ce, cd),
        message=message.rstrip("\n"),
    )


_STATUSES = {"A": "added", "D": "removed", "M": "modified", "R": "renamed", "T": "changed"}


def _changes(words: list[str]) -> list[Change]:
    found: list[Change] = []
    counts: dict[str, tuple[int, int]] = {}
    position = 0
    while position < len(words) and words[position]:
        word = words[position]
        if word.startswith(":"):
            position = _raw_change(words, position, found)
        else:
            position = _numstat(words, position, counts)
    return [_counted(change, counts) for change in found]


def _raw_change(words: list[str], position: int, found: list[Change]) -> int:
    _, _, old_sha, new_sha, status = words[position].split(" ")
    renamed = status[0] in "RC"
    path = words[position + (2 if renamed else 1)]
    found.append(
        Change(
            status=_STATUSES.get(status[0], "changed"),
            path=path,
            old_path=words[position + 1] if renamed else None,
            sha=old_sha if status[0] == "D" else new_sha,
            additions=0,
            deletions=0,
            patch=None,
        )
    )
    return position + (3 if renamed else 2)


def _numstat(words: list[str], position: int, counts: dict[str, tuple[int, int]]) -> int:
    added, deleted, path = words[position].split("\t", 2)
    step = 1
    if not path:  # a rename: the two names follow
        path, step = words[position + 2], 3
    counts[path] = (_count(added), _count(deleted))
    return position + step


def _count(text: str) -> int:
    return 0 if text == "-" else int(text)  # `-`: a binary file


def _counted(change: Change, counts: dict[str, tuple[int, int]]) -> Change:
    additions, deletions = counts.get(change.path, (0, 0))
    return Change(**{**change.__dict__, "additions": additions, "deletions": deletions})
