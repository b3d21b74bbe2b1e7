"""Share datasets between instances through the blob store: one has it from its hub for all.

Thread-safe. Every call may raise Unanswered: then the attempt goes on without the cache.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal, TypeVar

from cynthus.codec import decode, encode
from cynthus.errors import UserError
from cynthus.tree_form import LIST_LIMIT_BYTES, read_tree
from cynthus.wire_cache import (
    DATA_BATCH,
    DataAddress,
    DataAddresses,
    DataAsk,
    DataClaimView,
    DataListing,
    ListedFile,
    Standing,
)
from cynthus.wire_data import Tree, TreeFile
from runner_images.agent.door import Door, TurnedAway, Unanswered
from runner_images.agent.fetching import Fetching
from runner_images.agent.keeping import Keeping

#: A commit has the server look at every file of the list: 400,000 take it some tens of seconds.
ANSWER_S = 120.0
TRIES = 4  # with pauses about four seconds: the cache saves time, it must not cost any
_FIRST_PAUSE_S = 0.5

T = TypeVar("T")
Put = Callable[[TreeFile], AbstractContextManager[BinaryIO]]
Open = Callable[[TreeFile], BinaryIO]


class Damaged(Unanswered):
    """What came is not what was kept: the server was told, and has it brought anew."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Where a key's bytes are to be had."""

    standing: Literal["ready", "fetch", "wait"]
    tree: Tree | None = None  # ready: what to fetch
    wait_s: float = 0.0  # wait: ask again then


class SharedCache:
    """The blob store's cache, as one attempt may use it."""

    def __init__(self, server_url: str, token: str, over: threading.Event) -> None:
        self._doors = _Doors(server_url, token)
        self._over = over
        self._mistrusted: set[str] = set()  # keys whose tree came damaged: ours alone is asked for

    def claim(self, key: str) -> Claim:
        """Ask who has the bytes of a dataset; "fetch": you hold its lease, for a minute.

        Repeating it renews the lease. Raises: Unanswered.
        """
        ask = DataAsk(key=key, own=key in self._mistrusted)
        view = self._asked("claim", ask, DataClaimView)
        if view.standing is Standing.READY:
            return Claim(standing="ready", tree=self._tree(key, view.tree))
        if view.standing is Standing.FETCH:
            return Claim(standing="fetch")
        return Claim(standing="wait", wait_s=view.wait_s)

    def _tree(self, key: str, address: DataAddress | None) -> Tree:
        if address is None or address.size_bytes > LIST_LIMIT_BYTES:
            raise Unanswered("cache: the list of files cannot be had")
        content = io.BytesIO()
        with Fetching(self._over, lambda: False) as fetching:
            whole = fetching.copy(address, content, lambda _: None)
        try:
            tree = read_tree(io.BytesIO(content.getvalue())) if whole else None
        except UserError:
            tree = None
        if tree is None or tree.key != key:
            raise self._damaged(key, address.sha256)
        return tree

    def fetch(
        self,
        key: str,
        files: Sequence[TreeFile],
        put: Put,
        told: Callable[[int], None],
        stopping: Callable[[], bool],
    ) -> None:
        """Bring files of a ready tree to where `put` opens them, several at a time, each checked.

        `told` hears how many bytes more have come, from any thread. A file whose `put` ends
        without an exception is whole and right.

        Raises: Unanswered; Damaged; what `put` raises.
        """
        with Fetching(self._over, stopping) as fetching:
            for start in range(0, len(files), DATA_BATCH):
                batch = files[start : start + DATA_BATCH]
                bad = fetching.bring(batch, self._addresses(key, batch), put, told)
                if bad:
                    raise self._damaged(key, *bad)

    def _addresses(self, key: str, batch: Sequence[TreeFile]) -> dict[str, DataAddress]:
        wanted = tuple(dict.fromkeys(file.sha256 for file in batch))
        found = self._asked("addresses", DataAsk(key=key, sha256=wanted), DataAddresses)
        addresses = {one.sha256: one for one in found.addresses}
        missing = [sha256 for sha256 in wanted if sha256 not in addresses]
        if missing:
            raise self._damaged(key, *missing)
        return addresses

    def keep(
        self,
        tree: Tree,
        open: Open,  # noqa: A002 - opens a staged file
        told: Callable[[int], None],
        stopping: Callable[[], bool],
    ) -> None:
        """Bring what the blob store lacks of a staged tree, then make it ready for all.

        The lease is renewed meanwhile. What was brought stays: another call goes on from there.
        `told` hears how many bytes more are stored.

        Raises: Unanswered, also when the lease is lost or `stopping`.
        """
        Keeping(self._ask_once, tree, open, self._over).keep(told, stopping)

    def listing(self, key: str) -> Iterator[ListedFile]:
        """Yield the objects of a `gs://` dataset with addresses, a page at a time.

        An address is to be used within minutes. Raises: Unanswered.
        """
        after: str | None = ""
        while after is not None:
            page = self._asked("listing", DataAsk(key=key, after=after), DataListing)
            yield from page.files
            after = page.after

    def give_up(self, key: str) -> None:
        """Let another instance have it from its hub. Raises: Unanswered."""
        self._asked("give-up", DataAsk(key=key), dict[str, str])

    def close(self) -> None:
        """End kept connections. Safe to repeat."""
        self._doors.close()

    def _damaged(self, key: str, *digests: str) -> Damaged:
        self._mistrusted.add(key)
        self._asked("give-up", DataAsk(key=key, sha256=digests[:DATA_BATCH]), dict[str, str])
        return Damaged("cache: what was kept came damaged, or is not there any more")

    def _asked(self, verb: str, message: object, kind: type[T]) -> T:
        """Ask until it is answered, a few times."""
        pause_s = _FIRST_PAUSE_S
        for last in (False,) * (TRIES - 1) + (True,):
            try:
                return self._ask_once(verb, message, kind)
            except TurnedAway as refusal:
                raise Unanswered(f"cache: {refusal}") from refusal
            except Unanswered:
                if last or self._over.wait(pause_s):
                    raise
            pause_s *= 2
        raise AssertionError("the last try has answered or raised")

    def _ask_once(self, verb: str, message: object, kind: type[T]) -> T:
        with self._doors.one() as door:
            answer = door.post(f"agent/v1/data/{verb}", encode(message))
        try:
            return decode(kind, answer)
        except UserError as error:
            raise Unanswered(f"cache: its answer cannot be read: {error}") from error


class _Doors:
    """Ways to the server, each used by one thread at a time."""

    def __init__(self, server_url: str, token: str) -> None:
        self._server_url, self._token = server_url, token
        self._lock = threading.Lock()
        self._free: list[Door] = []

    @contextmanager
    def one(self) -> Iterator[Door]:
        with self._lock:
            door = self._free.pop() if self._free else None
        door = door or Door(self._server_url, token=self._token, timeout_s=ANSWER_S)
        try:
            yield door
        finally:
            with self._lock:
                self._free.append(door)

    def close(self) -> None:
        with self._lock:
            doors, self._free = self._free, []
        for door in doors:
            door.close()
