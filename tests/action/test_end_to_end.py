"""The whole Action against real Docker, a real registry, and a server that records."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import threading
import time
import urllib.error
from pathlib import Path

import pytest

from tests.action.engine_fixture import DockerEngine
from tests.action.world import RUN_TOKEN, SHA, World, write_wheel
from tests.registry_fixture import Registry, a_registry

pytestmark = pytest.mark.docker

SPEC = "version: 1\nname: tiny\nrun: python main.py\n"
MAIN = "import cynthus_greeting\nprint(cynthus_greeting.TEXT)\n"


@pytest.fixture
def repository(world: World, tmp_path: Path) -> dict[str, str]:
    """A repository with one dependency that only a local folder of wheels has."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    write_wheel(wheels, "cynthus_greeting", "1.0", "TEXT = 'good morning'\n")
    files = {"cynthus.yaml": SPEC, "main.py": MAIN, "requirements.txt": "cynthus_greeting==1.0\n"}
    world.write(files)
    return {"PIP_FIND_LINKS": str(wheels), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null"}


@pytest.fixture
def on_base(
    repository: dict[str, str], offline_base: str, registry: Registry, cache_dir: Path
) -> dict[str, str]:
    return {
        **repository,
        "INPUT_BASE_IMAGE": offline_base,
        "INPUT_REGISTRY": registry.host,
        "CYNTHUS_CACHE_DIR": str(cache_dir),
    }


def test_a_push_builds_pushes_and_asks_for_a_run_of_exactly_that_image(
    world: World, on_base: dict[str, str], registry: Registry, docker_engine: DockerEngine
) -> None:
    done = world.run(**on_base)
    assert done.returncode == 0, done.stdout + done.stderr

    digest, manifest = registry.manifest("acme/train/tiny", SHA)
    image = f"{registry.host}/acme/train/tiny@{digest}"
    outputs = world.outputs()
    assert outputs == {
        "image": image,
        "digest": digest,
        "run-id": "r1",
        "run-url": f"{world.url}/runs/r1",
    }
    [request] = world.submitted
    assert request["image"] == image
    assert request["failure"] is None
    assert request["commit_sha"] == SHA
    assert request["repository_id"] == 7
    assert request["trigger"] == "push"
    assert request["spec_text"] == SPEC

    config = json.loads(registry.blob("acme/train/tiny", manifest["config"]["digest"]))["config"]
    assert config["User"] == "1000:1000"
    assert config["WorkingDir"] == "/workspace"
    assert "PYTHONUNBUFFERED=1" in config["Env"]
    assert config["Labels"]["org.opencontainers.image.revision"] == SHA
    assert config["Labels"]["org.opencontainers.image.source"] == "https://github.com/Acme/Train"
    assert len(config["Labels"]["dev.cynthus.spec.sha256"]) == 64

    words = ("run", "--rm", "--network", "none", image, "bash", "-c")
    assert docker_engine.run(*words, "python main.py") == "good morning"
    owned = docker_engine.run(*words, "id -u; stat -c %u . main.py; touch outputs && echo writable")
    assert owned.split() == ["1000", "1000", "1000", "writable"]
    assert image in world.summary()


def test_the_identity_token_and_the_run_token_are_masked_before_anything_can_print_them(
    world: World, on_base: dict[str, str]
) -> None:
    done = world.run(**on_base, INPUT_AUDIENCE="our audience")
    lines = done.stdout.splitlines()
    ours = [r.token for r in world.requests if r.path.startswith("/api/v1/")]
    assert ours == [f"header.our audience.{n + 1}" for n in range(len(ours))]  # each good for one
    for secret in (*ours, RUN_TOKEN):
        assert [line for line in lines if secret in line] == [f"::add-mask::{secret}"]


def test_a_second_build_reuses_the_environment_and_the_wheels(
    world: World, on_base: dict[str, str]
) -> None:
    first = world.run(**on_base)
    world.write({"main.py": MAIN + "print('changed')\n"})
    second = world.run(**on_base)
    assert first.returncode == second.returncode == 0, second.stdout
    assert "its packages are those of an earlier build" in second.stdout
    assert "environment reused" in world.summary()
    assert "::group::Packages from" not in second.stdout
    images = [request["image"] for request in world.submitted]
    assert images[0] != images[1]


def test_the_environment_is_built_without_any_network(
    world: World, on_base: dict[str, str], tmp_path: Path, docker_engine: DockerEngine
) -> None:
    """A package whose import tells what the build step can reach: only the loopback interface."""
    dockerfile = tmp_path / "Dockerfile"
    base = on_base["INPUT_BASE_IMAGE"]
    marker = time.monotonic_ns()  # so that no earlier layer answers
    dockerfile.write_text(f"FROM {base}\nRUN echo {marker}; ls /sys/class/net > /interfaces\n")
    from action.engine.engine import Engine
    from action.plan import build_words
    from action.workflow import PlainConsole

    engine = Engine(docker_engine.client)
    tag = f"cynthus/test-network:{marker}"
    words = build_words(dockerfile=str(dockerfile), context=str(tmp_path), tag=tag, network="none")
    with (tmp_path / "log").open("w") as log:
        assert engine.build(PlainConsole(log), words).code == 0
    try:
        found = docker_engine.run("run", "--rm", "--network", "none", tag, "cat", "/interfaces")
    finally:
        docker_engine.run("rmi", tag)
    assert found.split() == ["lo"]


def test_git_history_and_credentials_stay_out_of_the_image(
    world: World, on_base: dict[str, str], docker_engine: DockerEngine
) -> None:
    world.write(
        {
            ".git/HEAD": "ref: refs/heads/main\n",
            ".env": "TOKEN=1\n",
            "big.bin": "x",
            ".dockerignore": "*.bin\n",
            "sub/.netrc": "machine x\n",
            "sub/data.csv": "1,2\n",
        }
    )
    done = world.run(**on_base)
    assert done.returncode == 0, done.stdout
    image = world.outputs()["image"]
    listed = docker_engine.run("run", "--rm", "--network", "none", image, "find", ".", "-type", "f")
    assert sorted(listed.split()) == [
        "./cynthus.yaml",
        "./main.py",
        "./requirements.txt",
        "./sub/data.csv",
    ]
    for name in (".env", "sub/.netrc"):
        told = f"{name} is where tools keep credentials; it is left out"
        assert told in done.stdout
        assert name in world.summary()


def test_the_password_reaches_the_registry_and_nothing_else(
    world: World, on_base: dict[str, str], tmp_path: Path
) -> None:
    password = "correct-horse-battery-staple"
    with a_registry(tmp_path, htpasswd=_HTPASSWD) as closed:
        seen: list[str] = []
        watching = threading.Event()
        watcher = threading.Thread(target=_watch_processes, args=(password, seen, watching))
        watcher.start()
        done = world.run(
            **{**on_base, "INPUT_REGISTRY": f"{closed.host}/team"},
            INPUT_USERNAME="pusher",
            INPUT_PASSWORD=password,
        )
        watching.set()
        watcher.join()
        assert done.returncode == 0, done.stdout
        with pytest.raises(urllib.error.HTTPError):
            closed.manifest("team/tiny", SHA)  # it does ask for a login
    coded = base64.b64encode(f"pusher:{password}".encode()).decode()
    for secret in (password, coded):
        assert secret not in done.stdout + done.stderr + world.summary()
    assert seen == []


# htpasswd -nbB pusher correct-horse-battery-staple
_HTPASSWD = "pusher:$2b$04$HAS2FsM9ucuuDp7M6nfs2uAjboeG04lYkgotaQfVfMTi/VuG4RR1i\n"


def _watch_processes(secret: str, seen: list[str], done: threading.Event) -> None:
    """Read every process's arguments until told to stop."""
    while not done.wait(0.01):
        for name in filter(str.isdigit, os.listdir("/proc")):
            # Most of them end between the listing and the look.
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ")
                if secret.encode() in words:
                    seen.append(words.decode(errors="replace"))


def test_a_refused_push_says_what_to_give_and_ends_the_run(
    world: World, on_base: dict[str, str], tmp_path: Path
) -> None:
    with a_registry(tmp_path, htpasswd=_HTPASSWD) as closed:
        done = world.run(**{**on_base, "INPUT_REGISTRY": f"{closed.host}/team"})
    assert done.returncode == 1
    [request] = world.submitted
    assert request["image"] is None
    assert "found 401" in request["failure"]
    assert "Give `username` and `password`" in done.stdout


def test_a_dockerfile_of_the_users_own_is_built_and_gets_the_source(
    world: World, on_base: dict[str, str], docker_engine: DockerEngine
) -> None:
    base = on_base["INPUT_BASE_IMAGE"]
    world.write(
        {
            "cynthus.yaml": SPEC + "image: {dockerfile: Dockerfile}\n",
            "Dockerfile": f'FROM {base}\nCOPY main.py /copied.py\nENTRYPOINT ["false"]\n',
        }
    )
    done = world.run(**on_base)
    assert done.returncode == 0, done.stdout
    image = world.outputs()["image"]
    words = ("run", "--rm", "--network", "none", image, "bash", "-c")
    told = docker_engine.run(*words, "id -u; stat -c %u /workspace; ls /copied.py main.py; pwd")
    assert told.split() == ["1000", "1000", "/copied.py", "main.py", "/workspace"]


@pytest.mark.parametrize(
    ("dockerfile", "line", "reason"),
    [
        ("FROM {base}\nRUN true\nFETCH everything\n", 3, "unknown instruction: FETCH"),
        ("FROM {base}\nRUN exit 7\n", 2, "exit code: 7"),
        ("FROM {base}\nRUN true\nCOPY absent.txt /\n", 3, "absent.txt"),
    ],
)
def test_a_bad_dockerfile_is_annotated_and_the_run_ends_with_the_reason(
    world: World, on_base: dict[str, str], dockerfile: str, line: int, reason: str
) -> None:
    text = dockerfile.format(base=on_base["INPUT_BASE_IMAGE"])
    spec = SPEC + "image: {dockerfile: Dockerfile}\n"
    world.write({"cynthus.yaml": spec, "Dockerfile": text})
    done = world.run(**on_base)
    assert done.returncode == 1
    assert f"::error file=Dockerfile,line={line}::" in done.stdout
    [request] = world.submitted
    assert request["image"] is None
    assert reason in request["failure"]
    assert world.outputs()["conclusion"] == "failure"


def test_a_package_nobody_has_is_a_build_failure_that_names_it(
    world: World, on_base: dict[str, str]
) -> None:
    world.write({"requirements.txt": "cynthus_greeting==9.9\n"})
    done = world.run(**on_base)
    assert done.returncode == 2
    [request] = world.submitted
    assert "should be a version that exists" in request["failure"]
    assert "cynthus-greeting==9.9" in request["failure"]
    assert "::error file=requirements.txt,line=1" in done.stdout


def test_packages_of_the_base_are_kept_and_not_fetched_again(
    world: World, on_base: dict[str, str], tmp_path: Path, docker_engine: DockerEngine
) -> None:
    """A base with a heavy package: the wheel for the builder does not exist anywhere."""
    heavy = tmp_path / "heavy"
    heavy.mkdir()
    write_wheel(heavy, "heavy", "2.0+cu1", "WEIGHT = 'from the base'\n")
    dockerfile = heavy / "Dockerfile"
    dockerfile.write_text(
        f"FROM {on_base['INPUT_BASE_IMAGE']}\nCOPY *.whl /\n"
        "RUN PIP_BREAK_SYSTEM_PACKAGES=1 pip install --no-index /*.whl\n"
    )
    tag = f"cynthus/test-heavy:{time.monotonic_ns()}"
    words = ["build", "--network", "none", "-q", "-t", tag, str(heavy)]
    environ = {"DOCKER_BUILDKIT": "1", "PATH": "/usr/bin:/bin"}
    subprocess.run([docker_engine.client, *words], env=environ, check=True, capture_output=True)
    world.write(
        {
            "requirements.txt": "cynthus_greeting==1.0\nheavy\n",
            "main.py": MAIN + "import heavy; print(heavy.WEIGHT)\n",
        }
    )
    try:
        done = world.run(**{**on_base, "INPUT_BASE_IMAGE": tag})
        assert done.returncode == 0, done.stdout
        image = world.outputs()["image"]
        told = docker_engine.run("run", "--rm", "--network", "none", image, "python", "main.py")
        assert told.splitlines() == ["good morning", "from the base"]
    finally:
        docker_engine.run("rmi", tag)
