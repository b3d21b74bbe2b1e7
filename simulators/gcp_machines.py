"""What the simulated Compute Engine asks of whatever plays its machines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


class Played(StrEnum):
    """What a played machine does at this moment."""

    BOOTING = "booting"  # the kernel is there, user data has not begun
    UP = "up"  # user data runs or has run
    OFF = "off"  # it powered itself off, or was powered off: the disk is kept


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One machine to be played."""

    name: str
    cpus: int
    memory_bytes: int
    disk_bytes: int
    gpus: int  # stand-ins: device files, a driver library and a runtime hook, no arithmetic
    gpu_model: str  # as the driver names it, e.g. "NVIDIA L4"
    boot_image: str  # the URL that the instance was ordered with
    metadata: Mapping[str, Any]  # the tree below /computeMetadata/v1: {"instance": …, "project": …}


class PlayError(Exception):
    """What was asked cannot be had here; the text says why and what to do about it."""


class Machines(Protocol):
    """A place that plays machines; every verb returns soon, and is safe to repeat.

    A verb that this place has nothing for (a cable, without a network) raises PlayError.
    """

    isolated: bool  # each has a network, a disk and a metadata address of its own

    def boot(self, machine: Machine) -> str:
        """Begin to boot, from a fresh disk unless one of this name is kept; return its address."""

    def state(self, name: str) -> Played:
        """Return what it does."""

    def write(self, name: str, path: str, value: object) -> None:
        """Set a metadata value (`instance/preempted`); those who wait for a change hear of it."""

    def sign_identity(self, sign: Callable[[str, str, str], str]) -> None:
        """Give `sign(name, audience, format)`, which makes a machine's identity tokens."""

    def issue_token(self, issue: Callable[[str], Mapping[str, Any]]) -> None:
        """Give `issue(name)`: the access token of a machine's service account, as JSON."""

    def soft_off(self, name: str) -> None:
        """Press the power button (ACPI G2)."""

    def power_off(self, name: str) -> None:
        """Pull the plug: everything in it is gone at once, the disk stays."""

    def freeze(self, name: str, *, frozen: bool) -> None:
        """Hang it, or let it go on."""

    def cut(self, name: str, *, cut: bool) -> None:
        """Pull its network cable, or put it back; the metadata server stays reachable."""

    def slow(self, name: str, kbit: int | None) -> None:
        """Limit its network to so many kbit/s; None: as fast as it can."""

    def fill(self, name: str, *, full: bool) -> None:
        """Fill its disk to the last block, or make room again."""

    def serial(self, name: str) -> str:
        """Return what it wrote to its serial port."""

    def remove(self, name: str) -> None:
        """End it with its disk; nothing of it is left when this returns."""

    def close(self) -> None:
        """Remove every machine and all that they stood on."""


class NoMachines:
    """Instances that execute nothing: for tests of the API alone."""

    isolated = False

    def __init__(self) -> None:
        self._off: set[str] = set()
        self._names: list[str] = []

    def boot(self, machine: Machine) -> str:
        """Count it as up at once."""
        if machine.name not in self._names:
            self._names.append(machine.name)
        self._off.discard(machine.name)
        return f"10.128.0.{self._names.index(machine.name) % 250 + 2}"

    def state(self, name: str) -> Played:
        """Return up, unless it was powered off."""
        return Played.OFF if name in self._off or name not in self._names else Played.UP

    def write(self, name: str, path: str, value: object) -> None:
        """Have nobody who reads it."""

    def sign_identity(self, sign: Callable[[str, str, str], str]) -> None:
        """Have nobody who asks."""

    def issue_token(self, issue: Callable[[str], Mapping[str, Any]]) -> None:
        """Have nobody who asks."""

    def soft_off(self, name: str) -> None:
        """Go off at once."""
        self._off.add(name)

    def power_off(self, name: str) -> None:
        """Go off at once."""
        self._off.add(name)

    def freeze(self, name: str, *, frozen: bool) -> None:
        """Have nothing that could hang."""

    def cut(self, name: str, *, cut: bool) -> None:
        """Have no cable."""

    def slow(self, name: str, kbit: int | None) -> None:
        """Have no cable."""

    def fill(self, name: str, *, full: bool) -> None:
        """Have no disk."""

    def serial(self, name: str) -> str:  # noqa: ARG002 - the protocol has it
        """Have written nothing."""
        return ""

    def remove(self, name: str) -> None:
        """Forget it."""
        self._off.discard(name)
        if name in self._names:
            self._names[self._names.index(name)] = ""

    def close(self) -> None:
        """Forget all."""
        self._names.clear()
