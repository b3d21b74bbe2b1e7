"""`cynthus init`: write a commented cynthus.yaml fit for the folder it stands in."""

from __future__ import annotations

import argparse
from pathlib import Path

from cynthus.errors import UserError
from cynthus.example import WORKFLOW, Answers, commented
from cynthus.folder import Folder, look_at
from cynthus.specfile import parse

SPEC_FILE = "cynthus.yaml"
WORKFLOW_FILE = ".github/workflows/cynthus.yml"

#: template → (base image of the catalogue, GPU); None leaves the GPU out
TEMPLATES = {
    "plain": ("python", None),
    "sklearn": ("python", None),
    "pytorch": ("pytorch", "l4"),
    "tensorflow": ("tensorflow", "l4"),
    "jax": ("python", "l4"),  # jax brings CUDA along as pip packages
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--template", choices=TEMPLATES, help="what the code is built on; found out when left out"
    )
    parser.add_argument("--workflow", action="store_true", help=f"write {WORKFLOW_FILE} too")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")


def run(args: argparse.Namespace) -> int:
    """Write the files, and say what was found and what to do next."""
    here = Path.cwd()
    folder = look_at(here)
    template = args.template or folder.template
    text = commented(answers_for(folder, template))
    parse(text.encode(), SPEC_FILE)  # never write what we would refuse
    files = {here / SPEC_FILE: text}
    if args.workflow:
        files[(folder.git_root or here) / WORKFLOW_FILE] = WORKFLOW
    _write(files, force=args.force)
    for line in _report(folder, template, list(files)):
        print(line)
    return 0


def answers_for(folder: Folder, template: str) -> Answers:
    """Return what the file says for a folder and a template."""
    base, gpu = TEMPLATES[template]
    return Answers(
        name=folder.name,
        command=f"python {folder.program or 'train.py'}",
        base=base,
        requirements=folder.requirements,
        gpu=gpu,
        outputs=folder.outputs,
        checkpoint=folder.checkpoint,
    )


def _write(files: dict[Path, str], *, force: bool) -> None:
    """Write all files or none."""
    taken = [path for path in files if path.exists() or path.is_symlink()]
    if taken and not force:
        raise UserError(
            f"{taken[0].name}: should be absent, found a file. "
            "Keep it, or overwrite it with `cynthus init --force`."
        )
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # a link is replaced, not written through
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            reason = (error.strerror or "an error").lower()
            message = f"{path.name}: should be writable, found: {reason}. Mend the folder's rights."
            raise UserError(message) from error


def _report(folder: Folder, template: str, written: list[Path]) -> list[str]:
    lines = [f"wrote {path.name} (template {template})" for path in written[:1]]
    lines += [f"wrote {WORKFLOW_FILE}" for _ in written[1:]]
    if folder.program is None:
        lines.append("next: put your program into train.py, or change `run`")
    if folder.git_root is None:
        lines.append("next: git init, since Cynthus runs commits")
    elif folder.git_root != Path.cwd():
        lines.append(
            "note: this is not the repository's root; give the Action this folder as "
            "`working-directory`"
        )
    return [*lines, "next: cynthus validate cynthus.yaml, then cynthus run"]
