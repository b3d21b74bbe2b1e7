"""Say which version of Cynthus this is."""

from __future__ import annotations


def own_version() -> str:
    """Return the installed version, or `(a checkout)`."""
    # Late: importlib.metadata is slow to import, and the command line needs it for one option.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("cynthus")
    except PackageNotFoundError:
        return "(a checkout)"
