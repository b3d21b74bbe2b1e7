"""Read and write the name of an image: host, repository, tag, digest. Pure.

The grammar is the one that Docker, containerd and podman share:
https://pkg.go.dev/github.com/distribution/reference
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from cynthus.errors import UserError

HUB = "registry-1.docker.io"  # where Docker Hub's API answers; people write docker.io
_HUB_NAMES = frozenset({"docker.io", "index.docker.io", HUB})
_LONGEST_NAME = 255  # of host and repository: the grammar above, NameTotalLengthMax

_HOST = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
)
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An image's full name; without tag and digest it names a repository."""

    host: str  # as it is called: registry-1.docker.io, never docker.io
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """Return host and repository, as Docker writes them."""
        return f"{'docker.io' if self.host == HUB else self.host}/{self.repository}"

    @property
    def which(self) -> str:
        """Return what a registry is asked for: the digest, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"

    def at(self, *, tag: str | None = None, digest: str | None = None) -> Reference:
        """Return another image of the same repository."""
        return replace(self, tag=tag, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


def parse(text: str) -> Reference:
    """Return what a reference names.

    Raises: UserError, saying which part of it cannot be.
    """
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise _wrong(text, f"its digest to be sha256: and 64 hex digits, found `{digest}`")
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:  # a colon before the last slash belongs to the host's port
        name, tag = rest, ""
    if colon and not tag and name != rest:
        raise _wrong(text, "a tag after the colon, found none")
    if tag and not _TAG.fullmatch(tag):
        raise _wrong(text, f"its tag to be letters, digits and _ . - (at most 128), found `{tag}`")
    host, repository = _split(name)
    if not _HOST.fullmatch(host):
        raise _wrong(text, f"its registry to be a host name with an optional port, found `{host}`")
    found = Reference(host=host, repository=repository, tag=tag or None, digest=digest or None)
    if not _REPOSITORY.fullmatch(repository) or len(found.name) > _LONGEST_NAME:
        raise _wrong(text, f"its repository to be lower-case words with slashes, found `{name}`")
    return found


def is_digest(text: str) -> bool:
    """Return whether a text is the digest of content."""
    return _DIGEST.fullmatch(text) is not None


def is_loopback(host: str) -> bool:
    """Return whether a host (with or without its port) is this machine: plain http is safe there.

    Docker trusts the same ones: https://docs.docker.com/reference/cli/dockerd/#insecure-registries
    """
    bare = host if host.endswith("]") else re.sub(r":\d+$", "", host)
    return bare in {"localhost", "[::1]", "::1"} or _LOOPBACK.fullmatch(bare) is not None


_LOOPBACK = re.compile(r"127(?:\.\d{1,3}){3}")


def _split(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = "docker.io", name
    if first not in _HUB_NAMES:
        return first, rest
    return HUB, rest if "/" in rest else f"library/{rest}"


def _wrong(text: str, fault: str) -> UserError:
    return UserError(f"image reference `{text}`: should have {fault}. Write host/name:tag.")
