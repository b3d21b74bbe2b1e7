"""Do something for many things, a few at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def together(work: Callable[[T], None], items: Iterable[T], *, at_once: int) -> None:
    """Call `work` with each item in `at_once` threads; the first failure ends all and is raised.

    What is under way then is waited for.
    """
    left: Iterator[T] = iter(items)
    lock, failures = threading.Lock(), list[BaseException]()

    def turn() -> None:
        while not failures:
            with lock:
                item = next(left, _END)
            if isinstance(item, _End):
                return
            try:
                work(item)
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                failures.append(error)

    threads = [threading.Thread(target=turn, daemon=True) for _ in range(at_once - 1)]
    for thread in threads:
        thread.start()
    turn()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class _End:
    """There is no item left."""


_END = _End()
