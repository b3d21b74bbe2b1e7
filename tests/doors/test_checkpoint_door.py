"""Checkpoints through the real doors, by the agent's own code: saved, given back, kept apart."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cynthus.codec import decode, encode
from cynthus.wire_checkpoint import Checkpoint, CheckpointFile, CheckpointView
from runner_images.agent.checkpoint_restore import Restored, Restoring, Stopped, restore
from runner_images.agent.checkpoint_rules import SETTLE_NS, Steps
from runner_images.agent.checkpoint_save import NotSaved, NotStill, Saver, Saving
from runner_images.agent.door import Door, TurnedAway, Unanswered
from tests.doors.conftest import Agent, Site
from webhook_server.runs.model import Origin, Outcome, State
from webhook_server.stores.checkpoint_shelf import Shelf, remove_ended
from webhook_server.stores.checkpoint_store import CheckpointStore, KeptCheckpoint

SPEC = "version: 1\nname: digits\nrun: python train.py\ncheckpoint: {path: ckpt, every: 10s}\n"
OURS, THEIRS = 41, 42


_opened: list[Door] = []


def a_door(agent: Agent) -> Door:
    _opened.append(Door(agent.site.url, token=agent.token))
    return _opened[-1]


@pytest.fixture(autouse=True)
def closed_doors() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def saving(folder: Path, **changes: object) -> Saving:
    plain = Saving(
        folder=folder,
        held=folder.parent / "held",
        limit_bytes=64 << 20,
        steps=Steps(),
        # The clock of a moment in which all that is there was written long ago.
        now_ns=lambda: time.time_ns() + SETTLE_NS,
        left_s=lambda: 60.0,
        over=threading.Event(),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def put_back(agent: Agent, folder: Path, told: Callable[[str], None] = print) -> Restored | None:
    folder.mkdir(exist_ok=True)
    work = Restoring(folder=folder, tell=told, stopping=lambda: False, wake=threading.Event())
    return restore(a_door(agent), work)


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def blobs(site: Site, run_id: str) -> list[Path]:
    return list((site.parts.settings.state_dir / "blobs").rglob(f"ck{run_id}/*/*"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ckpt" / "deep").mkdir(parents=True)
    (tmp_path / "ckpt" / "last.pt").write_bytes(b"weights of step 1")
    (tmp_path / "ckpt" / "deep" / "optimizer.pt").write_bytes(b"moments")
    (tmp_path / "ckpt" / "empty").write_bytes(b"")
    (tmp_path / "ckpt" / "latest").symlink_to("deep/optimizer.pt")
    return tmp_path / "ckpt"


def the_next_attempt(before: Agent) -> Agent:
    before.site.parts.instances.close(before.instance, before.site.parts.now())
    return before.site.an_agent(before.run_id)


def test_what_was_saved_is_given_back_to_the_next_attempt(
    site: Site, folder: Path, tmp_path: Path
) -> None:
    agent = site.an_agent(spec_text=SPEC)
    assert agent.work["checkpoint"] == {
        "path": "ckpt",
        "every_s": 10.0,
        "limit_bytes": 100 << 30,
        "restore": False,
    }
    steps = Steps()
    steps.hear(0, step=300, progress=0.5)
    (folder / "last.pt").chmod(0o755)
    assert Saver(a_door(agent)).save(saving(folder, steps=steps)) == 1
    agent.beat(("metric", {"name": "loss", "step": 342, "value": 0.5}))

    second = the_next_attempt(agent)

    assert second.work["checkpoint"]["restore"] is True
    found = put_back(second, tmp_path / "back")
    assert found is not None
    assert content(tmp_path / "back") == content(folder)
    assert (tmp_path / "back" / "latest").readlink() == Path("deep/optimizer.pt")
    assert (tmp_path / "back" / "last.pt").stat().st_mode & 0o777 == 0o777
    assert (tmp_path / "back" / "empty").stat().st_mode & 0o777 == 0o666
    written = (folder / "last.pt").stat().st_mtime_ns // 1000
    assert (tmp_path / "back" / "last.pt").stat().st_mtime_ns // 1000 == written
    view = found.view
    assert (view.attempt, view.number, view.step, view.progress) == (1, 1, 300, 0.5)
    assert view.lost_steps == 42


def test_only_what_changed_is_brought(site: Site, folder: Path) -> None:
    agent = site.an_agent(spec_text=SPEC)
    saver = Saver(a_door(agent))
    assert saver.save(saving(folder)) == 1
    assert saver.save(saving(folder)) is None
    before = {path.name for path in blobs(site, agent.run_id)}

    (folder / "last.pt").write_bytes(b"weights of step 2")

    assert saver.save(saving(folder)) == 2
    new = {path.name for path in blobs(site, agent.run_id)} - before
    assert len(new) == 2  # the file, and the list


def test_the_newest_two_are_kept(site: Site, folder: Path) -> None:
    agent = site.an_agent(spec_text=SPEC)
    saver = Saver(a_door(agent))
    for step in range(1, 5):
        (folder / "last.pt").write_bytes(b"weights of step %d" % step)
        assert saver.save(saving(folder)) == step
    kept = CheckpointStore(site.parts.database).of(agent.run_id, 0)
    assert [one.number for one in kept] == [4, 3]
    found = [path.read_bytes() for path in blobs(site, agent.run_id)]
    assert sorted(text for text in found if text.startswith(b"weights")) == [
        b"weights of step 3",
        b"weights of step 4",
    ]
    assert len(found) == 2 + 2 + 2  # lists, versions of one file, two other files


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    site: Site, folder: Path, tmp_path: Path
) -> None:
    agent = site.an_agent(spec_text=SPEC)
    saver = Saver(a_door(agent))
    saver.save(saving(folder))
    (folder / "last.pt").write_bytes(b"weights of step 2")
    saver.save(saving(folder))
    [damaged] = [p for p in blobs(site, agent.run_id) if p.read_bytes() == b"weights of step 2"]
    damaged.write_bytes(b"weights of step X")
    told: list[str] = []

    found = put_back(the_next_attempt(agent), tmp_path / "back", told.append)

    assert found is not None
    assert found.view.number == 1
    assert content(tmp_path / "back")["last.pt"] == b"weights of step 1"
    assert told == [
        "checkpoint: one is damaged (its bytes are not those that were saved);"
        " the one before is tried"
    ]


def test_a_lost_list_is_a_damaged_checkpoint(site: Site, folder: Path, tmp_path: Path) -> None:
    agent = site.an_agent(spec_text=SPEC)
    Saver(a_door(agent)).save(saving(folder))
    for path in blobs(site, agent.run_id):
        path.unlink()
    told: list[str] = []
    assert put_back(the_next_attempt(agent), tmp_path / "back", told.append) is None
    assert content(tmp_path / "back") == {}
    assert told == [
        "checkpoint: one is damaged (its list of files is gone); the one before is tried"
    ]


@pytest.mark.case("A23")
def test_an_old_attempt_saves_nothing_any_more(site: Site, folder: Path) -> None:
    agent = site.an_agent(spec_text=SPEC)
    saver = Saver(a_door(agent))
    saver.save(saving(folder))
    site.order(agent.run_id)  # the next attempt, before the old one is closed
    (folder / "last.pt").write_bytes(b"too late")
    with pytest.raises(TurnedAway) as refusal:
        saver.save(saving(folder))
    assert refusal.value.status == 410
    assert [one.number for one in CheckpointStore(site.parts.database).of(agent.run_id, 0)] == [1]


def test_bytes_that_the_server_lost_are_brought_again(site: Site, folder: Path) -> None:
    agent = site.an_agent(spec_text=SPEC)
    saver = Saver(a_door(agent))
    saver.save(saving(folder))
    for path in blobs(site, agent.run_id):
        path.unlink()
    (folder / "last.pt").write_bytes(b"weights of step 2")
    with pytest.raises(Unanswered, match="should all be stored first"):
        saver.save(saving(folder))
    assert saver.save(saving(folder)) == 2


def a_repeat(
    site: Site, of: str, how: str, *, repository_id: int = OURS, fork: bool = False
) -> Agent:
    """Return the agent of a run that repeats another."""
    run_id = site.a_run(repository_id=repository_id, spec_text=SPEC, trigger=f"comment/{how}/{of}")
    site.save(run_id, lambda run: replace(run, origin=Origin(**{how: of}, fork=fork)))  # type: ignore[arg-type]
    return site.an_agent(run_id)


def a_saved_run(site: Site, folder: Path, outcome: Outcome, **of_run: object) -> str:
    agent = site.an_agent(repository_id=OURS, spec_text=SPEC, **of_run)
    Saver(a_door(agent)).save(saving(folder))
    site.parts.instances.close(agent.instance, site.parts.now())
    now = site.parts.now()
    site.enter(agent.run_id, State.FINISHED, outcome=outcome, finished_at=now)
    return agent.run_id


@pytest.mark.parametrize("how", ["retries", "reproduces"])
def test_who_repeats_a_run_goes_on_from_what_it_saved(
    site: Site, folder: Path, tmp_path: Path, how: str
) -> None:
    source = a_saved_run(site, folder, Outcome.FAILED)
    again = a_repeat(site, a_repeat(site, source, how).run_id, how)
    assert again.work["checkpoint"]["restore"] is True
    found = put_back(again, tmp_path / "back")
    assert found is not None
    assert found.view.run_id == source
    assert content(tmp_path / "back") == content(folder)


def test_who_repeats_a_run_that_succeeded_begins_anew(site: Site, folder: Path) -> None:
    source = a_saved_run(site, folder, Outcome.SUCCEEDED)
    assert a_repeat(site, source, "reproduces").work["checkpoint"]["restore"] is False


@pytest.mark.parametrize("change", [{"repository_id": THEIRS}, {"fork": True}])
def test_another_repository_and_a_fork_go_on_from_nothing(
    site: Site, folder: Path, tmp_path: Path, change: dict[str, int]
) -> None:
    source = a_saved_run(site, folder, Outcome.FAILED)
    other = a_repeat(site, source, "retries", **change)  # type: ignore[arg-type]
    assert other.work["checkpoint"]["restore"] is False
    assert put_back(other, tmp_path / "back") is None


def test_ranks_of_a_gang_have_shelves_of_their_own(site: Site, folder: Path) -> None:
    spec = SPEC + "resources: {nodes: 2}\n"
    run_id = site.a_run(spec_text=spec)
    site.order(run_id, nodes=2)
    for rank in range(2):
        name = f"cynthus-{run_id}-1-{rank}"
        agent = Agent(site, run_id, name, site.enrol(name).json["token"], {})
        (folder / "last.pt").write_bytes(b"rank %d" % rank)
        assert Saver(a_door(agent)).save(saving(folder)) == 1
    store = CheckpointStore(site.parts.database)
    assert [len(store.of(run_id, rank)) for rank in range(3)] == [1, 1, 0]


AT = {"saved_at": "2026-01-31T12:00:00Z"}
FILE = {"path": "a", "size_bytes": 1, "sha256": "a" * 64, "modified_us": 0}
BLOB = {"sha256": "a" * 64, "size_bytes": 1, "md5": "b" * 32}
REFUSED: list[tuple[str, dict[str, object], int]] = [
    ("", {"files": [], **AT}, 422),
    ("", {"files": [FILE, FILE], **AT}, 422),
    ("", {"files": [FILE | {"path": "../a"}], **AT}, 422),
    ("", {"files": [FILE | {"sha256": "x"}], **AT}, 422),
    ("", {"files": [FILE | {"size_bytes": -1}], **AT}, 422),
    ("", {"files": [FILE | {"size_bytes": 0, "sha256": "", "link": "../a"}], **AT}, 422),
    ("", {"files": [FILE | {"size_bytes": 101 << 30}], **AT}, 422),
    ("", {"files": [FILE], "step": 2**63, **AT}, 422),
    ("", {"files": [FILE], **AT}, 409),  # its bytes were never brought
    ("/blobs", {"blobs": [BLOB | {"sha256": "a"}]}, 422),
    ("/blobs", {"blobs": [BLOB | {"size_bytes": -1}]}, 422),
    ("/blobs", {"blobs": [BLOB] * 21}, 422),
    ("/blobs", {"blobs": [BLOB | {"size_bytes": 101 << 30}]}, 422),
    ("/latest", {"place": -1}, 422),
    ("/latest", {}, 204),
]


def test_what_cannot_be_is_refused(site: Site) -> None:
    agent = site.an_agent(spec_text=SPEC)
    for path, message, status in REFUSED:
        answer = site.ask("POST", f"/agent/v1/checkpoints{path}", value=message, token=agent.token)
        assert answer.status == status, (message, answer.body)


def test_a_run_without_a_folder_saves_nothing(site: Site) -> None:
    agent = site.an_agent()
    answer = site.ask("POST", "/agent/v1/checkpoints/latest", value={}, token=agent.token)
    assert answer.status == 422


def test_checkpoints_go_with_time(site: Site, folder: Path) -> None:
    run_id = a_saved_run(site, folder, Outcome.FAILED)
    live = site.an_agent(repository_id=OURS, spec_text=SPEC)
    Saver(a_door(live)).save(saving(folder))
    store, now = CheckpointStore(site.parts.database), site.parts.now()
    assert remove_ended(store, site.parts.blobs, now - timedelta(days=7)) == 0
    assert remove_ended(store, site.parts.blobs, now + timedelta(days=1)) == 1
    assert blobs(site, run_id) == []
    assert store.of(run_id, 0) == ()
    assert len(store.of(live.run_id, 0)) == 1


def test_a_page_tells_a_part_of_the_files(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(1100):
        (folder / f"{number:04}").write_bytes(b"x")
    agent = site.an_agent(spec_text=SPEC)
    Saver(a_door(agent)).save(saving(folder))
    second = the_next_attempt(agent)
    answer = site.ask(
        "POST", "/agent/v1/checkpoints/latest", value={"first": 1000}, token=second.token
    )
    view = decode(CheckpointView, answer.json)
    assert (view.files, len(view.page), view.page[0].file.path) == (1100, 100, "1000")


# ── what happens to the folder meanwhile ────────────────────────────────────────────────────────


class Meanwhile:
    """Does something to the folder at the n-th call of what a saving asks on its way."""

    def __init__(self, at: int, deed: Callable[[], object], answer: Callable[[], float]) -> None:
        self._at, self._deed, self._answer = at, deed, answer
        self._calls = 0

    def __call__(self) -> float:
        self._calls += 1
        if self._calls == self._at:
            self._deed()
        return self._answer()


def long_ago() -> int:
    return time.time_ns() + SETTLE_NS


def test_a_file_that_comes_between_the_looks_puts_the_saving_off(site: Site, folder: Path) -> None:
    agent = site.an_agent(spec_text=SPEC)
    saver = Saver(a_door(agent))
    clock = Meanwhile(2, lambda: (folder / "model-2.pt").write_bytes(b"half"), long_ago)
    with pytest.raises(NotStill):
        saver.save(saving(folder, now_ns=clock))
    assert CheckpointStore(site.parts.database).of(agent.run_id, 0) == ()
    assert saver.save(saving(folder)) == 1


def test_a_file_that_is_renamed_over_is_saved_as_it_was(
    site: Site, folder: Path, tmp_path: Path
) -> None:
    agent = site.an_agent(spec_text=SPEC)

    def rotate() -> None:
        (folder / "next.tmp").write_bytes(b"weights of step 2")
        (folder / "next.tmp").replace(folder / "last.pt")
        (folder / "deep" / "optimizer.pt").unlink()

    # Asked before each block that is sent: the last of the ways to the disk.
    assert Saver(a_door(agent)).save(saving(folder, left_s=Meanwhile(1, rotate, lambda: 60.0))) == 1
    put_back(the_next_attempt(agent), tmp_path / "back")
    found = content(tmp_path / "back")
    assert found["last.pt"] == b"weights of step 1"
    assert found["deep/optimizer.pt"] == b"moments"


def test_a_file_that_is_written_while_it_is_read_puts_the_saving_off(
    site: Site, folder: Path
) -> None:
    agent = site.an_agent(spec_text=SPEC)
    write = Meanwhile(1, lambda: (folder / "last.pt").write_bytes(b"weig"), lambda: 60.0)
    for name in ("deep/optimizer.pt", "empty", "latest"):
        (folder / name).unlink()
    with pytest.raises(NotStill):
        Saver(a_door(agent)).save(saving(folder, left_s=write))
    assert CheckpointStore(site.parts.database).of(agent.run_id, 0) == ()


def test_what_was_written_just_before_the_end_counts_as_half_written(
    site: Site, folder: Path
) -> None:
    saver = Saver(a_door(site.an_agent(spec_text=SPEC)))
    with pytest.raises(NotStill):
        saver.save(saving(folder, now_ns=time.time_ns), ended_ns=time.time_ns())
    assert saver.save(saving(folder, now_ns=time.time_ns), ended_ns=long_ago()) == 1


def test_what_is_no_file_is_left_out_and_said(site: Site, folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "away").symlink_to("/etc/passwd")
    (folder / "line\nbreak").write_bytes(b"x")
    agent = site.an_agent(spec_text=SPEC)
    saver = Saver(a_door(agent))
    assert saver.save(saving(folder)) == 1
    assert saver.left_out == {
        "pipe": "a named pipe",
        "away": "a link out of the folder",
        "line\nbreak": "its name has control characters",
    }
    put_back(the_next_attempt(agent), tmp_path / "back")
    assert {p.name for p in (tmp_path / "back").iterdir()} == {"deep", "empty", "last.pt", "latest"}


def test_too_much_and_nothing_are_not_saved(site: Site, folder: Path, tmp_path: Path) -> None:
    saver = Saver(a_door(site.an_agent(spec_text=SPEC)))
    with pytest.raises(NotSaved, match="more than the 10 allowed here"):
        saver.save(saving(folder, limit_bytes=10))
    (tmp_path / "nothing").mkdir()
    assert saver.save(saving(tmp_path / "nothing")) is None


def test_no_time_left_ends_a_saving(site: Site, folder: Path) -> None:
    agent = site.an_agent(spec_text=SPEC)
    with pytest.raises(Unanswered):
        Saver(a_door(agent)).save(saving(folder, left_s=lambda: 0.0))
    assert CheckpointStore(site.parts.database).of(agent.run_id, 0) == ()
    assert not (folder.parent / "held").exists()


def test_an_attempt_that_shall_end_puts_nothing_back_any_more(
    site: Site, folder: Path, tmp_path: Path
) -> None:
    agent = site.an_agent(spec_text=SPEC)
    Saver(a_door(agent)).save(saving(folder))
    door, back = a_door(the_next_attempt(agent)), tmp_path / "back"
    back.mkdir()
    asked: list[bool] = []

    def stopping() -> bool:  # in the middle of the second file
        asked.append(len(asked) > 2)
        return asked[-1]

    work = Restoring(folder=back, tell=print, stopping=stopping, wake=threading.Event())
    with pytest.raises(Stopped):
        restore(door, work)


@pytest.mark.case("A16")
def test_a_list_whose_names_cross_is_neither_kept_nor_put_back(site: Site, tmp_path: Path) -> None:
    """`out` would be a link out of the folder, and what is named below it written there."""
    agent = site.an_agent(spec_text=SPEC)
    links = {"a": ".", "out": "a/..", "out/evil": "x"}
    files = tuple(
        CheckpointFile(path=path, size_bytes=0, sha256="", modified_us=0, link=link)
        for path, link in links.items()
    )
    told = Checkpoint(files=files, saved_at=site.parts.now())
    with pytest.raises(TurnedAway, match="none below another"):
        a_door(agent).post("agent/v1/checkpoints", encode(told))
    # As a server that was taken over would have it:
    store, folder = CheckpointStore(site.parts.database), tmp_path / "ckpt" / "back"
    run = site.parts.runs.get(agent.run_id)
    assert run is not None
    ours = run.key.repository_id
    shelf = Shelf(blobs=site.parts.blobs, repository_id=ours, run_id=run.id, rank=0)
    kept = KeptCheckpoint(
        run_id=run.id,
        rank=0,
        number=0,
        repository_id=ours,
        attempt=1,
        manifest_sha256=shelf.put_manifest(told),
        size_bytes=0,
        files=len(files),
        saved_at=told.saved_at,
        step=None,
        progress=None,
    )
    assert store.keep(agent.instance, kept) == 1
    folder.parent.mkdir()
    notices: list[str] = []
    assert put_back(the_next_attempt(agent), folder, notices.append) is None
    assert notices == [
        "checkpoint: one is damaged (a name is there twice); the one before is tried"
    ]
    assert list(folder.parent.iterdir()) == [folder]
    assert list(folder.iterdir()) == []
