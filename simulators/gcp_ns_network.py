"""Network namespaces that nobody but this process holds: a switch, and a cable to each machine.

The switch works as Google's network does: a machine has a /32, everything goes to the gateway,
which routes to other machines of the network and answers itself at the metadata address. A
namespace lives as long as this process keeps it open or a process lives in it, so a killed
simulator leaves none behind. https://man7.org/linux/man-pages/man7/network_namespaces.7.html
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

NETWORK = ipaddress.ip_network("10.128.0.0/20")  # us-central1's subnet of every auto mode network
GATEWAY = str(NETWORK[1])
METADATA_ADDRESS = "169.254.169.254"
MTU = 1460  # of Google's networks: https://cloud.google.com/vpc/docs/mtu
BURST_KB = 16  # tbf: enough for the kernel's timer at the rates that tests ask for
_CLONE_NEWNET = 0x40000000  # linux/sched.h
# Look-ups at the metadata address are refused each time, not only the first few in a second.
_SETTINGS = (("ip_forward", 1), ("icmp_ratelimit", 0))
_LOCAL_FIRST, _CUT = 10, 20  # ip rule: preferences after the table of local addresses (0)

T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


class NetworkError(Exception):
    """The kernel or `ip` refused; the text says what was asked and the answer."""


def in_thread(work: Callable[[], T]) -> T:
    """Return what `work` returns, done in a thread of its own, whose namespace ends with it."""
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


class Namespace:
    """A network namespace, held by an open file of this process."""

    def __init__(self) -> None:
        self._fd = in_thread(_new_namespace)

    @property
    def path(self) -> str:
        """Name it for programs that this process starts, or their children."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    def ip(self, *lines: str) -> None:
        """Carry out `ip` commands in it. Raises NetworkError."""
        self.run("ip", "-batch", "-", text="\n".join(lines))

    def run(self, *words: str, text: str = "") -> None:
        """Run a program in it. Raises NetworkError when it fails."""
        command = ["nsenter", f"--net={self.path}", *words]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NetworkError(f"{' '.join(words)}: {text!r}: {done.stderr.strip()}")

    def socket(self, make: Callable[[], socket.socket]) -> socket.socket:
        """Return a socket that was made in it: a socket stays where it was made."""

        def made() -> socket.socket:
            _call("setns", self._fd, _CLONE_NEWNET)
            return make()

        return in_thread(made)

    def close(self) -> None:
        """Let it go: it ends with its last process. Safe to repeat."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _new_namespace() -> int:
    _call("unshare", _CLONE_NEWNET)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


class Switch:
    """Google's side of the network: gateway, routes between machines, metadata address."""

    def __init__(self) -> None:
        self.namespace = Namespace()
        for setting in _SETTINGS:
            self.namespace.run("sh", "-c", f"echo {setting[1]} >/proc/sys/net/ipv4/{setting[0]}")
        self.namespace.ip(
            "link set lo up",
            f"address add {METADATA_ADDRESS}/32 dev lo",
            "route add blackhole default",  # without a NAT, what goes outside is lost in silence
            f"rule add preference {_LOCAL_FIRST} iif lo lookup main",
        )

    def close(self) -> None:
        """End it. Safe to repeat."""
        self.namespace.close()


def address_of(number: int) -> str:
    """Return the address of the machine with this number, from 0; .0 and .1 are Google's."""
    return str(NETWORK[2 + number])


def mac_of(number: int) -> str:
    """Return its card's address, made from the other as Google does: 42:01 and four bytes."""
    return "42:01:" + ":".join(f"{byte:02x}" for byte in NETWORK[2 + number].packed)


@dataclass
class Cable:
    """A machine's network: its namespace with eth0, and the switch's end of the cable."""

    switch: Switch
    number: int
    namespace: Namespace = field(default_factory=Namespace)

    @property
    def address(self) -> str:
        """Return the machine's address."""
        return address_of(self.number)

    @property
    def _port(self) -> str:
        return f"m{self.number}"

    def plug_in(self) -> None:
        """Make both ends. Raises NetworkError."""
        self.namespace.ip(
            "link set lo up",
            f"link add eth0 address {mac_of(self.number)} mtu {MTU} type veth"
            f" peer name {self._port} mtu {MTU} netns {self.switch.namespace.path}",
            "link set eth0 up",
            f"address add {self.address}/32 dev eth0",
            f"route add {GATEWAY}/32 dev eth0 src {self.address}",
            f"route add default via {GATEWAY} dev eth0",
        )
        self.switch.namespace.ip(
            f"address add {GATEWAY}/32 dev {self._port}",
            f"link set {self._port} up",
            f"route add {self.address}/32 dev {self._port}",
        )

    def metadata_listener(self) -> socket.socket:
        """Return a bound socket at the metadata address that hears this machine only."""

        def make() -> socket.socket:
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._port.encode())
            listener.bind((METADATA_ADDRESS, 80))
            return listener

        return self.switch.namespace.socket(make)

    def loopback_listener(self, port: int) -> socket.socket:
        """Return a bound socket at 127.0.0.1:`port` of the machine."""

        def make() -> socket.socket:
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            return listener

        return self.namespace.socket(make)

    def cut(self, *, cut: bool) -> None:
        """Drop, or carry again, what goes to and comes from other machines. Safe to repeat.

        What is for the gateway itself, and so the metadata server, is decided before these rules.
        """
        verb = "add" if cut else "del"
        for selector in (f"to {self.address}", f"from {self.address} iif {self._port}"):
            words = f"rule {verb} preference {_CUT} {selector} blackhole"
            try:
                self.switch.namespace.ip(words)
            except NetworkError as error:
                if "File exists" not in str(error) and "No such file" not in str(error):
                    raise

    def slow(self, kbit: int | None) -> None:
        """Limit both directions to so many kbit/s; None: no limit. Safe to repeat."""
        for namespace, device in (
            (self.switch.namespace, self._port),
            (self.namespace, "eth0"),
        ):
            if kbit is None:
                words = f"tc qdisc del dev {device} root 2>/dev/null || true"
            else:
                limit = f"tbf rate {kbit}kbit burst {BURST_KB}kb latency 300ms"
                words = f"tc qdisc replace dev {device} root {limit}"
            namespace.run("sh", "-c", words)

    def close(self) -> None:
        """Pull it out for good: both ends go. Safe to repeat."""
        with contextlib.suppress(NetworkError):  # the cable was never made
            self.switch.namespace.ip(f"link del {self._port}")
        self.namespace.close()
