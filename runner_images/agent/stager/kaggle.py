"""Fetch from Kaggle with its own client: always one archive, which the agent unpacks.

https://github.com/Kaggle/kaggle-cli/tree/main/docs
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from runner_images.agent.stager.words import Asked, Fault, said

SECRETS = ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN")


def fetch(asked: Asked) -> None:
    """Have the archive below the folder and tell its path. Raises: Fault."""
    asked.tell("listed")  # Kaggle names no files beforehand
    asked.skipped()
    request = asked.request
    # The client reads them from its own environment alone; this process starts no other.
    os.environ.update(
        {name: request["secrets"][name] for name in SECRETS if name in request["secrets"]}
    )
    folder = Path(request["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _download(_client(request["endpoint"]), request, folder)
    except Fault:
        raise
    except SystemExit as error:  # the client ends the process where it may not go on
        raise Fault("unauthorized", _REFUSED) from error
    except Exception as error:  # its transport raises its own kinds
        raise _fault(error, request) from error
    archives = [path for path in folder.iterdir() if not path.name.endswith(".kaggle-partial")]
    if len(archives) != 1:
        raise Fault("client", f"the client left {len(archives)} files where one archive should be")
    asked.tell("archive", path=archives[0].name)


_REFUSED = (
    "kaggle: its token is missing or not valid any more."
    " Set the secret KAGGLE_API_TOKEN, or KAGGLE_USERNAME with KAGGLE_KEY"
)


def _client(endpoint: str) -> Any:
    """Return the client, signed in; importing it asks Kaggle already."""
    try:
        if endpoint:
            _go_to(endpoint)
        from kaggle.api.kaggle_api_extended import KaggleApi
    except ImportError as error:
        raise Fault("client", f"kaggle cannot be imported: {error}") from error
    api = KaggleApi()
    api.authenticate()  # what the import did, but with its exit
    return api


def _go_to(endpoint: str) -> None:
    """Have the client ask another address: it has no setting for one."""
    from kagglesdk import kaggle_env

    kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = endpoint.rstrip("/")  # noqa: SLF001


def _download(api: Any, request: dict[str, Any], folder: Path) -> None:
    kind, name = request["kind"], request["name"]
    if kind == "datasets":
        api.dataset_download_files(f"{name}/{request['version']}", path=str(folder))
    elif kind == "competitions":
        api.competition_download_files(name, path=str(folder))
    else:
        api.model_instance_version_download(f"{name}/{request['version']}", path=str(folder))


def _fault(error: Exception, request: dict[str, Any]) -> Fault:
    name, page = request["name"], _page(request)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Fault("disk", "the instance's disk is full")
    status = getattr(getattr(error, "response", None), "status_code", 0) or 0
    if status == 401:  # noqa: PLR2004 - RFC 9110, 15.5.2
        return Fault("unauthorized", _REFUSED)
    if status == 403:  # noqa: PLR2004 - RFC 9110, 15.5.4
        text = f"{name}: accept its terms or rules at {page} with the account of the token"
        return Fault("gated", text, page)
    if status == 404:  # noqa: PLR2004 - RFC 9110, 15.5.5
        return Fault("absent", f"{name} is not there in this version: look at {page}", page)
    return Fault("network", f"{name}: {said(error)}")


def _page(request: dict[str, Any]) -> str:
    tail = "/rules" if request["kind"] == "competitions" else ""
    return f"https://www.kaggle.com/{request['kind']}/{request['name']}{tail}"
