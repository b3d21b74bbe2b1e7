"""The commented `cynthus.yaml` and its workflow file: one source for `init` and for the docs."""

from __future__ import annotations

import json
from dataclasses import dataclass

from cynthus.grammar import yaml_reading


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What is known of a folder; None or empty leaves the key in as a comment."""

    name: str
    command: str
    base: str
    requirements: str | None = None
    gpu: str | None = None
    outputs: str = "outputs"
    checkpoint: str | None = None


#: What the reference page shows: every section in use.
SHOWN = Answers(
    name="digits",
    command="python train.py --epochs 3",
    base="pytorch",
    requirements="requirements.txt",
    gpu="l4",
    outputs="outputs/model",
    checkpoint="checkpoints",
)


def commented(answers: Answers) -> str:
    """Return a file that validates, with what does not apply left in as comments."""
    image = _line("base", answers.base, "or an image reference with a tag or digest") + _line(
        "requirements", answers.requirements, "left out: found, or inferred from the imports"
    )
    gpu = _line("gpu", answers.gpu, "or l4:2, or a list in order of preference; left out: no GPU")
    why = "saved while running, put back on the next attempt"
    checkpoint = _section("checkpoint", answers.checkpoint, why)
    return f"""\
# yaml-language-server: $schema={SCHEMA_URL}
# What Cynthus does with a commit of this repository. Check it with `cynthus validate`.
version: 1
name: {_word(answers.name)}
run: {_word(answers.command)}

image:
{image}  # python: "3.11"       # in quotes: without them YAML reads 3.10 as 3.1
  # packages: [scikit-learn>=1.5]
  # system: [ffmpeg]     # Debian packages
  # dockerfile: Dockerfile     # instead of all of the above

resources:
{gpu}  cpu: 2                 # whole vCPUs, at least
  memory: 8GB            # GB = 10^9 bytes, GiB = 2^30; at least
  # disk: 100GB
  # spot: prefer         # true, false, or prefer: cheaper, and may be taken back
  max_duration: 2h       # hard stop
  max_cost: 5.00         # US dollars for the whole run, all attempts; hard stop

# data:                  # read-only at /data/<name>
#   - name: train
#     source: hf://datasets/OWNER/NAME@main

# env: {{EPOCHS: "3"}}     # text only: numbers and words such as yes need quotes
# secrets: [HF_TOKEN]    # names; the values are in the server's secret store

outputs:                 # become assets of the release
  - path: {_word(answers.outputs)}

{checkpoint}
# gate: [accuracy >= baseline - 0.01]     # what the metrics must reach; see docs/releases.md
# retry: {{attempts: 3}}   # after a preemption or a lost instance
# triggers: {{pull_request: comment}}     # or push; comment means `/cynthus run`
# encrypt_to: age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq  # yours alone
# keep_warm: 10m         # keep the instance for the next run
# labels: {{team: vision}}
"""


SCHEMA_URL = "https://raw.githubusercontent.com/cynthus/cynthus/main/schemas/cynthus.schema.json"


_OTHERWISE = {"requirements": "requirements.txt", "gpu": "l4", "checkpoint": "checkpoints"}


def _line(key: str, value: str | None, why: str) -> str:
    """Return `key: value  # why`, as a comment where no value is known."""
    text = f"{key}: {_word(value)}" if value else f"# {key}: {_OTHERWISE[key]}"
    return f"  {text:<22} # {why}\n"


def _section(key: str, path: str | None, why: str) -> str:
    text = f"{key}: {{path: {_word(path or _OTHERWISE[key])}}}"
    return f"{text}     # {why}" if path else f"# {text}     # {why}"


def _word(text: str) -> str:
    """Return a text as YAML, in quotes where a plain word would not be that text."""
    plain = text and not set(text) & set("\"'#:{}[],&*!|>%@`\\\n\t") and text == text.strip()
    if plain and text[0] not in "-?" and text.isprintable() and yaml_reading(text).is_text:
        return text
    return json.dumps(text, ensure_ascii=False)


WORKFLOW = """\
# Builds the image of this commit and hands it to the Cynthus server, which lends the machine.
# Repository variables to set (Settings → Secrets and variables → Actions → Variables):
#   CYNTHUS_SERVER    address of the Cynthus server, such as https://cynthus.example.com
#   CYNTHUS_REGISTRY  where images go, such as europe-docker.pkg.dev/PROJECT/cynthus
#   CYNTHUS_REGISTRY_USERNAME, and the secret CYNTHUS_REGISTRY_PASSWORD, where it wants a login
name: cynthus

on:
  push:
  pull_request:
  repository_dispatch: # so does the server, for a comment such as `/cynthus run`
    types: [cynthus]

permissions:
  contents: read
  id-token: write # the run request is signed by GitHub itself: there is no key to keep

jobs:
  run:
    runs-on: ubuntu-latest
    timeout-minutes: 30
    steps:
      - uses: actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8 # v5.0.0
        with:
          persist-credentials: false
          ref: ${{ github.event.client_payload.commit_sha || github.sha }}
      # A tag can be moved. Replace `v0` by the commit id of a release, and keep the tag as a
      # comment behind it, as in the line above.
      - uses: cynthus/cynthus@v0
        with:
          server: ${{ vars.CYNTHUS_SERVER }}
          registry: ${{ vars.CYNTHUS_REGISTRY }}
          username: ${{ vars.CYNTHUS_REGISTRY_USERNAME }}
          password: ${{ secrets.CYNTHUS_REGISTRY_PASSWORD }}
"""
