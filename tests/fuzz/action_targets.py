"""Fuzz targets for what the Action reads: Dockerfiles, requirements, registries' answers."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from email.message import Message
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement

from action.environment import dockerfile
from action.failures import BuildFailed, RegistryRefused
from action.packages import pip_file
from action.registry import reference
from action.registry.challenge import parse_challenges
from action.registry.client import Manifest, _tags_of
from action.registry.faults import LONGEST_RETRY_AFTER_S, Asked, refusal, retry_after_s
from action.registry.registries import DISTRIBUTION
from action.registry.tokens import BadRealmError, read_token, token_request
from cynthus.errors import UserError
from simulators.actions_commands import parse_command
from tests.memory import fast_disk

_FIRST = "FROM debian\nCOPY data/a model.py /x/\n"
_PATHS = (("data/a", False), ("data/b", False), ("model.py", False), ("src/a.py", False))


def dockerfiles(data: bytes) -> None:
    """What one instruction takes counts, whatever the rest of the file says."""
    text = data.decode("utf-8", "replace")
    alone = dockerfile.read(text)
    for source in alone.sources or ():
        assert source.split("/")[0] not in {"", ".."}
    assert set(dockerfile.taken(alone, _PATHS)) <= {path for path, _ in _PATHS}
    assert all(alone.secrets)
    below = dockerfile.read(_FIRST + text)
    assert below.sources is None or {"data/a", "model.py"} <= set(below.sources)
    assert {"data/a", "model.py"} <= set(dockerfile.taken(below, _PATHS))
    assert "debian" in below.images


@cache
def _folder() -> Path:
    kept = tempfile.TemporaryDirectory(dir=fast_disk(Path(tempfile.gettempdir())))
    _folders.append(kept)
    return Path(kept.name)


_folders: list[tempfile.TemporaryDirectory[str]] = []  # kept until the process ends


def requirements(data: bytes) -> None:
    """What is installed is a package by name, also to another reader; no option slips by."""
    (_folder() / "requirements.txt").write_bytes(data)
    found = pip_file.read(_folder(), "requirements.txt")
    for wish in (*found.wishes, *found.constraints):
        assert not wish.text.startswith("-")
        assert "\n" not in wish.text
        assert "://" not in wish.text
        with suppress(InvalidRequirement):  # versions such as `1.` are the resolver's to refuse
            seen = Requirement(wish.text)
            assert seen.url is None
            assert wish.text.startswith(seen.name)
        assert all(digest.startswith("--hash=sha") for digest in wish.hashes)
    for fault in found.faults:
        assert str(fault).isprintable(), str(fault)
        assert parse_command(fault.message) is None


def references(data: bytes) -> None:
    """An image's name that is written down and read again is the same name."""
    try:
        found = reference.parse(data.decode("utf-8", "replace"))
    except UserError:
        return
    assert reference.parse(str(found)) == found
    assert reference.parse(found.name) == found.at()


_ASKED = Asked(
    host="ghcr.io", repository="acme/digits", wish="give a tag", kind=DISTRIBUTION, with_login=True
)


def registry_answers(data: bytes) -> None:
    """Any answer is understood or told in one harmless line.

    The first line is the status, then `Retry-After`, `Date` and `WWW-Authenticate`, then the body.
    """
    status, retry, date, challenge, body = (*data.split(b"\n", 4), b"", b"", b"", b"", b"")[:5]
    headers = Message()
    headers["Retry-After"], headers["Date"] = _header(retry), _header(date)
    wait = retry_after_s(headers)
    assert wait is None or wait >= 0
    number = int(status) if status.isdigit() and len(status) < 4 else 500
    fault = refusal(_ASKED, number, headers, body)
    assert str(fault.error).isprintable()
    assert len(str(fault.error)) < 1000
    assert not fault.passes or (fault.retry_after_s or 0) <= LONGEST_RETRY_AFTER_S
    _check_contents(body)
    _check_challenge(_header(challenge))


def _header(raw: bytes) -> str:
    """Return a header as http.client gives it: one line."""
    return raw.decode("latin-1").replace("\r", " ").strip()


def _check_contents(body: bytes) -> None:
    with suppress(RegistryRefused):
        assert isinstance(Manifest(media_type="", digest="", body=body).json(), dict)
    with suppress(BuildFailed):
        assert all(isinstance(tag, str) for tag in _tags_of(body, _ASKED))
    token = read_token(body, 1000.0)
    assert token.text.isprintable()
    assert token.until >= 1000.0


def _check_challenge(header: str) -> None:
    """A login goes to the place that the challenge names over TLS, and nowhere else."""
    offer = parse_challenges([header])
    if offer is None or offer.scheme == "basic":
        return
    with suppress(BadRealmError):
        asked = token_request("ghcr.io", offer, ("repository:a:pull",), None)
        parts = urlsplit(asked.url)
        assert parts.scheme == "https"
        assert parts.username is None
        assert parts.netloc == urlsplit(offer.realm).netloc
