"""Write docs/catalogue.md from runner_images/catalogue.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from action.catalogue import Entry, read_catalogue, read_programs

PAGE = Path(__file__).parent / "catalogue.md"
HEAD = """\
# The catalogue of runner images

What `image.base` in `cynthus.yaml` may name; `base: python` is the default. Any other image works
too, by its reference: `base: ghcr.io/acme/base@sha256:…`.

This page is generated: change `runner_images/catalogue.yaml`, then run `make docs`.

| name | Python | frameworks | CUDA | oldest driver | architectures |
|---|---|---|---|---|---|
"""
REST = """
The first Python is the default. *CUDA* is the version of the libraries inside; where there are
none, packages bring their own. *Oldest driver* is the NVIDIA driver that the instance needs at
least; with an older one the run is refused before it costs anything.

## What ours have in common
- The command runs as the plain user `workload` (1000), in `/workspace`; it may write there, in
  `/home/workload` and in `/tmp`. No file runs with another user's rights.
- `tini`, CA certificates, `pip`, and the two libraries that most wheels link to: libgomp and
  libstdc++.
- Locale `C.UTF-8`, output unbuffered.
- Frameworks come from lock files with hashes (`runner_images/*/requirements.lock`); the environment
  of a run adds packages to them and does not install them again.
- Labels: `dev.cynthus.python`, `.cuda`, `.driver`, `.frameworks`, and those of the
  [OCI](https://github.com/opencontainers/image-spec/blob/main/annotations.md).

## Where they come from
`.github/workflows/images.yml` builds each from a base pinned by digest, tries it by running it,
scans it (a critical weakness that has a fix stops it), attaches SBOM and provenance, signs it
without a stored key, and proposes its digest for the catalogue as a pull request. Anybody can check
the signature:

    cosign verify IMAGE@DIGEST \\
      --certificate-oidc-issuer https://token.actions.githubusercontent.com \\
      --certificate-identity-regexp '^https://github.com/OWNER/REPOSITORY/.github/workflows/images.yml@'

Until an image of ours is in the catalogue, the one in this table is pulled:

| name | pulled | where no registry answers |
|---|---|---|
"""
TAIL = """
Without a registry the base is made of Debian packages (CPU only, the Python of that Debian).

## Building them yourself
    make images                                           # all, offline, for the CPU; tries each
    python -m scripts.images build pytorch                # one, as it is published
    python -m scripts.images build cuda --base IMAGE --tag TAG
    python -m scripts.images smoke pytorch --tag TAG      # try one that is there
"""


def catalogue_page() -> str:
    """Return the whole page."""
    images = read_catalogue()
    rows = "".join(_row(entry) for entry in images.values())
    return HEAD + rows + _notes({**images, **read_programs()}) + REST + _pulled(images) + TAIL


def _row(entry: Entry) -> str:
    frameworks = ", ".join(f"{name} {version}" for name, version in entry.frameworks.items())
    cells = (
        f"`{entry.name}`",
        ", ".join(entry.python),
        frameworks or "none",
        entry.cuda or "none",
        entry.minimum_driver or "none",
        ", ".join(entry.architectures),
    )
    return f"| {' | '.join(cells)} |\n"


def _notes(entries: Mapping[str, Entry]) -> str:
    return "\n" + "".join(f"- `{entry.name}`: {entry.notes}\n" for entry in entries.values())


def _pulled(entries: Mapping[str, Entry]) -> str:
    return "".join(
        f"| `{entry.name}` | `{entry.at()}` | {_offline(entry)} |\n" for entry in entries.values()
    )


def _offline(entry: Entry) -> str:
    if entry.offline_packages is None:
        return "none"
    added = ", ".join(f"`{package}`" for package in entry.offline_packages)
    return f"Debian with Python, then {added}" if added else "Debian with Python"


if __name__ == "__main__":
    PAGE.write_text(catalogue_page(), "utf-8")
