"""Say whether a host name or address is one that a user may send Cynthus to.

Only what can be seen in the text is judged here; what a name resolves to is judged again by
whoever connects to it.
"""

from __future__ import annotations

import re

# Names that mean "this machine" or "this network": RFC 6761, RFC 6762, RFC 8375, ICANN's
# reserved .internal (which holds metadata.google.internal) and what home routers hand out.
_LOCAL_SUFFIXES = (
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "private",
    "lan",
    "home",
    "corp",
    "home.arpa",
    "in-addr.arpa",
    "ip6.arpa",
    "test",
    "invalid",
    "onion",
)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# WHATWG URL, "ends in a number": a last label like this makes the whole host an IPv4 address,
# however it is spelled (decimal, octal, hexadecimal, one to four parts).
_NUMBER_LABEL = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")


def host_complaint(host: str) -> str | None:
    """Return what is wrong with a host, or None. IPv6 addresses come in their brackets."""
    if host.startswith("["):
        return _ipv6_complaint(host)
    name = host.removesuffix(".")
    labels = name.split(".")
    if _NUMBER_LABEL.fullmatch(labels[-1]):
        return _ipv4_complaint(labels)
    if not host.isascii():
        return "holds letters outside ASCII (write the xn-- form)"
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):  # noqa: PLR2004 - RFC 1035
        return "is not a lower-case host name"
    if _is_local(name):
        return "names this machine or a private network"
    return None


def _is_local(name: str) -> bool:
    if "." not in name:
        return True
    return any(name == suffix or name.endswith("." + suffix) for suffix in _LOCAL_SUFFIXES)


def _ipv4_complaint(labels: list[str]) -> str | None:
    number = _ipv4_number(labels)
    if number is None:
        return "looks like an IPv4 address and is none"
    return _address_complaint(number, 4)


def _ipv4_number(labels: list[str]) -> int | None:
    """Read an address as `inet_aton` does: 127.1, 0x7f.1, 0177.0.0.1 and 2130706433 are one."""
    if not 1 <= len(labels) <= 4:  # noqa: PLR2004 - an IPv4 address has at most four parts
        return None
    parts = [_ipv4_part(label) for label in labels]
    *high, low = parts
    if low is None or low >= 256 ** (5 - len(parts)):
        return None
    total = low
    for position, part in enumerate(high):
        if part is None or part > 255:  # noqa: PLR2004 - one byte
            return None
        total += part << (24 - 8 * position)
    return total


def _ipv4_part(label: str) -> int | None:
    if not label or len(label) > 16 or not label.isascii():  # noqa: PLR2004 - 2^32 has 11 octal digits
        return None
    base, digits = 10, label
    if label[:2] in ("0x", "0X"):
        base, digits = 16, label[2:] or "0"
    elif label.startswith("0"):
        base = 8
    try:
        return int(digits, base)
    except ValueError:
        return None


def _ipv6_complaint(host: str) -> str | None:
    import ipaddress

    inner = host.removeprefix("[").removesuffix("]")
    if not host.endswith("]") or "%" in inner:
        return "is not an IPv6 address in brackets"
    try:
        return _address_complaint(int(ipaddress.IPv6Address(inner)), 6)
    except ValueError:
        return "is not an IPv6 address in brackets"


def _address_complaint(number: int, version: int) -> str | None:
    if address_is_public(number, version):
        return None
    return "is an address of this machine, a private network or a cloud's metadata server"


def address_is_public(number: int, version: int) -> bool:
    """Return whether an address, as a number, is one that the whole internet can reach."""
    import ipaddress

    if version == 4:  # noqa: PLR2004 - IPv4
        address = ipaddress.IPv4Address(number)
        return address.is_global and not address.is_multicast and not address.is_reserved
    address6 = ipaddress.IPv6Address(number)
    inner = _ipv4_inside(address6)
    if inner is not None:
        return address_is_public(inner, 4)
    # Global unicast is 2000::/3 and nothing else: RFC 4291, section 2.4
    return number >> 125 == 1 and address6.is_global


def _ipv4_inside(address: object) -> int | None:
    """Return the IPv4 address that an IPv6 address carries, if it carries one."""
    import ipaddress

    number = int(ipaddress.IPv6Address(str(address)))
    top96, low32 = number >> 32, number & 0xFFFFFFFF
    # ::a.b.c.d, ::ffff:a.b.c.d, ::ffff:0:a.b.c.d (RFC 4291, RFC 2765), 64:ff9b::/96 (RFC 6052)
    if top96 in (0, 0xFFFF, 0xFFFF0000, 0x64FF9B << 64):
        return low32
    if number >> 112 == 0x2002:  # noqa: PLR2004 - 6to4, RFC 3056
        return (number >> 80) & 0xFFFFFFFF
    if number >> 96 == 0x20010000:  # noqa: PLR2004 - Teredo, RFC 4380: the client's address inverted
        return low32 ^ 0xFFFFFFFF
    return None
