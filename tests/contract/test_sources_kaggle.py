"""The source `kaggle://` against the simulated Kaggle."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from cynthus.errors import Transient
from cynthus.spec import DataSource
from cynthus.wire_data import Dataset
from tests.hub_fixture import Hub
from webhook_server.sources.hub_http import Hub as Door
from webhook_server.sources.kaggle import Kaggle
from webhook_server.sources.source import (
    Asked,
    SourceFault,
    SourceGated,
    SourceNotFound,
    SourceRefused,
)

_numbers = count(1)
TOKEN = {"KAGGLE_API_TOKEN": "KGAT_of_ada_1"}
KEY = {"KAGGLE_USERNAME": "ada", "KAGGLE_KEY": "a-key-of-ada"}
FILES = {"a.csv": "x" * 100, "more/b.csv": "x" * 50}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    tokens = [TOKEN["KAGGLE_API_TOKEN"]]
    hub.make("kaggle/users", name="ada", key=KEY["KAGGLE_KEY"], tokens=tokens)
    yield hub
    hub.stop()


@pytest.fixture(autouse=True)
def fresh(hub: Hub) -> None:
    hub.forget()


def pin(
    hub: Hub, source: str, tokens: dict[str, str] | None = None, *, stranger: bool = False
) -> Dataset:
    entry = DataSource(name="train", source=source, mount="/data/train", unpack=True)
    asked = Asked(entry=entry, repository_id=7, tokens=tokens or {}, stranger=stranger)
    return Kaggle(Door(hub.url)).pin(asked)


def fault(
    hub: Hub,
    kind: type[SourceFault],
    source: str,
    tokens: dict[str, str] | None = None,
    *,
    stranger: bool = False,
) -> str:
    with pytest.raises(kind) as caught:
        pin(hub, source, tokens, stranger=stranger)
    text = str(caught.value)
    assert text.startswith("data/train: ")
    assert not any(value in text for value in (tokens or {}).values())
    return text


def made(hub: Hub, kind: str, name: str, **more: Any) -> str:
    """Make a new thing, or a version of one; return its name."""
    name = name.format(next(_numbers))
    hub.make(f"kaggle/{kind}", **{"name": name, "files": FILES, **more})
    return name


@pytest.mark.parametrize("tokens", [{}, TOKEN, KEY])
def test_a_dataset_is_pinned_to_its_newest_version(hub: Hub, tokens: dict[str, str]) -> None:
    name = made(hub, "datasets", "ada/wine{}")
    made(hub, "datasets", name, files={"a.csv": "new"})
    found = pin(hub, f"kaggle://datasets/{name}", tokens)
    assert (found.revision, found.unpack) == ("2", True)
    older = pin(hub, f"kaggle://datasets/{name}@1", tokens)
    assert (older.revision, older.size_bytes) == ("1", None)
    assert older.key != found.key == pin(hub, f"kaggle://datasets/{name}@2", tokens).key


def test_a_version_that_is_not_there_is_told_with_those_that_are(hub: Hub) -> None:
    name = made(hub, "datasets", "ada/wine{}")
    text = fault(hub, SourceNotFound, f"kaggle://datasets/{name}@5")
    assert "a version from 1 to 1, found 5" in text


def test_a_private_dataset_is_open_to_the_repositorys_token(hub: Hub) -> None:
    name = made(hub, "datasets", "ada/own{}", private=True, readers=["ada"])
    source = f"kaggle://datasets/{name}"
    assert pin(hub, source, TOKEN).revision == "1"
    assert "set this repository's secret KAGGLE_API_TOKEN" in fault(hub, SourceNotFound, source)
    assert "a fork's commit gets no tokens" in fault(hub, SourceNotFound, source, stranger=True)
    text = fault(hub, SourceRefused, source, {"KAGGLE_API_TOKEN": "KGAT_of_nobody"})
    assert "Set the repository's secret KAGGLE_API_TOKEN anew" in text
    assert "found neither (404)" in fault(hub, SourceNotFound, "kaggle://datasets/ada/x", TOKEN)


def test_a_competition_is_pinned_by_its_files_once_its_rules_are_accepted(hub: Hub) -> None:
    name = made(hub, "competitions", "titanic{}", gated=True)
    source, page = f"kaggle://competitions/{name}", f"competitions/{name}/rules"
    with pytest.raises(SourceGated) as caught:
        pin(hub, source, TOKEN)
    assert caught.value.page == f"https://www.kaggle.com/{page}"
    assert page in fault(hub, SourceGated, source)  # nobody is asked without an account
    hub.make("kaggle/accept", kind="competitions", name=name, user="ada")
    found = pin(hub, source, TOKEN)
    assert (found.files, found.size_bytes, len(found.revision)) == (2, 150, 64)
    assert pin(hub, source, KEY).revision == found.revision
    made(hub, "competitions", name, files={**FILES, "c.csv": "1"})
    assert pin(hub, source, TOKEN).revision != found.revision


def test_the_files_of_a_large_competition_are_all_counted(hub: Hub) -> None:
    files = {f"f{n}.csv": "x" for n in range(450)}
    name = made(hub, "competitions", "large{}", files=files)
    hub.make("kaggle/accept", kind="competitions", name=name, user="ada")
    assert pin(hub, f"kaggle://competitions/{name}", TOKEN).files == 450


def test_a_model_is_pinned_to_its_version_once_its_terms_are_accepted(hub: Hub) -> None:
    name = made(hub, "models", "google/gemma{}/pyTorch/2b-it", gated=True)
    source = f"kaggle://models/{name}"
    text = fault(hub, SourceGated, source, TOKEN)
    assert f"Visit https://www.kaggle.com/models/{'/'.join(name.split('/')[:2])} with" in text
    hub.make("kaggle/accept", kind="models", name=name, user="ada")
    assert pin(hub, source, TOKEN).revision == "1"
    assert pin(hub, f"{source}@1", TOKEN).revision == "1"


def test_a_framework_that_kaggle_does_not_know_is_a_fault(hub: Hub) -> None:
    text = fault(hub, SourceNotFound, "kaggle://models/google/gemma/pyTroch/2b-it")
    assert "found `pyTroch`. Write it as the model's address does" in text


@pytest.mark.parametrize("kind", ["error", "rate_limit", "cut", "reset"])
def test_what_passes_by_itself_is_transient(hub: Hub, kind: str) -> None:
    name = made(hub, "datasets", "ada/wine{}")
    hub.fault(kind, path=".*GetDataset")
    with pytest.raises(Transient):
        pin(hub, f"kaggle://datasets/{name}")
    assert hub.struck() == 1
