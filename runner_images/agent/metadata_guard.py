"""Keep containers from the cloud's metadata server, which would hand them the machine's identity.

A routing rule on the containers' own bridge says "unreachable" for TCP to the link-local range and
to the IPv6 address: it needs no packet filter, no filter's reload removes it, the host itself and
other containers are not touched. DNS stays: Google's resolver shares the metadata address.
https://cloud.google.com/compute/docs/metadata/overview
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
"""

from __future__ import annotations

import socket
import subprocess

ADDRESS = "169.254.169.254"
RANGE = "169.254.0.0/16"  # the neighbours hand out identities too (169.254.170.2 on ECS)
IPV6_ADDRESS = "fd00:ec2::254"
NAMES = ("metadata.google.internal", "metadata")
PREFERENCE = "5"  # after the table of local addresses (0), before all others (32766)
PORTS = ("1-52", "54-65534")  # all but DNS; the kernel takes no range to 65535
PROBE_S = 0.5  # a metadata server is one hop away: it answers within a millisecond
COMMAND_S = 10.0


def close_metadata(bridge: str) -> str | None:
    """Make the metadata addresses unreachable from `bridge`; return why it could not be done."""
    present = _run("ip", "rule", "show")
    if present is None:
        return "the program `ip` (iproute2) is missing"
    for ports in PORTS:
        if f"to {RANGE} iif {bridge}" in present and f"dport {ports} " in present:
            continue
        fault = _add("-4", bridge, (RANGE, "ipproto", "tcp", "dport", ports))
        if fault is not None:
            return fault
    if f"to {IPV6_ADDRESS} iif {bridge}" in (_run("ip", "-6", "rule", "show") or ""):
        return None
    # Without IPv6 in the kernel there is nothing to close; our bridge has none by default.
    _add("-6", bridge, (IPV6_ADDRESS,))
    return None


def metadata_answers() -> bool:
    """Say whether something listens at the metadata address of this machine."""
    try:
        socket.create_connection((ADDRESS, 80), timeout=PROBE_S).close()
    except OSError:
        return False
    return True


def _add(family: str, bridge: str, target: tuple[str, ...]) -> str | None:
    address, *selector = target
    words = ("to", address, "iif", bridge, *selector, "unreachable", "pref", PREFERENCE)
    done = subprocess.run(
        ("ip", family, "rule", "add", *words),
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    if done.returncode == 0 or "File exists" in done.stderr:
        return None
    return done.stderr.strip() or f"`ip rule add` ended with {done.returncode}"


def _run(*words: str) -> str | None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    except FileNotFoundError:
        return None
    return done.stdout
