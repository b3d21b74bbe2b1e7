"""Enrol: show who this agent is, by its one-time secret or by Google's word on the instance."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from runner_images.agent.metadata import Metadata, NoMetadata

PATIENCE_S = 60.0  # a machine that has just booted may have its metadata server a little later
PAUSE_S = 1.0


class NoProof(Exception):  # noqa: N818 - reads as what happened
    """There is nothing to show; the text says why."""


def read_secret(path: Path) -> str:
    """Return the one-time secret. Raises: NoProof."""
    try:
        return path.read_text("utf-8").strip()
    except OSError as error:
        raise NoProof(f"{path}: should hold the secret: {error.strerror}") from error


def google_token(
    metadata: Metadata, audience: str, *, clock: Callable[[], float], over: threading.Event
) -> str:
    """Return Google's signed word on which instance this is, good for an hour.

    Raises: NoProof when the metadata server does not give one: the instance has no service account.
    """
    began = clock()
    while True:
        try:
            return metadata.identity_token(audience)
        except NoMetadata as error:
            if clock() - began > PATIENCE_S or over.wait(PAUSE_S):
                text = f"identity: {error}. Give the instance a service account."
                raise NoProof(text) from error
