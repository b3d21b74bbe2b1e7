"""Fuzz targets for the two programs that hide secrets: what goes in masked never comes out."""

from __future__ import annotations

from runner_images.agent import masking
from runner_images.agent.masking import Masks
from webhook_server.runs.redact import Redactor

_MOST_SECRETS = 4
_LONGEST = 200  # characters of text: every split of it is tried


def agents_masks(data: bytes) -> None:
    """Wherever a log is split, the parts joined are what hiding the whole gives; no value shows."""
    secrets, text = _read(data)
    masks = Masks(secrets)
    whole = masks.hide(text)
    for cut in range(len(text) + 1):
        shown, held = masks.hide_ready(text[:cut])
        assert shown + masks.hide(held + text[cut:]) == whole
    _one_by_one(masks, text, whole)
    for secret in secrets:
        for spelling in masking.spellings(secret):
            assert spelling not in whole


def _one_by_one(masks: Masks, text: str, whole: str) -> None:
    shown, held = "", ""
    for sign in text:
        ready, held = masks.hide_ready(held + sign)
        shown += ready
    assert shown + masks.hide(held) == whole


def servers_redactor(data: bytes) -> None:
    """No known value is left, in texts, in members and in their names."""
    secrets, text = _read(data)
    redactor = Redactor(secrets)
    assert not redactor.finds(redactor.text(text))
    told = redactor.value({"text": [text, {text: text}]})
    assert not redactor.finds(told["text"][0])
    assert not any(redactor.finds(name) for name in told["text"][1])
    for secret in secrets:
        if len(secret) >= masking.SHORTEST_LITERAL:
            assert secret not in redactor.text(f"{text}{secret}{text}")


def _read(data: bytes) -> tuple[list[str], str]:
    """Return secrets and a text, parted by a byte that UTF-8 never has; `*` is what hides them."""
    *secrets, text = data.split(b"\xff")
    readable = [part.decode("utf-8", "replace").replace("*", "+") for part in secrets]
    return [secret for secret in readable if secret][:_MOST_SECRETS], text.decode(
        "utf-8", "replace"
    ).replace("*", "+")[:_LONGEST]
