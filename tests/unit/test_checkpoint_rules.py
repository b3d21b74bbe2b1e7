"""What may be taken of a folder that is being written to: looks at a scripted clock."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from cynthus.wire_checkpoint import leaves_folder
from runner_images.agent.checkpoint_rules import (
    RESTLESS_NS,
    SETTLE_NS,
    STEPS_KEPT,
    Look,
    Stamp,
    Steps,
    Told,
    Unrest,
    differing,
    follow,
    loose,
    moving,
)

SECOND = 1_000_000_000


@dataclass
class FileSystem:
    """A folder whose clock the test moves."""

    now_ns: int = 1_000 * SECOND
    files: dict[str, Stamp] = field(default_factory=dict)
    inodes: int = 0

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)

    def write(self, path: str, size: int = 1) -> None:
        """Write in place: the inode stays."""
        inode = self.files[path].inode if path in self.files else self._inode()
        self.files[path] = Stamp(size, self.now_ns, inode)

    def rename(self, path: str, to: str) -> None:
        self.files[to] = self.files.pop(path)

    def look(self) -> Look:
        return Look(self.now_ns, dict(self.files))

    def _inode(self) -> int:
        self.inodes += 1
        return self.inodes


@pytest.fixture
def disk() -> FileSystem:
    return FileSystem()


def test_a_file_is_whole_once_it_has_rested(disk: FileSystem) -> None:
    disk.write("last.pt")
    assert moving(None, disk.look()) == {"last.pt"}
    disk.sleep(1.9)
    assert moving(None, disk.look()) == {"last.pt"}
    disk.sleep(0.1)
    assert moving(None, disk.look()) == frozenset()


def test_a_file_that_was_written_long_before_its_name_is_whole_at_once(disk: FileSystem) -> None:
    disk.write("last.pt.tmp")
    disk.sleep(60)
    disk.rename("last.pt.tmp", "last.pt")
    assert moving(None, disk.look()) == frozenset()


def test_one_file_that_is_being_written_holds_up_the_whole_set(disk: FileSystem) -> None:
    disk.write("step-2/model-1.pt")
    disk.sleep(10)
    disk.write("step-2/model-2.pt")
    assert moving(None, disk.look()) == {"step-2/model-2.pt"}


@pytest.mark.parametrize("change", ["written", "renamed", "vanished", "came"])
def test_what_happens_between_two_looks_is_seen(disk: FileSystem, change: str) -> None:
    disk.write("a")
    disk.sleep(60)
    before = disk.look()
    if change == "written":
        disk.files["a"] = Stamp(2, before.files["a"].modified_ns, before.files["a"].inode)
    elif change == "renamed":
        disk.files["a"] = Stamp(1, before.files["a"].modified_ns, 99)
    elif change == "vanished":
        del disk.files["a"]
    else:
        disk.files["b"] = Stamp(1, 0, 98)
    assert moving(before, disk.look()) == differing(before, disk.look()) != frozenset()


def test_a_time_to_come_says_nothing(disk: FileSystem) -> None:
    disk.files["a"] = Stamp(1, disk.now_ns + 3600 * SECOND, 1)
    assert moving(None, disk.look()) == frozenset()


def test_a_log_is_told_from_a_set_in_time(disk: FileSystem) -> None:
    unrest: Unrest = {}
    disk.write("last.pt")
    disk.sleep(10)
    for _ in range(RESTLESS_NS // SECOND):
        disk.write("log.txt", disk.now_ns)
        found = moving(None, disk.look())
        assert found == {"log.txt"}
        assert loose(unrest, disk.now_ns) == frozenset()
        unrest = follow(unrest, found, disk.look())
        disk.sleep(1)
    assert loose(unrest, disk.now_ns) == {"log.txt"}
    disk.sleep(SETTLE_NS / SECOND)
    assert follow(unrest, moving(None, disk.look()), disk.look()) == {}  # it rests: no log


def test_what_was_told_before_a_moment_is_what_a_file_of_then_may_hold() -> None:
    steps = Steps()
    assert steps.at(10) == Told()
    steps.hear(10, step=1)
    steps.hear(20, progress=0.5)
    steps.hear(30, step=2)
    steps.hear(30, step=2)
    assert [steps.at(at) for at in (9, 10, 25, 30, 99)] == [
        Told(),
        Told(1),
        Told(1, 0.5),
        Told(2, 0.5),
        Told(2, 0.5),
    ]


def test_a_clock_that_goes_back_loses_no_step() -> None:
    steps = Steps()
    steps.hear(100, step=1)
    steps.hear(50, step=2)
    assert steps.at(100) == Told(2)


def test_many_steps_are_thinned_out_and_the_newest_stay() -> None:
    steps = Steps()
    last = 3 * STEPS_KEPT
    for step in range(last):
        steps.hear(step, step=step)
    assert steps.at(last - 100) == Told(last - 100)
    early = steps.at(last // 3).step
    assert early is not None
    assert last // 3 - 64 < early <= last // 3


def test_steps_may_be_heard_and_asked_for_at_once() -> None:
    steps = Steps()
    threads = [
        threading.Thread(target=lambda: [steps.hear(n, step=n) for n in range(2000)])
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    assert all((steps.at(n).step or 0) <= n for n in range(2000))
    for thread in threads:
        thread.join()
    assert steps.at(2000).step == 1999


@pytest.mark.parametrize(
    ("path", "link", "leaves"),
    [
        ("latest", "step-300", False),
        ("latest", "./step-300/../step-200/", False),
        ("a/latest", "../b", False),
        ("a/latest", "../../b", True),
        ("latest", "..", True),
        ("latest", "/etc/passwd", True),
        ("latest", "", True),
        ("a/b", "c/../../../x", True),
    ],
)
def test_a_link_stays_in_its_folder(path: str, link: str, leaves: bool) -> None:
    assert leaves_folder(path, link) is leaves
