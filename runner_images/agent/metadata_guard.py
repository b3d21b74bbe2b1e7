"""Keep containers from the cloud's metadata server, which would hand them the machine's identity.

A routing rule on the containers' own bridge says "unreachable" for TCP to the link-local range, or
to the IPv6 address: it needs no packet filter, no filter's reload removes it, neither the host nor
other containers are touched. DNS stays: Google's resolver shares the metadata address.
https://cloud.google.com/compute/docs/metadata/overview
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html

The kernel is asked directly (https://man7.org/linux/man-pages/man7/rtnetlink.7.html), as
`ip rule add to … iif … ipproto tcp dport … unreachable` would: not every image has that program.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

ADDRESS = "169.254.169.254"
RANGE = ("169.254.0.0", 16)  # the neighbours hand out identities too (169.254.170.2 on ECS)
IPV6_ADDRESS = ("fd00:ec2::254", 128)
NAMES = ("metadata.google.internal", "metadata")
PREFERENCE = 5  # after the table of local addresses (0), before all others (32766)
PORTS = ((1, 52), (54, 65534))  # all but DNS; the kernel takes no range to 65535
PROBE_S = 0.5  # a metadata server is one hop away: it answers within a millisecond

# From linux/netlink.h, linux/rtnetlink.h and linux/fib_rules.h.
_NEW_RULE = 32
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x200, 0x400
_UNREACHABLE = 7
_TO, _FROM_DEVICE, _PRIORITY, _MADE_BY, _IP_PROTOCOL, _TO_PORTS = 1, 3, 6, 21, 22, 24
_STATIC = 4  # made by an administrator: RTPROT_STATIC
_HEADER = struct.Struct("=IHHII")
_RULE = struct.Struct("=BBBBBBBBI")


def close_metadata(bridge: str) -> str | None:
    """Make the metadata addresses unreachable from `bridge`; return why it could not be done."""
    try:
        for ports in PORTS:
            _refuse(socket.AF_INET, RANGE, bridge, ports)
    except (OSError, AttributeError) as error:  # no rights, or no Linux
        return str(error)
    try:
        _refuse(socket.AF_INET6, IPV6_ADDRESS, bridge, None)
    except OSError:
        # Without IPv6 in the kernel there is nothing to close; our bridge has none by default.
        return None
    return None


def metadata_answers() -> bool:
    """Say whether something listens at the metadata address of this machine."""
    try:
        socket.create_connection((ADDRESS, 80), timeout=PROBE_S).close()
    except OSError:
        return False
    return True


def _refuse(
    family: socket.AddressFamily,
    target: tuple[str, int],
    bridge: str,
    ports: tuple[int, int] | None,
) -> None:
    """Add one rule; the same rule twice is one."""
    address, prefix = target
    body = _RULE.pack(family, prefix, 0, 0, 0, 0, 0, _UNREACHABLE, 0)
    body += _attribute(_TO, socket.inet_pton(family, address))
    body += _attribute(_FROM_DEVICE, bridge.encode() + b"\0")
    body += _attribute(_PRIORITY, struct.pack("=I", PREFERENCE))
    body += _attribute(_MADE_BY, struct.pack("=B", _STATIC))
    if ports is not None:
        body += _attribute(_IP_PROTOCOL, struct.pack("=B", socket.IPPROTO_TCP))
        body += _attribute(_TO_PORTS, struct.pack("=HH", *ports))
    fault = _ask_kernel(body)
    if fault not in (0, errno.EEXIST):
        raise OSError(fault, os.strerror(fault))


def _ask_kernel(body: bytes) -> int:
    flags = _REQUEST | _ACK | _CREATE | _EXCLUSIVE
    message = _HEADER.pack(_HEADER.size + len(body), _NEW_RULE, flags, 1, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.sendto(message, (0, 0))
        answer = kernel.recv(4096)
    code: int = struct.unpack_from("=i", answer, _HEADER.size)[0]
    return -code


def _attribute(kind: int, content: bytes) -> bytes:
    size = 4 + len(content)
    return struct.pack("=HH", size, kind) + content + b"\0" * (-size % 4)
