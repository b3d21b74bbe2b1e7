"""Make runner images: `python -m scripts.images --help`.

Exit codes: 0 done, 1 an image could not be made or is not what it should be, 2 wrong use.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from time import monotonic

from action.catalogue import FILE, ROOM, Entry, read_catalogue, read_programs
from action.engine import engine
from cynthus.errors import CynthusError, UserError
from scripts.images import workshop
from scripts.images.recipe import Recipe, Wish, freshened, joins, matrix, recipe, record
from scripts.images.workshop import OFFLINE_PYTHON, Docker, Made

DONE, FAILED, WRONG_USE = 0, 1, 2


def main(words: Sequence[str]) -> int:
    """Do what the words say."""
    given = _parser().parse_args(words)
    try:
        VERBS[given.verb](given)
    except UserError as error:
        print(error, file=sys.stderr)
        return WRONG_USE
    except CynthusError as error:
        print(error, file=sys.stderr)
        return FAILED
    return DONE


def entries() -> Mapping[str, Entry]:
    """Return everything that has a Dockerfile in runner_images."""
    return {**read_catalogue(), **read_programs()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.images", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    build = verbs.add_parser("build", help="build one image here and try it")
    push = verbs.add_parser("push", help="build one image with buildx, push it, print its digest")
    smoke = verbs.add_parser("smoke", help="try an image that is here or can be pulled")
    for verb in (build, push, smoke):
        verb.add_argument("name")
        verb.add_argument("--python", metavar="X.Y", help="default: the catalogue's first")
        verb.add_argument("--cpu", action="store_true", help="without CUDA")
        verb.add_argument("--base", metavar="IMAGE", help="default: the catalogue's, by digest")
        verb.add_argument("--tag", metavar="IMAGE", help="default: cynthus/runner-NAME:X.Y")
    build.add_argument("--offline", action="store_true", help="no network while it builds")
    push.add_argument("--commit", required=True, metavar="SHA", help="for the image's label")
    verbs.add_parser("here", help="build and try all on a base of Debian packages, on the CPU")
    lines = verbs.add_parser("matrix", help="print what is published, as JSON for a workflow")
    lines.add_argument("--joined", action="store_true", help="one for all architectures")
    written = verbs.add_parser("record", help="write a published image into the catalogue")
    written.add_argument("name")
    written.add_argument("python")
    written.add_argument("reference")
    verbs.add_parser(
        "freshen", help="write the newest digest of every base's tag wherever it stands"
    )
    return parser


def _recipe(given: argparse.Namespace) -> Recipe:
    wish = Wish(name=given.name, python=given.python, base=given.base, cpu=given.cpu)
    return recipe(wish, entries())


def _docker() -> Docker:
    found = engine.find(os.environ["PATH"])
    if found is None:
        raise UserError("docker: should be on PATH and answer, does not. Start Docker.")
    return Docker(found.client)


def _tag(given: argparse.Namespace, todo: Recipe) -> str:
    return str(given.tag or f"cynthus/runner-{todo.entry.name}:{todo.python}")


# ── verbs ───────────────────────────────────────────────────────────────────────────────────────


def _build(given: argparse.Namespace) -> None:
    todo, begin = _recipe(given), monotonic()
    made = workshop.make(_docker(), todo, _tag(given, todo), offline=given.offline)
    _tell(made, monotonic() - begin)


def _push(given: argparse.Namespace) -> None:
    todo = _recipe(given)
    print(workshop.push(_docker(), todo, _tag(given, todo), given.commit))


def _smoke(given: argparse.Namespace) -> None:
    todo, begin = _recipe(given), monotonic()
    docker, tag = _docker(), _tag(given, todo)
    if docker.ask(("image", "ls", "--quiet", tag)) == "":
        docker.show(("pull", "--quiet", tag))
    _tell(workshop.tried(docker, todo, tag), monotonic() - begin)


def _here(_given: argparse.Namespace) -> None:
    docker = _docker()
    base = workshop.offline_base(docker)
    for name in entries():
        wish = Wish(name=name, python=OFFLINE_PYTHON, base=base, cpu=True)
        todo, begin = recipe(wish, entries()), monotonic()
        made = workshop.make(docker, todo, f"cynthus/runner-{name}:cpu", offline=True)
        _tell(made, monotonic() - begin)


def _tell(made: Made, seconds: float) -> None:
    print(f"{made.tag}: {made.size_bytes / 1e6:.0f} MB, {seconds:.1f} s, {json.dumps(made.found)}")


def _matrix(given: argparse.Namespace) -> None:
    lines = joins if given.joined else matrix
    print(json.dumps({"include": lines(entries())}))


def _record(given: argparse.Namespace) -> None:
    text = record(FILE.read_text("utf-8"), given.name, given.python, given.reference)
    FILE.write_text(text, "utf-8")


def _freshen(_given: argparse.Namespace) -> None:
    docker = _docker()
    bases = {base for entry in entries().values() for base in entry.bases.values()}
    tags = sorted(base.partition("@")[0] for base in bases)
    newest = {tag: workshop.newest_digest(docker, tag) for tag in tags}
    for path in (FILE, *ROOM.glob("*/Dockerfile"), ROOM.parent / "deploy" / "Dockerfile"):
        path.write_text(freshened(path.read_text("utf-8"), newest), "utf-8")


VERBS = {
    "build": _build,
    "push": _push,
    "smoke": _smoke,
    "here": _here,
    "matrix": _matrix,
    "record": _record,
    "freshen": _freshen,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
