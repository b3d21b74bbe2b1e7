"""Which old images may go: what is not known to be ours, old and unused, stays."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from action.failures import RegistryRefused
from action.prune.choice import Rules, Stored, from_place, may_go
from action.prune.prune import LONGEST_S, MOST_DELETED, Policy, prune
from action.workflow import JobConsole
from cynthus.errors import Transient
from cynthus.wire_image import ImagesInUse

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OLD = NOW - timedelta(days=40)
OURS = "https://github.com/acme/train"
DIGEST = "sha256:" + "d" * 64
KEY, COMMIT, INPUTS = "e" * 32, "c" * 40, "in-" + "f" * 32
RULES = Rules(before=NOW - timedelta(days=30), in_use=ImagesInUse(), source=OURS)
RUN = Stored(digest=DIGEST, tags=(COMMIT,), created=OLD, handle=DIGEST, source=OURS)
ENVIRONMENT = replace(RUN, tags=(KEY, INPUTS), source=None)


@pytest.mark.parametrize("image", [RUN, ENVIRONMENT, replace(RUN, tags=(f"about-{KEY}",))])
def test_what_is_ours_and_old_and_unused_may_go(image: Stored) -> None:
    assert may_go(image, RULES)


@pytest.mark.parametrize(
    "image",
    [
        replace(RUN, created=NOW - timedelta(days=29)),
        replace(RUN, created=None),
        replace(RUN, created=datetime.fromtimestamp(0, UTC)),  # a commit without a date
        replace(RUN, tags=()),  # a part of another image, perhaps
        replace(RUN, tags=("latest",)),
        replace(RUN, tags=(COMMIT, "v1.0")),  # somebody named it
        replace(RUN, tags=(COMMIT, KEY)),
        replace(RUN, source="https://github.com/acme/other"),
        replace(RUN, source=None),
        replace(ENVIRONMENT, tags=(INPUTS,)),  # which environment it is cannot be said
        replace(ENVIRONMENT, tags=(KEY, "mine")),
    ],
)
def test_everything_else_stays(image: Stored) -> None:
    assert not may_go(image, RULES)


@pytest.mark.parametrize(
    ("image", "in_use"),
    [
        (RUN, ImagesInUse(digests=(DIGEST,))),
        (ENVIRONMENT, ImagesInUse(keys=(KEY,))),
        (replace(RUN, tags=(f"about-{KEY}",)), ImagesInUse(keys=(KEY,))),
    ],
)
def test_what_is_in_use_stays(image: Stored, in_use: ImagesInUse) -> None:
    assert not may_go(image, replace(RULES, in_use=in_use))


def test_the_environment_of_this_run_stays() -> None:
    assert not may_go(ENVIRONMENT, replace(RULES, keep_key=KEY))


@given(
    st.sets(st.text(alphabet="0123456789abcdef", min_size=1, max_size=4)),
    st.text("0af", max_size=3),
)
def test_each_job_begins_elsewhere_and_leaves_none_out(tags: set[str], start: str) -> None:
    found = from_place(tags, start)
    assert sorted(found) == sorted(tags)
    if any(tag >= start for tag in tags):
        assert found[0] == min(tag for tag in tags if tag >= start)


class Memory:
    """A shelf that is a list."""

    name = "memory/images"

    def __init__(self, *images: Stored, fault: bool = False) -> None:
        self.images, self.fault = list(images), fault

    def stored(self) -> Iterator[Stored]:
        yield from tuple(self.images)

    def described(self, image: Stored) -> Stored:
        return replace(image, source=OURS)

    def delete(self, image: Stored) -> None:
        if self.fault:
            raise RegistryRefused("memory: should delete, found 403.")
        self.images.remove(image if image in self.images else replace(image, source=None))


def policy(clock: list[float] | None = None) -> Policy:
    moments = iter(clock or [])
    return Policy(before=RULES.before, source=OURS, keep_key=None, clock=lambda: next(moments, 0.0))


def run_image(number: int) -> Stored:
    return replace(RUN, digest=f"sha256:{number:064x}", handle=f"sha256:{number:064x}")


def test_without_the_servers_list_nothing_is_deleted() -> None:
    def away() -> ImagesInUse:
        raise Transient("the server does not answer")

    shelf, said = Memory(RUN), io.StringIO()
    assert prune([shelf], policy(), away, JobConsole(said)) == 0
    assert shelf.images == [RUN]
    assert said.getvalue().startswith("::notice title=Cynthus::no old image was deleted")
    assert "the server does not answer" in said.getvalue()


def test_a_source_that_the_list_does_not_tell_is_looked_up() -> None:
    shelf = Memory(replace(RUN, source=None))
    assert prune([shelf], policy(), ImagesInUse, JobConsole(io.StringIO())) == 1
    assert shelf.images == []


def test_a_refusal_is_a_notice_and_the_next_repository_has_its_turn() -> None:
    refusing, other, said = Memory(RUN, fault=True), Memory(RUN), io.StringIO()
    assert prune([refusing, other], policy(), ImagesInUse, JobConsole(said)) == 1
    assert said.getvalue() == (
        "::notice title=Cynthus::old images were left in memory/images: "
        "memory: should delete, found 403.\n"
    )


def test_a_job_deletes_a_few_and_not_for_long() -> None:
    shelf = Memory(*(run_image(number) for number in range(MOST_DELETED + 5)))
    assert prune([shelf], policy(), ImagesInUse, JobConsole(io.StringIO())) == MOST_DELETED
    slow = Memory(*(run_image(number) for number in range(5)))
    assert (
        prune([slow], policy([0.0, 1.0, LONGEST_S + 1]), ImagesInUse, JobConsole(io.StringIO()))
        == 2
    )
