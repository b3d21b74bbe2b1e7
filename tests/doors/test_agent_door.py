"""The agents' doors: enrolment, heartbeats, uploads, and who is turned away."""

from __future__ import annotations

import hashlib
import socket
from datetime import timedelta
from typing import Any

import pytest

from cynthus.codec import decode
from cynthus.wire import Enrolled, EventKind
from tests.doors.conftest import NONCE, Site
from webhook_server.auth.tokens import enrol_secret
from webhook_server.runs.model import State


def feed(site: Site, run_id: str, kind: str) -> list[dict[str, Any]]:
    events = site.parts.events.after(run_id, 0, limit=1000, kinds=[EventKind(kind)])
    return [event.body for event in events]


def log(site: Site, run_id: str) -> str:
    return "".join(site.parts.events.log_text(run_id, 1))


# ── enrolment ───────────────────────────────────────────────────────────────────────────────────


def test_an_enrolled_agent_is_given_its_work(site: Site) -> None:
    agent = site.an_agent()
    enrolled = decode(Enrolled, site.enrol(agent.instance).json)
    assert enrolled.work.run_id == agent.run_id
    assert enrolled.work.command == "python train.py"
    assert enrolled.work.outputs == ("outputs",)
    assert enrolled.work.env["CYNTHUS_RUN_ID"] == agent.run_id
    assert 0 < enrolled.work.deadline_s <= 24 * 3600


def test_the_same_agent_may_ask_again_and_gets_the_same_token(site: Site) -> None:
    agent = site.an_agent()
    assert site.enrol(agent.instance).json["token"] == agent.token


@pytest.mark.case("A21")
def test_another_agent_cannot_take_the_attempt_over(site: Site) -> None:
    agent = site.an_agent()
    assert site.enrol(agent.instance, nonce="f" * 32).status == 409


@pytest.mark.case("A1")
def test_a_wrong_secret_or_another_instances_secret_is_refused(site: Site) -> None:
    instance = site.order(site.a_run())
    other = enrol_secret(site.parts.server_key, "cynthus-other-1")
    assert site.enrol(instance, secret="cye_guess").status == 401
    assert site.enrol(instance, secret=other).status == 401
    assert site.parts.instances.observe(instance).agent is None


def test_an_instance_that_was_never_ordered_or_is_closed_cannot_enrol(site: Site) -> None:
    assert site.enrol("cynthus-never-1").status == 410
    instance = site.order(site.a_run())
    site.parts.instances.close(instance, site.parts.now())
    assert site.enrol(instance).status == 410


@pytest.mark.parametrize("nonce", ["", "short", "G" * 32, NONCE + "0"])
def test_a_nonce_is_32_hex_digits(site: Site, nonce: str) -> None:
    assert site.enrol(site.order(site.a_run()), nonce=nonce).status == 422


def test_secrets_travel_with_the_work_and_nowhere_else(site: Site) -> None:
    site.parts.secrets.set(7, "HF_TOKEN", "hf_0123456789")
    spec = "version: 1\nname: digits\nrun: 'true'\nsecrets: [HF_TOKEN, ABSENT]\n"
    agent = site.an_agent(repository_id=7, spec_text=spec)
    assert agent.work["secrets"] == {"HF_TOKEN": "hf_0123456789"}
    assert "ABSENT" in feed(site, agent.run_id, "notice")[0]["text"]
    shown = site.ask("GET", f"/api/v1/runs/{agent.run_id}").body
    assert b"hf_0123456789" not in shown


def test_a_hubs_token_is_for_staging_alone_and_hidden_all_the_same(site: Site) -> None:
    site.parts.secrets.set(7, "HF_TOKEN", "hf_0123456789")
    site.parts.secrets.set(7, "KAGGLE_KEY", "kaggle-0123456789")
    spec = (
        "version: 1\nname: digits\nrun: 'true'\n"
        "data: [{name: train, source: hf://datasets/acme/demo}]\n"
    )
    agent = site.an_agent(repository_id=7, spec_text=spec)
    assert agent.work["hub_secrets"] == {"HF_TOKEN": "hf_0123456789"}
    assert (agent.work["secrets"], agent.work["repository_id"]) == ({}, 7)
    agent.beat(("log", {"text": "staging with hf_0123456789\n"}))
    assert log(site, agent.run_id) == "staging with ***\n"
    shown = site.ask("GET", f"/api/v1/runs/{agent.run_id}").body
    assert b"hf_0123456789" not in shown


# ── heartbeats ──────────────────────────────────────────────────────────────────────────────────


def test_a_heartbeat_is_kept_and_answered(site: Site) -> None:
    agent = site.an_agent()
    answer = agent.beat(("log", {"text": "epoch 1\n"}), ("progress", {"value": 0.5}))
    assert answer.status == 200
    nothing = {"stop": None, "masks": [], "rendezvous": None, "deadline_s": None}
    assert answer.json == {"accepted_seq": 1, **nothing}
    assert log(site, agent.run_id) == "epoch 1\n"
    assert site.parts.events.latest(agent.run_id).progress == 0.5


@pytest.mark.case("A3")
def test_a_repeated_or_older_heartbeat_changes_nothing(site: Site) -> None:
    agent = site.an_agent()
    agent.beat(("log", {"text": "one\n"}))
    agent.beat(("log", {"text": "two\n"}))
    for seq in (1, 2):
        again = agent.send(
            {
                "seq": seq,
                "events": [{"at": "2026-01-31T12:00:00Z", "kind": "log", "body": {"text": "x"}}],
            }
        )
        assert again.json["accepted_seq"] == 2
    assert log(site, agent.run_id) == "one\ntwo\n"


def test_a_stop_wish_travels_with_the_next_answer(site: Site) -> None:
    agent = site.an_agent()
    site.parts.instances.request_stop(agent.instance, "cancelled by ada")
    assert agent.beat().json["stop"] == "cancelled by ada"


def test_a_new_deadline_travels_as_seconds_from_now_with_every_answer(site: Site) -> None:
    agent = site.an_agent()
    assert agent.beat().json["deadline_s"] is None
    site.parts.instances.prolong(agent.instance, site.parts.now() + timedelta(hours=1))
    for _ in range(2):
        assert 0 < agent.beat().json["deadline_s"] <= timedelta(hours=1).total_seconds()


def test_a_heartbeat_wakes_whoever_waits_only_when_there_is_news(site: Site) -> None:
    agent = site.an_agent()
    agent.beat()
    topic = f"events/{agent.run_id}"
    before, runs_before = site.parts.bell.count(topic), site.parts.bell.count("runs")
    agent.beat()
    assert site.parts.bell.count(topic) == before
    agent.beat(("log", {"text": "x"}))
    assert site.parts.bell.count(topic) > before
    assert site.parts.bell.count("runs") == runs_before
    agent.beat(exit={"code": 0}, state="uploading")
    assert site.parts.bell.count("runs") > runs_before


@pytest.mark.case("A1")
@pytest.mark.parametrize("token", ["", "cya_guess", "cye_x", "cyr_x", "x" * 8000])
def test_a_strangers_token_is_refused_and_changes_nothing(site: Site, token: str) -> None:
    agent = site.an_agent()
    answer = agent.send({"seq": 1, "state": "done", "exit": {"code": 0}}, token=token)
    assert answer.status == 401
    assert site.parts.instances.observe(agent.instance).heartbeat_seq == 0


@pytest.mark.case("A1")
def test_a_strangers_body_is_not_waited_for(site: Site) -> None:
    agent = site.an_agent()
    for token, answer in ((f"cya_{'x' * 43}", b"HTTP/1.1 401 "), (agent.token, b"")):
        with socket.create_connection(("127.0.0.1", site.port), timeout=60) as connection:
            head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nContent-Length: 4000000"
            connection.sendall(f"POST /agent/v1/heartbeat HTTP/1.1\r\n{head}\r\n\r\n".encode())
            if answer:
                assert connection.recv(1024).startswith(answer)
                continue
            connection.settimeout(0.2)  # the agent's own is waited for, for longer than this
            with pytest.raises(TimeoutError):
                connection.recv(1024)


@pytest.mark.case("A1")
def test_a_token_speaks_for_its_own_attempt_alone(site: Site) -> None:
    one, two = site.an_agent(), site.an_agent(commit="d" * 40)
    one.beat(("log", {"text": "mine\n"}))
    assert log(site, two.run_id) == ""
    assert site.parts.instances.observe(two.instance).heartbeat_seq == 0


@pytest.mark.case("A2", "A5")
def test_an_attempt_that_is_over_gets_410_at_every_door(site: Site) -> None:
    agent = site.an_agent()
    site.parts.instances.close(agent.instance, site.parts.now())
    assert agent.beat(("log", {"text": "late\n"})).status == 410
    assert agent.ask_upload("outputs/a", b"late").status == 410
    assert site.enrol(agent.instance).status == 410
    assert log(site, agent.run_id) == ""


@pytest.mark.case("A6")
def test_the_first_exit_stays(site: Site) -> None:
    agent = site.an_agent()
    agent.beat(state="uploading", exit={"code": 0})
    agent.beat(state="uploading", exit={"code": 1})
    seen = site.parts.instances.observe(agent.instance).agent
    assert seen is not None
    assert seen.exit is not None
    assert seen.exit.code == 0


@pytest.mark.case("A4")
def test_an_agents_clock_is_a_claim(site: Site) -> None:
    agent = site.an_agent()
    future = {"at": "2031-01-31T12:00:00Z", "kind": "log", "body": {"text": "x"}}
    agent.send({"seq": 1, "events": [future], "sent_at": "2031-01-31T12:00:00Z"})
    (event,) = site.parts.events.after(agent.run_id, 0, limit=9, kinds=[EventKind.LOG])
    assert event.at <= site.parts.now()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b"[]", 422),
        (b'{"seq": "1"}', 422),
        (b"\xff\xfe", 400),
        (b"{" + b" " * (5 << 20) + b"}", 413),
    ],
)
def test_what_is_no_heartbeat_is_refused_without_harm(site: Site, body: bytes, status: int) -> None:
    agent = site.an_agent()
    answer = site.ask("POST", "/agent/v1/heartbeat", body=body, token=agent.token)
    assert answer.status == status
    assert agent.beat().status == 200


@pytest.mark.case("A11")
def test_numbers_that_are_none_and_names_without_end_are_dropped(site: Site) -> None:
    agent = site.an_agent()
    beat = (
        '{"seq":1,"sent_at":"2026-01-31T12:00:00Z","state":"running","events":['
        '{"at":"2026-01-31T12:00:00Z","kind":"metric","body":{"name":"nan","step":1,"value":NaN}},'
        '{"at":"2026-01-31T12:00:00Z","kind":"metric","body":{"name":"inf","step":1,"value":1e999}},'
        '{"at":"2026-01-31T12:00:00Z","kind":"metric","body":{"name":"ok","step":1,"value":2}}]}'
    )
    answer = site.ask("POST", "/agent/v1/heartbeat", body=beat.encode(), token=agent.token)
    assert answer.status == 200
    agent.seq = 1
    agent.beat(*(("metric", {"name": f"m{n}", "step": 0, "value": n}) for n in range(1000)))
    metrics = site.parts.events.latest(agent.run_id).metrics
    assert metrics["ok"] == 2
    assert "nan" not in metrics
    assert "inf" not in metrics
    assert len(metrics) <= 200


# ── secrets in what agents send ─────────────────────────────────────────────────────────────────

SECRET = 'p4ss"word+/é~x'


@pytest.mark.case("A8")
@pytest.mark.parametrize(
    "spelled",
    [
        SECRET,
        SECRET.encode().hex(),
        __import__("json").dumps(SECRET)[1:-1],
        __import__("urllib.parse").parse.quote(SECRET, safe=""),
        __import__("base64").b64encode(SECRET.encode()).decode(),
        __import__("base64").b64encode(b"user:" + SECRET.encode()).decode(),
        __import__("base64").urlsafe_b64encode(b"us:" + SECRET.encode()).decode(),
    ],
)
def test_a_secret_is_hidden_a_second_time_in_every_spelling(site: Site, spelled: str) -> None:
    site.parts.secrets.set(7, "PASSWORD", SECRET)
    spec = "version: 1\nname: digits\nrun: 'true'\nsecrets: [PASSWORD]\n"
    agent = site.an_agent(repository_id=7, spec_text=spec)
    core = spelled[8:-4] if "=" in spelled or len(spelled) > 20 else spelled
    agent.beat(
        ("log", {"text": f"before {spelled} after\n"}),
        ("annotation", {"level": "notice", "text": spelled, "file": "a.py"}),
        ("summary", {"text": spelled}),
        ("notice", {"text": spelled}),
    )
    agent.beat(state="uploading", exit={"code": None, "error": f"no such {spelled}"})
    everything = str(site.parts.events.after(agent.run_id, 0, limit=100))
    everything += str(site.parts.instances.observe(agent.instance).agent)
    assert core not in everything
    assert "***" in log(site, agent.run_id)


def test_a_masked_value_is_hidden_from_then_on_and_never_stored(site: Site) -> None:
    agent = site.an_agent()
    agent.beat(("mask", {"value": "tok_4711_xyz"}), ("log", {"text": "tok_4711_xyz\n"}))
    agent.beat(("log", {"text": "again tok_4711_xyz\n"}))
    assert log(site, agent.run_id) == "***\nagain ***\n"
    # The whole value: its digits alone are found in the microseconds of some moments.
    assert "tok_4711" not in str(site.parts.events.after(agent.run_id, 0, limit=100))


# ── uploads ─────────────────────────────────────────────────────────────────────────────────────


def test_an_output_is_uploaded_and_handed_out_by_signed_addresses(site: Site) -> None:
    agent = site.an_agent()
    assert agent.upload("outputs/model.pt", b"weights").status == 201
    assert agent.ask_upload("outputs/model.pt", b"weights").json["url"] is None
    import hashlib

    output = {
        "path": "outputs/model.pt",
        "size_bytes": 7,
        "sha256": hashlib.sha256(b"weights").hexdigest(),
    }
    agent.beat(state="done", exit={"code": 0}, outputs=[output])
    seen = site.parts.instances.observe(agent.instance).agent
    assert seen is not None
    site.enter(agent.run_id, State.RELEASING, outputs=seen.outputs)
    (view,) = site.ask("GET", f"/api/v1/runs/{agent.run_id}/outputs").json
    answer = site.ask("GET", view["url"])
    assert (answer.status, answer.body) == (200, b"weights")


@pytest.mark.case("A16")
@pytest.mark.parametrize(
    "path",
    ["../a", "/etc/passwd", "a/../../b", "a//b", "./a", "a/", "", "a\x00b", "a\nb", "x" * 1025],
)
def test_a_path_that_leads_elsewhere_is_refused(site: Site, path: str) -> None:
    assert site.an_agent().ask_upload(path, b"x").status == 422


@pytest.mark.case("A16")
@pytest.mark.parametrize("path", ["-rf", "%2e%2e/a", "ü/名.txt", "a" * 255, "..a/b..", "C:\\x"])
def test_an_odd_name_is_only_a_name(site: Site, path: str) -> None:
    agent = site.an_agent()
    assert agent.upload(path, b"x").status == 201
    files = [p for p in (site.parts.settings.state_dir / "blobs").rglob("*") if p.is_file()]
    assert len(files) == 1
    assert len(files[0].name) == 64


def test_more_than_the_limits_is_refused(site: Site) -> None:
    agent = site.an_agent()
    limit = site.parts.settings.output_limit_bytes
    assert agent.ask_upload("outputs/big", b"x", size_bytes=limit + 1).status == 413
    assert agent.ask_upload("outputs/odd", b"x", size_bytes=-1).status == 422
    assert agent.ask_upload("outputs/odd", b"x", sha256="A" * 64).status == 422


def test_a_path_that_shows_a_secret_is_refused(site: Site) -> None:
    site.parts.secrets.set(7, "PASSWORD", "hunter2hunter2")
    spec = "version: 1\nname: digits\nrun: 'true'\nsecrets: [PASSWORD]\n"
    agent = site.an_agent(repository_id=7, spec_text=spec)
    answer = agent.ask_upload("outputs/hunter2hunter2.txt", b"x")
    assert answer.status == 422
    assert "hunter2" not in answer.fault


# ── what is hashed on its way ───────────────────────────────────────────────────────────────────


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_digest_may_be_told_after_the_bytes_and_proves_them_then(site: Site) -> None:
    agent = site.an_agent()
    grant = agent.ask_upload("outputs/x", b"weights", sha256="")
    assert (grant.status, grant.json["confirm"]) == (200, True)
    assert site.ask("PUT", grant.json["url"], body=b"weights").status == 201
    wrong = agent.ask_upload("outputs/x", b"weights", sha256=sha256(b"others!"))
    assert wrong.json["url"] is not None  # it has to come again
    assert agent.ask_upload("outputs/x", b"weights", sha256="").json["url"] is not None
    assert agent.ask_upload("outputs/x", b"weights").json["url"] is None
    site.parts.blobs.sweep()
    assert agent.ask_upload("outputs/x", b"weights", size_bytes=8).json["url"] is not None


@pytest.mark.case("A14")
def test_an_address_without_a_digest_replaces_nothing_that_came_meanwhile(site: Site) -> None:
    agent = site.an_agent()
    early = agent.ask_upload("outputs/x", b"forged!", sha256="").json["url"]
    assert agent.upload("outputs/x", b"weights").status == 201
    late = site.ask("PUT", early, body=b"forged!")
    assert (late.status, "another upload was faster" in late.fault) == (422, True)
    assert agent.ask_upload("outputs/x", b"weights").json["url"] is None
    assert site.ask("PUT", early.replace("&over=0", ""), body=b"forged!").status == 403
    again = agent.ask_upload("outputs/x", b"forged!", sha256="").json["url"]
    assert site.ask("PUT", again, body=b"WEIGHTS").status == 201  # its own, not proven yet
    assert site.ask("PUT", again, body=b"forged!").status == 422
