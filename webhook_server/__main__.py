"""python -m webhook_server: serve, or keep the secrets of repositories."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from cynthus.errors import CynthusError, UserError
from webhook_server import settings as settings_module
from webhook_server.settings import Settings


def main(words: list[str]) -> int:
    """Do what the words say; 0 done, 2 the operator's input is wrong, 3 our fault."""
    args = _parser().parse_args(words)
    try:
        settings = _overridden(settings_module.read(), args)
        if args.command == "secret":
            return _secret(settings, args)
        from webhook_server.app import serve

        return serve(settings, args.role)
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201 - no log is set up yet
        return 2
    except CynthusError as error:
        print(error, file=sys.stderr)  # noqa: T201 - as above
        return 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m webhook_server", description=__doc__)
    parser.add_argument("--role", choices=("all", "api", "worker"), default="all")
    parser.add_argument("--host", help="address to listen on (CYNTHUS_HOST)")
    parser.add_argument("--port", type=int, help="port to listen on, 0: any (CYNTHUS_PORT)")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    secret = commands.add_parser("secret", help="set, list or remove a repository's secrets")
    secret.add_argument("act", choices=("set", "list", "remove"))
    secret.add_argument("--repository-id", type=int, required=True, help="GitHub's number; 0: none")
    secret.add_argument(
        "name", nargs="?", metavar="NAME", help="the value of `set` is standard input"
    )
    return parser


def _overridden(settings: Settings, args: argparse.Namespace) -> Settings:
    if args.host:
        settings = replace(settings, host=args.host)
    if args.port is not None:
        settings = replace(settings, port=args.port)
    return settings


def _secret(settings: Settings, args: argparse.Namespace) -> int:
    from webhook_server.auth.server_key import server_key
    from webhook_server.stores.secret_store import open_secret_store

    state_dir = settings.state_dir.resolve()
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = server_key(settings.server_key, state_dir)
    store = open_secret_store(settings.secrets_url, state_dir, key)
    if args.act == "list":
        sys.stdout.write("".join(f"{name}\n" for name in store.names(args.repository_id)))
        return 0
    if not args.name:
        raise UserError(f"secret {args.act}: should name the secret, found none. Write its name.")
    if args.act == "remove":
        return 0 if store.remove(args.repository_id, args.name) else 1
    store.set(args.repository_id, args.name, sys.stdin.read().removesuffix("\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
