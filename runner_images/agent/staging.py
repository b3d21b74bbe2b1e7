"""Stage a run's data: from the disk, from the blob store, or from its hub."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cynthus.wire import Work
from cynthus.wire_cache import ListedFile
from cynthus.wire_data import Dataset, DatasetWork, SourceKind, StagingView, Tree, TreeFile
from runner_images.agent import staging_gs, staging_hf, staging_https, staging_kaggle
from runner_images.agent.disk_cache import DISK_FLOOR_BYTES, DiskCache, Held, Making
from runner_images.agent.door import Unanswered
from runner_images.agent.public_http import NO_EXCEPTION, Trust
from runner_images.agent.shared_cache import SharedCache
from runner_images.agent.staging_progress import Progress
from runner_images.agent.staging_source import TRIES, Errand, Fetched, gb
from runner_images.agent.workload import CannotStart, Staged

AT_ONCE = 4  # sources beside each other: each has connections of its own
LOOK_S = 0.5  # how often a stop, another agent's work, or the end is looked for
RENEW_S = 20.0  # the store's lease lasts a minute: two renewals may get lost
NO_WORD_S = 2.0  # asked by a store that says to wait but not how long
SOURCES: Mapping[SourceKind, Callable[[Errand], Fetched]] = {
    SourceKind.HF: staging_hf.fetch,
    SourceKind.KAGGLE: staging_kaggle.fetch,
    SourceKind.GS: staging_gs.fetch,
    SourceKind.HTTPS: staging_https.fetch,
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where and with whom data is staged."""

    cache_dir: Path
    shared: SharedCache | None  # None: there is none, all comes from the hubs
    clock: Callable[[], float]
    tell: Callable[[StagingView], None]
    notice: Callable[[str], None]
    now: Callable[[], float]  # seconds since 1970: how long trees were unused
    trust: Trust = NO_EXCEPTION
    floor_bytes: int = DISK_FLOOR_BYTES
    tries: int = TRIES


class Staging:
    """All data of one run; `begin` returns at once, `wait` when all of it is there."""

    def __init__(self, work: Work, stage: Stage) -> None:
        self._work = work
        self._stage = stage
        self._stop = threading.Event()
        self._no_keeping = threading.Event()
        self._failed = threading.Event()
        self._news = threading.Event()  # one of them is there, or will not come
        self._fault: BaseException | None = None  # the first: what came after follows from it
        self._held: list[Held] = []
        self._lock = threading.Lock()
        self._futures: list[Future[Staged]] = []
        self._keeping: list[threading.Thread] = []
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="stage")

    @property
    def failed(self) -> bool:
        """Say whether some of it will not come: `wait` says why."""
        return self._failed.is_set()

    def begin(self) -> None:
        """Start to stage, in threads."""
        if not self._work.data:
            return
        cache = DiskCache(self._stage.cache_dir, self._work.repository_id, now=self._stage.now)
        cache.forget_old()
        self._futures = [self._pool.submit(self._staged, cache, item) for item in self._work.data]
        for future in self._futures:
            future.add_done_callback(lambda _: self._news.set())

    def wait(self, stopping: Callable[[], bool]) -> tuple[Staged, ...]:
        """Return where each lies, in the spec's order. Raises: CannotStart."""
        while not all(future.done() for future in self._futures) and self._fault is None:
            if stopping():
                self._stop.set()
            self._news.wait(LOOK_S)
            self._news.clear()
        if self._fault is not None:
            self._stop.set()
            raise self._fault
        return tuple(future.result() for future in self._futures)

    def stop(self) -> None:
        """End what is on its way; safe to repeat."""
        self._stop.set()

    def finish(self, limit_s: float) -> None:
        """Give what is being stored for other instances so long, then end it."""
        end = self._stage.clock() + limit_s
        for thread in self._keeping:
            thread.join(max(0.0, end - self._stage.clock()))
        self._no_keeping.set()

    def close(self) -> None:
        """End everything and let go of the trees: nobody looks into them any more."""
        self._stop.set()
        self._no_keeping.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for thread in self._keeping:
            thread.join()
        while self._held:
            self._held.pop().release()
        if self._stage.shared is not None:
            self._stage.shared.close()

    # ── one dataset ──────────────────────────────────────────────────────────────────────────

    def _staged(self, cache: DiskCache, item: DatasetWork) -> Staged:
        try:
            one = _One(self._stage, cache, item, self._work.hub_secrets, self._stop)
            held, to_keep = one.have()
        except CannotStart as fault:
            self._fail(fault)
            raise
        except OSError as error:
            text = f"data {item.dataset.name}: {error.strerror or error}"
            self._fail(CannotStart(text, infrastructure=True))
            raise
        except Exception as error:
            self._fail(error)  # our own mistake: the supervisor tells of it
            raise
        with self._lock:
            self._held.append(held)
        if to_keep and self._stage.shared is not None:
            self._keep(self._stage.shared, held)
        return Staged(dataset=item.dataset, folder=held.folder)

    def _fail(self, fault: Exception) -> None:
        with self._lock:
            self._fault = self._fault or fault
        self._failed.set()

    def _keep(self, shared: SharedCache, held: Held) -> None:
        def keep() -> None:
            try:
                shared.keep(
                    held.tree,
                    lambda file: (held.folder / file.path).open("rb"),
                    lambda _: None,
                    self._no_keeping.is_set,
                )
            except (Unanswered, OSError):
                return  # the next instance brings it again: nothing of the run depends on it

        thread = threading.Thread(target=keep, name="keep data", daemon=True)
        self._keeping.append(thread)
        thread.start()


class _One:
    """The way of one dataset to the disk."""

    def __init__(
        self,
        stage: Stage,
        cache: DiskCache,
        item: DatasetWork,
        secrets: Mapping[str, str],
        stop: threading.Event,
    ) -> None:
        self._stage = stage
        self._cache = cache
        self._item = item
        self._secrets = secrets
        self._stop = stop
        self._dataset: Dataset = item.dataset
        self._leased = False
        self._origin = "disk"
        self._progress = Progress(
            item.dataset.name, item.dataset.size_bytes, clock=stage.clock, tell=stage.tell
        )

    def have(self) -> tuple[Held, bool]:
        """Return the whole tree, in use, and whether the blob store still lacks it."""
        began = self._stage.clock()
        try:
            while (held := self._cache.hold(self._dataset.key)) is None:
                self._check_stop()
                with self._cache.making(self._dataset.key) as making:
                    if making is not None:
                        self._make(making)
                        continue
                self._progress.enter("waiting", origin="disk")
                self._stop.wait(LOOK_S)
        except BaseException:
            self._give_up()
            raise
        self._tell(held.tree, self._stage.clock() - began)
        return held, self._leased

    def _tell(self, tree: Tree, took_s: float) -> None:
        total = sum(file.size_bytes for file in tree.files)
        self._progress.end(total_bytes=total, files=len(tree.files), origin=self._origin)
        come = {
            "disk": "was on the instance's disk already",
            "cache": "came from Cynthus' cache",
            "hub": f"came from {self._dataset.kind}",
        }[self._origin]
        self._stage.notice(
            f"data {self._dataset.name}: {gb(total)} in {len(tree.files)} files {come},"
            f" {took_s:.1f} s"
        )

    def _check_stop(self) -> None:
        if self._stop.is_set():
            text = f"data {self._dataset.name}: stopped while it was staged"
            raise CannotStart(text, infrastructure=False)

    # ── from where ───────────────────────────────────────────────────────────────────────────

    def _make(self, making: Making) -> None:
        tree = self._claimed()
        if tree is not None and self._brought(tree, making):
            making.commit(tree)
            self._origin = "cache"
            return
        self._origin = "hub"
        with self._renewing():
            self._from_hub(making)

    def _from_hub(self, making: Making) -> None:
        fetched = SOURCES[self._dataset.kind](self._errand(making))
        for at, file in fetched.files:
            if at is None:
                if not making.take(file):
                    text = f"data {self._dataset.name}: its disk cache changed while it was used"
                    raise CannotStart(text, infrastructure=True)
            else:
                making.place(at, file)
        files = sorted((file for _, file in fetched.files), key=lambda file: file.path)
        making.commit(
            Tree(
                key=self._dataset.key,
                revision=self._dataset.revision,
                files=tuple(files),
                archive_sha256=fetched.archive_sha256,
            )
        )

    def _claimed(self) -> Tree | None:
        """Return the tree that the blob store has; None: it is ours to fetch from the hub."""
        shared = self._stage.shared
        # A bucket is as near as the cache: a second copy would only cost.
        if shared is None or self._dataset.kind is SourceKind.GS:
            return None
        while True:
            self._check_stop()
            try:
                claim = shared.claim(self._dataset.key)
            except Unanswered:
                return None
            if claim.standing == "ready":
                return claim.tree
            if claim.standing == "fetch":
                self._leased = True
                return None
            self._progress.enter("waiting", origin="cache")
            self._stop.wait(claim.wait_s or NO_WORD_S)

    @contextmanager
    def _renewing(self) -> Iterator[None]:
        """Keep the store's lease while the hub's bytes come."""
        shared, ended = self._stage.shared, threading.Event()

        def renew() -> None:
            while shared is not None and self._leased and not ended.wait(RENEW_S):
                try:
                    shared.claim(self._dataset.key)
                except Unanswered:
                    continue  # the next one may be heard; else another instance fetches too

        thread = threading.Thread(target=renew, name="renew", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _brought(self, tree: Tree, making: Making) -> bool:
        """Have the tree's bytes from the disk or the blob store; False: it cannot give them."""
        total = sum(file.size_bytes for file in tree.files)
        lacking = [file for file in tree.files if not self._cache.has(file)]
        errand = self._errand(making)
        errand.check_room(sum(file.size_bytes for file in lacking))
        self._progress.enter("fetching", total_bytes=total, files=len(tree.files), origin="cache")
        self._progress.reach(total - sum(file.size_bytes for file in lacking))
        self._progress.moved_bytes = sum(file.size_bytes for file in lacking)

        @contextmanager
        def put(file: TreeFile) -> Iterator[BinaryIO]:
            part = making.work / f"{file.sha256}{'-x' if file.executable else ''}"
            with part.open("wb") as content:
                yield content
            (making.work / "whole").mkdir(exist_ok=True)
            part.replace(making.work / "whole" / part.name)

        try:
            if lacking and self._stage.shared is not None:
                self._stage.shared.fetch(
                    tree.key, _each_once(lacking), put, self._progress.add, self._stop.is_set
                )
        except Unanswered:
            self._check_stop()
            return False
        self._check_stop()
        for file in tree.files:
            part = making.work / "whole" / f"{file.sha256}{'-x' if file.executable else ''}"
            if part.exists():
                making.place(part, file)
            elif not making.take(file):
                return False
        return True

    def _give_up(self) -> None:
        if self._leased and self._stage.shared is not None:
            self._leased = False
            try:
                self._stage.shared.give_up(self._dataset.key)
            except Unanswered:
                return  # the lease ends by itself

    def _errand(self, making: Making) -> Errand:
        return Errand(
            work=self._item,
            secrets=self._secrets,
            folder=making.work / "data",
            cache_dir=self._stage.cache_dir,
            progress=self._progress,
            free_bytes=self._cache.free_bytes,
            make_room=self._cache.make_room,
            had=self._cache.has,
            listing=self._listing,
            stopping=self._stop.is_set,
            pause=self._stop.wait,
            trust=self._stage.trust,
            floor_bytes=self._stage.floor_bytes,
            tries=self._stage.tries,
        )

    def _listing(self) -> Iterator[ListedFile]:
        if self._stage.shared is None:
            raise Unanswered("no server is asked for it")
        return self._stage.shared.listing(self._dataset.key)


def _each_once(files: list[TreeFile]) -> list[TreeFile]:
    return list({(file.sha256, file.executable): file for file in files}.values())
