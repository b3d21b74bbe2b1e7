"""Keep containers from the cloud's metadata server, which would hand them the machine's identity.

A routing rule on the containers' own bridge says "unreachable" for TCP to the link-local range, or
to the IPv6 address: it needs no packet filter, no filter's reload removes it, neither the host nor
other containers are touched. DNS stays: Google's resolver shares the metadata address.
Where a container shares the machine's network, the rule names its users instead of its bridge:
everybody but root.
https://cloud.google.com/compute/docs/metadata/overview
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html

The kernel is asked directly (https://man7.org/linux/man-pages/man7/rtnetlink.7.html), as
`ip rule add to … iif … ipproto tcp dport … unreachable` would: not every image has that program.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator

ADDRESS = "169.254.169.254"
RANGE = ("169.254.0.0", 16)  # the neighbours hand out identities too (169.254.170.2 on ECS)
# Amazon's and Google's: https://cloud.google.com/compute/docs/metadata/querying-metadata
IPV6_ADDRESSES = (("fd00:ec2::254", 128), ("fd20:ce::254", 128))
NAMES = ("metadata.google.internal", "metadata")
PREFERENCE = 5  # after the table of local addresses (0), before all others (32766)
PORTS = ((1, 52), (54, 65534))  # all but DNS; the kernel takes no range to 65535
PROBE_S = 0.5  # a metadata server is one hop away: it answers within a millisecond

# From linux/netlink.h, linux/rtnetlink.h and linux/fib_rules.h.
_NEW_RULE, _DELETE_RULE = 32, 33
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x200, 0x400
_UNREACHABLE = 7
_TO, _FROM_DEVICE, _PRIORITY, _USERS, _MADE_BY, _IP_PROTOCOL, _TO_PORTS = 1, 3, 6, 20, 21, 22, 24
_STATIC = 4  # made by an administrator: RTPROT_STATIC
_HEADER = struct.Struct("=IHHII")
_RULE = struct.Struct("=BBBBBBBBI")


# All users but root; 2**32 - 1 means "no user": https://man7.org/linux/man-pages/man8/ip-rule.8.html
_ALL_BUT_ROOT = (1, 2**32 - 2)


def close_metadata(bridge: str) -> str | None:
    """Make the metadata addresses unreachable from `bridge`; return why it could not be done."""
    return _close(_attribute(_FROM_DEVICE, bridge.encode() + b"\0"))


def close_metadata_to_users() -> str | None:
    """Make them unreachable from this machine for all but root; return why it could not be."""
    return _close(_attribute(_USERS, struct.pack("=II", *_ALL_BUT_ROOT)))


def open_metadata(bridge: str) -> None:
    """Forget the rules of a bridge that is no more. Safe to repeat."""
    who = _attribute(_FROM_DEVICE, bridge.encode() + b"\0")
    with contextlib.suppress(OSError, AttributeError):  # no rights: then there was no rule either
        for family, target, ports in _rules():
            _ask_kernel(_DELETE_RULE, _rule(family, target, who, ports), _REQUEST | _ACK)


_Rule = tuple[socket.AddressFamily, tuple[str, int], "tuple[int, int] | None"]


def _rules() -> Iterator[_Rule]:
    for ports in PORTS:
        yield socket.AF_INET, RANGE, ports
    for target in IPV6_ADDRESSES:
        yield socket.AF_INET6, target, None


def _close(who: bytes) -> str | None:
    """Add the rules for `who`; the same rule twice is one."""
    try:
        for family, target, ports in _rules():
            flags = _REQUEST | _ACK | _CREATE | _EXCLUSIVE
            fault = _ask_kernel(_NEW_RULE, _rule(family, target, who, ports), flags)
            # Without IPv6 in the kernel there is nothing to close; our bridges have none.
            if fault not in (0, errno.EEXIST) and family is socket.AF_INET:
                return os.strerror(fault)
    except (OSError, AttributeError) as error:  # no rights, or no Linux
        return str(error)
    return None


def metadata_answers() -> bool:
    """Say whether something listens at the metadata address of this machine."""
    try:
        socket.create_connection((ADDRESS, 80), timeout=PROBE_S).close()
    except OSError:
        return False
    return True


def _rule(
    family: socket.AddressFamily,
    target: tuple[str, int],
    who: bytes,
    ports: tuple[int, int] | None,
) -> bytes:
    address, prefix = target
    body = _RULE.pack(family, prefix, 0, 0, 0, 0, 0, _UNREACHABLE, 0)
    body += _attribute(_TO, socket.inet_pton(family, address)) + who
    body += _attribute(_PRIORITY, struct.pack("=I", PREFERENCE))
    body += _attribute(_MADE_BY, struct.pack("=B", _STATIC))
    if ports is not None:
        body += _attribute(_IP_PROTOCOL, struct.pack("=B", socket.IPPROTO_TCP))
        body += _attribute(_TO_PORTS, struct.pack("=HH", *ports))
    return body


def _ask_kernel(kind: int, body: bytes, flags: int) -> int:
    message = _HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.sendto(message, (0, 0))
        answer = kernel.recv(4096)
    code: int = struct.unpack_from("=i", answer, _HEADER.size)[0]
    return -code


def _attribute(kind: int, content: bytes) -> bytes:
    size = 4 + len(content)
    return struct.pack("=HH", size, kind) + content + b"\0" * (-size % 4)
