"""The door of enrolment for instances of Google Cloud: Google's word on them, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.doors.conftest import Site, open_site
from tests.unit.test_google_identity import claims, signed
from tests.unit.test_oidc import jwk, key, key_set
from webhook_server.settings_reader import read

ZONE = "us-central1-a"


class Certs(BaseHTTPRequestHandler):
    """Google's published keys."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        body = key_set(jwk(key("google")))
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Certs) as certs:
        Thread(target=certs.serve_forever, args=(0.02,), daemon=True).start()
        settings = read(
            {
                "CYNTHUS_STATE_DIR": str(tmp_path / "state"),
                "CYNTHUS_PORT": "0",
                "CYNTHUS_GCP_PROJECT": "acme-gpu",
                "CYNTHUS_GCP_CERTS_URL": f"http://127.0.0.1:{certs.server_port}/certs",
            }
        )
        with open_site(settings) as opened:
            yield opened
        certs.shutdown()


def a_machine(site: Site) -> str:
    return site.order(site.a_run(), provider="gcp", place=ZONE)


def token(site: Site, instance: str, *, by: str = "google", **machine: Any) -> str:
    now = int(time.time())
    of = {"instance_name": instance, "instance_creation_timestamp": now, **machine}
    return signed(claims(of, aud=site.url, iat=now, exp=now + 3600), by=by)


def test_an_instance_enrols_by_googles_word_alone(site: Site) -> None:
    instance = a_machine(site)
    answer = site.enrol(instance, secret="", identity=token(site, instance))
    assert answer.status == 200, answer.body
    assert answer.json["work"]["command"] == "python train.py"


def test_the_same_agent_may_ask_again_and_another_may_not(site: Site) -> None:
    instance = a_machine(site)
    proof = token(site, instance)
    first = site.enrol(instance, secret="", identity=proof)
    assert site.enrol(instance, secret="", identity=proof).json["token"] == first.json["token"]
    assert site.enrol(instance, nonce="f" * 32, secret="", identity=proof).status == 409


@pytest.mark.case("A1", "A20")
def test_a_token_of_another_machine_does_not_open_this_ones_work(site: Site) -> None:
    instance, other = a_machine(site), a_machine(site)
    answer = site.enrol(instance, secret="", identity=token(site, other))
    assert answer.status == 401
    assert "instance_name" in answer.fault
    assert site.parts.instances.observe(instance).agent is None


@pytest.mark.parametrize(
    "wrong", [{"by": "evil"}, {"zone": "us-central1-b"}, {"project_id": "evil"}], ids=str
)
def test_a_token_that_is_not_that_machines_is_refused(site: Site, wrong: dict[str, Any]) -> None:
    instance = a_machine(site)
    answer = site.enrol(instance, secret="", identity=token(site, instance, **wrong))
    assert answer.status == 401
    assert answer.fault.startswith(("identity token:", "token:"))


def test_each_instance_has_one_way_in_and_never_the_other(site: Site) -> None:
    lent, local = a_machine(site), site.order(site.a_run())
    assert "identity token" in site.enrol(lent).fault  # by the secret
    assert site.enrol(lent).status == 401
    local_answer = site.enrol(local, secret="", identity=token(site, local))
    assert local_answer.status == 401
    assert site.enrol(lent, identity=token(site, lent)).status == 401  # by both
    assert site.enrol(local).status == 200


def test_an_instance_that_was_never_ordered_has_no_way_in(site: Site) -> None:
    name = "cynthus-never-1"
    assert site.enrol(name, secret="", identity=token(site, name)).status == 401


def test_a_server_without_google_cloud_takes_no_identity_token(tmp_path: Path) -> None:
    settings = read({"CYNTHUS_STATE_DIR": str(tmp_path / "plain"), "CYNTHUS_PORT": "0"})
    with open_site(settings) as site:
        instance = a_machine(site)
        answer = site.enrol(instance, secret="", identity=token(site, instance))
    assert answer.status == 401
