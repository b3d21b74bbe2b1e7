"""The lock against real uv and a folder of wheels: no index, no network."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from action.failures import BuildFailed
from action.packages.requirements import Requirements
from action.resolving import lock, resolver
from action.resolving.lock import Need
from action.workflow import Place, PlainConsole
from cynthus.errors import UserError

HASH = "--hash=sha256:" + "a" * 64


def a_wheel(folder: Path, name: str, version: str, *needs: str, **more: str) -> None:
    info = f"{name}-{version}.dist-info"
    wishes = "".join(f"Requires-Dist: {need}\n" for need in needs)
    wishes += f"Requires-Python: {more['python']}\n" if "python" in more else ""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{wishes}"
        wheel.writestr(f"{info}/METADATA", about)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        if "script" in more:
            wheel.writestr(
                f"{name}-{version}.data/scripts/{Path(more['script']).name}", "#!/bin/sh\n"
            )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    return folder


def a_need(*lines: str, **changes: object) -> Need:
    places = tuple(Place(file="requirements.txt", line=n) for n in range(1, len(lines) + 1))
    need = Need(
        requirements=Requirements(lines=lines, places=places, source="requirements.txt"),
        python="3.11",
        machine="x86_64",
        libc=(2, 36),
        kept={},
        as_of="2026-01-31",
    )
    return replace(need, **changes)  # type: ignore[arg-type]


def locked(need: Need, cache: Path) -> lock.Lock:
    return lock.lock(need, cache, PlainConsole(io.StringIO()))


def refusal(need: Need, cache: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        locked(need, cache)
    assert list(cache.glob(".locking-*")) == []
    return caught.value


def test_a_lock_names_every_package_with_its_hash_and_no_place(
    wheels: Path, tmp_path: Path
) -> None:
    a_wheel(wheels, "plain", "1.2", "deep>=1")
    a_wheel(wheels, "deep", "1.5")
    found = locked(a_need("plain"), tmp_path / "cache")
    assert found.pins == (("deep", "1.5"), ("plain", "1.2"))
    assert found.source == "requirements.txt"
    assert found.text.count("--hash=sha256:") == 2
    assert str(tmp_path) not in found.text
    assert "http" not in found.text


def test_the_same_is_asked_once_a_day(wheels: Path, tmp_path: Path) -> None:
    a_wheel(wheels, "plain", "1.2")
    first = locked(a_need("plain"), tmp_path / "cache")
    a_wheel(wheels, "plain", "1.3")
    assert locked(a_need("plain"), tmp_path / "cache") == first
    tomorrow = locked(a_need("plain", as_of="2026-02-01"), tmp_path / "cache")
    assert tomorrow.pins == (("plain", "1.3"),)


def test_what_the_base_has_takes_part_and_is_not_in_the_lock(wheels: Path, tmp_path: Path) -> None:
    """The index has the base's version too, with wishes that the base meets in its own way."""
    a_wheel(wheels, "heavy", "2.6.0", "driver-code==12")
    a_wheel(wheels, "middle", "1.0", "heavy")
    need = a_need("middle", kept={"heavy": "2.6.0", "torch": "2.6.0+cu124", "odd": "not a version"})
    assert locked(need, tmp_path / "cache").pins == (("middle", "1.0"),)
    local = a_need("torch>=2", "middle", kept={"heavy": "2.6.0", "torch": "2.6.0+cu124"})
    assert locked(local, tmp_path / "cache").pins == (("middle", "1.0"),)


def test_a_wish_that_the_base_cannot_meet_names_the_base(wheels: Path, tmp_path: Path) -> None:
    a_wheel(wheels, "middle", "1.0", "heavy>=3")
    a_wheel(wheels, "heavy", "3.0")
    error = refusal(a_need("middle", kept={"heavy": "2.6.0+cu124"}), tmp_path / "cache")
    assert [fault.line for fault in error.faults] == [1]
    assert "The base brings heavy 2.6.0+cu124 and keeps it" in str(error)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (("plain", "absent-thing"), {2: "found none called `absent-thing`"}),
        (("plain==9",), {1: "found none of `plain==9`"}),
        (("modern",), {1: "should fit Python 3.11, found a package for Python >=3.12"}),
        (
            ("left", "plain", "right"),
            {1: "no versions fit together", 3: "does not fit together with requirements.txt:1"},
        ),
        (
            ("plain<1", "plain>1"),
            {1: "no versions fit together: you require plain<1 and plain>1", 2: "does not fit"},
        ),
    ],
)
def test_what_does_not_resolve_is_told_at_its_lines(
    wheels: Path, tmp_path: Path, lines: tuple[str, ...], told: dict[int, str]
) -> None:
    a_wheel(wheels, "plain", "1.2")
    a_wheel(wheels, "deep", "1.0")
    a_wheel(wheels, "deep", "2.0")
    a_wheel(wheels, "left", "1.0", "deep<2")
    a_wheel(wheels, "right", "1.0", "deep>=2")
    a_wheel(wheels, "modern", "1.0", python=">=3.12")
    error = refusal(a_need(*lines), tmp_path / "cache")
    assert [fault.line for fault in error.faults] == list(told)
    for fault in error.faults:
        assert told[fault.line] in fault.message


def test_a_package_that_is_only_source_is_told_where_it_cannot_be_built(
    wheels: Path, tmp_path: Path
) -> None:
    (wheels / "sources-1.0.tar.gz").write_bytes(b"never opened")
    error = refusal(a_need("sources"), tmp_path / "cache")
    assert "should be a package with a wheel for Python 3.11 on x86_64" in str(error)


class _Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503 if self.path.startswith("/down/") else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"ada:canary@127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "told"),
    [("private", "refuses the job's credentials (401"), ("down", "it answers 503 Service")],
)
def test_an_index_that_says_no_is_told_without_its_password(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: str, path: str, told: str
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{index}/{path}/")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    log = io.StringIO()
    with pytest.raises(BuildFailed) as caught:
        lock.lock(a_need("plain"), tmp_path / "cache", PlainConsole(log))
    assert told in str(caught.value)
    assert "canary" not in str(caught.value) + log.getvalue()


def test_an_index_that_is_not_there_is_told(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(BuildFailed, match="cannot be reached: the connection was refused"):
        locked(a_need("plain"), tmp_path / "cache")


def test_hashes_are_a_lock_already_and_nothing_asks_for_nothing(tmp_path: Path) -> None:
    hashed = Requirements(lines=(f"a==1 {HASH}", f"b[x]==2.0 {HASH}"), hashed=True, source="r.txt")
    found = locked(a_need(requirements=hashed), tmp_path)
    assert found.text == f"a==1 {HASH}\nb[x]==2.0 {HASH}\n"
    assert found.pins == (("a", "1"), ("b", "2.0"))
    assert locked(a_need(), tmp_path) == lock.Lock(source="requirements.txt")


def test_a_lock_for_many_platforms_is_cut_to_the_image(tmp_path: Path) -> None:
    lines = (
        f"a==1 ; sys_platform == 'win32' {HASH}",
        f"b==2 ; python_version < '3.12' and platform_machine != 'arm64' {HASH} {HASH}",
        f'c==3; python_full_version >= "3.12" {HASH}',
        f"In_Base == 4 {HASH}",
    )
    hashed = Requirements(lines=lines, hashed=True, source="r.txt")
    need = a_need(requirements=hashed, kept={"in-base": "4"})
    assert locked(need, tmp_path).text == f"b==2 {HASH} {HASH}\n"
    assert locked(replace(need, kept={}), tmp_path).pins == (("b", "2"), ("in-base", "4"))


def test_constraints_bind_what_others_want_and_are_part_of_the_question(
    wheels: Path, tmp_path: Path
) -> None:
    a_wheel(wheels, "plain", "1.2", "deep")
    a_wheel(wheels, "deep", "1.0")
    a_wheel(wheels, "deep", "2.0")
    need = a_need("plain")
    bound = replace(need, requirements=replace(need.requirements, constraints=("deep<2", "x==1")))
    assert locked(need, tmp_path / "cache").pins == (("deep", "2.0"), ("plain", "1.2"))
    assert locked(bound, tmp_path / "cache").pins == (("deep", "1.0"), ("plain", "1.2"))


def test_a_uv_toml_of_the_repository_does_not_count(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_wheel(wheels, "plain", "1.2")
    (tmp_path / "uv.toml").write_text("no-such-setting = 1\n")
    monkeypatch.chdir(tmp_path)
    assert locked(a_need("plain"), tmp_path / "elsewhere" / "cache").pins == (("plain", "1.2"),)


@pytest.mark.parametrize(
    ("told", "enough"),
    [
        ("uv 0.13.9 (x86_64-unknown-linux-gnu)", True),
        ("uv 0.5.31", True),
        ("uv 0.5.30", False),
        ("", False),
        ("uv what", False),
    ],
)
def test_a_uv_that_is_too_old_does_not_count(told: str, enough: bool) -> None:
    assert resolver.new_enough(told) is enough


def test_uv_is_installed_by_its_hash_and_only_by_it(wheels: Path, tmp_path: Path) -> None:
    """A wheel that is called uv stands for the real one of 25 MB."""
    a_wheel(wheels, "uv", "9.9", script="uv")
    wheel = next(wheels.iterdir())
    locked_uv = tmp_path / "resolver.lock"
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    locked_uv.write_text(f"uv==9.9 --hash=sha256:{digest}\n")
    folder = tmp_path / "cache" / "tools" / "uv"
    resolver.install(locked_uv, folder)
    assert (folder / "bin" / "uv").is_file()
    locked_uv.write_text(f"uv==9.9 {HASH}\n")
    with pytest.raises(BuildFailed, match="uv, which locks the packages, could not be installed"):
        resolver.install(locked_uv, tmp_path / "other")
    assert [path.name for path in folder.parent.iterdir()] == ["uv"]
    assert not (tmp_path / "other").exists()
