"""Answers of other threads reach the event loop, many in one call, whatever becomes of them."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from webhook_server.routes.landing import Landing


def test_every_answer_lands_where_it_is_waited_for() -> None:
    async def wait() -> list[int]:
        landing = Landing()
        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(lambda n=n: n * n) for n in range(500)]
            return await asyncio.gather(*(landing.wait_for(answer) for answer in answers))

    assert asyncio.run(wait()) == [n * n for n in range(500)]


def test_an_answer_that_is_there_already_lands() -> None:
    async def wait() -> str:
        answer: Future[str] = Future()
        answer.set_result("there")
        return await Landing().wait_for(answer)

    assert asyncio.run(wait()) == "there"


def test_a_fault_lands_as_itself() -> None:
    async def wait() -> None:
        answer: Future[str] = Future()
        answer.set_exception(LookupError("gone"))
        await Landing().wait_for(answer)

    with pytest.raises(LookupError, match="gone"):
        asyncio.run(wait())


def test_a_work_that_was_called_off_ends_the_wait() -> None:
    async def wait() -> None:
        answer: Future[str] = Future()
        waiter = Landing().wait_for(answer)
        answer.cancel()
        await waiter

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(wait())


def test_who_gives_up_stops_neither_the_work_nor_the_others() -> None:
    async def wait() -> tuple[bool, str]:
        landing = Landing()
        first: Future[str] = Future()
        second: Future[str] = Future()
        given_up, kept = landing.wait_for(first), landing.wait_for(second)
        given_up.cancel()
        first.set_result("late")
        second.set_result("kept")
        return first.cancelled(), await kept

    assert asyncio.run(wait()) == (False, "kept")


def test_every_wait_ends_at_its_limit_and_what_was_answered_before_stays() -> None:
    async def wait() -> tuple[int, list[BaseException | int]]:
        landing, never, kept = Landing(0.01), Future[int](), Future[int]()
        first, answered, second = (landing.wait_for(one) for one in (never, kept, never))
        kept.set_result(3)
        found = await answered
        ended = await asyncio.gather(first, second, return_exceptions=True)
        later = asyncio.gather(landing.wait_for(never), return_exceptions=True)  # a timer anew
        return found, [*ended, *await later]

    found, ended = asyncio.run(wait())
    assert found == 3
    assert [type(one) for one in ended] == [TimeoutError] * 3


def test_an_answer_after_its_limit_harms_nobody() -> None:
    async def wait() -> int:
        landing, late, second = Landing(0.01), Future[int](), Future[int]()
        waiter = landing.wait_for(late)
        with pytest.raises(TimeoutError):
            await waiter
        late.set_result(1)
        second.set_result(2)
        return await landing.wait_for(second)

    assert asyncio.run(wait()) == 2
