"""The step summary: what was cached, what was made and why, what it moved; nothing in it acts."""

from __future__ import annotations

from dataclasses import replace

from action import summary
from action.amounts import MOST_SENTENCES, first_few
from action.order import Built, Step

BUILT = Built(
    image="ghcr.io/acme/train/tiny@sha256:1",
    digest="sha256:1",
    engine="docker",
    base="python:3.11",
    cached=True,
    size_bytes=1,
    seconds=0.42,
    notes=("a | b is left out",),
    steps=(
        Step(part="environment", how="found under its key", moved_bytes=0, seconds=0.1),
        Step(part="source layer", how="3 files"),
        Step(part="run image", how="12 layers were there", moved_bytes=1_250_000, seconds=0.3),
    ),
)


def test_each_part_is_a_row_with_what_it_moved() -> None:
    lines = summary.built_lines("tiny", BUILT)
    at = lines.index("| part | what was done | sent | time |")
    assert lines[at - 1] == ""  # a table begins after an empty line, or it is none
    assert lines[at + 2 : at + 5] == [
        "| environment | found under its key | 0 B | 0.1 s |",
        "| source layer | 3 files |  | 0.0 s |",
        "| run image | 12 layers were there | 1 MB | 0.3 s |",
    ]
    assert "- **Docker image** in 0.4 s, environment reused" in lines


def test_notes_are_text_and_nothing_else() -> None:
    assert summary.built_lines("tiny", BUILT)[-1] == "- a &#124; b is left out"


def test_an_image_without_steps_has_no_table() -> None:
    assert not any("|---" in line for line in summary.built_lines("x", replace(BUILT, steps=())))


def test_of_many_sentences_the_first_are_told_and_how_many_more_there_are() -> None:
    many = [str(number) for number in range(MOST_SENTENCES + 2)]
    assert first_few(many) == (*many[:MOST_SENTENCES], "and 2 more like these")
    assert first_few(many[:MOST_SENTENCES]) == tuple(many[:MOST_SENTENCES])
