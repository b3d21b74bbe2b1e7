"""`cynthus gcp setup-storage`: let the server's program set the bucket up, with its settings."""

from __future__ import annotations

import argparse

from cynthus.server_program import become_server


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Name what the server's program takes beside its settings."""
    parser.add_argument("--bucket", metavar="NAME", help="default: the one of CYNTHUS_BLOB_URL")
    parser.add_argument(
        "--location",
        metavar="REGION",
        help="where to make it; default: the first region of CYNTHUS_GCP_PLACES",
    )
    parser.add_argument(
        "--kms-key",
        metavar="KEY",
        help="encrypt with projects/P/locations/L/keyRings/R/cryptoKeys/K of your own; default:"
        " CYNTHUS_GCP_KMS_KEY",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="change nothing; end with 2 when something would have to be changed",
    )


def run(args: argparse.Namespace) -> int:
    """Become the server's program: its exit code, 0, 2 or 3, is ours."""
    words = ["setup-storage"]
    for name in ("bucket", "location", "kms_key"):
        value = getattr(args, name)
        words += [f"--{name.replace('_', '-')}={value}"] if value else []
    words += ["--dry-run"] if args.dry_run else []
    become_server("gcp setup-storage", words, extras="server,gcp")
