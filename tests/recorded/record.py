"""Write this version's histories anew: `python -m tests.recorded.record`, once for a release."""

from __future__ import annotations

import sys

from cynthus.version import own_version
from tests.recorded.history import FOLDER, recorded, written
from tests.recorded.lives import LIVES


def main() -> None:
    """Play every life, and write each history into the folder of this version."""
    folder = FOLDER / own_version()
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.json"):
        old.unlink()
    for name, life in LIVES.items():
        (folder / f"{name}.json").write_text(written(recorded(life)), "utf-8")
    sys.stdout.write(f"{len(LIVES)} histories are in {folder}\n")


if __name__ == "__main__":
    main()
