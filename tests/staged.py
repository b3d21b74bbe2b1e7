"""Stage data in this process as the agent does, with what it told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cynthus.wire_data import Dataset, DatasetWork, SourceKind, StagingView
from runner_images.agent.clock import elapsed_s, wall_clock
from runner_images.agent.public_http import Trust
from runner_images.agent.shared_cache import SharedCache
from runner_images.agent.staging import Stage, Staging
from runner_images.agent.workload import Staged
from tests.fake_control_plane import a_work

REPOSITORY = 77


def a_dataset(source: str, revision: str, *, name: str = "train", **changes: Any) -> Dataset:
    """Return a dataset whose key is of its source and revision, as the server has it."""
    key = hashlib.sha256(f"{source} {revision} {changes}".encode()).hexdigest()
    mount = changes.pop("mount", f"/data/{name}")
    kind = SourceKind(source.partition(":")[0])
    return Dataset(
        name=name, source=source, mount=mount, kind=kind, revision=revision, key=key, **changes
    )


@dataclass
class Told:
    """What the user and the server were told."""

    views: list[StagingView] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @property
    def states(self) -> list[str]:
        """Return the states in their order, each once in a row."""
        found: list[str] = []
        for view in self.views:
            if found[-1:] != [view.state]:
                found.append(view.state)
        return found


class Machine:
    """One machine's disk, on which runs are staged one after the other."""

    def __init__(self, folder: Path, *, repository_id: int = REPOSITORY) -> None:
        self.cache_dir = folder / "cache"
        self.repository_id = repository_id
        self.shared: SharedCache | None = None
        self.trust = Trust()
        self.floor_bytes = 1 << 20  # disks of tests are small
        self.tries = 4
        self.told = Told()
        self.now: Callable[[], float] = lambda: wall_clock().timestamp()

    def begin(self, *work: DatasetWork, secrets: dict[str, str] | None = None) -> Staging:
        """Start to stage."""
        self.told = Told()
        stage = Stage(
            cache_dir=self.cache_dir,
            shared=self.shared,
            clock=elapsed_s,
            now=self.now,
            tell=self.told.views.append,
            notice=self.told.notices.append,
            trust=self.trust,
            floor_bytes=self.floor_bytes,
            tries=self.tries,
        )
        run = a_work(data=work, hub_secrets=secrets or {}, repository_id=self.repository_id)
        staging = Staging(run, stage)
        staging.begin()
        return staging

    def stage(
        self, *work: DatasetWork, secrets: dict[str, str] | None = None
    ) -> tuple[Staged, ...]:
        """Stage all of it, then let go of it: it stays on the disk. Raises: CannotStart."""
        staging = self.begin(*work, secrets=secrets)
        try:
            return staging.wait(lambda: False)
        finally:
            staging.close()

    @property
    def folder(self) -> Path:
        """Return what the disk has of this repository."""
        return self.cache_dir / str(self.repository_id)


def content(folder: Path) -> dict[str, bytes]:
    """Return a tree's files, by path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
