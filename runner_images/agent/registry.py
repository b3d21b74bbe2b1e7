"""Find out what to show an image registry: the instance's own token, to Google's alone."""

from __future__ import annotations

import re

from runner_images.agent.metadata import Metadata

# https://cloud.google.com/artifact-registry/docs/transition/transition-from-gcr
_GOOGLE_HOST = re.compile(r"[a-z0-9-]+-docker\.pkg\.dev|(?:[a-z]+\.)?gcr\.io")
USER = "oauth2accesstoken"  # https://cloud.google.com/artifact-registry/docs/docker/authentication#token


def google_login(image: str, metadata: Metadata) -> dict[str, str] | None:
    """Return user name with password for the registry of `image`; None: it is not Google's.

    Raises: NoMetadata. The token ends after an hour: it is asked for before each pull.
    """
    if _GOOGLE_HOST.fullmatch(image.partition("/")[0]) is None:
        return None
    return {"username": USER, "password": metadata.access_token()}
