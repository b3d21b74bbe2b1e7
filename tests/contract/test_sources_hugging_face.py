"""The source `hf://` against the simulated Hugging Face."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from cynthus.errors import Transient
from cynthus.spec import DataSource
from cynthus.wire_data import Dataset
from tests.hub_fixture import SECRET, Hub
from webhook_server.sources.hf import HuggingFace
from webhook_server.sources.hub_http import Hub as Door
from webhook_server.sources.hub_http import HubAway
from webhook_server.sources.source import (
    Asked,
    SourceFault,
    SourceGated,
    SourceNotFound,
    SourceRefused,
)

_numbers = count(1)
TOKEN = {"HF_TOKEN": SECRET}
CARD = """---
configs:
- config_name: en
  data_files:
  - split: train
    path: en/**/train-*.parquet
  - split: test
    path: ["en/test-{a,b}.csv"]
- config_name: de
  data_dir: de
---
Words.
"""
FILES: dict[str, Any] = {
    "README.md": CARD,
    "en/train-1.parquet": "x" * 100,
    "en/more/train-2.parquet": {"size": 5000, "seed": "two"},
    "en/test-a.csv": "x" * 10,
    "en/test-c.csv": "x" * 1000,
    "de/all.csv": "x" * 7,
}
CARD_BYTES = len(CARD)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    hub.make("hf/users", name="ada", token=SECRET)
    yield hub
    hub.stop()


@pytest.fixture(autouse=True)
def fresh(hub: Hub) -> None:
    hub.forget()


def a_dataset(hub: Hub, **more: Any) -> tuple[str, str]:
    """Make a dataset; return its name and its commit."""
    name = f"org/words{next(_numbers)}"
    made = hub.make("hf/repos", **{"type": "dataset", "name": name, "files": FILES, **more})
    return name, made["commit"]


def pin(hub: Hub, source: str, **changes: Any) -> Dataset:
    """Pin a source; what is told beside the entry's keys is who asks."""
    who = {key: changes.pop(key) for key in ("tokens", "stranger") if key in changes}
    entry = DataSource(name="train", source=source, mount="/data/train", **changes)
    source_ = HuggingFace(Door(hub.url))
    return source_.pin(Asked(entry=entry, repository_id=7, **who))


def fault(hub: Hub, kind: type[SourceFault], source: str, **changes: Any) -> str:
    with pytest.raises(kind) as caught:
        pin(hub, source, **changes)
    assert str(caught.value).startswith("data/train")
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_a_branch_is_pinned_to_its_commit_with_the_size_of_what_is_there(hub: Hub) -> None:
    name, commit = a_dataset(hub)
    found = pin(hub, f"hf://datasets/{name}")
    assert (found.revision, found.kind) == (commit, "hf")
    attributes = 42  # every repository has its .gitattributes
    assert found.files == len(FILES) + 1
    assert found.size_bytes == 100 + 5000 + 10 + 1000 + 7 + CARD_BYTES + attributes


def test_a_tag_a_commit_and_a_branch_with_a_slash_are_pinned_too(hub: Hub) -> None:
    name, first = a_dataset(hub)
    hub.make("hf/refs", type="dataset", name=name, tag="v1", at=first)
    moved = hub.make("hf/commits", type="dataset", name=name, files={"new.csv": "1"})["commit"]
    hub.make("hf/refs", type="dataset", name=name, branch="refs/convert/parquet", at=first)
    source = f"hf://datasets/{name}"
    assert pin(hub, source).revision == moved
    for revision in ("v1", first, "refs/convert/parquet"):
        assert pin(hub, f"{source}@{revision}").revision == first
    assert pin(hub, f"{source}@v1").key == pin(hub, f"{source}@{first}").key


def test_a_model_is_not_the_dataset_of_the_same_name(hub: Hub) -> None:
    name, commit = a_dataset(hub)
    model = hub.make("hf/repos", type="model", name=name, files={"config.json": "{}"})["commit"]
    assert pin(hub, f"hf://models/{name}").revision == model != commit


@pytest.mark.parametrize(
    ("patterns", "files"),
    [
        ({"include": ("*.parquet",)}, 2),
        ({"include": ("en/",)}, 4),
        ({"include": ("en/*.csv", "de/all.csv")}, 3),
        ({"include": ("en/*",), "exclude": ("*.csv",)}, 2),
        ({"exclude": ("*.csv", "*.parquet", ".*")}, 1),
    ],
)
def test_patterns_choose_as_the_official_client_does(
    hub: Hub, patterns: dict[str, tuple[str, ...]], files: int
) -> None:
    from huggingface_hub.utils._paths import filter_repo_objects

    theirs = filter_repo_objects(
        [*FILES, ".gitattributes"],
        allow_patterns=list(patterns["include"]) if "include" in patterns else None,
        ignore_patterns=list(patterns["exclude"]) if "exclude" in patterns else None,
    )
    name, _ = a_dataset(hub)
    assert pin(hub, f"hf://datasets/{name}", **patterns).files == files == len(list(theirs))


def test_patterns_that_no_file_fits_are_a_fault_that_says_so(hub: Hub) -> None:
    name, _ = a_dataset(hub)
    text = fault(hub, SourceNotFound, f"hf://datasets/{name}", include=("*.PARQUET",))
    assert "found none among 7" in text


def test_a_subset_is_the_files_that_the_card_names_at_that_commit(hub: Hub) -> None:
    name, commit = a_dataset(hub)
    found = pin(hub, f"hf://datasets/{name}", subset="en")
    assert (found.files, found.size_bytes) == (4, CARD_BYTES + 100 + 5000 + 10)
    assert found.subset == "en"
    assert found.include == (
        "README.md",
        "en/*/train-*.parquet",
        "en/train-*.parquet",
        "en/test-a.csv",
        "en/test-b.csv",
    )
    hub.make("hf/commits", type="dataset", name=name, files={"README.md": "none any more"})
    assert pin(hub, f"hf://datasets/{name}@{commit}", subset="de").files == 2
    assert "it names none" in fault(hub, SourceNotFound, f"hf://datasets/{name}", subset="de")


def test_a_subset_that_is_not_there_is_told_with_those_that_are(hub: Hub) -> None:
    name, _ = a_dataset(hub)
    text = fault(hub, SourceNotFound, f"hf://datasets/{name}", subset="fr")
    assert "data/train/subset: should be one whose files the dataset's card names (en, de)" in text


def test_a_list_of_more_than_a_page_is_read_to_its_end(hub: Hub) -> None:
    files = {f"d{n % 7}/f{n}.txt": "x" for n in range(2100)}
    name, _ = a_dataset(hub, files=files)
    found = pin(hub, f"hf://datasets/{name}", include=("d*",))
    assert (found.files, found.size_bytes) == (2100, 2100)


# ── who may ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("gated", ["auto", "manual"])
def test_a_gate_names_the_page_to_visit_before_anything_is_ordered(hub: Hub, gated: str) -> None:
    name, _ = a_dataset(hub, gated=gated)
    page = f"{hub.url}/datasets/{name}"
    with pytest.raises(SourceGated) as caught:
        pin(hub, f"hf://datasets/{name}", tokens=TOKEN)
    assert caught.value.page == page
    assert f"Visit {page} with the account of this repository's secret HF_TOKEN" in str(
        caught.value
    )
    assert "set its token as this repository's secret HF_TOKEN" in fault(
        hub, SourceGated, f"hf://datasets/{name}"
    )
    hub.control("PATCH", "hf/repos", {"type": "dataset", "name": name, "granted": ["ada"]})
    assert pin(hub, f"hf://datasets/{name}", tokens=TOKEN).files == len(FILES) + 1


def test_a_private_one_is_open_to_the_repositorys_token_and_hidden_without(hub: Hub) -> None:
    name, commit = a_dataset(hub, private=True, readers=["ada"])
    source = f"hf://datasets/{name}"
    assert pin(hub, source, tokens=TOKEN).revision == commit
    assert "set this repository's secret HF_TOKEN" in fault(hub, SourceNotFound, source)
    text = fault(hub, SourceNotFound, source, stranger=True)
    assert "a fork's commit gets no tokens" in text


def test_what_is_not_there_is_told_apart_from_a_token_that_is_refused(hub: Hub) -> None:
    name, _ = a_dataset(hub)
    assert "open to this repository, found neither" in fault(
        hub, SourceNotFound, "hf://datasets/org/nothing", tokens=TOKEN
    )
    text = fault(hub, SourceNotFound, f"hf://datasets/{name}@v9")
    assert "found `v9`, which it does not have" in text
    text = fault(hub, SourceRefused, f"hf://datasets/{name}", tokens={"HF_TOKEN": "hf_old_one"})
    assert "Set the repository's secret HF_TOKEN anew" in text
    assert "hf_old_one" not in text


def test_a_repository_that_the_hub_has_closed_is_refused(hub: Hub) -> None:
    name, _ = a_dataset(hub, disabled=True)
    assert "(403)" in fault(hub, SourceRefused, f"hf://datasets/{name}")


@pytest.mark.parametrize("kind", ["error", "rate_limit", "cut", "reset", "drop_answer"])
def test_what_passes_by_itself_is_transient(hub: Hub, kind: str) -> None:
    name, _ = a_dataset(hub)
    hub.fault(kind, path=r".*/tree/.*")
    with pytest.raises(Transient) as caught:
        pin(hub, f"hf://datasets/{name}")
    assert hub.struck() == 1
    assert isinstance(caught.value, HubAway) is (kind in {"reset", "drop_answer"})
