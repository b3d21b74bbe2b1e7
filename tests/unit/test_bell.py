"""Who waits for a topic is woken by its rings, and sees those that came before it waited."""

from __future__ import annotations

import threading

from webhook_server.bell import MOST_TOPICS, Bell

LONG_S = 30.0  # never waited for: a ring comes sooner, or the test fails by its own limit


def waiting(bell: Bell, topic: str) -> threading.Thread:
    thread = threading.Thread(target=bell.wait, args=(topic, bell.count(topic), LONG_S))
    thread.start()
    return thread


def test_a_ring_wakes_everyone_who_waits_for_its_topic_and_nobody_else() -> None:
    bell = Bell()
    first, second, other = (waiting(bell, topic) for topic in ("runs", "runs", "deliveries"))
    bell.ring("runs")
    first.join(5)
    second.join(5)
    assert not first.is_alive()
    assert not second.is_alive()
    assert other.is_alive()
    bell.ring("deliveries")
    other.join(5)
    assert not other.is_alive()


def test_a_ring_that_came_before_the_wait_ends_it_at_once() -> None:
    bell = Bell()
    seen = bell.count("runs")
    bell.ring("runs")
    bell.wait("runs", seen, LONG_S)
    assert bell.count("runs") == seen + 1


def test_a_wait_without_a_ring_ends_with_its_time() -> None:
    bell = Bell()
    bell.wait("runs", bell.count("runs"), 0.0)
    assert bell.count("runs") == 0


def test_topics_of_long_ago_are_forgotten_and_look_rung_to_who_counted_them() -> None:
    bell = Bell()
    bell.ring("events/old")
    seen = bell.count("events/old")
    for number in range(MOST_TOPICS):
        bell.ring(f"events/{number}")
    bell.wait("events/old", seen, LONG_S)
    bell.ring("events/old")
    assert bell.count("events/old") != seen
