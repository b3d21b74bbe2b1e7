"""A real PostgreSQL for a test session, on a loopback port in a temporary folder."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Postgres:
    """A server that a test may end and start again."""

    folder: Path
    programs: Path
    port: int
    #: Whether what was committed survives the end of its processes (a power cut it does not).
    durable: bool

    @property
    def url(self) -> str:
        """Return the address of its empty database `postgres`."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._control(*_start(self))

    def stop(self, mode: str = "immediate") -> None:
        """End it: `fast` ends its clients' sessions first, `immediate` is a crash."""
        self._control("-D", self.folder / "data", "-m", mode, "stop")

    def _control(self, *words: object) -> None:
        _as_postgres(self.folder, [self.programs / "pg_ctl", *words])


@contextmanager
def a_server() -> Iterator[str]:
    """Run a server until the block ends; gives the URL of its empty database `postgres`."""
    with a_postgres(durable=False) as postgres:
        yield postgres.url


@contextmanager
def a_postgres(*, durable: bool) -> Iterator[Postgres]:
    """Run a server until the block ends; it must run at the end."""
    programs = server_programs()
    if programs is None:
        _absent("no /usr/lib/postgresql/*/bin/initdb here: apt-get install postgresql")
    home = fast_disk(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix="cynthus-postgres-", dir=home))
    try:
        _as_postgres(folder, [programs / "initdb", "-D", folder / "data", "-A", "trust", "-N"])
        postgres = Postgres(folder, programs, free_port(), durable)
        postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop()
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


def _start(postgres: Postgres) -> list[object]:
    # Tests need no power cuts: the machine's disk is shared by all of them.
    options = (
        f"-c listen_addresses=127.0.0.1 -p {postgres.port}"
        f" -c unix_socket_directories={postgres.folder}"
        f" -c fsync=off -c synchronous_commit={'on' if postgres.durable else 'off'}"
        " -c full_page_writes=off -c shared_buffers=16MB -c max_connections=60"
        " -c min_wal_size=32MB -c max_wal_size=64MB"
    )
    folder = postgres.folder
    log, limit = folder / "log", LIMIT_S
    return ["-D", folder / "data", "-l", log, "-w", "-t", limit, "-o", options, "start"]


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
