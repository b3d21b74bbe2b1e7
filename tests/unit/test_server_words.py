"""The server's own words beside `serve`: what set-up made is forgotten, and shown to nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import APP_KEYS, STORED_APP
from webhook_server.__main__ import main
from webhook_server.ground import ground
from webhook_server.settings_reader import read


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder whose server was set up."""
    folder = tmp_path / "state"
    monkeypatch.setenv("CYNTHUS_STATE_DIR", str(folder))
    with ground(read({"CYNTHUS_STATE_DIR": str(folder)}), None) as found:
        found.app.put(STORED_APP, APP_KEYS)
    return folder


def test_a_server_that_was_set_up_serves_its_app_unless_it_is_alone(state_dir: Path) -> None:
    settings = read({"CYNTHUS_STATE_DIR": str(state_dir)})
    with ground(settings, None) as found:
        assert found.settings.github_app_id == STORED_APP.id
    with ground(settings, None, alone=True) as found:
        assert not found.settings.github_configured


def test_an_app_is_forgotten_with_its_keys(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["forget-app"]) == 0
    assert "Delete it on GitHub as well" in capsys.readouterr().out
    assert list((state_dir / "secrets" / "-1").iterdir()) == []
    assert main(["forget-app"]) == 1


def test_nobody_lists_the_servers_own_secrets(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["secret", "list", "--repository-id", "-1"])
    assert ended.value.code == 2
    assert main(["secret", "list", "--repository-id", "0"]) == 0
    assert "APP" not in capsys.readouterr().out
