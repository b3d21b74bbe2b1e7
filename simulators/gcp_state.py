"""What the simulated Google Cloud remembers: JSON documents by kind and key, on disk at once."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

Doc = dict[str, Any]


class Store:
    """Documents in memory, written through to SQLite; every use holds the world's lock.

    What was put survives a `kill -9` of the program (not a power cut of the machine, against
    which no simulator needs to guard: hence `synchronous=OFF`).
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._base = sqlite3.connect(
            folder / "gcp.sqlite3", check_same_thread=False, isolation_level=None
        )
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute("PRAGMA synchronous=OFF")
        self._base.execute(
            "CREATE TABLE IF NOT EXISTS doc"
            " (kind TEXT, key TEXT, value TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID"
        )
        self._docs: dict[str, dict[str, Doc]] = {}
        for kind, key, value in self._base.execute("SELECT kind, key, value FROM doc"):
            self._docs.setdefault(kind, {})[key] = json.loads(value)

    def get(self, kind: str, key: str) -> Doc | None:
        """Return the document itself: whoever changes it puts it back."""
        return self._docs.get(kind, {}).get(key)

    def all(self, kind: str) -> dict[str, Doc]:
        """Return all documents of a kind by key, in the order they were first put."""
        return dict(self._docs.get(kind, {}))

    def put(self, kind: str, key: str, value: Doc) -> Doc:
        """Keep a document, replacing the one of that key."""
        self._docs.setdefault(kind, {})[key] = value
        self._base.execute(
            "INSERT OR REPLACE INTO doc VALUES (?, ?, ?)", (kind, key, json.dumps(value))
        )
        return value

    def delete(self, kind: str, key: str) -> None:
        """Forget a document; safe to repeat."""
        self._docs.get(kind, {}).pop(key, None)
        self._base.execute("DELETE FROM doc WHERE kind = ? AND key = ?", (kind, key))

    def count(self, name: str) -> int:
        """Return the next number of a sequence, from 1."""
        doc = self.get("sequence", name) or {"at": 0}
        doc["at"] += 1
        self.put("sequence", name, doc)
        number: int = doc["at"]
        return number

    def setting(self, name: str, default: Any) -> Any:
        """Return a setting of the control endpoints."""
        doc = self.get("setting", name)
        return default if doc is None else doc["value"]

    def set(self, name: str, value: Any) -> None:
        """Keep a setting."""
        self.put("setting", name, {"value": value})

    def close(self) -> None:
        """Close the file."""
        self._base.close()
