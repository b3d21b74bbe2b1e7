"""Find out where this machine looks packages up: pip's settings in uv's words, and back.

uv reads its own settings and none of pip's, on purpose:
https://docs.astral.sh/uv/pip/compatibility/#configuration-files-and-environment-variables
Which of pip's count, and in which order: https://pip.pypa.io/en/stable/topics/configuration/
"""

from __future__ import annotations

import configparser
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

# What uv's own variables already say is never overruled:
# https://docs.astral.sh/uv/reference/environment/
_UVS_NAMES = {
    "index-url": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "extra-index-url": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "find-links": ("UV_FIND_LINKS",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "cert": ("SSL_CERT_FILE",),
    "proxy": ("ALL_PROXY", "HTTPS_PROXY", "all_proxy", "https_proxy"),
    "timeout": ("UV_HTTP_TIMEOUT",),
    "default-timeout": ("UV_HTTP_TIMEOUT",),
}
_LISTS = {"extra-index-url": " ", "find-links": ",", "trusted-host": " "}  # uv's separators
_SECTIONS = ("global", "install", "download", "wheel")  # a command's own win over the global
_YES = {"1", "true", "yes", "on", "y", "t"}  # as pip reads a flag


@dataclass(frozen=True, kw_only=True)
class Indexes:
    """Where uv shall look; addresses may hold credentials, so they are never shown."""

    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    options: tuple[str, ...] = ()


def find(environ: Mapping[str, str] | None = None) -> Indexes:
    """Return this machine's settings."""
    env = os.environ if environ is None else environ
    texts = (path.read_text("utf-8", "replace") for path in _files(env) if path.is_file())
    return translate(texts, env)


def _files(env: Mapping[str, str]) -> tuple[Path, ...]:
    """Return where pip's files may be, the later one winning."""
    own = env.get("PIP_CONFIG_FILE")
    if own == os.devnull:
        return ()
    home = Path(env.get("HOME") or "/")
    folders = (env.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    machine = (*(Path(folder) / "pip" / "pip.conf" for folder in folders), Path("/etc/pip.conf"))
    config = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    user = (home / ".pip" / "pip.conf", config / "pip" / "pip.conf")
    site = Path(sys.prefix) / "pip.conf"
    if own and Path(own).exists():
        return (*machine, site, Path(own))
    return (*machine, *user, site)


def translate(texts: Iterable[str], environ: Mapping[str, str]) -> Indexes:
    """Put pip's files and variables into uv's words. Pure; a file that is none says nothing."""
    settings: dict[str, str] = {}
    for text in texts:
        settings |= _settings(text)
    for name in ("no-index", *_UVS_NAMES):
        if value := environ.get("PIP_" + name.upper().replace("-", "_")):
            settings[name] = value
    found: dict[str, str] = {}
    for name, (first, *others) in _UVS_NAMES.items():
        taken = any(environ.get(known) for known in (first, *others))
        if (value := settings.get(name)) and not taken:
            found[first] = _LISTS[name].join(value.split()) if name in _LISTS else value
    offline = settings.get("no-index", "").lower() in _YES
    return Indexes(environ=found, options=("--no-index",) if offline else ())


_PLACES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")


def addresses(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the web addresses that packages come from, without what proves who asks; for keys.

    The same wishes mean other packages elsewhere. Folders of this machine are left out: another
    runner has them under other names.
    """
    env = os.environ if environ is None else environ
    known = {**find(env).environ, **env}
    values = (value for name in _PLACES for value in re.split(r"[\s,]+", known.get(name, "")))
    named = (_NAMED.sub("", value) for value in values)
    return tuple(_bare(value) for value in named if value.startswith(("https:", "http:")))


def _bare(address: str) -> str:
    """Return an address without login and query: tokens in them change from job to job."""
    return re.sub(r"^(\w+://)(?:[^/\s]*@)?([^?#]*).*$", r"\1\2", address)


_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
_OWN_PASSWORD = re.compile(r"UV_INDEX_\w+_PASSWORD")
_OWN_LOGIN = re.compile(r"UV_INDEX_\w+_(?:PASSWORD|USERNAME)")
# Up to the first `@`, which is right, and to the last: who forgot to escape a `/` in a password has
# an address that no tool can read, and all of them quote it in full.
_LOGINS = (re.compile(r"^[^:]*://([^@]*)@"), re.compile(r"^[^:]*://(.*)@"))
SHORTEST_SECRET = 6  # shorter ones are words, and hiding them would hide half of what is told


def secrets(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return what proves who asks an index or a proxy, as written and decoded: never to be shown.

    https://docs.astral.sh/uv/concepts/authentication/http/
    """
    env = os.environ if environ is None else environ
    known = {**find(env).environ, **env}
    names = (*_PLACES, *_PIPS_NAMES, "PIP_PROXY", *_PROXIES, *map(str.lower, _PROXIES))
    values = (value for name in names for value in re.split(r"[\s,]+", known.get(name, "")))
    found = [text for value in values for text in _logins(_NAMED.sub("", value))]
    found += [value for name, value in env.items() if _OWN_PASSWORD.fullmatch(name)]
    both = dict.fromkeys(text for value in found for text in (value, unquote(value)))
    return tuple(text for text in both if len(text) >= SHORTEST_SECRET)


def _logins(address: str) -> list[str]:
    """Return the password in an address, or a user's name that is a token."""
    logins = [match[1] for pattern in _LOGINS if (match := pattern.match(address))]
    pairs = [login.partition(":") for login in logins]
    return [word or user for user, _, word in pairs if word or "/" not in user]


_PIPS_NAMES = {
    "PIP_INDEX_URL": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "PIP_EXTRA_INDEX_URL": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "PIP_FIND_LINKS": ("UV_FIND_LINKS",),
    "PIP_TRUSTED_HOST": ("UV_INSECURE_HOST",),
}
_NAMED = re.compile(r"^[A-Za-z0-9_.-]+=(?=[a-z]+:)")  # uv's indexes may have a name: `corp=https:…`


def for_pip(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Put uv's variables into pip's words: what uv has locked, pip fetches from the same places.

    Pure. What pip's own variables say is never overruled.
    """
    found = {}
    for name, known in _PIPS_NAMES.items():
        values = [value for one in known for value in re.split(r"[\s,]+", environ.get(one, ""))]
        listed = [_NAMED.sub("", value) for value in values if value]
        if listed and not environ.get(name):
            found[name] = listed[0] if name == "PIP_INDEX_URL" else " ".join(listed)
    return found


_NO_LOGIN = {
    "NETRC": os.devnull,  # pip and uv read it: https://pip.pypa.io/en/stable/topics/authentication/
    "PIP_KEYRING_PROVIDER": "disabled",
    "UV_KEYRING_PROVIDER": "disabled",
}


def without_logins(environ: Mapping[str, str]) -> Mapping[str, str | None]:
    """Return what to set, and with None to drop, so that every index is asked as nobody.

    Addresses without a login stay: a mirror is no secret. A file of pip's that holds one is left
    out as a whole.
    """
    change: dict[str, str | None] = dict(_NO_LOGIN)
    for name, value in environ.items():
        places = re.split(r"[\s,]+", value) if name in {*_PLACES, *_PIPS_NAMES} else []
        if any(_logins(_NAMED.sub("", place)) for place in places) or _OWN_LOGIN.fullmatch(name):
            change[name] = None
    texts = [path.read_text("utf-8", "replace") for path in _files(environ) if path.is_file()]
    written = " ".join(value for text in texts for value in _settings(text).values())
    if any(_logins(place) for place in written.split()):
        change["PIP_CONFIG_FILE"] = os.devnull
    return change


def _settings(text: str) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text.removeprefix("\ufeff"))
    except configparser.Error:
        return {}
    found: dict[str, str] = {}
    for section in _SECTIONS:
        if parser.has_section(section):
            found |= {name.replace("_", "-"): value for name, value in parser.items(section)}
    return found
