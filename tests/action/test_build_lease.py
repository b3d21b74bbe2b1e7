"""The build lease against a server that keeps one, as the door is described."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from action.environment import build_lease, kept_lock
from action.environment.build_lease import Post
from action.server import Server
from action.workflow import PlainConsole
from tests.action.doors import Doors, doors

__all__ = ["doors"]

KEY = "a" * 32


def test_the_lease_is_given_back_after_the_build(doors: Doors) -> None:
    with build_lease.held(KEY, doors.post("run-1"), lambda: False) as ours:
        assert ours
        assert doors.holder == "run-1"
    assert doors.holder is None
    assert [ask["done"] for ask in doors.asks] == [False, True]


def test_it_is_given_back_when_the_build_fails(doors: Doors) -> None:
    with pytest.raises(RuntimeError), build_lease.held(KEY, doors.post("run-1"), lambda: False):
        raise RuntimeError
    assert doors.holder is None


def test_a_long_build_asks_again_and_again(doors: Doors) -> None:
    post = doors.post("run-1", renew_s=0.01)
    with build_lease.held(KEY, post, lambda: False) as ours, doors.asked:
        assert ours
        assert doors.asked.wait_for(lambda: len(doors.asks) >= 4, timeout=60)


def test_of_two_at_once_one_builds_and_the_other_takes_what_it_made(doors: Doors) -> None:
    there = threading.Event()
    built: list[str] = []
    began = threading.Event()
    waits = threading.Event()
    told = io.StringIO()

    def wait(_seconds: float) -> None:
        waits.set()
        there.wait(60)

    def first() -> None:
        with build_lease.held(KEY, doors.post("run-1"), there.is_set) as ours:
            assert ours
            began.set()
            assert waits.wait(60)
            built.append("run-1")
            there.set()

    def second() -> bool:
        assert began.wait(60)
        post = doors.post("run-2", console=PlainConsole(told), wait=wait)
        with build_lease.held(KEY, post, there.is_set) as ours:
            return ours

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.submit(first), pool.submit(second)
        one.result()
        assert other.result() is False
    assert built == ["run-1"]
    assert "environment aaaaaaaaaaaa: run-1 is building it; waiting" in told.getvalue()
    assert "built by run-1" in told.getvalue()


def test_whoever_waited_for_a_build_that_failed_builds_itself(doors: Doors) -> None:
    doors.holder = "run-1"

    def wait(_seconds: float) -> None:
        doors.holder = None  # its job died, and the lease ended

    with build_lease.held(KEY, doors.post("run-2", wait=wait), lambda: False) as ours:
        assert ours
        assert doors.holder == "run-2"


def test_nobody_waits_for_ever(doors: Doors) -> None:
    """A waiting that never ended is found by the limit on a test's time."""
    doors.holder = "run-1"
    waited, told = [0.0], io.StringIO()

    def wait(seconds: float) -> None:
        waited[0] += seconds
        doors.holder = "run-1" if waited[0] <= 2 * build_lease.LONGEST_WAIT_S else None

    post = doors.post("run-2", wait=wait, console=PlainConsole(told))
    with build_lease.held(KEY, post, lambda: False) as ours:
        assert ours
    assert waited[0] == build_lease.LONGEST_WAIT_S
    assert doors.holder == "run-1"
    assert "building it here" in told.getvalue()


def test_what_was_finished_just_before_our_turn_is_not_built_again(doors: Doors) -> None:
    with build_lease.held(KEY, doors.post("run-1"), lambda: True) as ours:
        assert not ours
        assert doors.holder is None


@pytest.mark.parametrize("status", [404, 405, 403, 500, 503])
def test_a_server_that_keeps_no_leases_keeps_nobody_from_building(
    doors: Doors, status: int
) -> None:
    doors.status = status
    told = io.StringIO()
    with build_lease.held(KEY, doors.post("run-1", console=PlainConsole(told)), bool) as ours:
        assert ours
    assert ("no build lease" in told.getvalue()) is (status not in {404, 405})


def test_neither_does_one_that_is_away(doors: Doors) -> None:
    nobody = Server(url="http://127.0.0.1:9", audience="cynthus", door=doors.server().door)
    told = io.StringIO()
    post = Post(server=nobody, holder="run-1", console=PlainConsole(told))
    with build_lease.held(KEY, post, bool) as ours:
        assert ours
    assert "no build lease (127.0.0.1:9 does not answer" in told.getvalue()


def test_without_a_server_one_simply_builds() -> None:
    post = Post(server=None, holder="", console=PlainConsole(io.StringIO()))
    with build_lease.held(KEY, post, lambda: False) as ours:
        assert ours


# ── the lock of the same commit ─────────────────────────────────────────────────────────────────

COMMIT = kept_lock.Commit(sha="c" * 40, spec_path="runs/a b.yaml")
QUERY = f"commit={'c' * 40}&spec=runs%2Fa+b.yaml"


BASE = "docker.io/library/python:3.11"
DIGEST = "sha256:" + "b" * 64


def asked(doors: Doors, base: str = BASE) -> kept_lock.Kept | None:
    return kept_lock.ask(doors.server(), COMMIT, base, PlainConsole(io.StringIO()))


def test_the_same_commit_gets_its_lock_back_for_the_same_base(doors: Doors) -> None:
    lock = kept_lock.marked("six==1.16.0 --hash=sha256:aa\n", BASE, DIGEST)
    doors.locks[QUERY] = {"key": KEY, "lock": lock}
    assert asked(doors) == kept_lock.Kept(key=KEY, lock=lock, digest=DIGEST)
    assert asked(doors, f"{BASE}@sha256:{'c' * 64}") == asked(doors)
    assert asked(doors, "docker.io/library/python:3.12") is None


def test_a_lock_that_does_not_say_for_which_base_is_not_taken(doors: Doors) -> None:
    doors.locks[QUERY] = {"key": KEY, "lock": "six==1.16.0\n"}
    assert asked(doors) is None


def test_a_commit_that_was_never_built_has_none(doors: Doors) -> None:
    assert asked(doors) is None


def test_a_lock_is_marked_once() -> None:
    twice = kept_lock.marked(kept_lock.marked("six==1\n", "a:1", DIGEST), f"b:2@{DIGEST}", DIGEST)
    assert twice == f"# cynthus: on b:2@{DIGEST}\nsix==1\n"
