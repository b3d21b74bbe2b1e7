"""What the provider remembers of names, and for how long."""

from __future__ import annotations

from webhook_server.providers.gcp_memory import FORGET_AFTER_S, HIDDEN_FOR_S, Memory

ZONE = "us-central1-a"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_was_seen_once_is_never_hidden_again() -> None:
    memory = Memory(Clock())
    assert memory.may_be_hidden(memory.remember("a", ZONE, seen=False))
    assert not memory.may_be_hidden(memory.remember("a", ZONE, seen=True))
    assert not memory.may_be_hidden(memory.remember("a", ZONE, seen=False))


def test_the_time_to_become_visible_counts_from_the_first_word_of_it() -> None:
    clock = Clock()
    memory = Memory(clock)
    memory.remember("a", ZONE, seen=False)
    clock.now = HIDDEN_FOR_S - 1
    assert memory.may_be_hidden(memory.remember("a", ZONE, seen=False))
    clock.now = HIDDEN_FOR_S
    assert not memory.may_be_hidden(memory.of("a"))


def test_a_name_that_nobody_told_of_is_not_hidden() -> None:
    memory = Memory(Clock())
    assert not memory.may_be_hidden(memory.of("a"))


def test_what_is_listed_or_was_used_lately_is_kept() -> None:
    clock = Clock()
    memory = Memory(clock)
    memory.remember("old", ZONE, seen=True)
    memory.remember("listed", ZONE, seen=True)
    clock.now = FORGET_AFTER_S + 1
    memory.remember("new", ZONE, seen=True)
    memory.forget_all_but({"listed"})
    assert [memory.of(name) is not None for name in ("old", "listed", "new")] == [
        False,
        True,
        True,
    ]
