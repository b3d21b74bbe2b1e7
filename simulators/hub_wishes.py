"""What a test wishes a file to be, read into contents.

{"text": "…"}   {"base64": "…"}   {"size": 1000, "seed": "a"}
{"zip": {PATH: WISH}}   {"tar": {PATH: WISH}}
{"hostile": "traversal", "format": "zip"}
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulators.hub_archives import tar_of, zip_of
from simulators.hub_content import Content, Seed
from simulators.hub_hostile import TARS, ZIPS, hostile_tar, hostile_zip
from simulators.hub_http import Refusal


class Wishes:
    """Makes contents; archives are written into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def files(self, wish: Mapping[str, Any]) -> dict[str, Content]:
        """Return the files of `files` ({PATH: WISH}) and of `many`, by path.

        `many` is {"count", "size", "seed", "path"}: `path` has a place for the number, `{:05d}`.

        Raises: Refusal (400).
        """
        made = {path: self.content(one) for path, one in wish.get("files", {}).items()}
        many = wish.get("many")
        if many:
            form = many.get("path", "part-{:05d}.bin")
            for number in range(int(many["count"])):
                seed = Seed(text=f"{many.get('seed', '')}/{number}", size=int(many["size"]))
                made[form.format(number)] = Content(seed)
        return made

    def content(self, wish: Any) -> Content:
        """Return one content.

        Raises: Refusal (400).
        """
        match wish:
            case str(text) | {"text": str(text)}:
                return Content(text.encode())
            case {"base64": str(text)}:
                return Content(base64.b64decode(text))
            case {"size": int(size)}:
                return Content(Seed(text=str(wish.get("seed", "")), size=size))
            case {"zip": dict(files)}:
                return self.archive("zip", self.files({"files": files}), json.dumps(wish))
            case {"tar": dict(files)}:
                return self.archive("tar", self.files({"files": files}), json.dumps(wish))
            case {"hostile": str(kind)} if wish.get("format", "zip") == "zip" and kind in ZIPS:
                return Content(hostile_zip(kind))
            case {"hostile": str(kind)} if wish.get("format") == "tar" and kind in TARS:
                return Content(hostile_tar(kind))
            case _:
                raise Refusal(400, {"error": f"no such content: {json.dumps(wish)[:200]}"})

    def archive(self, form: str, files: Mapping[str, Content], name: str) -> Content:
        """Return an archive of files; the same name makes it once."""
        end = {"zip": "zip", "tar": "tar.gz"}[form]
        path = self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.{end}"
        if path.is_file():
            return Content(path)
        return zip_of(files, path) if form == "zip" else tar_of(files, path)
