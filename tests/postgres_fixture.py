"""A real PostgreSQL for a test session, on a loopback port in a temporary folder."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from demo.processes import free_port
from tests.memory import fast_disk

_numbers = itertools.count(1)
LIMIT_S = 180  # each takes a second or two; a busy machine gets minutes


def server_programs() -> Path | None:
    """Return the folder of the newest installed PostgreSQL."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    return found[-1].parent if found else None


@contextmanager
def a_server() -> Iterator[str]:
    """Run a server until the block ends; gives the URL of its empty database `postgres`."""
    programs = server_programs()
    if programs is None:
        _absent("no /usr/lib/postgresql/*/bin/initdb here: apt-get install postgresql")
    home = fast_disk(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix="cynthus-postgres-", dir=home))
    try:
        _as_postgres(folder, [programs / "initdb", "-D", folder / "data", "-A", "trust", "-N"])
        port = free_port()
        _as_postgres(folder, [programs / "pg_ctl", *_start(folder, port)])
        try:
            yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
        finally:
            _as_postgres(
                folder, [programs / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop"]
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def a_database(server_url: str) -> str:
    """Make an empty database on the server; gives its URL."""
    name = f"test_{next(_numbers)}"
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    engine.dispose()
    return server_url.rsplit("/", 1)[0] + f"/{name}"


def drop(url: str) -> None:
    """Remove a database that `a_database` made: each is three hundred files."""
    server_url, _, name = url.rpartition("/")
    engine = create_engine(f"{server_url}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    engine.dispose()


def _start(folder: Path, port: int) -> list[object]:
    # Tests need no durability: the machine's disk is shared by all of them.
    options = (
        f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories={folder}"
        " -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
        " -c shared_buffers=16MB -c max_connections=60 -c min_wal_size=32MB -c max_wal_size=64MB"
    )
    return [
        "-D",
        folder / "data",
        "-l",
        folder / "log",
        "-w",
        "-t",
        LIMIT_S,
        "-o",
        options,
        "start",
    ]


def _as_postgres(folder: Path, command: list[object]) -> None:
    words = [str(word) for word in command]
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        words = ["runuser", "-u", "postgres", "--", *words]
    done = subprocess.run(
        words,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=LIMIT_S + 10,
    )
    assert done.returncode == 0, done.stdout.decode()


def _absent(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
