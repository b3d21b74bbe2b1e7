"""The page about images says what the code does: its registries, its limits, its variables."""

from __future__ import annotations

from pathlib import Path

from action import inputs
from action.image import append
from action.registry.registries import BY_NAME
from action.source.source import LIMITS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "images.md").read_text("utf-8")


def test_every_registry_of_the_table_in_the_code_is_a_row_of_the_page() -> None:
    rows = {line.split("`")[1]: line for line in PAGE.splitlines() if line.startswith("| `")}
    for name, kind in BY_NAME.items():
        sent, mounts = (cell.strip() for cell in rows[name].split("|")[2:4])
        assert sent.startswith("in pieces" if kind.chunk_bytes else "whole"), name
        assert mounts.startswith("yes" if kind.mounts else "no"), name


def test_limits_and_names_are_those_of_the_code() -> None:
    assert f"`R/{inputs.ENVIRONMENTS}`" in PAGE
    assert f"HOME={append.HOME}" in PAGE
    assert f"{append.MOST_LAYERS} layers or more" in PAGE
    assert f"over {LIMITS.file_bytes >> 30} GiB" in PAGE
    assert f"over {LIMITS.total_bytes // 10**9} GB" in PAGE
