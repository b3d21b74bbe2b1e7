"""Which commit an ask is about: every order of pushes, comments and deliveries."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from cynthus.repository_policy import Verb
from tests.builders import NOON
from webhook_server.runs.pull import (
    MOST_REPLIES,
    Head,
    Pull,
    Reply,
    Unproven,
    proven_head,
    with_head,
    with_reply,
)

CLEAN, EVIL = "c" * 40, "e" * 40
PULL = Pull(repository_id=7, number=3, repository="acme/vision")


def told(*heads: tuple[str, int]) -> Pull:
    """Return the pull request after deliveries in this order, each with GitHub's moment."""
    pull = PULL
    for sha, second in heads:
        pull = with_head(pull, sha, NOON + timedelta(seconds=second))
    return pull


@pytest.mark.case("C11")
@pytest.mark.parametrize(
    ("heads", "now_sha", "asked_s", "proven"),
    [
        # opened, then asked, then handled: the ordinary case
        ([(CLEAN, 0)], CLEAN, 10, True),
        # asked in the second of the push: GitHub's clock cannot say which was first
        ([(CLEAN, 10)], CLEAN, 10, False),
        # asked before the push that is the head now: the author looked at another commit
        ([(CLEAN, 0), (EVIL, 11)], EVIL, 10, False),
        # the push came after the comment, and its delivery has not come yet
        ([(CLEAN, 0)], EVIL, 10, False),
        # the push came before the comment, and its delivery has not come yet
        ([(CLEAN, 0)], EVIL, 20, False),
        # the comment's delivery overtook that of `opened`
        ([], CLEAN, 10, False),
        # asked after the newer push, deliveries in order, and the other way round
        ([(CLEAN, 0), (EVIL, 11)], EVIL, 20, True),
        ([(EVIL, 11), (CLEAN, 0)], EVIL, 20, True),
        # pushed, and pushed back: the commit is the same, the look between was at another
        ([(EVIL, 0), (CLEAN, 11), (EVIL, 21)], EVIL, 15, False),
        ([(EVIL, 0), (EVIL, 21), (CLEAN, 11)], EVIL, 15, False),
        ([(EVIL, 0), (CLEAN, 11), (EVIL, 21)], EVIL, 30, True),
    ],
)
def test_c11_a_commit_is_proven_only_if_it_was_the_head_before_the_comment(
    heads: list[tuple[str, int]], now_sha: str, asked_s: int, proven: bool
) -> None:
    asked_at = NOON + timedelta(seconds=asked_s)
    found = proven_head(told(*heads), now_sha, asked_at=asked_at, named=None)
    if proven:
        assert found == now_sha
        return
    assert isinstance(found, Unproven)
    assert f"`{now_sha}`" in found.text


def test_a_commit_named_in_full_needs_no_proof_but_must_be_the_head_now() -> None:
    asked_at = NOON - timedelta(hours=1)
    assert proven_head(PULL, CLEAN, asked_at=asked_at, named=CLEAN.upper()) == CLEAN
    found = proven_head(PULL, EVIL, asked_at=asked_at, named=CLEAN)
    assert found == Unproven(
        text="the head is eeeeeee now, and not ccccccc. Look at it and ask again."
    )


@pytest.mark.case("C11")
@pytest.mark.parametrize("fork", [False, True])
def test_c11_another_commit_with_the_same_first_digits_is_not_the_one_that_was_named(
    fork: bool,
) -> None:
    looked_at, made_alike = CLEAN[:7] + "1" * 33, CLEAN[:7] + "2" * 33
    asked_at = NOON + timedelta(minutes=1)
    before = replace(told((looked_at, 0)), fork=fork)
    after = with_head(before, made_alike, asked_at + timedelta(seconds=1))
    for known in (before, after):  # whether its delivery has come or not
        found = proven_head(known, made_alike, asked_at=asked_at, named=CLEAN[:7])
        assert isinstance(found, Unproven)
        assert f"`{made_alike}`" in found.text
    assert proven_head(before, looked_at, asked_at=asked_at, named=CLEAN[:7]) == looked_at


@pytest.mark.case("C11")
def test_c11_a_forks_commit_must_be_named() -> None:
    fork = replace(told((CLEAN, 0)), fork=True)
    asked_at = NOON + timedelta(minutes=1)
    assert isinstance(proven_head(fork, CLEAN, asked_at=asked_at, named=None), Unproven)
    assert proven_head(fork, CLEAN, asked_at=asked_at, named=CLEAN[:7]) == CLEAN


@pytest.mark.case("W11")
def test_w11_an_older_head_never_replaces_a_newer_one() -> None:
    newer = Head(sha=EVIL, since=NOON + timedelta(seconds=5))
    assert told((EVIL, 5), (CLEAN, 0)).head == newer
    assert told((EVIL, 5), (CLEAN, 5)).head == newer
    assert with_head(told((EVIL, 5)), CLEAN, None).head == newer


def a_reply(key: str, text: str = "done") -> Reply:
    return Reply(key=key, at=NOON, by="ada", verb=Verb.RUN, asked="run", refused=False, text=text)


def test_an_answer_is_given_once_and_only_the_newest_are_kept() -> None:
    pull = PULL
    for number in range(MOST_REPLIES + 5):
        pull = with_reply(pull, a_reply(f"comment/{number}/0"))
    assert [reply.key for reply in pull.replies][:1] == ["comment/5/0"]
    assert len(pull.replies) == MOST_REPLIES
    assert with_reply(pull, a_reply("comment/9/0", "another text")) == pull
