"""Names of images: what they mean, and what is no name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from action.registry.reference import Reference, is_loopback, parse
from cynthus.errors import UserError

DIGEST = "sha256:" + "a" * 64


HUB = "registry-1.docker.io"


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag"),
    [
        ("python", HUB, "library/python", None),
        ("python:3.11", HUB, "library/python", "3.11"),
        ("acme/train", HUB, "acme/train", None),
        ("docker.io/python", HUB, "library/python", None),
        ("index.docker.io/a/b", HUB, "a/b", None),
        ("ghcr.io/acme/train:v1", "ghcr.io", "acme/train", "v1"),
        ("localhost/a", "localhost", "a", None),
        ("127.0.0.1:5000/a/b.c__d:X", "127.0.0.1:5000", "a/b.c__d", "X"),
        ("[::1]:5000/a", "[::1]:5000", "a", None),
        ("us-docker.pkg.dev/p/r/i", "us-docker.pkg.dev", "p/r/i", None),
    ],
)
@pytest.mark.parametrize("digest", [None, DIGEST])
def test_a_reference_means(
    text: str, host: str, repository: str, tag: str | None, digest: str | None
) -> None:
    found = parse(text if digest is None else f"{text}@{digest}")
    assert found == Reference(host=host, repository=repository, tag=tag, digest=digest)
    assert parse(str(found)) == found


def test_docker_hub_is_written_as_docker_writes_it() -> None:
    assert str(parse("python:3.11")) == "docker.io/library/python:3.11"
    assert parse("ghcr.io/acme/train:v1").name == "ghcr.io/acme/train"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "repository to be lower-case words with slashes, found ``"),
        ("ghcr.io/Acme/train", "found `ghcr.io/Acme/train`"),
        ("ghcr.io/acme//train", "found `ghcr.io/acme//train`"),
        ("ghcr.io/acme/train:", "a tag after the colon"),
        ("ghcr.io/acme/train:-v", "its tag to be letters"),
        ("ghcr.io/acme/train@sha256:12", "its digest to be sha256: and 64 hex digits"),
        ("https://ghcr.io/acme/train", "its registry to be a host name"),
        ("gh cr.io/acme/train", "its registry to be a host name"),
        ("ghcr.io/../x", "found `ghcr.io/../x`"),
    ],
)
def test_what_is_no_reference_is_told(text: str, fault: str) -> None:
    with pytest.raises(UserError, match="image reference") as caught:
        parse(text)
    assert fault in str(caught.value)


@given(st.text())
def test_any_text_is_a_reference_or_told_in_a_sentence(text: str) -> None:
    try:
        found = parse(text)
    except UserError:
        return
    assert parse(str(found)) == found


def test_another_image_of_the_repository() -> None:
    found = parse("ghcr.io/acme/train:v1")
    assert str(found.at(digest=DIGEST)) == f"ghcr.io/acme/train@{DIGEST}"
    assert [found.which, found.at().which, found.at(digest=DIGEST).which] == [
        "v1",
        "latest",
        DIGEST,
    ]


@pytest.mark.parametrize(
    ("host", "is_this_machine"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("127.9.9.9", True),
        ("[::1]:5000", True),
        ("[::1]", True),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example:80", False),
        ("10.0.0.1", False),
        ("ghcr.io", False),
    ],
)
def test_plain_http_is_for_this_machine(host: str, is_this_machine: bool) -> None:
    assert is_loopback(host) is is_this_machine
