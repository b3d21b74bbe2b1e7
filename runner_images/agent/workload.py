"""What the supervisor asks of a running command, whatever runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from cynthus.drivers import is_older
from cynthus.errors import CynthusError
from cynthus.wire import Facts, Mark, Rendezvous, Work
from cynthus.wire_data import Dataset

OUTPUTS_FOLDER = "outputs"  # spec.md: $CYNTHUS_OUTPUTS is /workspace/outputs
CHECKPOINTS_FOLDER = "checkpoints"
DATA_VARIABLE, DATA_FOLDER = (
    "CYNTHUS_DATA",
    "/data",
)  # spec.md: /data/<name> unless mounted elsewhere
SUMMARY_LIMIT_BYTES = 64 * 1024  # GitHub shows 65,535 characters of a check run's summary
INSTANCE_MARK = "CYNTHUS_INSTANCE"  # in the environment of every process of the run
# Both streams in one, so that the log has the order in which things were said. A shell waits for
# its foreground child before it acts on a trap: the child gets the signal and the time to save its
# work while the script itself stays; 143 = 128 + SIGTERM. On the text's own first line, so that the
# shell's messages count its lines right.
PROLOGUE = "exec 2>&1; trap 'exit 143' TERM; "
# One POSIX line that takes bash where the image has it: asking beforehand would cost a round trip.
CHOOSE_SHELL = (
    'command -v bash >/dev/null 2>&1 && exec bash -eo pipefail -c "$1"; '
    'echo "[cynthus] no bash here: the command runs with sh -e" >&2; exec sh -e -c "$1"'
)
FIRST_SIGNAL_CODE = 128  # a shell reports a child killed by signal n as 128 + n
LAST_SIGNAL = 64


class CannotStart(CynthusError):  # noqa: N818 - reads as what happened
    """The command cannot be started; `infrastructure`: another instance may be able to."""

    def __init__(self, message: str, *, infrastructure: bool) -> None:
        super().__init__(message)
        self.infrastructure = infrastructure


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How the command ended."""

    code: int
    signal: int | None = None
    out_of_memory: bool = False
    lost: str | None = None  # the instance's fault: nobody knows how the command ended


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the command uses at one moment; None: unknown."""

    cpu_s: float | None = None  # processor time since it started
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """One output as it was found: readable, or left out for a reason."""

    path: str
    size_bytes: int = 0
    content: BinaryIO | None = None  # valid until the next one is asked for
    #: Opens it from its beginning, at any time and in any thread; without `content` the way to it.
    again: Callable[[], BinaryIO] | None = None
    left_out: str | None = None


@dataclass(frozen=True, kw_only=True)
class Staged:
    """Data that lies on this machine, for reading alone."""

    dataset: Dataset
    folder: Path


class Workload(Protocol):
    """One command, from its preparation to its removal."""

    notices: list[str]  # what the user should know; the supervisor takes them out
    marks: list[Mark]  # as above: steps that were done

    @property
    def gpu_uuids(self) -> tuple[str, ...]:
        """Return the GPUs of this run."""

    @property
    def checkpoint_folder(self) -> Path:
        """Return where on this machine the checkpoint folder lies, from `prepare` on."""

    def prepare(self, stopping: Callable[[], bool]) -> None:
        """Make everything ready; raises CannotStart. `stopping` is asked often on the way."""

    def receive(self, data: tuple[Staged, ...]) -> None:
        """Learn where the data lies; after `prepare`, before `meet`. Raises CannotStart."""

    def meet(self, rendezvous: Rendezvous) -> None:
        """Learn where the gang meets; between `prepare` and `start`. Raises CannotStart."""

    def start(self, output: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        """Start the command; `ended` is called once all its output was handed over."""

    def ending(self) -> Ended | None:
        """Return how the command ended, or None while it runs."""

    def terminate(self) -> None:
        """Ask every process to end (SIGTERM)."""

    def kill(self) -> None:
        """End every process (SIGKILL)."""

    def usage(self) -> Usage:
        """Return what it uses now."""

    def summary(self) -> bytes | None:
        """Return the first bytes of the summary file, if there is one."""

    def outputs(self, patterns: tuple[str, ...]) -> Iterator[Found]:
        """Yield what the patterns name, one after the other; the command has ended."""

    def remove(self) -> None:
        """Leave nothing behind."""


def checkpoint_path(work: Work) -> str:
    """Return what $CYNTHUS_CHECKPOINTS names, relative to the workspace."""
    return CHECKPOINTS_FOLDER if work.checkpoint is None else work.checkpoint.path


def check_driver(work: Work, facts: Facts) -> None:
    """Refuse an image whose CUDA is newer than this machine's driver, before it is pulled.

    Not the machine's fault: the next one of the place has the same driver. A machine that cannot
    say which it has is tried.
    Raises: CannotStart.
    """
    wanted, found = work.minimum_driver, facts.driver
    if work.gpu_count and wanted and found and is_older(found, wanted):
        text = (
            f"driver: the image's CUDA needs NVIDIA's {wanted} or newer, this instance has {found}."
            " Require a build for an older CUDA, or ask for another place"
        )
        raise CannotStart(text, infrastructure=False)


def signal_of(code: int) -> int | None:
    """Return the signal that an exit code tells of."""
    signal = code - FIRST_SIGNAL_CODE
    return signal if 0 < signal <= LAST_SIGNAL else None


def gang_variables(work: Work, master: str) -> dict[str, str]:
    """Return the variables by which the members of a gang find each other; none without a gang.

    WORLD_SIZE counts workers as torchrun does, one a GPU, or one a node where there are none:
    https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables
    """
    gang = work.gang
    if gang is None:
        return {}
    return {
        "MASTER_ADDR": master,
        "MASTER_PORT": str(gang.port),
        "NNODES": str(gang.nodes),
        "NODE_RANK": str(gang.rank),
        "WORLD_SIZE": str(gang.nodes * max(1, work.gpu_count)),
    }


def arguments(work: Work) -> tuple[str, ...]:
    """Return what to execute: the spec's arguments, or its text in a strict shell."""
    if not isinstance(work.command, str):
        return work.command
    return ("sh", "-c", CHOOSE_SHELL, "sh", PROLOGUE + work.command)
