"""A server begins anew when an App appears, and only then; a stop stays a stop."""

from __future__ import annotations

import threading

from cynthus.errors import Transient
from webhook_server.bell import Bell
from webhook_server.renewal import TOPIC, Renewal, _without

WAIT_S = 20


def test_it_begins_anew_once_an_app_is_there() -> None:
    bell, there, stopped = Bell(), threading.Event(), threading.Event()
    renewal = Renewal(there.is_set, bell)
    renewal.watch(stopped.set)
    assert not renewal.wanted
    there.set()
    bell.ring(TOPIC)
    assert stopped.wait(WAIT_S)
    assert renewal.wanted


def test_a_database_that_does_not_answer_is_asked_again() -> None:
    bell, asked, stopped = Bell(), threading.Event(), threading.Event()

    def is_there() -> bool:
        if asked.is_set():
            return True
        asked.set()
        bell.ring(TOPIC)
        raise Transient("the database does not answer.")

    renewal = Renewal(is_there, bell)
    renewal.watch(stopped.set)
    assert stopped.wait(WAIT_S)
    assert renewal.wanted


def test_a_stop_that_comes_meanwhile_wins() -> None:
    stopped = threading.Event()
    renewal = Renewal(lambda: True, Bell())
    renewal.watch(stopped.set)
    assert stopped.wait(WAIT_S)
    renewal.give_up()
    assert not renewal.wanted


def test_the_socket_of_an_earlier_life_is_not_named_again() -> None:
    words = ["--role", "api", "--listening", "7", "--port", "80"]
    assert _without(words) == ["--role", "api", "--port", "80"]
    assert _without(["--role", "api"]) == ["--role", "api"]
