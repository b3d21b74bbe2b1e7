"""Pip's settings in uv's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from action.resolving import indexes

ONE = "https://one.example/simple"

CONFIG = """\
[global]
index-url = https://ada:canary@index.example/simple
extra-index-url =
    https://one.example/simple
    https://two.example/simple
no-index = false
[install]
find-links = /a /b
[freeze]
timeout = 1
"""


def test_pips_files_and_variables_become_uvs() -> None:
    found = indexes.translate([CONFIG], {"PIP_CERT": "/ca.crt", "PIP_NO_INDEX": "1"})
    assert found.environ == {
        "UV_DEFAULT_INDEX": "https://ada:canary@index.example/simple",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_FIND_LINKS": "/a,/b",
        "SSL_CERT_FILE": "/ca.crt",
    }
    assert found.options == ("--no-index",)
    assert "canary" not in repr(found)


def test_uvs_own_settings_are_never_overruled() -> None:
    taken = {"UV_INDEX_URL": "https://mine.example", "UV_INDEX": "https://more.example"}
    assert indexes.translate([CONFIG], taken).environ == {"UV_FIND_LINKS": "/a,/b"}


def test_the_later_file_wins_and_a_broken_one_says_nothing(tmp_path: Path) -> None:
    later = "[global]\nindex-url = https://later.example\n"
    found = indexes.translate([CONFIG, "no section", later], {})
    assert found.environ["UV_DEFAULT_INDEX"] == "https://later.example"


def test_files_are_found_where_pip_finds_them(tmp_path: Path) -> None:
    user = tmp_path / ".config" / "pip" / "pip.conf"
    user.parent.mkdir(parents=True)
    user.write_text("[global]\nindex-url = https://user.example\n")
    env = {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path / "none")}
    assert indexes.find(env).environ["UV_DEFAULT_INDEX"] == "https://user.example"
    own = tmp_path / "own.conf"
    own.write_text("[global]\nindex-url = https://own.example\n")
    named = indexes.find({**env, "PIP_CONFIG_FILE": str(own)})
    assert named.environ["UV_DEFAULT_INDEX"] == "https://own.example"
    assert indexes.find({**env, "PIP_CONFIG_FILE": "/dev/null"}).environ == {}


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({}, ()),
        ({"UV_INDEX": "corp=https://ada:canary@one.example/simple file:///here /here"}, (ONE,)),
        ({"PIP_INDEX_URL": "https://canary@one.example/simple?token=canary"}, (ONE,)),
        ({"UV_FIND_LINKS": "/here,https://two.example/a"}, ("https://two.example/a",)),
        (
            {"UV_DEFAULT_INDEX": ONE, "PIP_EXTRA_INDEX_URL": "http://a:b@c@two.example/"},
            (ONE, "http://two.example/"),
        ),
        ({"UV_INDEX_URL": ONE, "PIP_INDEX_URL": "https://overruled.example"}, (ONE,)),
    ],
)
def test_where_packages_come_from_is_known_without_who_asks(
    more: dict[str, str], found: tuple[str, ...]
) -> None:
    assert indexes.addresses({"PIP_CONFIG_FILE": "/dev/null", **more}) == found


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({"UV_INDEX": "corp=https://ada:c%2Fanary@one.example/simple"}, ("c%2Fanary", "c/anary")),
        ({"PIP_INDEX_URL": "https://a-long-token@one.example"}, ("a-long-token",)),
        # Not escaped: pip and uv find no host in it, and quote all of it.
        ({"UV_DEFAULT_INDEX": "https://ada:can/ary@one.example"}, ("can/ary",)),
        ({"UV_DEFAULT_INDEX": "https://ada:canary@ry@one.example"}, ("canary", "canary@ry")),
        ({"UV_INDEX_CORP_PASSWORD": "canary"}, ("canary",)),
        ({"https_proxy": "http://ada:canary@proxy.example:3128"}, ("canary",)),
        ({"UV_INDEX": "https://git@one.example https://ada:x@one.example"}, ()),
        ({"UV_INDEX": "https://one.example/feed@Local"}, ()),
    ],
)
def test_what_proves_who_asks_is_known_so_that_it_can_be_hidden(
    more: dict[str, str], found: tuple[str, ...]
) -> None:
    assert indexes.secrets({"PIP_CONFIG_FILE": "/dev/null", **more}) == found


def test_a_password_in_pips_own_file_is_known(tmp_path: Path) -> None:
    own = tmp_path / "own.conf"
    own.write_text(CONFIG)
    assert indexes.secrets({"PIP_CONFIG_FILE": str(own)}) == ("canary",)
