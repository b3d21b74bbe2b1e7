"""What the Action asks the server before it deletes an image."""

from __future__ import annotations

import io

import pytest

from action import inputs, prune
from action.submit import Sender
from action.workflow import JobConsole
from cynthus.errors import CynthusError
from cynthus.wire_image import ImagesInUse
from tests.action.world import World


def sender(world: World) -> Sender:
    given = inputs.read(world.environment())
    assert given.job.token_door is not None
    console = JobConsole(io.StringIO())
    return Sender(inputs=given, door=given.job.token_door, console=console, wait=lambda _: None)


def test_the_server_says_what_is_in_use_to_the_jobs_token(world: World) -> None:
    world.view = {"digests": ["sha256:" + "a" * 64], "keys": ["b" * 32]}
    found = prune.in_use(sender(world))
    assert found == ImagesInUse(digests=("sha256:" + "a" * 64,), keys=("b" * 32,))
    asked = world.requests[-1]
    assert (asked.method, asked.path) == ("GET", "/api/v1/images")
    assert asked.token == "header.cynthus.1"


@pytest.mark.parametrize("said", [{}, {"digests": []}, {"digests": 5, "keys": []}])
def test_a_list_that_is_not_whole_frees_nothing(world: World, said: dict[str, object]) -> None:
    world.view = said
    with pytest.raises(CynthusError):
        prune.in_use(sender(world))


@pytest.mark.parametrize(
    ("text", "days"), [("", 30), ("30d", 30), ("24h", 1), ("1d12h", 1.5), ("0", None)]
)
def test_how_long_images_are_kept(world: World, text: str, days: float | None) -> None:
    keep = inputs.read(world.environment(INPUT_KEEP_IMAGES=text)).keep_images
    assert (keep and keep.total_seconds() / 86400) == days


@pytest.mark.parametrize("text", ["1h", "soon", "-3d", "30"])
def test_a_time_that_is_none_or_too_short_is_told(world: World, text: str) -> None:
    with pytest.raises(CynthusError, match=r"keep-images.*a day or more"):
        inputs.read(world.environment(INPUT_KEEP_IMAGES=text))
