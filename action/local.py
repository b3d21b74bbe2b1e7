"""Build a folder's image without GitHub: what `cynthus run` calls."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from action import build, inputs, plan, specs
from action.failures import BuildFailed
from action.order import Built, Order
from action.registry import reference
from action.resolving import indexes
from action.workflow import PlainConsole, place_of
from cynthus.errors import CynthusError, UserError
from cynthus.spec import spec_digest

DONE, BUILD_FAILED, USERS_FAULT, OUR_FAULT = 0, 1, 2, 3


def main(words: Sequence[str]) -> int:
    """Build; progress goes to stderr, and the last line of stdout is the answer."""
    asked = _parser().parse_args(words)
    inputs.clean_environment()
    signal.signal(signal.SIGTERM, _interrupt)
    if asked.while_input:
        threading.Thread(target=_end_with_input, name="line", daemon=True).start()
    console = PlainConsole(sys.stderr)
    for secret in indexes.secrets():
        console.mask(secret)
    try:
        built = build.build(_order(asked), console)
    except KeyboardInterrupt:
        return 130
    except UserError as error:
        for fault in error.faults:
            console.error(fault.message, place_of(fault))
        return _fail(asked, str(error), USERS_FAULT, quiet=bool(error.faults))
    except BuildFailed as error:
        console.error(str(error), error.place)
        return _fail(asked, str(error), BUILD_FAILED, quiet=True)
    except CynthusError as error:
        return _fail(asked, str(error), OUR_FAULT)
    if asked.json:
        print(json.dumps(answer(built)), flush=True)
    else:
        print(built.image, flush=True)
    return DONE


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # As Ctrl-C, so that the build's own programs are ended too.
    raise KeyboardInterrupt


def _end_with_input() -> None:
    """End the build when whoever asked for it is gone, however it went."""
    while os.read(0, 4096):  # unbuffered: Python's own reader holds a lock that its end needs
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def answer(built: Built) -> dict[str, object]:
    """Return what the caller reads."""
    return {
        "image": built.image,
        "digest": built.digest,
        "engine": built.engine,
        "base": built.base,
        "seconds": built.seconds,
        "cached": built.cached,
        "size_bytes": built.size_bytes,
        "notes": list(built.notes),
    }


def _fail(asked: argparse.Namespace, message: str, code: int, *, quiet: bool = False) -> int:
    if not quiet:
        PlainConsole(sys.stderr).error(message)
    if asked.json:
        print(json.dumps({"failure": message}), flush=True)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m action", description=__doc__)
    build_words = parser.add_subparsers(required=True, metavar="build").add_parser("build")
    add = build_words.add_argument
    add("--spec", default="cynthus.yaml", help="the spec, relative to --folder")
    add("--folder", type=Path, default=Path(), help="the repository (default: here)")
    add("--no-push", action="store_true", help="keep the image in this machine's engine")
    add("--push", metavar="REF", help="push to this name and tag")
    add("--base-image", help="build on this image")
    add("--engine", choices=("auto", "docker", "process"), default="auto")
    add("--process", action="store_true", help="short for --engine process")
    add("--out", type=Path, help="where process-mode bundles go")
    add("--while-input", action="store_true", help="end when standard input closes")
    add("--json", action="store_true", help="print one JSON object")
    return parser


def _order(asked: argparse.Namespace) -> Order:
    if asked.no_push and asked.push:
        raise UserError("--push: should not come with --no-push. Leave one out.")
    root = asked.folder.resolve()
    spec, text = specs.load(root, asked.spec, asked.spec)
    place = inputs.machine()
    if asked.out:
        place = replace(place, bundles_dir=asked.out)
    return Order(
        spec=spec,
        root=root,
        origin=plan.Origin(spec_sha256=spec_digest(text)),
        push_to=asked.push,
        environments=_environments(asked.push),
        login=None,
        base_image=asked.base_image,
        engine_wish="process" if asked.process else asked.engine,
        machine=place,
        today=datetime.now(UTC).date(),  # noqa: TID251 - the composition root of this mode
    )


def _environments(push_to: str | None) -> str | None:
    """Return where environments are kept: beside the image that is pushed."""
    if push_to is None:
        return None
    return f"{reference.parse(push_to).name.rpartition('/')[0]}/{inputs.ENVIRONMENTS}"
