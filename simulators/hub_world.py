"""One simulated hub: which part of it answers a request."""

from __future__ import annotations

import re
from pathlib import Path

from simulators.hub_control import Clock, Control, Seen, file_endpoints
from simulators.hub_faults import Fault, Faults
from simulators.hub_files import PlainFiles
from simulators.hub_hf_api import Api
from simulators.hub_hf_control import Control as HfControl
from simulators.hub_hf_doors import Doors
from simulators.hub_hf_resolve import Files
from simulators.hub_hf_state import Kind, World
from simulators.hub_http import Answer, Refusal, Request, unknown
from simulators.hub_kaggle import Kaggle
from simulators.hub_kaggle_control import Control as KaggleControl
from simulators.hub_kaggle_state import World as KaggleWorld
from simulators.hub_limits import WINDOW_S, Bucket, Limits, limit_headers, too_many
from simulators.hub_storage import Storage
from simulators.hub_wishes import Wishes

_LISTING = re.compile(r"/api/(?P<kind>models|datasets)/(?P<path>.+)")
_CACHED = re.compile(r"/api/resolve-cache/(?P<kind>models|datasets)/.+")
_RESOLVE = re.compile(r"/(?:(?P<kind>datasets)/)?(?P<name>[^/]+(?:/[^/]+)?)/resolve/.+")


class Hub:
    """Hugging Face, Kaggle, a storage and a plain host of files."""

    def __init__(self, folder: Path) -> None:
        archives = folder / "archives"
        archives.mkdir(parents=True, exist_ok=True)
        self.clock, self.faults, self.seen = Clock(), Faults(), Seen()
        self.limits = Limits(self.clock.now)
        self.storage = Storage(self.clock.now)
        self.plain = PlainFiles()
        wishes, world = Wishes(archives), World()
        self._doors = Doors(world)
        self.api, self._files = Api(self._doors), Files(self._doors, self.storage)
        self._control = Control(
            folder / "journal.jsonl", self.clock, self.faults, self.limits, self.seen
        )
        kaggle = KaggleWorld()
        self._kaggle = Kaggle(kaggle, self.storage, wishes)
        self._control.add("hf/", HfControl(world, wishes).endpoints)
        self._control.add("kaggle/", KaggleControl(kaggle, wishes).endpoints)
        self._control.add("", file_endpoints(self.plain, wishes))
        self._control.again()

    def answer(self, request: Request, faults: dict[str, Fault]) -> Answer:
        """Answer one request; what it made is on the disk when this returns."""
        try:
            _strike(faults, request)
            return self._route(request)
        except Refusal as refusal:
            return refusal.answer

    def _route(self, request: Request) -> Answer:
        if request.host == "storage":
            return self.storage.answer(request)
        path = request.path
        if path.startswith("/_sim/"):
            return self._control.answer(request)
        if path.startswith("/files/"):
            return self.plain.answer(request)
        return self._kaggle.answer(request) or self._hugging_face(request)

    def _hugging_face(self, request: Request) -> Answer:
        bucket: Bucket = "resolvers" if "/resolve" in request.path else "api"
        headers = self.limits.take(bucket, request.headers.get("authorization", ""))
        try:
            answer = self._hf_answer(request)
        except Refusal as refusal:
            answer = refusal.answer
        answer.headers = headers | answer.headers
        return answer

    def _hf_answer(self, request: Request) -> Answer:
        path = request.path
        if path == "/api/whoami-v2":
            return self.api.whoami(request)
        if found := _CACHED.fullmatch(path):
            return self._files.cached(request, _kind(found["kind"]), request.parts[3:])
        if found := _LISTING.fullmatch(path):
            return self.api.answer(request, _kind(found["kind"]), found["path"])
        if (found := _RESOLVE.fullmatch(path)) and request.method in {"GET", "HEAD"}:
            parts = request.parts
            rest = parts[parts.index("resolve") + 1 :]
            return self._files.resolve(request, _kind(found["kind"]), found["name"], rest)
        raise unknown({"error": "Sorry, we can't find the page you are looking for."})


def _kind(text: str | None) -> Kind:
    return "datasets" if text == "datasets" else "models"


def _strike(faults: dict[str, Fault], request: Request) -> None:
    if "no_range" in faults:
        request.headers = {
            name: value for name, value in request.headers.items() if name != "range"
        }
    if limit := faults.get("rate_limit"):
        reset_s = int(limit.get("reset_s", 1))
        if "Service/" in request.path:
            told = {"code": 429, "message": "Too Many Requests"}
            raise Refusal(429, told, {"Retry-After": str(reset_s)})
        bucket: Bucket = "resolvers" if "/resolve" in request.path else "api"
        raise too_many(limit_headers(bucket, 0, min(reset_s, WINDOW_S), 0))
    if error := faults.get("error"):
        status = int(error.get("status", 500))
        told = error.get("body", {"error": "Internal Error - We're working hard to fix this"})
        raise Refusal(status, told, error.get("headers"))
