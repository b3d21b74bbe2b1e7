"""Turn the Docker engine's refusals into reasons why a command cannot start."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner_images.agent.container_image import passes
from runner_images.agent.workload import CannotStart

if TYPE_CHECKING:
    from docker.errors import APIError


def api_error() -> type[APIError]:
    """Return the class of the engine's refusals, imported when it is needed."""
    from docker.errors import APIError

    return APIError


@contextlib.contextmanager
def translated(where: str) -> Iterator[None]:
    """Raise CannotStart for a refusal of the engine, or for none of its answers."""
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except APIError as error:
        text = f"{where}: {error.explanation or error}"
        users_fault = _no_such_program(error) or "permission denied" in text
        raise CannotStart(text, infrastructure=not users_fault and passes(text)) from error
    except (DockerException, RequestException, OSError) as error:
        raise CannotStart(f"{where}: {error}", infrastructure=True) from error


def _no_such_program(error: APIError) -> bool:
    text = str(error)
    return "executable file not found" in text or "no such file or directory" in text
