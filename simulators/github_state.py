"""Everything the simulated GitHub remembers, on disk."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import threading
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

Json = Any  # a JSON value, whatever it holds
Doc = dict[str, Any]

# Fields that lookups go by. A field not named here is searched for one document at a time.
INDEXED = {
    "account": ("login",),
    "repo": ("owner_id",),
    "check_run": ("repo_id", "suite_id", "head_sha"),
    "check_suite": ("repo_id", "head_sha"),
    "issue": ("repo_id",),
    "comment": ("repo_id", "issue_id"),
    "reaction": ("comment_id",),
    "release": ("repo_id",),
    "asset": ("release_id", "repo_id"),
    "status": ("repo_id",),
    "delivery": ("state", "app_id", "guid"),
    "installation": ("app_id", "account_id"),
    "token": ("token",),
    "job": ("repo_id",),
    "rename": ("full_name",),
    "package": ("owner_id",),
    "package_version": ("package_id",),
}
# GitHub's ids are large and differ in kind, so that one mistaken for another is never found.
FIRST_ID = {
    "account": 5_000_000,
    "app": 300_000,
    "installation": 40_000_000,
    "repo": 700_000_000,
    "check_run": 30_000_000_000,
    "check_suite": 25_000_000_000,
    "issue": 2_000_000_000,
    "comment": 2_500_000_000,
    "release": 160_000_000,
    "asset": 180_000_000,
    "delivery": 90_000_000_000,
    "job": 31_000_000_000,
    "workflow_run": 11_000_000_000,
}

_SCHEMA = """
CREATE TABLE IF NOT EXISTS doc (kind TEXT, id INTEGER, body TEXT NOT NULL, PRIMARY KEY (kind, id));
CREATE TABLE IF NOT EXISTS counter (kind TEXT PRIMARY KEY, last INTEGER NOT NULL);
"""


class Store:
    """Documents by kind and id: read from memory, written through to SQLite.

    A change is on disk after `commit`, which every request calls before it is answered; so
    whatever was answered survives `kill -9`. Hold `lock` while reading or changing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base_url = ""
        self.lock = threading.RLock()
        (folder / "git").mkdir(parents=True, exist_ok=True)
        (folder / "assets").mkdir(exist_ok=True)
        self._db = sqlite3.connect(folder / "github.sqlite", check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        # The process may be killed at any time; a power cut need not be survived.
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(_SCHEMA)
        self._docs: dict[str, dict[int, Doc]] = defaultdict(dict)
        self._index: dict[tuple[str, str, Any], set[int]] = defaultdict(set)
        self._keys: dict[tuple[str, int], list[tuple[str, str, Any]]] = {}
        self._load()

    def _load(self) -> None:
        for kind, id_, body in self._db.execute("SELECT kind, id, body FROM doc ORDER BY id"):
            self._remember(kind, id_, json.loads(body))
        self._last = dict(self._db.execute("SELECT kind, last FROM counter").fetchall())

    def _remember(self, kind: str, id_: int, doc: Doc) -> None:
        self._forget_keys(kind, id_)
        self._docs[kind][id_] = doc
        keys = [(kind, field, doc.get(field)) for field in INDEXED.get(kind, ())]
        for key in keys:
            self._index[key].add(id_)
        self._keys[kind, id_] = keys

    def _forget_keys(self, kind: str, id_: int) -> None:
        for key in self._keys.pop((kind, id_), ()):
            self._index[key].discard(id_)

    def now(self) -> datetime:
        """Return the simulator's time, which `/_sim/clock` shifts."""
        shift = self.setting("clock_shift_s", 0.0)
        return datetime.now(UTC) + timedelta(seconds=shift)

    def identity_now(self) -> datetime:
        """Return the time that signed tokens are made and judged by.

        Apart from `now`, so that a test can let the delivery log or a rate limit run out while the
        server under test, which keeps the machine's time, can still sign in.
        """
        return datetime.now(UTC) + timedelta(seconds=self.setting("identity_shift_s", 0.0))

    def stamp(self) -> str:
        """Return the simulator's time as GitHub writes it."""
        return stamp(self.now())

    def new_id(self, kind: str) -> int:
        """Return the next id of its kind; never the same twice, not even after a restart."""
        last: int = self._last.get(kind, FIRST_ID.get(kind, 0)) + 1
        self._last[kind] = last
        self._db.execute("INSERT OR REPLACE INTO counter VALUES (?, ?)", (kind, last))
        return last

    def put(self, kind: str, doc: Doc) -> Doc:
        """Keep a document; one without an `id` is given the next."""
        if "id" not in doc:
            doc["id"] = self.new_id(kind)
        self._remember(kind, doc["id"], doc)
        self._db.execute(
            "INSERT OR REPLACE INTO doc VALUES (?, ?, ?)", (kind, doc["id"], json.dumps(doc))
        )
        return doc

    def get(self, kind: str, id_: int | None) -> Doc | None:
        """Return one document, or None."""
        return None if id_ is None else self._docs[kind].get(id_)

    def must(self, kind: str, id_: int) -> Doc:
        """Return one document that another refers to."""
        return self._docs[kind][id_]

    def find(self, kind: str, **equal: Json) -> list[Doc]:
        """Return the documents that have all these values, oldest first."""
        field = next((name for name in equal if name in INDEXED.get(kind, ())), None)
        docs = self._docs[kind]
        if field is None:
            ids = sorted(docs)
        else:
            ids = sorted(self._index.get((kind, field, equal[field]), ()))
        return [docs[i] for i in ids if all(docs[i].get(k) == v for k, v in equal.items())]

    def first(self, kind: str, **equal: Json) -> Doc | None:
        """Return the oldest document that has all these values, or None."""
        found = self.find(kind, **equal)
        return found[0] if found else None

    def delete(self, kind: str, id_: int) -> None:
        """Forget one document; absent is fine."""
        self._forget_keys(kind, id_)
        self._docs[kind].pop(id_, None)
        self._db.execute("DELETE FROM doc WHERE kind = ? AND id = ?", (kind, id_))

    def setting(self, name: str, default: Json) -> Json:
        """Return a setting of the simulator itself."""
        doc = self._docs["setting"].get(_setting_id(name))
        return default if doc is None else doc["value"]

    def set_setting(self, name: str, value: Json) -> None:
        """Keep a setting of the simulator itself."""
        self.put("setting", {"id": _setting_id(name), "name": name, "value": value})

    def commit(self) -> None:
        """Make every change so far survive the end of the process."""
        self._db.commit()

    def close(self) -> None:
        """Commit, then close the file."""
        self._db.commit()
        self._db.close()


def _setting_id(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")


def stamp(moment: datetime) -> str:
    """Return a moment as GitHub writes it: whole seconds, UTC, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """Return the moment that `stamp` or an ISO 8601 text names."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def node_id(prefix: str, id_: int) -> str:
    """Return an opaque node id in the looks of GitHub's new format."""
    return f"{prefix}_kwDO{base64.urlsafe_b64encode(id_.to_bytes(8, 'big')).decode().rstrip('=')}"
