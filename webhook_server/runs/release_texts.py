"""Write what a release tells: its notes, its manifest, its model card: pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cynthus.codec import encode
from cynthus.money import usd
from webhook_server.runs import pinning
from webhook_server.runs.attempts import machine_text
from webhook_server.runs.environments import image_digest
from webhook_server.runs.gate import table as gate_table
from webhook_server.runs.hostile import code, cut_middle, fenced, inline
from webhook_server.runs.model import Attempt, Run
from webhook_server.runs.provenance import PROVENANCE, approval
from webhook_server.runs.release import (
    LOCK,
    MANIFEST,
    OwnFile,
    ReleasePlan,
    marker_of,
    tag_of,
)
from webhook_server.runs.spark import sparkline

_NOTES_LIMIT = 60_000  # GitHub takes 125,000 characters
_METRICS = 40  # rows; metrics.json has them all
_JOINS = 10  # split files whose joining is written out
_HUB = "hf://"


# ── the manifest ────────────────────────────────────────────────────────────────────────────────


def manifest(run: Run, planned: ReleasePlan, own: Sequence[OwnFile]) -> bytes:
    """Return manifest.json: everything that is needed to check and to repeat the run."""
    content = {
        "version": 1,
        "run": {
            "id": run.id,
            "name": run.spec.name if run.spec else "",
            "number": run.number,
            "trigger": run.key.trigger,
            "created_at": run.created_at,
            "cost_usd": run.cost_usd,
        },
        "repository": {"id": run.key.repository_id, "name": run.repository},
        "commit": run.key.commit_sha,
        "ref": run.ref,
        "pull_request": run.pull_request,
        "spec": {"path": run.key.spec_path, "sha256": run.spec_sha256},
        "overrides": dict(run.origin.overrides),
        "origin": _origin(run),
        "approval": approval(run),
        "image": run.image,
        "image_digest": image_digest(run.image),
        "environment": run.environment.about if run.environment else None,
        "data": list(run.datasets or ()),
        "gate": {"baseline_run": run.baseline_run, "lines": list(run.gate_lines)},
        "outputs": {"attempt": run.outputs_attempt or None, "partial": run.outputs_partial},
        "attempts": [_attempt(attempt) for attempt in run.attempts],
        "files": list(planned.files),
        "own_files": list(own),
    }
    return json.dumps(encode(content), indent=1, ensure_ascii=False).encode() + b"\n"


def _origin(run: Run) -> dict[str, Any]:
    origin = run.origin
    return {
        "asked_by": origin.asked_by,
        "sweep": origin.sweep,
        "reproduces": origin.reproduces,
        "retries": origin.retries,
        "fork": origin.fork,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    offer = attempt.offer
    return {
        "number": attempt.number,
        "provider": offer.provider,
        "place": offer.place,
        "machine": offer.machine,
        "gpu": f"{offer.gpu_type}:{offer.gpu_count}" if offer.gpu_type else None,
        "driver": offer.driver or None,
        "spot": offer.spot,
        "usd_per_hour": offer.usd_per_hour,
        "ordered_at": attempt.ordered_at,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
    }


# ── the notes ───────────────────────────────────────────────────────────────────────────────────


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number} files"


def notes(
    run: Run, planned: ReleasePlan, metrics: Mapping[str, Sequence[float]], *, url: str, base: bool
) -> str:
    """Return the release's text; `base`: its tag could not be put on the run's own commit."""
    lines = [
        f"Outputs of {code(run.key.spec_path)} at {run.key.commit_sha}, "
        f"{_files(len(planned.files))}, {usd(run.cost_usd)}.",
        "",
        *_base_note(run, base=base),
        *_metric_table(metrics),
        "",
        gate_table(run.gate_lines, run.baseline_run),
        "",
        f"Every file's size and SHA-256 stand in {code(MANIFEST)}, how they came to be in"
        f" {code(PROVENANCE)}. To check them all:",
        "",
        "```sh",
        f"gh release download {tag_of(run)} --dir release && cynthus verify release",
        "```",
        "",
        *_joins(planned),
        *_again(run),
    ]
    if run.image:
        lines += ["", f"Image: {code(run.image)}"]
    if url.startswith(("https://", "http://")):
        lines += ["", f"[The run]({url})"]
    return cut_middle("\n".join(lines), _NOTES_LIMIT) + f"\n\n{marker_of(run)}\n"


def _joins(planned: ReleasePlan) -> list[str]:
    """Say how to make one file of its parts by hand, and to check it."""
    split = [file for file in planned.files if "join" in file and "bundle" not in file][:_JOINS]
    if not split:
        return []
    lines = []
    for file in split:
        name = str(file["join"]).rpartition(" > ")[2]
        lines.append(f'{file["join"]} && echo "{file["sha256"]}  {name}" | sha256sum --check')
    said = "GitHub takes no file over 2 GiB. `cynthus pull` joins parts by itself; by hand:"
    return [said, "", "```sh", *lines, "```", ""]


def renamed(run: Run, tag: str, text: str) -> str:
    """Return the notes for another tag, saying why it is not the one that its number says."""
    first = tag_of(run)
    why = (
        f"> The tag {code(first)} is taken, or was a deleted immutable release's, whose name"
        f" GitHub gives to nobody again: this release is {code(tag)}.\n\n"
    )
    # Comments go on to name the run by its number: there is no other of it.
    return why + text.replace(f"{first} --dir", f"{tag} --dir")


def _metric_table(metrics: Mapping[str, Sequence[float]]) -> list[str]:
    rows = [
        f"| {inline(name, 60)} | {values[-1]:.6g} | {sparkline(values)} |"
        for name, values in list(metrics.items())[:_METRICS]
        if values
    ]
    return ["| metric | last | course |", "|---|---:|---|", *rows] if rows else []


def _base_note(run: Run, *, base: bool) -> list[str]:
    if not base:
        return []
    return [
        f"> The tag stands on the default branch: commit {run.key.commit_sha} changes workflow "
        "files, and GitHub lets this app put no tag there.",
        "",
    ]


def _again(run: Run) -> list[str]:
    """Say how to make it again, with what a comment had changed of the file."""
    changed = [f"{key}={value}" for key, value in run.origin.overrides]
    said = ["It ran with these changes of the file:", "", fenced("\n".join(changed)), ""]
    return [
        *(said if changed else []),
        f"To run it again, comment `/cynthus reproduce {tag_of(run)}` at a pull request, or here:",
        "",
        "```sh",
        f"git checkout {run.key.commit_sha} && cynthus run --spec {_shell_word(run.key.spec_path)}",
        "```",
    ]


def _shell_word(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9._/-]+", text) else "cynthus.yaml"


# ── the model card ──────────────────────────────────────────────────────────────────────────────


def model_card(run: Run, metrics: Mapping[str, Sequence[float]]) -> bytes:
    """Return the stub of a model card, with facts of the run only.

    Its head is what the Hugging Face hub reads: https://huggingface.co/docs/hub/model-cards
    """
    name = run.spec.name if run.spec else "run"
    lines = [
        "---",
        *_card_head(run),
        "---",
        "",
        f"# {inline(name)} \\#{run.number}",
        "",
        "Made by Cynthus from facts of the run. License, intended use and limits are for its"
        " authors to write.",
        "",
        "## How it was made",
        "",
        *(f"- {line}" for line in _card_facts(run)),
        "",
        "## Results",
        "",
        *(_metric_table(metrics) or ["The run told no metrics."]),
        "",
        gate_table(run.gate_lines, run.baseline_run),
        "",
        "## Again",
        "",
        *_again(run),
    ]
    return ("\n".join(lines).rstrip() + "\n").encode()


def _card_head(run: Run) -> Iterator[str]:
    """Yield the YAML head: only what the spec itself names; JSON text is YAML text too."""
    datasets = [_hub_name(one.source) for one in (run.spec.data if run.spec else ())]
    named = [name for kind, name in datasets if kind == "datasets"]
    if named:
        yield "datasets:"
        yield from (f"- {json.dumps(name)}" for name in dict.fromkeys(named))
    yield "tags:"
    yield "- cynthus"


def _hub_name(source: str) -> tuple[str, str]:
    kind, _, rest = source.removeprefix(_HUB).partition("/")
    return (kind, rest.partition("@")[0]) if source.startswith(_HUB) else ("", "")


def _card_facts(run: Run) -> Iterator[str]:
    yield f"repository {code(run.repository)}, commit {code(run.key.commit_sha)}"
    command = run.spec.run if run.spec else ""
    yield f"command {code(command if isinstance(command, str) else ' '.join(command))}"
    for name, fact in pinning.facts(run).items():
        yield f"data {code(name)}: {code(fact)}"
    if run.environment is not None:
        about = run.environment.about
        frameworks = ", ".join(f"{one.name} {one.version}" for one in about.frameworks)
        python = f"Python {about.python}" if about.python else ""
        yield ", ".join(inline(word) for word in (python, frameworks) if word) or "no frameworks"
        if about.lock_sha256:
            yield f"every package: {code(LOCK)}"
    if run.attempt is not None:
        machine = machine_text(run.attempt.offer, nodes=len(run.attempt.members))
        yield f"machine {code(machine or run.attempt.offer.place)}"
    yield f"attempts {len(run.attempts)}, cost {usd(run.cost_usd)}"
