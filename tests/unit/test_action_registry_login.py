"""Where a login is found, in the order in which Docker looks."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from action.inputs import Login, Secret
from action.programs import Answer
from action.registry.login import credentials_for
from action.registry.tokens import Credentials


def write(folder: Path, **config: object) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def auth(pair: str) -> dict[str, str]:
    return {"auth": base64.b64encode(pair.encode()).decode()}


def nobody(program: str, server: str) -> Answer:
    raise AssertionError(f"{program} was asked for {server}")


def keeper(**known: str) -> object:
    def ask(program: str, server: str) -> Answer:
        secret = known.get(program.removeprefix("docker-credential-"))
        if secret is None or server != "ghcr.io":
            return Answer(1, "credentials not found in native keychain")
        return Answer(0, secret)

    return ask


def test_the_inputs_come_first(tmp_path: Path) -> None:
    config = write(tmp_path, auths={"ghcr.io": auth("other:x")})
    login = Login(username="robot", password=Secret("pw"))
    found = credentials_for("ghcr.io", login, config, ask=nobody)
    assert found == Credentials(username="robot", password="pw")


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (auth("robot:p:w"), Credentials(username="robot", password="p:w")),
        (auth("robot:pw\0\0"), Credentials(username="robot", password="pw")),
        ({"username": "robot", "password": "pw"}, Credentials(username="robot", password="pw")),
        (
            {**auth("00000000:"), "identitytoken": "tok"},
            Credentials(username="00000000", password="", identity_token="tok"),
        ),
        ({}, None),
        ({"auth": "!"}, None),
        ({"auth": 5}, None),
        ({"auth": base64.b64encode(b"\xff\xfe:x").decode()}, None),
        ("text", None),
    ],
)
def test_a_login_that_docker_keeps(
    tmp_path: Path, entry: object, found: Credentials | None
) -> None:
    config = write(tmp_path, auths={"ghcr.io": entry})
    assert credentials_for("ghcr.io", None, config, ask=nobody) == found
    assert credentials_for("ghcr.io.evil.example", None, config, ask=nobody) is None


@pytest.mark.parametrize(
    "key", ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"]
)
def test_docker_hub_has_many_names(tmp_path: Path, key: str) -> None:
    config = write(tmp_path, auths={key: auth("robot:pw")})
    assert credentials_for("registry-1.docker.io", None, config, ask=nobody) is not None


def test_a_helper_is_asked_for_the_host_that_it_serves(tmp_path: Path) -> None:
    kept = json.dumps({"ServerURL": "ghcr.io", "Username": "robot", "Secret": "pw"})
    token = json.dumps({"ServerURL": "ghcr.io", "Username": "<token>", "Secret": "tok"})
    one = write(tmp_path, credHelpers={"ghcr.io": "gh", "other": "x"}, credsStore="desktop")
    ask = keeper(gh=kept, desktop=token)
    assert credentials_for("ghcr.io", None, one, ask=ask) == Credentials(
        username="robot", password="pw"
    )
    two = write(tmp_path, credsStore="desktop")
    found = credentials_for("ghcr.io", None, two, ask=ask)
    assert found is not None
    assert found.identity_token == "tok"


@pytest.mark.parametrize("said", ["", "no JSON", "[]", '{"Username": 5, "Secret": 6}', "{}"])
def test_a_helper_that_says_nothing_useful_is_as_none(tmp_path: Path, said: str) -> None:
    config = write(tmp_path, credsStore="desktop")
    assert credentials_for("ghcr.io", None, config, ask=keeper(desktop=said)) is None


@pytest.mark.parametrize("helper", ["../../bin/sh", "a b", "-x", "", 5])
def test_a_helper_with_an_odd_name_is_not_started(tmp_path: Path, helper: object) -> None:
    config = write(tmp_path, credHelpers={"ghcr.io": helper}, credsStore=helper)
    assert credentials_for("ghcr.io", None, config, ask=nobody) is None


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"auths": 5, "credHelpers": []}'])
def test_a_broken_configuration_is_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert credentials_for("ghcr.io", None, tmp_path, ask=nobody) is None
    assert credentials_for("ghcr.io", None, tmp_path / "none", ask=nobody) is None


def test_a_real_helper_is_run_with_the_server_on_its_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker-credential-own"
    program.write_text(
        '#!/bin/sh\nread host\necho "{\\"Username\\": \\"$host\\", \\"Secret\\": \\"$1\\"}"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    config = write(tmp_path, credHelpers={"ghcr.io": "own"})
    found = credentials_for("ghcr.io", None, config)
    assert found == Credentials(username="ghcr.io", password="get")
