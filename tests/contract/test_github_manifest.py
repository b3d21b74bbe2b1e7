"""The simulated manifest flow is GitHub's: what it takes, refuses, and hands out once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from github import Auth, GithubIntegration

from tests.github_fixture import GithubSimulator, WebhookSink, webhook_sink

Json = Any


@pytest.fixture
def sink(github: GithubSimulator, judged: None) -> Iterator[WebhookSink]:
    github.post("/settings", local_hooks=True, viewer="ada")
    with webhook_sink() as sink:
        yield sink
    github.post("/settings", local_hooks=False)


def a_manifest(sink: WebhookSink, name: str, **change: Json) -> dict[str, Json]:
    return {
        "name": name,
        "url": "https://cynthus.example",
        "hook_attributes": {"url": sink.url},
        "redirect_url": "http://127.0.0.1:1/setup/callback?kept=1",
        "setup_url": "http://127.0.0.1:1/setup",
        "default_permissions": {"checks": "write", "contents": "read"},
        "default_events": ["push", "check_run"],
        "public": False,
        **change,
    }


def submit(github: GithubSimulator, manifest: Json, path: str = "/settings/apps/new") -> Any:
    form = {"manifest": json.dumps(manifest)}
    return requests.post(f"{github.url}{path}?state=s1", data=form, timeout=60)


def make(github: GithubSimulator, manifest: Json, path: str = "/settings/apps") -> dict[str, str]:
    """Press the button of the review page; return what GitHub leads back with."""
    form = {"manifest": json.dumps(manifest), "state": "s1"}
    answer = requests.post(f"{github.url}{path}", data=form, timeout=60, allow_redirects=False)
    assert answer.status_code == 302, answer.text
    place = answer.headers["location"]
    assert place.startswith("http://127.0.0.1:1/setup/callback?")
    return {name: values[0] for name, values in parse_qs(urlsplit(place).query).items()}


def convert(github: GithubSimulator, code: str) -> requests.Response:
    return requests.post(f"{github.api_url}/app-manifests/{code}/conversions", timeout=60)


def test_an_app_is_made_and_its_keys_are_given_once(
    github: GithubSimulator, sink: WebhookSink
) -> None:
    manifest = a_manifest(sink, "Once")
    assert "Create GitHub App for <b>ada</b>" in submit(github, manifest).text
    back = make(github, manifest)
    assert (back["state"], back["kept"]) == ("s1", "1")
    answer = convert(github, back["code"])
    assert answer.status_code == 201
    keys = answer.json()
    assert (keys["slug"], keys["owner"]["login"]) == ("once", "ada")
    greeting = sink.wait_for("ping")
    assert greeting.signed_with(keys["webhook_secret"])
    assert greeting.payload["hook"]["config"]["url"] == sink.url
    app = GithubIntegration(
        auth=Auth.AppAuth(keys["id"], keys["pem"]), base_url=github.api_url
    ).get_app()
    assert app.permissions == {"metadata": "read", "checks": "write", "contents": "read"}
    assert convert(github, back["code"]).status_code == 404


def test_a_code_is_good_for_an_hour(github: GithubSimulator, sink: WebhookSink) -> None:
    code = make(github, a_manifest(sink, "Late"))["code"]
    github.post("/clock", advance_s=3601)
    try:
        assert convert(github, code).status_code == 404
    finally:
        github.post("/clock", advance_s=-3601)


def test_an_organisation_gets_its_own(github: GithubSimulator, sink: WebhookSink) -> None:
    github.post("/owners", login="acme-apps")
    path = "/organizations/acme-apps/settings/apps"
    back = make(github, a_manifest(sink, "Ours"), path)
    assert convert(github, back["code"]).json()["owner"]["login"] == "acme-apps"
    nowhere = "/organizations/nobody-here/settings/apps/new"
    assert submit(github, a_manifest(sink, "Theirs"), nowhere).status_code == 404


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"url": None}, "&#34;url&#34; wasn&#39;t supplied"),
        ({"hook_attributes": {"active": False}}, "&#34;url&#34; wasn&#39;t supplied"),
        ({"default_events": ["installation"]}, "Default events unsupported: installation"),
        ({"default_events": ["release", "pull_request"]}, "by permissions: pull_request"),
        ({"default_permissions": {"gpus": "write"}}, "resource is not included in the list: gpus"),
        ({"name": "x" * 35}, "Name is too long"),
        ({"name": "GitHub Actions"}, "Name is already taken"),
    ],
)
def test_what_github_refuses_is_refused_in_its_words(
    github: GithubSimulator, sink: WebhookSink, change: Json, words: str
) -> None:
    answer = submit(github, a_manifest(sink, "Refused") | change)
    assert answer.status_code == 422
    assert words in answer.text


def test_a_webhook_on_this_machine_is_refused_as_out_of_reach(
    github: GithubSimulator, sink: WebhookSink
) -> None:
    github.post("/settings", local_hooks=False)
    answer = submit(github, a_manifest(sink, "Local"))
    assert "reachable over the public Internet (127.0.0.1)" in answer.text


def test_a_person_installs_it_and_is_led_on(github: GithubSimulator, sink: WebhookSink) -> None:
    github.post("/owners", login="ada-installs")
    github.post("/repos", owner="ada-installs", name="digits")
    path = "/organizations/ada-installs/settings/apps"
    keys = convert(github, make(github, a_manifest(sink, "Installed"), path)["code"]).json()
    form = {"repo": "digits"}
    answer = requests.post(
        f"{github.url}/apps/{keys['slug']}/installations",
        data=form,
        timeout=60,
        allow_redirects=False,
    )
    assert answer.headers["location"].startswith("http://127.0.0.1:1/setup?installation_id=")
    created = sink.wait_for("installation.created")
    assert [repo["name"] for repo in created.payload["repositories"]] == ["digits"]
