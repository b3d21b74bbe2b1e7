"""Checking a downloaded release: digests, the statement, the signature."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from cynthus.__main__ import main
from cynthus.envelope import seal, signed_bytes, unseal
from cynthus.errors import UserError
from cynthus.verifying import verify
from webhook_server.auth.signing import Signer, signer

FILES = {"weights.bin": b"0123456789", "log.txt": b"hello\n"}


def pem(key: Any) -> str:
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()


def a_signer(kind: str = "ed25519") -> Signer:
    ed = kind == "ed25519"
    key = ed25519.Ed25519PrivateKey.generate() if ed else ec.generate_private_key(ec.SECP256R1())
    found = signer(pem(key))
    assert found is not None
    return found


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def a_release(folder: Path, signs: Signer | None = None, **more: Any) -> Path:
    """Write a release as it is downloaded: outputs, one file of ours, manifest, statement."""
    files = more.get("files", [entry("weights.bin")])
    parts: dict[str, bytes] = more.get("parts", {})
    own = [{"name": "log.txt", "size_bytes": 6, "sha256": digest(FILES["log.txt"])}]
    written = FILES | parts
    written["manifest.json"] = json.dumps({"files": files, "own_files": own}).encode()
    subjects = [
        {"name": name, "digest": {"sha256": digest(data)}} for name, data in written.items()
    ]
    statement = json.dumps({"_type": "x", "subject": more.get("subjects", subjects)}).encode()
    written["provenance.intoto.jsonl"] = seal(statement, signs.sign) if signs else statement
    for name, data in written.items():
        (folder / name).write_bytes(data)
    return folder


def entry(name: str) -> dict[str, Any]:
    return {"path": f"out/{name}", "sha256": digest(FILES[name]), "asset": name}


def test_a_whole_release_is_good(tmp_path: Path) -> None:
    report = verify(a_release(tmp_path), None)
    assert report.faults == []
    assert report.checked == ["log.txt", "weights.bin"]
    assert report.notes == ["provenance.intoto.jsonl: is not signed."]


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_signature_is_checked_with_the_key_that_is_given(tmp_path: Path, kind: str) -> None:
    signs = a_signer(kind)
    a_release(tmp_path, signs)
    assert verify(tmp_path, signs.public_pem).faults == []
    assert "the signature of provenance.intoto.jsonl" in verify(tmp_path, signs.public_pem).checked
    assert signs.key_id in verify(tmp_path, None).notes[0]
    [fault] = verify(tmp_path, a_signer(kind).public_pem).faults
    assert "should be signed by the key given" in fault


def _change(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"9876543210")


def _lose(folder: Path) -> None:
    (folder / "weights.bin").unlink()


def _forge(folder: Path) -> None:
    """Change a file and the manifest alike: only the statement still knows."""
    _change(folder)
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace(digest(FILES["weights.bin"]), digest(b"9876543210")))


def _resign(folder: Path) -> None:
    path = folder / "provenance.intoto.jsonl"
    envelope = json.loads(path.read_text())
    payload = base64.b64decode(envelope["payload"]).replace(b'"x"', b'"y"')
    envelope["payload"] = base64.b64encode(payload).decode()
    path.write_text(json.dumps(envelope))


def _unsign(folder: Path) -> None:
    path = folder / "provenance.intoto.jsonl"
    path.write_bytes(unseal(path.read_bytes()).payload)


def _drop_statement(folder: Path) -> None:
    (folder / "provenance.intoto.jsonl").unlink()


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (_change, "weights.bin: its SHA-256 should be"),
        (_lose, "weights.bin: should be in the folder"),
        (_forge, "weights.bin: should be as provenance.intoto.jsonl says"),
        (_resign, "should be signed by the key given"),
        (_unsign, "is not signed"),
        (_drop_statement, "is not in the folder"),
    ],
)
def test_whatever_was_changed_is_told(
    tmp_path: Path, harm: Callable[[Path], None], told: str
) -> None:
    signs = a_signer()
    a_release(tmp_path, signs)
    harm(tmp_path)
    assert any(told in fault for fault in verify(tmp_path, signs.public_pem).faults)


def test_a_file_that_the_statement_does_not_know_is_told(tmp_path: Path) -> None:
    a_release(tmp_path, subjects=[])
    assert any("should be a subject" in fault for fault in verify(tmp_path, None).faults)


def test_parts_are_checked_joined(tmp_path: Path) -> None:
    parts = {"big.part001": b"01234", "big.part002": b"56789"}
    whole = {"path": "big", "sha256": digest(b"0123456789"), "parts": list(parts)}
    a_release(tmp_path, parts=parts, files=[whole])
    assert "big.part001 + big.part002" in verify(tmp_path, None).checked
    (tmp_path / "big.part002").write_bytes(b"5678x")
    assert verify(tmp_path, None).faults


def test_the_members_of_an_archive_are_checked_without_unpacking(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, data in {"a/b": b"one", "../evil": b"two"}.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    more = {"asset": "outputs.tar", "bundle": "outputs.tar"}
    files = [
        {"path": "a/b", "sha256": digest(b"one"), **more},
        {"path": "a/c", "sha256": digest(b"three"), **more},
        {"path": "left", "sha256": "0" * 64, "left_out": "too large"},
    ]
    a_release(tmp_path, parts={"outputs.tar": archive.getvalue()}, files=files)
    report = verify(tmp_path, None)
    assert "a/b" in report.checked
    assert report.faults == ["a/c: is not in outputs.tar."]
    assert not (tmp_path.parent / "evil").exists()


def test_names_that_lead_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    folder = tmp_path / "release"
    folder.mkdir()
    evil = {"path": "x", "sha256": digest(b"x"), "asset": "../secret"}
    a_release(folder, files=[evil])
    faults = verify(folder, None).faults
    assert any("should name plain files" in fault for fault in faults)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', "[" * 100_000, "\x00"])
def test_what_is_no_manifest_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError):
        verify(tmp_path, None)


@pytest.mark.parametrize("text", ["", "3", "null", "{}", '{"payloadType": 1}', "[" * 9999])
def test_what_is_no_statement_is_said(tmp_path: Path, text: str) -> None:
    (a_release(tmp_path) / "provenance.intoto.jsonl").write_text(text)
    with pytest.raises(UserError):
        verify(tmp_path, None)


def test_the_exit_code_tells_good_from_bad_from_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signs = a_signer()
    folder = tmp_path / "release"
    folder.mkdir()
    (tmp_path / "key.pem").write_bytes(signs.public_pem)
    a_release(folder, signs)
    words = ["verify", str(folder), "--key", str(tmp_path / "key.pem")]
    assert main(words) == 0
    assert "ok: weights.bin" in capsys.readouterr().out
    _change(folder)
    assert main(words) == 1
    assert "weights.bin: its SHA-256" in capsys.readouterr().err
    assert main(["verify", str(tmp_path)]) == 2
    assert main([*words[:3], str(tmp_path / "none.pem")]) == 2


# ── the key ─────────────────────────────────────────────────────────────────────────────────────


def test_what_is_signed_is_what_dsse_says() -> None:
    # The example of the protocol, with our payload type.
    assert signed_bytes(b"hello world") == (
        b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"
    )


def test_a_key_is_taken_as_text_in_one_line_or_from_a_file(tmp_path: Path) -> None:
    text = pem(ed25519.Ed25519PrivateKey.generate())
    (tmp_path / "k.pem").write_text(text)
    found = [signer(one) for one in (text, text.replace("\n", "\\n"), str(tmp_path / "k.pem"))]
    assert len({one.key_id for one in found if one}) == 1
    assert signer("") is None


@pytest.mark.parametrize(
    "setting",
    [
        "no/such/file",
        "-----BEGIN nothing",
        pem(ec.generate_private_key(ec.SECP384R1())),
        pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    ],
    ids=["file", "text", "p384", "rsa"],
)
def test_a_key_that_cannot_sign_ends_the_start_and_is_not_shown(setting: str) -> None:
    with pytest.raises(UserError) as caught:
        signer(setting)
    assert "CYNTHUS_SIGNING_KEY" in str(caught.value)
    assert setting not in str(caught.value)
