"""cynthus pull: download what a run made, or a release holds, each file checked by its digest."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cynthus.cli_connection import add_server_argument, connect, harmless, no_room, writable
from cynthus.decrypting import Identity
from cynthus.errors import UserError
from cynthus.interrupts import Interrupts
from cynthus.pulling import Item, Puller, Standing, total_bytes
from cynthus.releases import API, GithubRelease, named
from cynthus.run_outputs import RunOutputs

DONE, NOT_ALL = 0, 1
_SHOW_EVERY_S = 0.5  # a line that people read while it changes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Name what can be asked."""
    parser.add_argument(
        "what",
        nargs="+",
        metavar="WHAT",
        help="a run's id, as `cynthus status` shows it; `release TAG`; or a release's web address",
    )
    parser.add_argument(
        "--to", metavar="FOLDER", help="where to put them (default: cynthus-outputs/WHAT)"
    )
    parser.add_argument(
        "--identity", metavar="FILE", help="decrypt with this key, as `age-keygen -o FILE` wrote it"
    )
    parser.add_argument(
        "--repository",
        metavar="OWNER/NAME",
        help="whose release it is (GITHUB_REPOSITORY). GITHUB_TOKEN is shown where it is set",
    )
    add_server_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Download what is not there yet: 0 all is there, 1 not all of it could be had."""
    identity = Identity(Path(args.identity)) if args.identity else None
    release = _release(args)
    if release is not None:
        name, source = release
        items = source.items()
    else:
        name = _one_word(args.what)
        items = RunOutputs(connect(args), name).items()
    if not items:
        print("the run has no outputs (yet). `cynthus status` shows where it stands.")
        return DONE
    folder = writable(Path(args.to or Path("cynthus-outputs") / name), "--to")
    return _pull(folder, items, identity)


def _one_word(what: Sequence[str]) -> str:
    if len(what) != 1:
        raise UserError(
            f"what to pull: should be a run's id, or `release TAG`, found {' '.join(what)!r}."
        )
    return what[0]


def _release(args: argparse.Namespace) -> tuple[str, GithubRelease] | None:
    what: list[str] = args.what
    found = named(what[0]) if len(what) == 1 else None
    if found is None and not (len(what) == 2 and what[0] == "release"):  # noqa: PLR2004 - two words
        return None
    if found is None:
        found = named(what[1])
    repository, tag = found or (args.repository or os.environ.get("GITHUB_REPOSITORY", ""), what[1])
    if not repository:
        raise UserError(
            "--repository: should name whose release it is, found nothing. Write OWNER/NAME."
        )
    api = os.environ.get("CYNTHUS_GITHUB_API_URL") or API
    token = os.environ.get("GITHUB_TOKEN", "")
    name = "-".join(tag.split("/"))
    if name.startswith(".") or "\\" in name:
        raise UserError(f"release: should be a tag such as cynthus/digits/7, found {tag!r}.")
    return name, GithubRelease(repository, tag, token=token, api=api)


# ── what is shown ───────────────────────────────────────────────────────────────────────────────


def _pull(folder: Path, items: list[Item], identity: Identity | None) -> int:
    standing = Standing(total_bytes=total_bytes(items), total_files=len(items))
    puller = Puller(folder, identity=identity, done=teller(folder))
    over = threading.Event()
    shower = threading.Thread(target=_show, args=(standing, over), name="progress", daemon=True)
    if sys.stderr.isatty():
        shower.start()
    try:
        with Interrupts():
            puller.pull(items, standing)
    except OSError as error:
        raise no_room(folder, "--to", error) from error
    except KeyboardInterrupt:
        text = f"stopped: {_standing(standing)}. The same command goes on from there."
        print(text, file=sys.stderr)
        raise
    finally:
        over.set()
        if shower.is_alive():
            shower.join()
            print(file=sys.stderr)
    for line in (*standing.notes, *standing.faults):
        print(harmless(line), file=sys.stderr)
    return NOT_ALL if standing.faults else DONE


def teller(folder: Path) -> Callable[[str, int], None]:
    """Return what prints a file that has come, with its size in bytes; any thread may call it."""
    # Python's text output loses and invents bytes when two threads write at once:
    # https://github.com/python/cpython/issues/119506
    one_at_a_time = threading.Lock()

    def tell(path: str, size: int) -> None:
        with one_at_a_time:
            print(harmless(f"{folder / path} ({size:,} bytes)"))

    return tell


def _show(standing: Standing, over: threading.Event) -> None:
    began = time.monotonic()
    while not over.wait(_SHOW_EVERY_S):
        line = progress(standing, time.monotonic() - began)
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def progress(standing: Standing, elapsed_s: float) -> str:
    """Return where it stands and how long it will take, from what has come so far. Pure."""
    left = standing.total_bytes - standing.bytes
    if not standing.fetched_bytes or left <= 0:
        return _standing(standing)
    left_s = int(left * elapsed_s / standing.fetched_bytes)
    return f"{_standing(standing)}, {left_s // 60}m{left_s % 60:02}s left"


def _standing(standing: Standing) -> str:
    return (
        f"{standing.files} of {standing.total_files} files,"
        f" {standing.bytes:,} of {standing.total_bytes:,} bytes"
    )
