"""The doors of the command line and the Action: who may ask, what is checked, what is shown."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cynthus import specfile
from cynthus.client import Client
from cynthus.codec import decode
from cynthus.version import own_version
from cynthus.wire import RunRequest, RunView
from tests.doors.conftest import IMAGE, SPEC, Site, open_site
from tests.prometheus_text import parsed
from tests.stopwatch import Stopwatch
from webhook_server.auth.tokens import run_token
from webhook_server.metrics import REGISTRY
from webhook_server.routes.answers import HttpRefusal
from webhook_server.runs.model import Origin, RunDraft, RunKey, State
from webhook_server.settings import Secret, Settings

TOKEN = "operator-token-0123456789abcdef"
REQUEST: dict[str, Any] = {
    "repository_id": 0,
    "repository": "my folder",
    "commit_sha": "c" * 40,
    "ref": "refs/heads/main",
    "event": "local",
    "trigger": "local/1",
    "spec_path": "cynthus.yaml",
    "spec_text": SPEC,
    "image": IMAGE,
}


def submit(site: Site, *, token: str = "", **change: Any) -> Any:
    return site.ask("POST", "/api/v1/runs", value={**REQUEST, **change}, token=token)


# ── accepting ───────────────────────────────────────────────────────────────────────────────────


def test_a_run_request_is_accepted_once(site: Site) -> None:
    first, again = submit(site), submit(site)
    assert (first.status, again.status) == (202, 202)
    assert first.json["run_id"] == again.json["run_id"]
    assert first.json["url"] == f"{site.url}/runs/{first.json['run_id']}"
    assert len(site.parts.runs.list(repository_id=None, limit=9, before=None)) == 1
    assert site.parts.runs.wishes(first.json["run_id"]).image is not None


def test_requests_that_come_together_share_a_commit(site: Site) -> None:
    count, database, may_go_on = 40, site.parts.database, threading.Event()
    busy = database.write_async(lambda _: may_go_on.wait(60))
    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(submit, site, trigger=f"local/{n}") for n in range(count)]
        watch = Stopwatch()
        while database.writes_waiting < count:  # no request waits for a thread that another has
            assert watch.s < 60, f"{database.writes_waiting} of {count} wait for a commit"
            time.sleep(0.01)
        may_go_on.set()
        assert {answer.result().status for answer in asked} == {202}
    assert busy.result()
    assert len(site.parts.runs.list(repository_id=None, limit=99, before=None)) == count


def test_the_same_key_with_another_spec_is_a_conflict(site: Site) -> None:
    submit(site)
    assert submit(site, spec_text=SPEC + "# other\n").status == 409


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"commit_sha": "main"}, "commit_sha"),
        ({"commit_sha": "c" * 40 + "\n"}, "commit_sha"),
        ({"repository_id": -1}, "repository_id"),
        ({"trigger": "push"}, "trigger"),
        ({"image": "ubuntu:latest"}, "image"),
        ({"image": "UPPER@sha256:" + "a" * 64}, "image"),
        ({"image": None}, "failure"),
        ({"failure": "both"}, "image"),
        ({"spec_text": "version: 1\nname: UPPER\nrun: 5\n"}, "name"),
        ({"spec_text": "x" * 70_000}, "spec_text"),
        ({"repository": "a\x1b[31m"}, "repository"),
        ({"changed_paths": "a.py"}, "changed_paths"),
    ],
)
def test_what_is_wrong_is_said_by_name(site: Site, change: dict[str, Any], told: str) -> None:
    answer = submit(site, **change)
    assert answer.status == 422
    assert told in answer.fault
    assert site.parts.runs.is_empty()


def test_all_faults_of_a_spec_are_told_at_once(site: Site) -> None:
    answer = submit(site, spec_text="version: 1\nname: UPPER\nrun: 5\nbogus: 1\n")
    assert len(answer.fault.splitlines()) >= 3


def test_a_run_whose_secrets_are_missing_is_refused_before_anything_is_rented(site: Site) -> None:
    answer = submit(site, spec_text=SPEC + "secrets: [HF_TOKEN]\n")
    assert answer.status == 422
    assert "HF_TOKEN" in answer.fault


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{}", "text/plain", 415),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 422),
        (b"{}", "application/json", 422),
        (b"[" * 60_000, "application/json", 400),
        (b" " * (9 << 20), "application/json", 413),
    ],
)
def test_a_body_that_is_no_request_is_refused(
    site: Site, body: bytes, content_type: str, status: int
) -> None:
    headers = {"Content-Type": content_type}
    assert site.ask("POST", "/api/v1/runs", body=body, headers=headers).status == status


# ── images ──────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_runs_only_from_the_bundles_folder(settings: Settings, tmp_path: Path) -> None:
    bundles = tmp_path / "bundles"
    for folder in (bundles / "good", bundles / "empty", tmp_path / "outside"):
        folder.mkdir(parents=True)
    (bundles / "good" / "bundle.json").write_text("{}")
    (tmp_path / "outside" / "bundle.json").write_text("{}")
    (bundles / "link").symlink_to(tmp_path / "outside")
    with open_site(replace(settings, bundles_dir=str(bundles))) as site:
        expected = {
            f"file://{bundles}/good": 202,
            f"file://{bundles}/empty": 422,
            f"file://{bundles}": 403,
            f"file://{bundles}/../outside": 403,
            f"file://{bundles}/%2e%2e/outside": 403,
            f"file://{bundles}/link": 403,
            f"file://{tmp_path}/outside": 403,
        }
        found = {
            image: submit(site, image=image, trigger=f"local/{n}").status
            for n, image in enumerate(expected)
        }
    assert found == expected


def test_without_a_bundles_folder_no_folder_runs(site: Site, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    assert submit(site, image=f"file://{tmp_path}").status == 403


def test_an_image_id_is_for_the_local_engine_alone(site: Site) -> None:
    image = "sha256:" + "b" * 64
    assert submit(site, image=image).status == 202
    text = SPEC + "resources: {provider: gcp}\n"
    assert submit(site, image=image, spec_text=text, trigger="local/2").status == 422


# ── who may ask ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def guarded(settings: Settings) -> Iterator[Site]:
    with open_site(replace(settings, api_token=Secret(TOKEN))) as opened:
        yield opened


DOORS = [
    ("GET", "/api/v1/runs"),
    ("GET", "/api/v1/runs/{run}"),
    ("GET", "/api/v1/runs/{run}/events"),
    ("GET", "/api/v1/runs/{run}/stream"),
    ("GET", "/api/v1/runs/{run}/log"),
    ("GET", "/api/v1/runs/{run}/outputs"),
    ("POST", "/api/v1/runs/{run}/cancel"),
    ("GET", "/api/v1/openapi.json"),
    ("GET", "/api/v1/images"),
    ("GET", f"/api/v1/locks?commit={'c' * 40}&spec=cynthus.yaml"),
    ("GET", "/metrics"),
]


@pytest.mark.case("D3")
@pytest.mark.parametrize(("method", "path"), DOORS)
def test_a_stranger_gets_nothing_from_a_guarded_server(
    guarded: Site, method: str, path: str
) -> None:
    path = path.format(run=guarded.a_run())
    for token in ("", "wrong-token-wrong-token-wrong", "cyr_x.1.y"):
        assert guarded.ask(method, path, token=token).status == 401


@pytest.mark.parametrize(
    "headers", [{"X-Forwarded-For": "1.2.3.4"}, {"Forwarded": "for=1.2.3.4"}, {"Via": "1.1 p"}]
)
def test_without_a_token_a_proxy_is_no_neighbour(site: Site, headers: dict[str, str]) -> None:
    assert site.ask("GET", "/api/v1/runs").status == 200
    assert site.ask("GET", "/api/v1/runs", headers=headers).status == 401


@pytest.mark.case("D2")
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", ""])
def test_a_foreign_name_that_leads_here_is_refused(site: Site, host: str) -> None:
    assert site.ask("GET", "/api/v1/runs", headers={"Host": host}).status == 421


@pytest.mark.case("D1")
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_site_cannot_act_through_a_browser(site: Site, headers: dict[str, str]) -> None:
    run_id = site.a_run()
    assert site.ask("POST", f"/api/v1/runs/{run_id}/cancel", headers=headers).status == 403
    told = {**headers, "Content-Type": "application/json"}
    assert site.ask("POST", "/api/v1/runs", value=REQUEST, headers=told).status == 403
    assert site.parts.runs.wishes(run_id).cancel is None


@pytest.mark.case("O22")
def test_a_runs_token_reads_and_cancels_this_run_only(guarded: Site) -> None:
    mine, other = guarded.a_run(), guarded.a_run(commit="d" * 40)
    token = run_token(guarded.parts.server_key, mine, guarded.parts.now() + timedelta(days=1))
    assert guarded.ask("GET", f"/api/v1/runs/{mine}", token=token).status == 200
    assert guarded.ask("GET", f"/api/v1/runs/{other}", token=token).status == 401
    assert guarded.ask("POST", f"/api/v1/runs/{other}/cancel", token=token).status == 401
    assert guarded.ask("GET", "/api/v1/runs", token=token).status == 401
    assert guarded.ask("POST", f"/api/v1/runs/{mine}/cancel", token=token).status == 202
    wish = guarded.parts.runs.wishes(mine).cancel
    assert wish is not None
    assert wish.by == "the holder of its token"


@pytest.mark.case("O22")
def test_a_runs_token_that_has_expired_or_was_changed_is_refused(guarded: Site) -> None:
    mine = guarded.a_run()
    key, now = guarded.parts.server_key, guarded.parts.now()
    past = run_token(key, mine, now - timedelta(seconds=1))
    longer = past.replace(past.split(".")[1], "9999999999")
    for token in (past, longer, past[:-1], past + "x", "cyr_", "cyr_..", "cyr_é.1.x"):
        assert guarded.ask("GET", f"/api/v1/runs/{mine}", token=token).status == 401


@dataclass(frozen=True)
class OneJob:
    repository_id: int = 7
    owner_id: int = 41
    repository: str = "acme/digits"
    actor: str = "ada"
    jti: str = "jti-1"
    expires_at: datetime = datetime(2099, 1, 1, tzinfo=UTC)


class Jobs:
    """Believes the token `good.token.here`; the real gate has its own tests."""

    def identify(self, token: str) -> OneJob:
        if token != "good.token.here":
            raise HttpRefusal(401, "token: the signature is not good.")
        return OneJob()

    def admit(self, job: Any, workflow_run_url: str | None = None) -> None:
        """Let every job in: none of these tests asks for itself."""

    def authorise(self, job: Any, request: RunRequest) -> None:
        if request.repository_id != job.repository_id:
            raise HttpRefusal(403, "repository: is not known to this server.")

    def default_branch(self, job: Any) -> str:  # noqa: ARG002 - the protocol has it
        return "main"


@pytest.mark.case("O9")
def test_a_workflow_job_asks_with_its_own_token_once(settings: Settings) -> None:
    push = {"repository_id": 7, "trigger": "push", "event": "push"}
    with open_site(settings, Jobs()) as site:
        assert submit(site, token="bad.token.here", **push).status == 401
        assert submit(site, token="good.token.here", **{**push, "repository_id": 8}).status == 403
        accepted = submit(site, token="good.token.here", **push)
        assert accepted.status == 202
        assert submit(site, token="good.token.here", **push).status == 401  # used
        run = site.parts.runs.get(accepted.json["run_id"])
        assert run is not None
        assert run.wants_release
        assert submit(site, **push).status == 403  # a neighbour is no repository


def test_a_push_that_the_triggers_leave_out_starts_nothing(settings: Settings) -> None:
    push = {"repository_id": 7, "trigger": "push", "event": "push", "ref": "refs/heads/topic"}
    with open_site(settings, Jobs()) as site:
        answer = submit(site, token="good.token.here", **push)
        assert answer.status == 422
        assert "topic" in answer.fault


def test_a_job_may_not_name_images_of_this_machine(settings: Settings) -> None:
    push = {"repository_id": 7, "trigger": "push", "event": "push"}
    with open_site(settings, Jobs()) as site:
        image = "sha256:" + "b" * 64
        assert submit(site, token="good.token.here", image=image, **push).status == 422


def test_what_a_job_is_refused_its_run_tells_too(settings: Settings) -> None:
    push = {"repository_id": 7, "trigger": "push", "event": "push"}
    with open_site(settings, Jobs()) as site:
        assert submit(site, token="good.token.here", image="file:///etc", **push).status == 403
        [row] = site.ask("GET", "/api/v1/runs").json["runs"]
        arrived = site.parts.runs.wishes(row["id"]).image
        assert arrived is not None
        assert arrived.image is None
        assert "CYNTHUS_BUNDLES_DIR" in (arrived.failure or "")


def test_a_workflow_run_again_is_another_run_and_ends_the_one_that_waits(
    settings: Settings,
) -> None:
    again = {"repository_id": 7, "trigger": "push/99.2", "event": "push"}
    with open_site(settings, Jobs()) as site:
        first = site.a_run(repository_id=7, trigger="push", commit=REQUEST["commit_sha"])
        accepted = submit(site, token="good.token.here", **again)
        assert accepted.status == 202
        assert accepted.json["run_id"] != first
        wish = site.parts.runs.wishes(first).cancel
        assert wish is not None
        assert wish.by == "a later attempt of its workflow run"


def waiting_run(site: Site, spec: str = SPEC, **origin: Any) -> str:
    """Accept a run as a comment starts one: its spec changed on top of the file."""
    read = specfile.parse(spec.encode(), "cynthus.yaml")
    draft = RunDraft(
        id=site.parts.new_id(),
        key=RunKey(
            repository_id=7,
            commit_sha=REQUEST["commit_sha"],
            spec_path="cynthus.yaml",
            trigger="comment/77/0",
        ),
        repository="acme/digits",
        ref="refs/pull/3/head",
        event="issue_comment",
        default_branch="main",
        pull_request=3,
        workflow_run_url=None,
        spec=replace(read, name="changed"),
        spec_text=spec,
        origin=Origin(wants_build=True, asked_by="ada", **origin),
    )
    now = site.parts.now()
    return site.parts.runs.accept(draft, arrived=None, token_id=None, now=now).run_id


ASKED = {
    "repository_id": 7,
    "trigger": "comment/77/0",
    "event": "repository_dispatch",
    "ref": "refs/heads/main",
    "pull_request": 3,
}


def test_a_build_that_was_asked_for_brings_its_image_and_nothing_else(settings: Settings) -> None:
    with open_site(settings, Jobs()) as site:
        run_id = waiting_run(site)
        accepted = submit(site, token="good.token.here", **ASKED)
        assert (accepted.status, accepted.json["run_id"]) == (202, run_id)
        run = site.parts.runs.get(run_id)
        assert run is not None
        assert run.spec is not None
        assert (run.spec.name, run.ref, run.event) == (
            "changed",
            "refs/pull/3/head",
            "issue_comment",
        )
        assert not run.wants_release  # though the job's own ref is the default branch
        arrived = site.parts.runs.wishes(run_id).image
        assert arrived is not None
        assert arrived.image == REQUEST["image"]
        assert not site.parts.runs.waits(run.key)


def test_a_build_of_other_text_is_not_that_run_s(settings: Settings) -> None:
    with open_site(settings, Jobs()) as site:
        waiting_run(site)
        other = submit(site, token="good.token.here", spec_text=SPEC + "# more\n", **ASKED)
        assert other.status == 409


def test_a_build_that_failed_before_it_had_the_file_is_told_all_the_same(
    settings: Settings,
) -> None:
    with open_site(settings, Jobs()) as site:
        run_id = waiting_run(site)
        failed = {"image": None, "failure": "the checkout has another commit", "spec_text": "x"}
        assert submit(site, token="good.token.here", **{**ASKED, **failed}).status == 202
        arrived = site.parts.runs.wishes(run_id).image
        assert arrived is not None
        assert arrived.failure == "the checkout has another commit"


def test_a_fork_s_run_is_not_held_up_by_secrets_that_it_would_not_get(settings: Settings) -> None:
    wants = SPEC + "secrets: [HF_TOKEN]\n"
    with open_site(settings, Jobs()) as site:
        run_id = waiting_run(site, wants, fork=True)
        run = site.parts.runs.get(run_id)
        assert run is not None
        assert "none of its secrets: HF_TOKEN" in run.notices[0]
        accepted = submit(site, token="good.token.here", spec_text=wants, **ASKED)
        assert accepted.status == 202


def test_its_own_repository_s_run_still_needs_its_secrets(settings: Settings) -> None:
    wants = SPEC + "secrets: [HF_TOKEN]\n"
    with open_site(settings, Jobs()) as site:
        waiting_run(site, wants)
        refused = submit(site, token="good.token.here", spec_text=wants, **ASKED)
        assert refused.status == 422
        assert "HF_TOKEN" in refused.fault


# ── showing ─────────────────────────────────────────────────────────────────────────────────────


def test_a_view_tells_the_whole_run(site: Site) -> None:
    agent = site.an_agent()
    agent.beat(("phase", {"name": "train"}), ("metric", {"name": "loss", "step": 1, "value": 0.5}))
    site.enter(agent.run_id, State.RUNNING, "the agent is there")
    view = decode(RunView, site.ask("GET", f"/api/v1/runs/{agent.run_id}").json)
    assert (view.name, view.state, view.phase) == ("digits", "running", "train")
    assert view.metrics == {"loss": 0.5}
    assert view.attempts[0].instance == agent.instance
    assert view.reason == "the agent is there"


def test_the_list_shows_newest_first_in_pages(site: Site) -> None:
    made = [site.a_run(commit=f"{n:040d}") for n in range(5)]
    first = site.ask("GET", "/api/v1/runs?limit=3").json["runs"]
    rest = site.ask("GET", f"/api/v1/runs?limit=3&before={first[-1]['seq']}").json["runs"]
    assert [row["id"] for row in first + rest] == made[::-1]


def test_the_list_counts_the_open_runs_by_state(site: Site) -> None:
    one, two, _ = (site.a_run(commit=f"{n:040d}") for n in range(3))
    site.enter(one, State.RUNNING)
    site.enter(two, State.FINISHED)
    assert site.ask("GET", "/api/v1/runs").json["open"] == {"building": 1, "running": 1}


def test_the_list_follows_a_change_at_once(site: Site) -> None:
    run_id = site.a_run()
    assert site.ask("GET", "/api/v1/runs").json["runs"][0]["state"] == "building"
    site.enter(run_id, State.QUEUED)
    assert site.ask("GET", "/api/v1/runs").json["runs"][0]["state"] == "queued"


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=999", "limit=x", "before=-1", "repository_id=1e9"]
)
def test_a_list_that_cannot_be_is_refused(site: Site, query: str) -> None:
    assert site.ask("GET", f"/api/v1/runs?{query}").status == 422


@pytest.mark.parametrize(
    "path", ["/api/v1/runs/unknown", "/api/v1/nothing", "/nothing", "/runs/zz"]
)
def test_what_is_not_there_is_404_without_a_trace(site: Site, path: str) -> None:
    answer = site.ask("GET", path)
    assert answer.status == 404
    assert b"Traceback" not in answer.body


def test_events_come_in_pages_after_a_place(site: Site) -> None:
    agent = site.an_agent()
    agent.beat(*(("log", {"text": f"{n}\n"}) for n in range(10)))
    path = f"/api/v1/runs/{agent.run_id}/events"
    everything = site.ask("GET", path).json
    page = site.ask("GET", f"{path}?after={everything[3]['seq']}&limit=2").json
    assert page == everything[4:6]


def test_the_log_is_text_and_nothing_else(site: Site) -> None:
    agent = site.an_agent()
    agent.beat(("log", {"text": "<script>alert(1)</script>\n"}))
    answer = site.ask("GET", f"/api/v1/runs/{agent.run_id}/log")
    assert answer.body == b"<script>alert(1)</script>\n"
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_metrics_are_prometheus_text(site: Site) -> None:
    site.an_agent().beat()
    text = site.ask("GET", "/metrics").body.decode()
    assert 'cynthus_requests_total{door="heartbeat",status="200"} 1' in text
    assert "cynthus_heartbeats_total 1" in text
    assert 'cynthus_runs{state="provisioning"} 1' in text
    families = parsed(text)
    assert set(families) <= set(REGISTRY)
    assert families["cynthus_database_commit_seconds"].kind == "histogram"
    assert families["cynthus_build_info"].samples


@pytest.mark.case("D5")
def test_health_tells_strangers_nothing_but_health(guarded: Site) -> None:
    headers = {"Host": "10.0.0.7"}
    assert guarded.ask("GET", "/healthz", headers=headers).body == b"ok\n"
    assert guarded.ask("GET", "/readyz", headers=headers).body == b"ready\n"


@pytest.mark.case("D5")
@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/health", "/debug", "/.env"])
def test_nothing_describes_or_configures_the_server_to_strangers(guarded: Site, path: str) -> None:
    answer = guarded.ask("GET", path)
    assert answer.status == 404
    assert "server" not in answer.headers
    assert own_version().encode() not in answer.body
    assert b"python" not in answer.body.lower()


@pytest.mark.case("D5")
def test_the_api_describes_itself_to_the_operator(guarded: Site) -> None:
    document = guarded.ask("GET", "/api/v1/openapi.json", token=TOKEN).json
    assert document["paths"]["/api/v1/runs"]["post"]["requestBody"]
    assert document["components"]["schemas"]["run_view"]["properties"]["progress"]
    assert all(path.startswith("/api/v1") for path in document["paths"])


def test_an_answer_does_not_wait_for_acknowledgements(site: Site) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", site.port)
    times = []
    for _ in range(20):
        began = Stopwatch()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        times.append(began.s)
    connection.close()
    assert min(times) < 0.02  # a delayed acknowledgement takes 40 ms, each time


def test_a_refusal_names_the_request_that_the_log_names(site: Site) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    told = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    assert site.ask("GET", "/api/v1/runs/none", headers=told).headers["x-request-id"] == trace
    for odd in ("00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-x-y-01", "é"):
        answer = site.ask("GET", "/api/v1/runs/none", headers={"traceparent": odd})
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
        assert answer.headers["x-request-id"].strip("0")
    assert "x-request-id" not in site.ask("GET", "/healthz").headers


def test_the_operator_ends_all_runs_or_those_of_a_repository(guarded: Site) -> None:
    runs = [guarded.a_run(commit=digit * 40) for digit in "abc"]
    client = Client(guarded.url, TOKEN)
    assert client.cancel_all(404) == 0
    assert client.cancel_all() == len(runs)
    wishes = [guarded.parts.runs.wishes(run_id).cancel for run_id in runs]
    assert [wish and wish.by for wish in wishes] == ["the operator"] * len(runs)


def test_nobody_else_ends_all_runs(guarded: Site) -> None:
    mine = guarded.a_run()
    token = run_token(guarded.parts.server_key, mine, guarded.parts.now() + timedelta(days=1))
    for bearer in ("", token, "guess"):
        assert guarded.ask("POST", "/api/v1/runs/cancel", token=bearer).status == 401
    assert guarded.parts.runs.wishes(mine).cancel is None
