"""All fuzz targets, each with the words of its language and how many examples CI tries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import (
    action_targets,
    command_targets,
    comment_targets,
    door_targets,
    masking_targets,
    spec_targets,
    words,
)

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True, kw_only=True)
class Target:
    """One property of one reader; `run` raises when some bytes break it."""

    name: str
    run: Callable[[bytes], None]
    words: tuple[bytes, ...]  # what generators put together: both drivers know no grammar
    examples: int  # by chance in CI: a second each on a core of its own

    def corpus(self) -> list[Path]:
        """Return the kept inputs: seeds, and what once broke it."""
        return sorted((CORPUS / self.name).iterdir())


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(name="spec", run=spec_targets.spec, words=words.SPEC + words.YAML, examples=200),
        Target(
            name="policy", run=spec_targets.policy, words=words.POLICY + words.YAML, examples=200
        ),
        Target(name="comment", run=comment_targets.comment, words=words.MARKDOWN, examples=200),
        Target(name="ask", run=comment_targets.ask, words=words.ASK, examples=200),
        Target(
            name="shown_text",
            run=comment_targets.shown_text,
            words=words.MARKDOWN + words.COMMANDS,
            examples=200,
        ),
        Target(name="printed", run=command_targets.printed, words=words.COMMANDS, examples=200),
        Target(name="heard", run=command_targets.heard, words=words.COMMANDS, examples=200),
        Target(
            name="agents_masks", run=masking_targets.agents_masks, words=words.SECRETS, examples=200
        ),
        Target(
            name="servers_redactor",
            run=masking_targets.servers_redactor,
            words=words.SECRETS,
            examples=200,
        ),
        Target(
            name="intent", run=door_targets.intent, words=words.GITHUB + words.JSON, examples=200
        ),
        Target(name="delivery", run=door_targets.delivery, words=words.HTTP, examples=200),
        Target(
            name="message", run=door_targets.message, words=words.WIRE + words.JSON, examples=200
        ),
        Target(name="token", run=door_targets.token, words=words.CLAIMS + words.JSON, examples=200),
        Target(
            name="key_set", run=door_targets.key_set, words=words.CLAIMS + words.JSON, examples=200
        ),
        Target(
            name="dockerfiles", run=action_targets.dockerfiles, words=words.DOCKER, examples=200
        ),
        Target(name="requirements", run=action_targets.requirements, words=words.PIP, examples=200),
        Target(
            name="references", run=action_targets.references, words=words.REFERENCE, examples=200
        ),
        Target(
            name="registry_answers",
            run=action_targets.registry_answers,
            words=words.REGISTRY + words.JSON,
            examples=200,
        ),
    )
}
