"""`cynthus run` as a person meets it: in Docker and as a process, to the end and to any other."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cynthus_run import CTRL_C, NO_ENGINE, Home, Terminal, command, containers, terminal
from tests.docker_fixture import IMAGE, engine_socket, image
from tests.stopwatch import Stopwatch

__all__ = ["engine_socket", "image"]  # fixtures

SPEC = """\
version: 1
name: little
run: sh work.sh
outputs:
  - path: outputs
"""
LEARNS = """\
echo ::phase::train
echo ::progress::0.5
echo ::metric name=loss,step=1::0.25
echo ::warning file=work.sh,line=3::looks odd
mkdir -p outputs
echo weights > outputs/model.txt
echo '# What came of it' >> "$CYNTHUS_SUMMARY"
echo learned
"""
ENDLESS = """\
mkdir -p outputs
echo kept > outputs/half.txt
trap 'echo ending; exit 3' TERM
echo begun
while :; do sleep 0.1; done
"""
STUBBORN = """\
trap '' TERM INT
echo begun
while :; do sleep 0.1; done
"""
STOP_LIMIT_S = 3.0  # from Ctrl-C to the stopped command, as promised
EXIT_LIMIT_S = 12.0  # … and to the end of it all


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "folder", tmp_path / "tmp")
    home.folder.mkdir()
    home.temporary.mkdir()
    home.write(cynthus__yaml=SPEC, work__sh=LEARNS)
    yield home
    home.wait_until_nothing_runs()


@pytest.fixture(params=["docker", "process"])
def words(request: pytest.FixtureRequest) -> tuple[str, ...]:
    if request.param == "docker":
        request.getfixturevalue("engine_socket")
        return ("run",)
    return ("run", "--process")


def nothing_is_left(home: Home, run_id: str = "") -> None:
    assert home.processes() == []
    assert list(home.temporary.iterdir()) == []
    if run_id and os.path.exists("/var/run/docker.sock"):
        assert containers(run_id) == []


# ── to the end ──────────────────────────────────────────────────────────────────────────────────


def test_a_run_in_a_pipe_tells_plain_lines_and_copies_its_outputs(
    home: Home, words: tuple[str, ...]
) -> None:
    done = home.run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    for line in ("── building little", "▸ train", "── loss = 0.25 (step 1)", "learned"):
        assert line in lines
    assert "── warning: work.sh:3: looks odd" in lines
    assert f"  copied to cynthus-outputs/{home.outputs.name}/" in lines
    assert "  metric  loss  0.25" in lines
    assert "  output  outputs/model.txt  8 B" in lines
    assert sorted(path.name for path in home.outputs.iterdir()) == [
        "log.txt",
        "outputs",
        "summary.md",
    ]
    assert (home.outputs / "outputs" / "model.txt").read_text() == "weights\n"
    assert (home.outputs / "log.txt").read_text().endswith("learned\n")
    page = (home.outputs / "summary.md").read_text()
    assert page.startswith("# little: succeeded\n")
    assert "# What came of it" in page
    nothing_is_left(home, home.outputs.name)


def test_a_terminal_shows_progress_live_and_obeys_nothing_of_the_command(home: Home) -> None:
    home.write(
        work__sh="printf '\\033]0;owned\\007\\033[2J\\033[31mred\\033[0m [bold]kept[/bold]\\n'\n"
        "echo ::phase::train; echo ::metric name=loss::0.25; echo ::progress::0.5\n"
        f"until [ -e {home.folder}/seen ]; do sleep 0.05; done\n"
    )
    with terminal(home, "run", "--process") as shown:
        shown.wait_for(r"running\s+0:\d\d\s+train\s+━{12}╌{12} 50%")
        shown.wait_for(r"loss 0\.25")
        home.write(seen="what is drawn four times a second was shown")
        assert shown.end() == 0
    assert "owned" not in shown.shown
    assert "\x1b[2J" not in shown.shown
    assert "\x1b[31m" not in shown.shown
    assert "red [bold]kept[/bold]" in shown.shown
    assert "copied to cynthus-outputs/" in shown.shown
    nothing_is_left(home)


def test_a_command_that_fails_ends_with_1_and_keeps_what_it_wrote(
    home: Home, words: tuple[str, ...]
) -> None:
    home.write(work__sh="mkdir -p outputs; echo x > outputs/x; echo bad luck; exit 7\n")
    done = home.run(*words)
    assert done.returncode == 1
    assert "little: failed in " in done.stdout
    assert "7" in done.stdout.rpartition("little: failed")[2].splitlines()[0]
    assert "bad luck" in (home.outputs / "log.txt").read_text()
    nothing_is_left(home, home.outputs.name)


def test_where_no_engine_is_the_run_is_a_process_and_says_so(home: Home) -> None:
    home.environment = NO_ENGINE
    done = home.run("run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no Docker engine answers, so the run is a plain process" in done.stdout
    assert "note: no Docker engine: ran as a plain process without isolation" in done.stdout


def test_a_secret_of_the_environment_reaches_the_command_and_no_log(home: Home) -> None:
    home.environment = {"HF_TOKEN": "hf_ABCDEFGH12345678"}
    home.write(
        cynthus__yaml=SPEC + "secrets: [HF_TOKEN]\n",
        work__sh='echo "it is $HF_TOKEN"; test "$HF_TOKEN" = hf_ABCDEFGH12345678\n',
    )
    done = home.run("run", "--process")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "it is ***" in done.stdout
    assert "hf_ABCDEFGH" not in done.stdout + (home.outputs / "log.txt").read_text()


def test_modules_of_the_users_folder_are_not_taken_for_ours(home: Home) -> None:
    for name in ("action", "webhook_server", "json", "yaml"):
        (home.folder / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    (home.folder / ".env").write_text("CYNTHUS_PORT=nonsense\n")
    # Started from elsewhere, as an installed program is: Python's own `-m` would look here first.
    start = "import sys; from cynthus.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", start, "run", "--process"],
        cwd=home.folder,
        env=home.environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# ── to any other end ────────────────────────────────────────────────────────────────────────────


def test_ctrl_c_stops_the_command_keeps_its_outputs_and_leaves_nothing(
    home: Home, words: tuple[str, ...]
) -> None:
    home.write(work__sh=ENDLESS)
    with terminal(home, *words) as shown:
        shown.wait_for("begun")
        began = Stopwatch()
        shown.type(CTRL_C)
        shown.wait_for("ending")
        assert began.s < STOP_LIMIT_S
        assert shown.end() == 130
        assert began.s < EXIT_LIMIT_S
    assert "little: cancelled in " in shown.shown
    assert (home.outputs / "outputs" / "half.txt").read_text() == "kept\n"
    nothing_is_left(home, home.outputs.name)


def test_a_second_ctrl_c_ends_at_once_what_will_not_stop(
    home: Home, words: tuple[str, ...]
) -> None:
    home.write(work__sh=STUBBORN)
    with terminal(home, *words) as shown:
        shown.wait_for("begun")
        shown.type(CTRL_C)
        shown.wait_for("Ctrl-C again ends it at once")
        began = Stopwatch()
        shown.type(CTRL_C)
        assert shown.end() == 130
        assert began.s < EXIT_LIMIT_S
    nothing_is_left(home)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_is_like_ctrl_c(home: Home, number: signal.Signals) -> None:
    home.write(work__sh=ENDLESS)
    with terminal(home, "run", "--process") as shown:
        shown.wait_for("begun")
        shown.process.send_signal(number)
        assert shown.end() == 130
    assert (home.outputs / "outputs" / "half.txt").exists()
    nothing_is_left(home)


def test_a_terminal_that_closes_ends_the_run_and_keeps_its_outputs(home: Home) -> None:
    home.write(work__sh=ENDLESS)
    shown = Terminal(home, "run", "--process")
    shown.wait_for("begun")
    os.close(shown.master)  # the kernel sends SIGHUP, and every write fails from here on
    assert shown.process.wait(60) == 130
    assert (home.outputs / "outputs" / "half.txt").exists()
    nothing_is_left(home)


def test_after_kill_9_the_embedded_server_ends_everything_by_itself(
    home: Home, words: tuple[str, ...]
) -> None:
    home.write(work__sh=ENDLESS)
    with terminal(home, *words) as shown:
        shown.wait_for("begun")
        [instance] = home.temporary.glob("cynthus-run-*/server/instances/cynthus-*")
        run_id = instance.name.split("-")[1]
        shown.process.kill()
        shown.process.wait()
        assert home.wait_until_nothing_runs() < 30
    nothing_is_left(home, run_id)


def test_a_server_that_falls_is_told_and_what_it_lent_is_taken_back(
    home: Home, words: tuple[str, ...]
) -> None:
    home.write(work__sh=ENDLESS)
    with terminal(home, *words) as shown:
        shown.wait_for("begun")
        [instance] = home.temporary.glob("cynthus-run-*/server/instances/cynthus-*")
        os.kill(embedded_server(home), signal.SIGKILL)
        assert shown.end() == 3
    assert "the embedded server ended early" in shown.shown
    nothing_is_left(home, instance.name.split("-")[1])


def embedded_server(home: Home) -> int:
    [ready] = home.temporary.glob("cynthus-run-*/ready.json")
    return int(json.loads(ready.read_text())["pid"])


def test_ctrl_c_during_the_build_ends_the_build(home: Home, image: str) -> None:
    del image  # the base below, made for the tests
    mark = f"31{os.getpid() % 1000:03}"
    home.write(
        cynthus__yaml=SPEC + "image:\n  dockerfile: Dockerfile\n",
        Dockerfile=f"FROM {IMAGE}\nRUN sleep {mark}\n",
    )
    with terminal(home, "run") as shown:
        shown.wait_for(f"RUN sleep {mark}")
        began = Stopwatch()
        shown.type(CTRL_C)
        assert shown.end() == 130
        assert began.s < EXIT_LIMIT_S
    assert home.wait_until_nothing_runs() < EXIT_LIMIT_S
    assert not (home.folder / "cynthus-outputs").exists()
    nothing_is_left(home)


# ── what cannot be done ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("spec", "code", "told"),
    [
        (None, 2, r"cynthus.yaml: should be a readable spec, found: No such file or directory"),
        ("version: 2\nname: UP\n", 2, "cynthus.yaml:2:"),
        (SPEC + "secrets: [NOT_SET_ANYWHERE]\n", 2, "found no NOT_SET_ANYWHERE. Set each"),
        (SPEC + "image: {requirements: no.txt}\n", 2, "no.txt"),
        (
            SPEC + "data: [{name: d, source: 'gs://acme-data/x/'}]\n",
            1,
            "data/d: gs://acme-data/x/ should be open to this repository, found that it is not",
        ),
        (SPEC + "resources: {nodes: 9}\n", 1, "resources/nodes: should be what this machine has"),
        (SPEC + "resources: {gpu: b200}\n", 1, "resources/gpu: should be what this machine has"),
        (SPEC + "resources: {cpu: 900}\n", 1, "resources/cpu: should be what this machine has"),
        (SPEC + "resources: {provider: gcp}\n", 1, "resources/provider: should be one that"),
    ],
)
def test_what_cannot_be_done_is_said_plainly_and_ends_at_once(
    home: Home, spec: str | None, code: int, told: str
) -> None:
    (home.folder / "cynthus.yaml").unlink()
    if spec is not None:
        home.write(cynthus__yaml=spec)
    began = Stopwatch()
    done = home.run("run", "--process")
    assert done.returncode == code, done.stdout + done.stderr
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert began.s < 30
    nothing_is_left(home)


def test_every_fault_of_a_spec_is_listed(home: Home) -> None:
    home.write(cynthus__yaml="version: 2\nname: UP\nrun: 7\nwhat: x\n")
    done = home.run("run")
    assert done.returncode == 2
    assert [line.split(":")[1] for line in done.stderr.splitlines()] == ["1", "2", "3", "4"]


def test_what_the_run_goes_without_is_noted(home: Home) -> None:
    home.write(
        cynthus__yaml=SPEC
        + "checkpoint: {path: ckpt}\nkeep_warm: 10m\nlabels: {team: a}\n"
        + "resources: {spot: true, places: [us-central1]}\n"
    )
    done = home.run("run", "--process")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "checkpoint:" not in done.stdout  # it is saved
    assert (
        "note: resources/spot, resources/places, keep_warm, labels: have no effect" in done.stdout
    )


def test_a_folder_for_outputs_that_cannot_be_written_is_told_before_the_build(home: Home) -> None:
    home.write(taken="a file")
    done = home.run("run", "--out", "taken")
    assert done.returncode == 2
    assert "--out: should be a folder that can be written, found taken" in done.stderr
    assert "building" not in done.stdout


def test_a_spec_in_a_folder_below_builds_from_where_the_user_stands(home: Home) -> None:
    (home.folder / "jobs").mkdir()
    (home.folder / "cynthus.yaml").rename(home.folder / "jobs" / "small.yaml")
    done = home.run("run", "--process", "--spec", "jobs/small.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root's rights")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_outputs_that_find_no_room_are_told_with_what_to_do(home: Home) -> None:
    home.write(
        work__sh="mkdir -p outputs; head -c 3000000 /dev/zero > outputs/big\n",
    )
    (home.folder / "cynthus-outputs").mkdir()
    with small_disk(home.folder / "cynthus-outputs", "1m"):
        done = home.run("run", "--process")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "should have room for the outputs, found: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_temporary_folder_without_room_is_told_with_what_to_do(home: Home) -> None:
    with small_disk(home.temporary, "64k"):
        done = home.run("run", "--process")
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"{home.temporary}: should have 512 MiB free for the run, found 0 MiB" in done.stderr


def test_nothing_is_asked_of_the_terminal_when_plain_is_wanted(home: Home) -> None:
    with terminal(home, "run", "--process", "--plain") as shown:
        assert shown.end() == 0
    assert "\x1b" not in shown.shown


def test_a_reader_that_leaves_ends_nothing_early(home: Home) -> None:
    process = subprocess.Popen(
        command("run", "--process"),
        cwd=home.folder,
        env=home.environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    assert (home.outputs / "outputs" / "model.txt").exists()
