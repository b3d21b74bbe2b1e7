"""Stage from Kaggle: its client fetches one archive, we unpack it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cynthus.wire_data import Dataset
from runner_images.agent.locked_python import KAGGLE, interpreter
from runner_images.agent.stager_process import ClientFault, Stager
from runner_images.agent.staging_archive import unpacked
from runner_images.agent.staging_source import Errand, Fetched, Passing
from runner_images.agent.workload import CannotStart

SECRETS = ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY")


def fetch(errand: Errand) -> Fetched:
    """Fetch and unpack; a cut download goes on where it stopped. Raises: CannotStart.

    Kaggle promises no hash: the archive's own is recorded.
    """
    python = interpreter(KAGGLE, errand.cache_dir, errand.stopping)
    return errand.insist(lambda: _once(errand, python))


def _once(errand: Errand, python: str) -> Fetched:
    size = errand.work.dataset.size_bytes
    errand.check_room(size or 0)
    errand.progress.enter("fetching", total_bytes=size, origin="hub")
    stager = Stager(
        python=python,
        scratch=errand.folder.with_name("client"),
        stopping=errand.stopping,
        look=lambda: _look(errand),
    )
    try:
        told = stager.run(_request(errand), _nothing)
    except ClientFault as fault:
        text = f"{errand.what}: {str(fault).removeprefix('data: ')}"
        if fault.passes:
            raise Passing(text) from fault
        raise CannotStart(text, infrastructure=fault.infrastructure) from fault
    archive = errand.folder / next(message["path"] for message in told)
    errand.progress.moved_bytes = archive.stat().st_size
    return unpacked(errand, archive)


def _nothing(tree: Iterator[Any]) -> list[str]:
    return list(tree)  # none is told


def _look(errand: Errand) -> None:
    if errand.progress.due:
        errand.check_floor()
        errand.progress.reach(sum(path.stat().st_size for path in errand.folder.glob("*")))


def _request(errand: Errand) -> dict[str, Any]:
    kind, name = place_of(errand.work.dataset)
    return {
        "source": "kaggle",
        "kind": kind,
        "name": name,
        "version": errand.work.dataset.revision,
        "endpoint": errand.work.endpoint,
        "folder": str(errand.folder),
        "secrets": {name: errand.secrets[name] for name in SECRETS if name in errand.secrets},
    }


def place_of(dataset: Dataset) -> tuple[str, str]:
    """Return the kind (datasets, competitions, models) with the name, without a version."""
    kind, _, name = dataset.source.removeprefix("kaggle://").partition("/")
    return kind, name.partition("@")[0]
