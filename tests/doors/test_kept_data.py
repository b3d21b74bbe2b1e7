"""`cynthus data`: what is cached is shown, evicted and purged, and the trail says who had it so."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from cynthus.cli import run as cynthus
from cynthus.cli_data import size
from cynthus.errors import Refused, UserError
from tests.doors.conftest import Agent, Site, open_site
from tests.doors.test_client_door import Jobs
from tests.doors.test_dashboard import TOKEN
from tests.doors.test_data_door import FILES, KEY, Instance, dataset
from webhook_server.runs.model import State
from webhook_server.settings import Secret, Settings
from webhook_server.stores.repository_store import Repository, RepositoryStore


@pytest.fixture
def guarded(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("CYNTHUS_TOKEN", TOKEN)
    with open_site(replace(settings, api_token=Secret(TOKEN)), Jobs()) as opened:
        yield opened


def kept(site: Site, repository_id: int = 7) -> Agent:
    """Return an agent that has brought its dataset, with its run live."""
    facts = Repository(
        id=repository_id,
        owner_id=1,
        full_name=f"acme/r{repository_id}",
        default_branch="main",
        installation_id=None,
    )
    RepositoryStore(site.parts.database).upsert(facts, site.parts.now())
    run_id = site.a_run(repository_id=repository_id)
    site.save(run_id, lambda run: replace(run, datasets=(dataset(),)))
    one = Instance(site, site.an_agent(run_id))
    one.cache.claim(KEY)
    one.keep()
    one.cache.close()
    return one.agent


def words(site: Site, *more: str) -> list[str]:
    return ["data", more[0], "--server", site.url, *more[1:]]


def trail(site: Site, verb: str) -> list[dict[str, Any]]:
    answer = site.ask("GET", f"/api/v1/trail?verb={verb}", token=TOKEN)
    return [json.loads(text) for text in answer.body.splitlines()]


def test_what_is_cached_is_shown_with_who_uses_it(
    guarded: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = kept(guarded)
    kept(guarded, 8)
    assert cynthus(words(guarded, "ls", "--repository", "acme/r7")) == 0
    heads, row, total = capsys.readouterr().out.splitlines()
    assert heads.startswith("REPOSITORY  FOR")
    assert row.startswith("acme/r7     default branch  hf://datasets/acme/digits  cccccccccccc  4")
    assert row.endswith(agent.run_id) or agent.run_id in row
    assert total.startswith("200.7 kB in all; 107.4 GB at most for a repository, kept 30 days")
    assert cynthus(words(guarded, "ls", "--json")) == 0
    view = json.loads(capsys.readouterr().out)
    assert sorted(tree["repository"] for tree in view["trees"]) == ["acme/r7", "acme/r8"]


@pytest.mark.case("D3")
def test_a_job_sees_its_own_repository_s_alone(guarded: Site) -> None:
    kept(guarded, 7)
    kept(guarded, 8)
    found = guarded.ask("GET", "/api/v1/data", token="good.token.here")
    assert {tree["repository_id"] for tree in found.json["trees"]} == {7}
    path = "/api/v1/data?repository=8"
    assert guarded.ask("GET", path, token="good.token.here").status == 403


def test_a_dry_run_changes_nothing_and_a_live_run_s_data_stays(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CYNTHUS_TOKEN", TOKEN)
    narrow = replace(settings, api_token=Secret(TOKEN), data_cache_bytes=1)
    with open_site(narrow, Jobs()) as site:
        agent = kept(site)
        assert cynthus(words(site, "gc", "--dry-run")) == 0
        assert capsys.readouterr().out == "0 datasets would go: nothing was changed\n"
        site.enter(agent.run_id, State.FINISHED)
        assert cynthus(words(site, "gc", "--dry-run")) == 0
        assert "1 datasets would go" in capsys.readouterr().out
        assert trail(site, "collect") == []
        assert cynthus(words(site, "gc")) == 0
        assert "1 datasets evicted" in capsys.readouterr().out
        assert site.ask("GET", "/api/v1/data", token=TOKEN).json["trees"] == []
        [line] = trail(site, "collect")
        assert line["actor"]["kind"] == "operator"


@pytest.mark.case("A14")
def test_a_purge_removes_all_bytes_of_one_repository_and_says_what_remains(
    guarded: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = kept(guarded, 7)
    agent.upload("outputs/model.pt", b"weights")
    kept(guarded, 8)
    with pytest.raises(Refused, match="no live run"):
        cynthus(words(guarded, "purge", "acme/r7", "--yes"))
    guarded.enter(agent.run_id, State.FINISHED, finished_at=guarded.parts.now())
    assert cynthus(words(guarded, "purge", "acme/r7", "--yes")) == 0
    out = capsys.readouterr().out
    assert "removed: 4 of cached data\nremoved: 1 of outputs\n" in out
    for place in ("GitHub", "soft delete", "instances", "registry", "database"):
        assert place in out
    assert list(guarded.parts.blobs.stored("7/")) == []
    assert len(list(guarded.parts.blobs.stored("8/"))) == len(set(FILES.values())) + 1
    [line] = trail(guarded, "purge")
    assert line["repository_id"] == 7
    assert line["after"]["blobs"] == {"cached data": 4, "outputs": 1}
    assert cynthus(words(guarded, "purge", "7", "--yes")) == 0  # nothing is left to be removed


def test_a_purge_that_nobody_confirms_removes_nothing(
    guarded: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = kept(guarded)
    guarded.enter(agent.run_id, State.FINISHED, finished_at=guarded.parts.now())
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(UserError, match="--yes"):
        cynthus(words(guarded, "purge", "acme/r7"))
    assert len(list(guarded.parts.blobs.stored("7/"))) == 4


def test_a_purge_of_nobody_is_refused(guarded: Site) -> None:
    for text in ("", "nobody/here", "-1", "9" * 30):
        path = f"/api/v1/data/purge?repository={text}"
        assert guarded.ask("POST", path, token=TOKEN).status == 422


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (2_500_000_000, "2.5 GB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_bytes_are_told_as_people_read_them(count: int, shown: str) -> None:
    assert size(count) == shown


def test_the_digest_of_a_file_is_its_name_in_the_store(guarded: Site) -> None:
    kept(guarded)
    digests = {hashlib.sha256(content).hexdigest() for content in FILES.values()}
    found = {blob.key.rpartition("/")[2] for blob in guarded.parts.blobs.stored("7/data/0/")}
    assert digests < found
