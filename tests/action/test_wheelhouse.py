"""The wheelhouse against real pip and a folder of wheels: no index, no network."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from action.failures import BuildFailed
from action.packages.requirements import Requirements
from action.plan import Interpreter
from action.resolving import builder, wheelhouse
from action.resolving.wheelhouse import Need
from action.workflow import Place, PlainConsole
from cynthus.errors import UserError
from tests.action.world import ROOT, write_wheel

OTHER_PYTHON = Interpreter(version="3.13", machine="x86_64", libc=(2, 36))


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    write_wheel(folder, "cynthus_greeting", "1.0", "TEXT = 'good morning'\n")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def a_need(*lines: str, image: Interpreter | None = None, as_of: str = "2026-01-31") -> Need:
    return Need(
        requirements=Requirements(lines=lines),
        image=image or builder.this_interpreter(),
        kept={},
        as_of=as_of,
    )


def fill(need: Need, cache: Path) -> wheelhouse.Wheels:
    return wheelhouse.fill(need, cache, PlainConsole(io.StringIO()))


@pytest.mark.parametrize("image", [None, OTHER_PYTHON])
def test_a_second_filling_asks_nobody(
    wheels: Path, tmp_path: Path, image: Interpreter | None
) -> None:
    need = a_need("cynthus_greeting==1.0", image=image)
    first = fill(need, tmp_path / "cache")
    for wheel in wheels.iterdir():
        wheel.unlink()
    second = fill(need, tmp_path / "cache")
    assert (first.cached, second.cached) == (False, True)
    assert first.folder == second.folder
    assert (second.count, second.size_bytes) == (1, first.size_bytes)


def test_an_open_version_is_looked_up_again_the_next_day(wheels: Path, tmp_path: Path) -> None:
    first = fill(a_need("cynthus_greeting"), tmp_path / "cache")
    write_wheel(wheels, "cynthus_greeting", "2.0", "TEXT = 'good evening'\n")
    assert fill(a_need("cynthus_greeting"), tmp_path / "cache").cached
    tomorrow = fill(a_need("cynthus_greeting", as_of="2026-02-01"), tmp_path / "cache")
    assert not tomorrow.cached
    assert [path.name for path in tomorrow.folder.glob("*.whl")] != [
        path.name for path in first.folder.glob("*.whl")
    ]


def test_what_nobody_has_is_named_and_leaves_nothing_behind(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"no package fits `cynthus_greeting>=3`"):
        fill(a_need("cynthus_greeting>=3"), tmp_path / "cache")
    assert list((tmp_path / "cache" / "wheels").iterdir()) == []


def test_a_file_that_is_not_what_its_hash_says_is_told_on_its_line(
    wheels: Path, tmp_path: Path
) -> None:
    line = f"cynthus_greeting==1.0 --hash=sha256:{'0' * 64}"
    need = replace(
        a_need(line),
        requirements=Requirements(
            lines=(line,),
            places=(Place(file="requirements.txt", line=7),),
            source="requirements.txt",
            hashed=True,
        ),
    )
    [wheel] = wheels.iterdir()
    with pytest.raises(UserError) as caught:
        fill(need, tmp_path / "cache")
    [fault] = caught.value.faults
    assert (fault.path, fault.line) == ("requirements.txt", 7)
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert f"found `cynthus_greeting==1.0` there with sha256:{found}. If you" in fault.message


def test_a_builder_that_is_killed_leaves_no_half_filled_wheelhouse(
    wheels: Path, tmp_path: Path
) -> None:
    """A pip that hangs stands for a slow index; the builder is killed without a word."""
    hanging = tmp_path / "site"
    (hanging / "pip").mkdir(parents=True)
    started = tmp_path / "started"
    (hanging / "pip" / "__init__.py").write_text("")
    code = f"open({str(started)!r}, 'w').write(str(__import__('os').getpid()))\n"
    (hanging / "pip" / "__main__.py").write_text(code + "import time; time.sleep(600)\n")
    program = (
        "import io\nfrom pathlib import Path\n"
        "from action.resolving import builder as b, wheelhouse as w\n"
        "from action.packages.requirements import Requirements\n"
        "from action.workflow import PlainConsole\n"
        "need = w.Need(requirements=Requirements(lines=('cynthus_greeting==1.0',)),"
        " image=b.this_interpreter(), kept={}, as_of='2026-01-31')\n"
        f"w.fill(need, Path({str(tmp_path / 'cache')!r}), PlainConsole(io.StringIO()))\n"
    )
    environ = {**os.environ, "PYTHONPATH": f"{hanging}{os.pathsep}{ROOT}"}
    builder = subprocess.Popen([sys.executable, "-P", "-c", program], env=environ)
    tick = threading.Event()
    while not started.exists() or not started.read_text():
        assert builder.poll() is None
        tick.wait(0.02)
    builder.kill()
    builder.wait()
    os.kill(int(started.read_text()), signal.SIGKILL)
    assert not fill(a_need("cynthus_greeting==1.0"), tmp_path / "cache").cached


def test_a_package_of_the_base_is_neither_fetched_nor_replaced(
    wheels: Path, tmp_path: Path
) -> None:
    """`heavy` exists nowhere but in the base, in a version only the base has."""
    need = Need(
        requirements=Requirements(lines=("cynthus_greeting", "heavy")),
        image=builder.this_interpreter(),
        kept={"heavy": "2.6.0+cu124"},
        as_of="2026-01-31",
    )
    filled = fill(need, tmp_path / "cache")
    assert [path.name.split("-")[0] for path in filled.folder.glob("*.whl")] == ["cynthus_greeting"]


def test_the_pip_that_is_found_answers() -> None:
    told = subprocess.check_output([*builder.find_pip(), "--version"], text=True)
    assert told.startswith("pip ")
