"""python -m webhook_server: serve, keep repositories' secrets, set up storage, refresh prices."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

from cynthus.errors import CynthusError, UserError
from cynthus.frozen import replace
from webhook_server.garbage import imports
from webhook_server.settings import Settings
from webhook_server.settings_reader import read


def main(words: list[str]) -> int:
    """Do what the words say; 0 done, 2 the operator's input is wrong, 3 our fault."""
    args = _parser().parse_args(words)
    try:
        settings = _overridden(read(), args)
        if args.command == "secret":
            return _secret(settings, args)
        if args.command == "setup-storage":
            return _setup_storage(settings, args)
        if args.command == "refresh-prices":
            return _refresh_prices(settings)
        if args.command == "forget-app":
            return _forget_app(settings)
        if args.embedded:
            _embedded(settings, args)
        return _serve(settings, args, words)
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201 - no log is set up yet
        return 2
    except CynthusError as error:
        print(error, file=sys.stderr)  # noqa: T201 - as above
        return 3


def _serve(settings: Settings, args: argparse.Namespace, words: list[str]) -> int:
    # Imported here, since the secrets' commands do without the server.
    with imports():
        from webhook_server.app import serve
    from webhook_server.renewal import begin_anew, inherited

    taken = None if args.listening is None else inherited(args.listening)
    ending = serve(settings, args.role, taken=taken)
    if ending.anew:
        begin_anew(words, ending.listening)
    return ending.code


def _embedded(settings: Settings, args: argparse.Namespace) -> NoReturn:
    with imports():
        from webhook_server.app import serve

    # Unbuffered: a thread that waits in Python's own reader would hold up the end.
    with open(0, "rb", buffering=0, closefd=False) as line:
        code = serve(alone(settings), "all", line).code
    if args.scratch:
        shutil.rmtree(args.scratch, ignore_errors=True)
    # All is stored and all threads are done: Python's own tidying would take half a second, for
    # which a person at a terminal would wait.
    sys.stderr.flush()
    os._exit(code)


_ACTS = {
    "set": "store a secret; its value is read from standard input",
    "list": "print the names, never the values",
    "remove": "forget a secret",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m webhook_server", description=__doc__)
    parser.add_argument("--role", choices=("all", "api", "worker"), default="all")
    parser.add_argument("--host", help="address to listen on (CYNTHUS_HOST)")
    parser.add_argument("--port", type=int, help="port to listen on, 0: any (CYNTHUS_PORT)")
    parser.add_argument(
        "--embedded",
        action="store_true",
        help="live until standard input closes, then cancel every run, wait for its end, and end;"
        " a signal ends at once. No GitHub, this machine only: what `cynthus run` starts",
    )
    parser.add_argument(
        "--scratch", type=Path, metavar="FOLDER", help="with --embedded: remove FOLDER at the end"
    )
    parser.add_argument("--listening", type=int, metavar="FD", help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    secret = commands.add_parser("secret", help="set, list or remove a repository's secrets")
    acts = secret.add_subparsers(dest="act", metavar="ACT", required=True)
    for act, line in _ACTS.items():
        words = acts.add_parser(act, help=line, description=line)
        words.add_argument(
            "--repository-id", type=_repository_id, required=True, help="GitHub's; 0: none"
        )
        if act != "list":
            words.add_argument("name", metavar="NAME")
    storage = commands.add_parser("setup-storage", help="see `cynthus gcp setup-storage`")
    for name in ("--bucket", "--location", "--kms-key"):
        storage.add_argument(name)
    storage.add_argument("--dry-run", action="store_true")
    commands.add_parser("refresh-prices", help="see `cynthus gcp refresh-prices`")
    commands.add_parser("forget-app", help="forget the GitHub App that set-up made, with its keys")
    return parser


def _repository_id(text: str) -> int:
    """Read a repository's number: what is below zero is the server's own, and shown to nobody."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"should be GitHub's number of a repository: {text!r}")
    return int(text)


def _overridden(settings: Settings, args: argparse.Namespace) -> Settings:
    if args.host:
        settings = replace(settings, host=args.host)
    if args.port is not None:
        settings = replace(settings, port=args.port)
    return settings


def alone(settings: Settings) -> Settings:
    """Return the settings of a server that only the program which started it can reach."""
    return replace(settings, host="127.0.0.1", public_url="", github_app_id="", provider="local")


def _setup_storage(settings: Settings, args: argparse.Namespace) -> int:
    """Say what is wrong with the bucket, put it right; 0: it is right, 2: somebody has to act."""
    from webhook_server.stores.bucket_rules import bucket_place, wanted_shape

    place = bucket_place(settings.blob_url, args.bucket, args.location, settings.gcp_places)
    wanted = wanted_shape(place.prefix, settings.blob_days, args.kms_key or settings.gcp_kms_key)
    # Imported late, after what the operator wrote was read: Google's libraries take a second.
    from webhook_server.stores.bucket_setup import look, put_right
    from webhook_server.stores.gcs_blobs import open_client

    client = open_client(settings)
    found = look(client, place, wanted)
    sys.stdout.write("".join(f"{line}\n" for line in found.wrong))
    if found.wrong and args.dry_run:
        return 2
    if found.wrong:
        put_right(client, place, wanted, found)
    sys.stdout.write(f"gs://{place.name}: is {'now ' if found.wrong else ''}as it should be.\n")
    return 0


def _refresh_prices(settings: Settings) -> int:
    """Have every provider that keeps prices read them anew; say how many there are."""
    from webhook_server.ground import clock
    from webhook_server.providers.provider import PriceKeeper
    from webhook_server.providers.registry import Server, open_provider

    # Nothing is lent here: neither the address nor the control plane's id is told to anybody.
    provider = open_provider("gcp", settings, Server(url="", control_plane="prices"))
    if not isinstance(provider, PriceKeeper):
        raise TypeError("the provider gcp keeps prices")
    number = provider.refresh_prices(clock().date())
    sys.stdout.write(f"{number} prices are kept in {settings.state_dir.resolve()}\n")
    return 0


def _forget_app(settings: Settings) -> int:
    """Forget the App that set-up made; 1: there was none. The server must not run meanwhile."""
    from webhook_server.acting import under
    from webhook_server.ground import ground
    from webhook_server.routes.authorities import at_the_keyboard

    with ground(settings, None, alone=True) as found, under(at_the_keyboard("forget-app")):
        app = found.app.forget()
    if app is None:
        return 1
    sys.stdout.write(f"{app.slug} is forgotten here. Delete it on GitHub as well: {app.url}\n")
    return 0


def _secret(settings: Settings, args: argparse.Namespace) -> int:
    from webhook_server.auth.server_key import server_key
    from webhook_server.stores.secret_store import open_secret_store

    state_dir = settings.state_dir.resolve()
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = server_key(settings.server_key, state_dir)
    store = open_secret_store(settings, state_dir, key)
    if args.act == "list":
        sys.stdout.write("".join(f"{name}\n" for name in store.names(args.repository_id)))
        return 0
    if args.act == "remove":
        return 0 if store.remove(args.repository_id, args.name) else 1
    store.set(args.repository_id, args.name, sys.stdin.read().removesuffix("\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
