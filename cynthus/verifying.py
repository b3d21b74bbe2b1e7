"""Check the downloaded files of a release: manifest, digests, statement, signature."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cynthus.envelope import Envelope, unseal
from cynthus.errors import UserError

MANIFEST, PROVENANCE = "manifest.json", "provenance.intoto.jsonl"
_CHUNK = 1 << 20
_TEXT_LIMIT = 64 << 20  # bytes: a manifest of a thousand files has one; more is no manifest
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")  # of an asset: never a path


@dataclass(kw_only=True)
class Report:
    """What was found: no faults means that every file is what the run made."""

    checked: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify(folder: Path, public_key: bytes | None) -> Report:
    """Check all files of a release that lie in a folder; with a key also who made it.

    Raises: UserError when there is no manifest, or the key is none.
    """
    report = Report()
    manifest = _json(folder / MANIFEST)
    for entry in _entries(manifest, "own_files"):
        _check_one(folder, str(entry.get("name")), entry.get("sha256"), report)
    bundled: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for entry in _entries(manifest, "files"):
        names = _assets(entry)
        if "bundle" in entry and names:
            bundled.setdefault(names, []).append(entry)
        elif names:
            _check_joined(folder, names, entry, report)
    for names, entries in bundled.items():
        _check_bundle(folder, names, entries, report)
    _check_provenance(folder, _named(manifest), public_key, report)
    return report


# ── files ───────────────────────────────────────────────────────────────────────────────────────


def _entries(manifest: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = manifest.get(name)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise UserError(f"{MANIFEST}: {name} should be a list. Download it again.")
    return found


def _assets(entry: Mapping[str, Any]) -> tuple[str, ...]:
    if "left_out" in entry:
        return ()
    parts = entry.get("parts", [entry.get("asset")])
    return tuple(str(name) for name in parts) if isinstance(parts, list) else ()


def _named(manifest: Mapping[str, Any]) -> set[str]:
    own = {str(entry.get("name")) for entry in _entries(manifest, "own_files")}
    return own | {name for one in _entries(manifest, "files") for name in _assets(one)} | {MANIFEST}


def _check_one(folder: Path, name: str, wanted: object, report: Report) -> None:
    _compare(name, _digest(_read(folder, (name,), report)), wanted, report)


def _check_joined(
    folder: Path, names: tuple[str, ...], entry: Mapping[str, Any], report: Report
) -> None:
    found = _digest(_read(folder, names, report))
    _compare(" + ".join(names), found, entry.get("sha256"), report)


def _compare(what: str, found: str | None, wanted: object, report: Report) -> None:
    if found is None:
        return
    if found == wanted:
        report.checked.append(what)
    else:
        report.faults.append(f"{what}: its SHA-256 should be {wanted}, found {found}.")


def _check_bundle(
    folder: Path, names: tuple[str, ...], entries: list[Mapping[str, Any]], report: Report
) -> None:
    """Check the members of an archive of outputs, without writing any of them."""
    wanted = {str(one.get("member", one.get("path"))): one.get("sha256") for one in entries}
    chunks = _read(folder, names, report)
    if chunks is None:
        return
    try:
        with tarfile.open(fileobj=_Joined(chunks), mode="r|") as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is not None and member.name in wanted:
                    found = _digest(iter(lambda: file.read(_CHUNK), b""))  # noqa: B023 - read here
                    _compare(member.name, found, wanted.pop(member.name), report)
    except tarfile.TarError as error:
        report.faults.append(f"{' + '.join(names)}: should be an archive ({error}).")
        return
    report.faults += [f"{path}: is not in {' + '.join(names)}." for path in wanted]


class _Joined(io.RawIOBase):
    """Chunks as one file that is read from its beginning to its end."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks, self._rest = chunks, b""

    def read(self, size: int = -1) -> bytes:
        """Return exactly `size` bytes; fewer at the end only."""
        while size < 0 or len(self._rest) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                size = len(self._rest)
                break
            self._rest += chunk
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def _read(folder: Path, names: Iterable[str], report: Report) -> Iterator[bytes] | None:
    """Return the files' bytes one after the other; None, and a fault, when one is not there."""
    paths = []
    for name in names:
        if not _NAME.fullmatch(name):
            report.faults.append(f"{MANIFEST}: should name plain files, found {name[:80]!r}.")
            return None
        if not (folder / name).is_file():
            report.faults.append(f"{name}: should be in the folder, found nothing.")
            return None
        paths.append(folder / name)
    return _chunks(paths)


def _chunks(paths: list[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk


def _digest(chunks: Iterator[bytes] | None) -> str | None:
    if chunks is None:
        return None
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


# ── the statement ───────────────────────────────────────────────────────────────────────────────


def _check_provenance(
    folder: Path, named: set[str], public_key: bytes | None, report: Report
) -> None:
    if not (folder / PROVENANCE).is_file():
        text = f"{PROVENANCE}: is not in the folder: nothing tells who made these files."
        (report.faults if public_key else report.notes).append(text)
        return
    envelope = unseal(_text(folder / PROVENANCE))
    subjects = _subjects(envelope)
    report.faults += [
        f"{name}: should be a subject of {PROVENANCE}, found it in {MANIFEST} only."
        for name in sorted(named - subjects.keys())
    ]
    for name, wanted in subjects.items():
        found = _digest(_read(folder, (name,), report))
        if found is not None and found != wanted:
            report.faults.append(f"{name}: should be as {PROVENANCE} says, found another digest.")
    _check_signature(envelope, public_key, report)


def _subjects(envelope: Envelope) -> dict[str, str]:
    try:
        statement = json.loads(envelope.payload)
        return {str(one["name"]): str(one["digest"]["sha256"]) for one in statement["subject"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(
            f"{PROVENANCE}: should name its subjects with their SHA-256, found something else."
            " Download it again."
        ) from None


def _check_signature(envelope: Envelope, public_key: bytes | None, report: Report) -> None:
    if not envelope.signatures:
        text = f"{PROVENANCE}: is not signed."
        (report.faults if public_key else report.notes).append(text)
    elif public_key is None:
        keys = ", ".join(one.key_id[:64] for one in envelope.signatures[:4])
        report.notes.append(f"{PROVENANCE}: signed by key {keys}, not checked: give --key.")
    elif _is_signed_by(envelope, public_key):
        report.checked.append(f"the signature of {PROVENANCE}")
    else:
        report.faults.append(f"{PROVENANCE}: should be signed by the key given, found otherwise.")


def _is_signed_by(envelope: Envelope, public_key: bytes) -> bool:
    try:  # the only place that needs it: most people check digests alone
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise UserError(
            "--key: needs the package cryptography. Install it with `pip install cryptography`."
        ) from error
    try:
        key = load_pem_public_key(public_key)
    except (ValueError, UnsupportedAlgorithm):
        raise _no_key() from None
    for one in envelope.signatures:
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(one.value, envelope.signed)
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(one.value, envelope.signed, ec.ECDSA(hashes.SHA256()))
            else:
                raise _no_key()
        except InvalidSignature:
            continue
        return True
    return False


def _no_key() -> UserError:
    return UserError(
        "--key: should be an Ed25519 or ECDSA public key as PEM, found something else. Take it from"
        " the server's /api/v1/signing-key."
    )


def _json(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(_text(path))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{path}: should be a release's manifest. Download it again.")
    return value


def _text(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_TEXT_LIMIT)
    except OSError as error:
        raise UserError(
            f"{path}: should be the manifest of a release, found nothing that can be read. Download"
            " all files of the release with `gh release download TAG --dir FOLDER`."
        ) from error
