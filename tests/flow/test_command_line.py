"""status, logs, cancel and pull, against a real server with real runs."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cynthus.client import Client
from cynthus.packing import FIRST_FILES
from cynthus.wire import RunRequest, RunView
from demo.processes import Programs, free_port
from demo.server import Server
from tests.cynthus_run import Home, command
from tests.docker_fixture import engine_socket, image
from tests.stopwatch import Stopwatch

__all__ = ["engine_socket", "image"]  # fixtures
QUICK = """\
echo ::metric name=accuracy::0.97
mkdir -p outputs/model && echo weights > outputs/model/w.bin
echo hello from the run
"""
SLOW = "echo begun; trap 'exit 3' TERM; while :; do sleep 0.1; done\n"
NOBODY = "a" * 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    programs = Programs(folder / "log")
    server = Server(programs, folder / "state", settings={"CYNTHUS_BUNDLES_DIR": str(folder)})
    try:
        server.start()
        yield server
    finally:
        programs.stop()


@pytest.fixture
def home(tmp_path: Path, server: Server) -> Home:
    (tmp_path / "folder").mkdir()
    (tmp_path / "tmp").mkdir()
    told = {"CYNTHUS_SERVER": server.url, "CYNTHUS_TOKEN": server.api_token}
    return Home(tmp_path / "folder", tmp_path / "tmp", told)


def submit(server: Server, script: str) -> str:
    """Ask for a run of a script as a plain process, as `cynthus run` does."""
    return submit_image(server, a_bundle(server, script), "sh work.sh")


def a_bundle(server: Server, script: str) -> str:
    bundle = server.state.parent / secrets.token_hex(8) / "bundle"
    (bundle / "workspace").mkdir(parents=True)
    (bundle / "bundle.json").write_text(json.dumps({"bin": "/usr/bin", "workspace": "workspace"}))
    (bundle / "workspace" / "work.sh").write_text(script)
    return bundle.as_uri()


def submit_image(server: Server, image: str, command: str) -> str:
    request = RunRequest(
        repository_id=0,
        repository="local/little",
        commit_sha="c" * 40,
        ref="",
        event="local",
        trigger=f"local/{secrets.token_hex(8)}",
        spec_path="cynthus.yaml",
        spec_text=f"version: 1\nname: little\nrun: {command}\noutputs: [{{path: outputs}}]\n",
        image=image,
    )
    return Client(server.url, server.api_token).submit(request).run_id


@pytest.fixture(scope="module")
def finished(server: Server) -> str:
    run_id = submit(server, QUICK)
    ended(server, run_id)
    return run_id


def ended(server: Server, run_id: str) -> RunView:
    """Wait for a run's end and return it."""
    client = Client(server.url, server.api_token)
    for event in client.follow(run_id):
        assert event.seq
    return client.get(run_id)


def test_status_lists_runs_and_tells_of_one(home: Home, finished: str) -> None:
    listed = home.run("status")
    assert listed.returncode == 0, listed.stderr
    head, *rows = listed.stdout.splitlines()
    assert head.split() == ["ID", "NAME", "REPOSITORY", "COMMIT", "STATE", "COST", "REASON"]
    [row] = [row for row in rows if row.startswith(finished)]
    assert row.split()[1:5] == ["little", "local/little", "ccccccc", "succeeded"]
    told = home.run("status", finished)
    assert told.returncode == 0
    for line in (
        f"little {finished}",
        "  state      succeeded: the command succeeded",
        "  metric     accuracy = 0.97",
        "  output     outputs/model/w.bin (8 bytes)",
    ):
        assert line in told.stdout.splitlines()


def test_status_as_json_is_one_object(home: Home, finished: str) -> None:
    told = json.loads(home.run("status", finished, "--json").stdout)
    assert (told["id"], told["state"], told["outcome"]) == (finished, "finished", "succeeded")
    listed = json.loads(home.run("status", "--json").stdout)
    assert finished in [row["id"] for row in listed]


def test_logs_prints_the_log_and_nothing_else(home: Home, finished: str) -> None:
    told = home.run("logs", finished)
    assert (told.returncode, told.stdout, told.stderr) == (0, "hello from the run\n", "")


def test_logs_f_of_a_finished_run_ends_with_its_outcome(home: Home, finished: str) -> None:
    told = home.run("logs", "-f", finished)
    assert told.returncode == 0
    assert told.stdout == "hello from the run\n"
    assert told.stderr.splitlines()[-1] == "── succeeded: the command succeeded"


def test_a_run_that_is_followed_and_cancelled_ends_with_1(home: Home, server: Server) -> None:
    run_id = submit(server, SLOW)
    follower = subprocess.Popen(
        command("logs", "-f", run_id),
        cwd=home.folder,
        env=home.environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout is not None
    assert follower.stdout.readline() == "begun\n"  # shown while the run goes on
    began = Stopwatch()
    asked = home.run("cancel", run_id)
    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout == f"asked. `cynthus logs -f {run_id}` shows its end.\n"
    _, told = follower.communicate(timeout=60)
    assert began.s < 15
    assert follower.returncode == 1
    assert told.splitlines()[-1].startswith("── cancelled: cancelled by")
    again = home.run("cancel", run_id)
    assert again.returncode == 0  # it is as it was asked to be
    assert run_id in again.stdout


def test_all_runs_are_cancelled_with_one_command(home: Home, server: Server) -> None:
    runs = [submit(server, SLOW) for _ in range(2)]
    none = home.run("cancel", "--all", "--repository-id", "404")
    assert (none.returncode, none.stderr) == (0, "")
    assert none.stdout == "asked of 0 runs. `cynthus status` shows their ends.\n"
    asked = home.run("cancel", "--all")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert re.fullmatch(r"asked of \d+ runs\. `cynthus status` shows their ends\.\n", asked.stdout)
    client = Client(server.url, server.api_token)
    for run_id in runs:
        for event in client.follow(run_id):
            assert event.seq
        assert client.get(run_id).outcome == "cancelled"


def test_pull_copies_the_outputs_and_a_repeat_costs_nothing(home: Home, finished: str) -> None:
    done = home.run("pull", finished)
    assert done.returncode == 0, done.stderr
    copied = home.outputs / "outputs" / "model" / "w.bin"
    assert home.outputs.name == finished
    assert copied.read_text() == "weights\n"
    assert f"cynthus-outputs/{finished}/outputs/model/w.bin (8 bytes)" in done.stdout
    before = copied.stat().st_mtime_ns
    assert home.run("pull", finished).returncode == 0
    assert copied.stat().st_mtime_ns == before


def test_thousands_of_small_outputs_come_in_few_archives_and_whole(
    home: Home, server: Server
) -> None:
    script = "mkdir -p outputs; cd outputs; seq 3000 | split -l 1 -a 4 -d - f\n"
    view = ended(server, submit(server, script))
    packed = [output for output in view.outputs if output.packed]
    assert [(output.path, output.packed) for output in packed] == [
        (".cynthus/packed-0001.tar", 3000 - FIRST_FILES)
    ]
    assert len(view.outputs) == FIRST_FILES + 1
    done = home.run("pull", view.id)
    assert done.returncode == 0, done.stderr
    found = {path.name: path.read_text() for path in (home.outputs / "outputs").iterdir()}
    assert found == {f"f{n:04}": f"{n + 1}\n" for n in range(3000)}


@pytest.mark.docker
def test_a_container_that_fails_leaves_packed_outputs_which_are_marked_partial(
    server: Server, image: str
) -> None:
    command = "cd outputs; for n in $(seq 520); do echo $n > $n; done; exit 3"
    view = ended(server, submit_image(server, image, command))
    assert (view.outcome, view.reason) == ("failed", "the command exited with code 3")
    assert {(output.partial, output.attempt) for output in view.outputs} == {(True, 1)}
    assert sum(output.packed for output in view.outputs) == 20


def test_pull_to_where_nothing_can_be_written_says_so(home: Home, finished: str) -> None:
    home.write(taken="a file")
    done = home.run("pull", finished, "--to", "taken")
    assert done.returncode == 2
    assert "--to: should be a folder that can be written, found taken" in done.stderr


COMMANDS = [("status", NOBODY), ("logs", NOBODY), ("logs", "-f", NOBODY), ("cancel", NOBODY)]
COMMANDS += [("pull", NOBODY)]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_unknown_run_is_the_users_error(home: Home, words: tuple[str, ...]) -> None:
    done = home.run(*words)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert NOBODY in done.stderr
    assert "`cynthus status` lists" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [*COMMANDS, ("status",)], ids=" ".join)
def test_a_wrong_token_is_told_with_where_to_set_it(home: Home, words: tuple[str, ...]) -> None:
    home.environment["CYNTHUS_TOKEN"] = "x" * 48
    done = home.run(*words)
    assert done.returncode == 2, done.stderr
    assert "Set CYNTHUS_TOKEN" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "words", [c for c in COMMANDS if "-f" not in c] + [("status",)], ids=" ".join
)
def test_a_server_that_is_away_is_told_with_what_to_do(home: Home, words: tuple[str, ...]) -> None:
    home.environment["CYNTHUS_SERVER"] = f"http://127.0.0.1:{free_port()}"
    done = home.run(*words)
    assert done.returncode == 3, done.stderr
    assert "should answer, found" in done.stderr
    assert "Start one with `cynthus serve`" in done.stderr


def test_following_at_a_server_that_is_away_ends_at_once(home: Home) -> None:
    home.environment["CYNTHUS_SERVER"] = f"http://127.0.0.1:{free_port()}"
    began = Stopwatch()
    assert home.run("logs", "-f", NOBODY).returncode == 3
    assert began.s < 10


def test_a_server_that_is_not_ours_is_told_as_such(home: Home) -> None:
    import http.server

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>welcome</html>")

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.01,))
        thread.start()
        home.environment["CYNTHUS_SERVER"] = f"http://127.0.0.1:{other.server_port}"
        done = home.run("status")
        other.shutdown()
        thread.join()
    assert done.returncode == 3
    assert "Is it a Cynthus server?" in done.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "ftp://host", ""])
def test_an_address_that_is_none_is_the_users_error(home: Home, address: str) -> None:
    home.environment["CYNTHUS_SERVER"] = "ftp://nobody"
    done = home.run("status", "--server", address or "ftp://host")
    assert done.returncode == 2
    assert "server: should begin with http:// or https://" in done.stderr


def test_a_log_that_is_cut_off_by_its_reader_ends_quietly(home: Home, finished: str) -> None:
    words = " ".join(command("logs", finished))
    done = subprocess.run(
        ["bash", "-c", f"{words} | true; echo ${{PIPESTATUS[0]}}"],
        cwd=home.folder,
        env=home.environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
