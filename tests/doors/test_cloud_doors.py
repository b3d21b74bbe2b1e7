"""The same doors with blobs on Cloud Storage and secrets in Secret Manager."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from cynthus.wire import EventKind
from runner_images.agent.checkpoint_restore import Restoring, restore
from runner_images.agent.checkpoint_save import Saver
from runner_images.agent.door import Door
from tests.cloud_fixture import Cloud, a_cloud, make_bucket
from tests.doors.conftest import Site, open_site
from tests.doors.test_checkpoint_door import saving
from tests.gcp_fixture import gcp_simulator
from webhook_server.auth.blob_urls import GetTerms, get_url
from webhook_server.settings import Settings
from webhook_server.stores.checkpoint_shelf import remove_run

CONTENT = b"weights" * 1000
SPEC = "version: 1\nname: digits\nrun: python train.py\nsecrets:\n  - HF_TOKEN\n"
SECRET = "hf_0123456789abcdef"


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("gcp")
    with gcp_simulator(folder / "state") as simulator:
        yield a_cloud(simulator, folder)


@pytest.fixture
def cloud(
    account: Cloud, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Cloud]:
    name = hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    found = replace(account, bucket=f"acme-{name}", open=ExitStack())
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(found.key_file))
    with found.open:
        make_bucket(found)
        yield found
    found.sim.sim("DELETE", "/faults")


@pytest.fixture
def settings(cloud: Cloud, tmp_path: Path) -> Settings:
    return cloud.settings(CYNTHUS_STATE_DIR=str(tmp_path / "state"), CYNTHUS_PORT="0")


def an_ask(content: bytes = CONTENT, *, md5: bool = False, path: str = "outputs/m.pt") -> Any:
    ask = {"path": path, "size_bytes": len(content)}
    ask["sha256"] = hashlib.sha256(content).hexdigest()
    return ask | ({"md5": hashlib.md5(content).hexdigest()} if md5 else {})


def grant(site: Site, token: str, ask: Any) -> Any:
    answer = site.ask("POST", "/agent/v1/uploads", value=ask, token=token)
    assert answer.status == 200, answer.body
    return answer.json


def test_an_output_goes_past_the_server_and_counts_once_confirmed(site: Site) -> None:
    agent = site.an_agent()
    first = grant(site, agent.token, an_ask())
    assert (first["confirm"], first["resumable"]) == (True, False)
    assert not first["url"].startswith(site.url)
    put = requests.put(first["url"], CONTENT, headers=first["headers"], timeout=60)
    assert put.status_code == 200
    assert grant(site, agent.token, an_ask())["url"] is not None  # only the agent saw the bytes
    assert grant(site, agent.token, an_ask(md5=True))["url"] is None


def test_what_was_stored_and_is_not_what_was_announced_has_to_come_again(
    site: Site, cloud: Cloud
) -> None:
    agent = site.an_agent()
    first = grant(site, agent.token, an_ask())
    requests.put(first["url"], b"x" * len(CONTENT), headers=first["headers"], timeout=60)
    second = grant(site, agent.token, an_ask(md5=True))
    assert second["url"] is not None
    wanted = base64.b64encode(hashlib.md5(CONTENT).digest()).decode()
    assert second["headers"]["content-md5"] == wanted


@pytest.mark.parametrize("md5", ["", "x" * 32, "A" * 32, "a" * 31])
def test_an_md5_that_is_none_is_refused(site: Site, md5: str) -> None:
    agent = site.an_agent()
    answer = site.ask(
        "POST", "/agent/v1/uploads", value={**an_ask(), "md5": md5}, token=agent.token
    )
    assert answer.status == 422


def test_the_limits_hold_for_what_lies_in_the_bucket(cloud: Cloud, settings: Settings) -> None:
    with open_site(replace(settings, output_limit_bytes=len(CONTENT) + 10)) as site:
        agent = site.an_agent()
        first = grant(site, agent.token, an_ask())
        requests.put(first["url"], CONTENT, headers=first["headers"], timeout=60)
        grant(site, agent.token, an_ask(b"x" * len(CONTENT)))  # in its own place
        more = an_ask(b"x" * 11, path="outputs/more")
        answer = site.ask("POST", "/agent/v1/uploads", value=more, token=agent.token)
        assert answer.status == 413


@pytest.mark.case("A14", "A16")
def test_an_agents_address_lies_under_its_own_repository_run_and_attempt(
    site: Site, cloud: Cloud
) -> None:
    agents = [site.an_agent(), site.an_agent()]
    urls = [grant(site, agent.token, an_ask())["url"] for agent in agents]
    for agent, url in zip(agents, urls, strict=True):
        assert f"/{cloud.bucket}/cynthus/0/{agent.run_id}/1/" in url
    assert urls[0].partition("?")[0] != urls[1].partition("?")[0]


def test_a_storage_that_is_away_is_told_as_503(site: Site, cloud: Cloud) -> None:
    agent = site.an_agent()
    cloud.sim.fault("denied", {"api": "storage"}, times=-1)
    answer = site.ask("POST", "/agent/v1/uploads", value=an_ask(), token=agent.token)
    assert answer.status == 503
    assert "roles/storage.objectUser" in answer.fault


def test_a_download_is_sent_on_to_the_storage(site: Site) -> None:
    agent = site.an_agent()
    first = grant(site, agent.token, an_ask())
    requests.put(first["url"], CONTENT, headers=first["headers"], timeout=60)
    key = first["url"].partition("/cynthus/")[2].partition("?")[0]
    expires_at = site.parts.now() + timedelta(minutes=1)
    terms = GetTerms(file_name='a";\r\nX-Bad: 1 é.pt')
    url = get_url(site.url, site.parts.server_key, key, terms, expires_at)
    sent_on = requests.get(url, timeout=60)
    assert [step.status_code for step in sent_on.history] == [302]
    assert sent_on.content == CONTENT
    assert sent_on.headers["content-disposition"].startswith("attachment;")
    head = requests.head(url, timeout=60)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(CONTENT)))
    part = requests.get(url, headers={"Range": "bytes=7-13"}, timeout=60)
    assert (part.status_code, part.content) == (206, b"weights")


def test_without_a_key_the_bytes_pass_the_server(cloud: Cloud, settings: Settings) -> None:
    with open_site(replace(settings, google_application_credentials="")) as site:
        agent = site.an_agent()
        first = grant(site, agent.token, an_ask())
        assert first["confirm"] is False
        assert site.ask("PUT", first["url"], body=CONTENT).status == 201
        assert grant(site, agent.token, an_ask())["url"] is None  # the server has hashed it
        key = first["url"].partition("/blobs/")[2].partition("?")[0]
        expires_at = site.parts.now() + timedelta(minutes=1)
        terms = GetTerms(file_name="m.pt")
        url = get_url(site.url, site.parts.server_key, key, terms, expires_at)
        assert site.ask("GET", url).body == CONTENT
        cloud.sim.fault("corrupt", times=-1)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            requests.get(url, timeout=60)  # cut short, never passed off as whole


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────


def notices(site: Site, run_id: str) -> list[str]:
    events = site.parts.events.after(run_id, 0, limit=100, kinds=[EventKind.NOTICE])
    return [str(event.body["text"]) for event in events]


def test_a_repeated_enrolment_gets_the_same_version(site: Site) -> None:
    site.parts.secrets.set(7, "HF_TOKEN", SECRET)
    instance = site.order(site.a_run(repository_id=7, spec_text=SPEC))
    first = site.enrol(instance).json["work"]["secrets"]
    site.parts.secrets.set(7, "HF_TOKEN", "a newer value of it")
    assert site.enrol(instance).json["work"]["secrets"] == first == {"HF_TOKEN": SECRET}


def test_a_lost_permission_is_told_once_in_the_run_and_mends_itself(
    site: Site, cloud: Cloud
) -> None:
    site.parts.secrets.set(8, "HF_TOKEN", SECRET)
    run_id = site.a_run(repository_id=8, spec_text=SPEC)
    instance = site.order(run_id)
    cloud.sim.fault("denied", {"permission": "secretmanager.versions.access"}, times=2)
    assert [site.enrol(instance).status for _ in range(3)] == [503, 503, 200]
    [told] = notices(site, run_id)
    assert "roles/secretmanager.secretAccessor" in told
    assert SECRET not in told


@pytest.mark.case("A8")
def test_a_beat_that_cannot_be_masked_is_not_taken_and_may_come_again(
    cloud: Cloud, settings: Settings
) -> None:
    with open_site(settings) as site:
        site.parts.secrets.set(9, "HF_TOKEN", SECRET)
        agent = site.an_agent(repository_id=9, spec_text=SPEC)
    beat = {
        "seq": 1,
        "sent_at": "2026-01-31T12:00:00Z",
        "state": "running",
        "events": [
            {"at": "2026-01-31T12:00:00Z", "kind": "log", "body": {"text": f"it is {SECRET}\n"}}
        ],
    }
    with open_site(settings) as again:  # another process: it knows no value yet
        cloud.sim.fault("corrupt", times=-1)
        answers = [again.ask("POST", "/agent/v1/heartbeat", value=beat, token=agent.token)]
        cloud.sim.sim("DELETE", "/faults")
        answers += [again.ask("POST", "/agent/v1/heartbeat", value=beat, token=agent.token)]
        assert [answer.status for answer in answers] == [503, 200]
        assert "".join(again.parts.events.log_text(agent.run_id, 1)) == "it is ***\n"


def test_a_checkpoint_goes_past_the_server_and_comes_back(site: Site, tmp_path: Path) -> None:
    spec = "version: 1\nname: digits\nrun: python train.py\ncheckpoint: {path: ckpt}\n"
    agent = site.an_agent(spec_text=spec)
    folder, back = tmp_path / "ckpt", tmp_path / "back"
    folder.mkdir()
    (folder / "small.pt").write_bytes(CONTENT)
    (folder / "large.pt").write_bytes(os.urandom(9 << 20))  # more than one PUT takes: resumable
    with closing(Door(site.url, token=agent.token)) as door:
        assert Saver(door).save(saving(folder)) == 1
    site.parts.instances.close(agent.instance, site.parts.now())
    second = site.an_agent(agent.run_id)
    back.mkdir()
    work = Restoring(folder=back, tell=print, stopping=lambda: False, wake=threading.Event())
    with closing(Door(site.url, token=second.token)) as door:
        assert restore(door, work) is not None
    for name in ("small.pt", "large.pt"):
        assert (back / name).read_bytes() == (folder / name).read_bytes()
    remove_run(site.parts.blobs, 0, agent.run_id)
    assert list(site.parts.blobs.stored(f"0/ck{agent.run_id}/")) == []
