"""The metadata server's answers, as Google documents them."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from simulators.gcp_metadata import Identity, Question, Reply, Values, reply

FLAVOR = {"metadata-flavor": "Google"}
ACCOUNT = "run@p.iam.gserviceaccount.com"


def some_values(**instance: Any) -> Values:
    account = {"email": ACCOUNT, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}
    tree = {
        "instance": {
            "id": 42,
            "machine-type": "projects/7/machineTypes/g2-standard-4",
            "preempted": "FALSE",
            "attributes": {"user-data": "#cloud-config", "enable-guest-attributes": "TRUE"},
            "network-interfaces": [{"ip": "10.128.0.2", "access-configs": []}],
            "service-accounts": {"default": account, ACCOUNT: account},
            "virtual-clock": {"drift-token": "0"},
            **instance,
        },
        "project": {"project-id": "p", "attributes": {}},
    }
    return Values(tree)


IDENTITY = Identity(
    sign=lambda audience, form: f"signed {audience} {form}",
    token=lambda: {"access_token": "ya29", "expires_in": 3599, "token_type": "Bearer"},
)


def ask(path: str, values: Values | None = None, **more: Any) -> Reply:
    path, _, query = path.partition("?")
    question = {
        "method": "GET",
        "path": path if path.startswith("/") else f"/computeMetadata/v1/{path}",
        "query": dict(pair.split("=") for pair in query.split("&") if pair),
        "headers": FLAVOR,
    }
    return reply(values or some_values(), IDENTITY, Question(**{**question, **more}))


def test_only_a_request_that_cannot_come_from_a_browser_or_proxy_is_answered() -> None:
    assert ask("instance/id", headers={}).status == 403
    assert ask("instance/id", headers={"metadata-flavor": "google"}).status == 403
    forwarded = {**FLAVOR, "x-forwarded-for": "10.0.0.1"}
    assert ask("instance/id", headers=forwarded).status == 403
    assert ask("/", headers={}).body == "0.1/\ncomputeMetadata/\n"
    assert ask("instance/id", method="POST").status == 405
    assert ask("/computeMetadata/v2/instance/id").status == 404
    assert ask("/computeMetadata/v1x").status == 404


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("instance/id", "42", "application/text"),
        ("instance/id?alt=json", "42", "application/json"),
        ("instance/preempted", "FALSE", "application/text"),
        ("instance/preempted?alt=json", '"FALSE"', "application/json"),
        ("instance/attributes/user-data", "#cloud-config", "application/text"),
        ("instance/network-interfaces/0/ip", "10.128.0.2", "application/text"),
        ("", "instance/\nproject/\n", "application/text"),
        ("instance/network-interfaces/", "0/\n", "application/text"),
        ("instance/attributes/", "enable-guest-attributes\nuser-data\n", "application/text"),
        ("instance/virtual-clock/?recursive=true", '{"driftToken":"0"}', "application/json"),
        ("project/?recursive=true&alt=text", "project-id p\n", "application/text"),
    ],
)
def test_a_value_a_folder_and_the_forms_of_both(path: str, body: str, kind: str) -> None:
    answer = ask(path)
    assert (answer.status, answer.body, answer.kind) == (200, body, kind)


def test_json_says_names_of_google_in_camel_case_and_own_names_as_they_are() -> None:
    instance = json.loads(ask("instance/?recursive=true").body)
    assert instance["machineType"] == "projects/7/machineTypes/g2-standard-4"
    assert instance["networkInterfaces"] == [{"ip": "10.128.0.2", "accessConfigs": []}]
    assert instance["attributes"]["user-data"] == "#cloud-config"
    assert ACCOUNT in instance["serviceAccounts"]
    assert "user-data" in json.loads(ask("instance/attributes/?recursive=true").body)


def test_a_folder_without_a_slash_is_sent_on_and_what_is_not_there_is_not_found() -> None:
    answer = ask("instance/attributes")
    assert (answer.status, answer.location) == (301, "/computeMetadata/v1/instance/attributes/")
    for path in ("instance/nothing", "instance/network-interfaces/1/ip", "instance/id/more"):
        assert ask(path).status == 404


def test_tokens_are_made_for_the_account() -> None:
    for account in ("default", ACCOUNT):
        place = f"instance/service-accounts/{account}"
        assert json.loads(ask(f"{place}/token?scopes=x").body)["access_token"] == "ya29"
        assert ask(f"{place}/identity?audience=a").body == "signed a standard"
        assert ask(f"{place}/identity?audience=a&format=full").body == "signed a full"
    assert ask("instance/service-accounts/default/identity").status == 400
    assert ask("instance/service-accounts/default/identity?audience=a&format=x").status == 400
    assert ask("instance/service-accounts/other/token").status == 404
    without = some_values(**{"service-accounts": {}})
    assert ask("instance/service-accounts/default/token", without).status == 404
    assert "ya29" not in ask("?recursive=true").body


def test_who_waits_for_a_change_hears_of_it_and_nobody_else() -> None:
    values = some_values()
    etag = ask("instance/preempted", values).etag
    assert ask("instance/preempted?wait_for_change=true&timeout_sec=0", values).body == "FALSE"
    answers: list[Reply] = []

    def wait() -> None:
        path = f"instance/preempted?wait_for_change=true&last_etag={etag}"
        answers.append(ask(path, values))

    waiter = threading.Thread(target=wait)
    waiter.start()
    values.set("instance/attributes/other", "x")
    waiter.join(0.05)
    assert waiter.is_alive()
    values.set("instance/preempted", "TRUE")
    waiter.join()
    assert answers[0].body == "TRUE"
    assert answers[0].etag != etag
    late = f"instance/preempted?wait_for_change=true&last_etag={etag}"
    assert ask(late, values).body == "TRUE"  # it changed before: no wait
    values.close()
    assert ask("instance/preempted?wait_for_change=true", values).body == "TRUE"  # switched off


def test_values_are_set_in_lists_and_removed() -> None:
    values = some_values()
    values.set("instance/network-interfaces/0/ip", "10.128.0.9")
    assert ask("instance/network-interfaces/0/ip", values).body == "10.128.0.9"
    values.set("instance/attributes/user-data", None)
    assert ask("instance/attributes/user-data", values).status == 404
    values.set("instance/new/deep", 1)
    assert ask("instance/new/deep", values).body == "1"


def test_guest_attributes_are_written_where_they_are_switched_on() -> None:
    values = some_values()
    path = "instance/guest-attributes/cynthus/mark"
    assert ask(path, values).status == 404
    assert ask(path, values, method="PUT", body=b"booted").status == 200
    assert ask(path, values).body == "booted"
    assert ask(path, values, method="DELETE").status == 200
    assert ask(path, values).status == 404
    assert ask("instance/guest-attributes/cynthus", values, method="PUT").status == 400
    assert ask(path, values, method="PUT", body=b"x" * (256 * 1024 + 1)).status == 413
    assert ask(path, some_values(attributes={}), method="PUT", body=b"x").status == 403
