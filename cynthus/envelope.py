"""Signed statements in DSSE envelopes: what is signed, and how it is written in one line of JSON.

https://github.com/secure-systems-lab/dsse/blob/master/protocol.md and envelope.md beside it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass

from cynthus.errors import UserError

# https://github.com/in-toto/attestation/blob/main/spec/v1/envelope.md
STATEMENT_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True, kw_only=True)
class Signature:
    """One signature over an envelope's payload."""

    key_id: str  # SHA-256 of the public key's DER form, in hex
    value: bytes


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """A payload with its signatures."""

    payload: bytes
    signatures: tuple[Signature, ...]

    @property
    def signed(self) -> bytes:
        """Return the bytes that each signature covers."""
        return signed_bytes(self.payload)


def signed_bytes(payload: bytes) -> bytes:
    """Return what is signed for a statement: its type stands before it, so that none is mistaken.

    PAE of https://github.com/secure-systems-lab/dsse/blob/master/protocol.md#signature-definition
    """
    kind = STATEMENT_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def seal(payload: bytes, sign: Callable[[bytes], Signature]) -> bytes:
    """Return the envelope of a statement as one line of JSON."""
    signature = sign(signed_bytes(payload))
    envelope = {
        "payloadType": STATEMENT_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [
            {"keyid": signature.key_id, "sig": base64.b64encode(signature.value).decode()}
        ],
    }
    return json.dumps(envelope).encode() + b"\n"


def unseal(line: bytes) -> Envelope:
    """Return the envelope that a line is; a bare statement is one without signatures.

    Raises: UserError when it is neither.
    """
    try:
        value = json.loads(line)
        if "payloadType" not in value and "_type" in value:
            return Envelope(payload=line.strip(), signatures=())
        if value["payloadType"] != STATEMENT_TYPE:
            raise ValueError
        return Envelope(
            payload=base64.b64decode(value["payload"], validate=True),
            signatures=tuple(
                Signature(
                    key_id=str(one.get("keyid", "")),
                    value=base64.b64decode(one["sig"], validate=True),
                )
                for one in value["signatures"]
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        raise UserError(
            "provenance: should be an in-toto statement, in a DSSE envelope or bare, found"
            " something else. Download it again."
        ) from None
