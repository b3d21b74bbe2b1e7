"""Delete old images by the policy `keep-images`: a favour to the registry's owner, never a failure.

Nothing goes that a live run or a release stands on: the server's list says which, and without that
list nothing is deleted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from action import server, submit
from action.failures import BuildFailed, RegistryAway
from action.inputs import Inputs
from action.order import Built
from action.prune.choice import Rules, Stored, may_go
from action.prune.shelves import GithubShelf, RegistryShelf, Shelf
from action.registry.connections import Connections
from action.registry.door import Wait
from action.registry.login import credentials_for
from action.registry.pool import RegistryPool
from action.registry.reference import parse
from action.registry.tokens import Credentials
from action.server import Server
from action.workflow import Console
from cynthus.codec import decode
from cynthus.errors import CynthusError, Refused
from cynthus.wire_image import ImagesInUse

MOST_DELETED = 20  # a job: what is left goes with the next ones
LONGEST_S = 20.0  # after the run was asked for: nobody waits for it, but the runner is paid for


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What to delete, and how long to go on."""

    before: datetime
    source: str  # the URL of this repository
    keep_key: str | None
    clock: Callable[[], float]  # seconds


def prune(
    shelves: Iterable[Shelf], policy: Policy, ask: Callable[[], ImagesInUse], console: Console
) -> int:
    """Delete what may go and return how many; safe to repeat, raises nothing of its own.

    `ask` gets the list of what is in use; it may raise CynthusError.
    """
    try:
        in_use = ask()
    except CynthusError as error:
        console.notice(f"no old image was deleted, as what is in use could not be had: {error}")
        return 0
    rules = Rules(
        before=policy.before, in_use=in_use, source=policy.source, keep_key=policy.keep_key
    )
    until = policy.clock() + LONGEST_S
    deleted = 0
    for shelf in shelves:
        try:
            for _ in _sweep(shelf, rules):
                deleted += 1
                if deleted >= MOST_DELETED or policy.clock() > until:
                    return deleted
        except BuildFailed as error:
            console.notice(f"old images were left in {shelf.name}: {error}")
    return deleted


def _sweep(shelf: Shelf, rules: Rules) -> Iterator[Stored]:
    """Yield what was deleted."""
    for image in shelf.stored():
        described = shelf.described(image) if _is_worth_a_look(image, rules) else image
        if may_go(described, rules):
            shelf.delete(described)
            yield described


def _is_worth_a_look(image: Stored, rules: Rules) -> bool:
    """Return whether only the source is missing to say that it may go."""
    return image.source is None and may_go(replace(image, source=rules.source), rules)


def after_run(sender: submit.Sender, spec_name: str, built: Built, now: datetime) -> None:
    """Delete what is old where the job's images lie; a fault is told and holds up nothing."""
    given, console = sender.inputs, sender.console
    if given.keep_images is None or built.about is None:
        return
    policy = Policy(
        before=now - given.keep_images,
        source=f"{given.job.server_url}/{given.job.repository}",
        keep_key=built.about.key,
        clock=time.monotonic,
    )
    asked = Server(url=given.server_url, audience=given.audience, door=sender.door)
    connections = Connections(time.monotonic)
    login = partial(_credentials, given)
    try:
        with RegistryPool(login, wait=_ShortPatience(sender.wait)) as registries:
            places = shelves(given, f"{given.registry}/{spec_name}", registries, connections, login)
            deleted = prune(places, policy, partial(in_use, asked, console), console)
        if deleted:
            console.say(f"deleted {deleted} images older than {given.keep_images.days} days")
    except CynthusError as error:
        console.notice(f"old images were left where they are: {error}")
    finally:
        connections.close()


class _ShortPatience:
    """Wait for a registry that is not well, but not as long as for a run's own image."""

    def __init__(self, wait: Wait) -> None:
        self._wait, self._left_s = wait, LONGEST_S / 4

    def __call__(self, seconds: float) -> None:
        """Wait, unless the patience is at its end.

        Raises: RegistryAway.
        """
        self._left_s -= seconds
        if self._left_s < 0:
            raise RegistryAway("the registry is not well, and this can wait for the next job.")
        self._wait(seconds)


def _credentials(given: Inputs, host: str) -> Credentials | None:
    """Return who we are: the login that was given counts for the registry it was given for."""
    login = given.login if host == parse(given.registry).host else None
    return credentials_for(host, login, given.machine.docker_config)


Login = Callable[[str], Credentials | None]


def shelves(
    given: Inputs, images: str, registries: RegistryPool, connections: Connections, login: Login
) -> Iterator[Shelf]:
    """Yield the repositories that the job's images lie in, where they can be deleted from."""
    for place in (parse(given.environments), parse(images)):
        registry = registries(place.host)
        known = login(place.host)
        if registry.kind.deletes == "oci":
            yield RegistryShelf(
                registry=registry,
                repository=place.repository,
                start=given.job.commit_sha,
                environments=place == parse(given.environments),
            )
        elif registry.kind.deletes == "github" and known is not None:
            yield GithubShelf(
                registry=registry,
                repository=place.repository,
                api=given.job.api_url,
                token=known.password,
                connections=connections,
            )


def in_use(asked: Server, console: Console) -> ImagesInUse:
    """Ask the server what live runs and releases stand on.

    Raises: CynthusError when it does not say.
    """
    reply = server.ask(asked, "/api/v1/images", console)
    if reply.status != 200:  # noqa: PLR2004 - OK
        raise Refused(f"the server answers {reply.status}")
    found = reply.json()
    if not isinstance(found, dict) or not {"digests", "keys"} <= found.keys():
        raise Refused("the server's list is not whole")  # an empty one would free everything
    return decode(ImagesInUse, found)
