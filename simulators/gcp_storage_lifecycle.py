"""Lifecycle rules, carried out when asked: the real service does so within about a day.

https://cloud.google.com/storage/docs/lifecycle
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from simulators.gcp_http import Answer, Request, Route
from simulators.gcp_state import Doc
from simulators.gcp_storage_parts import Parts
from simulators.gcp_storage_state import LIVE, SOFT_DELETED, Shelf

_DAY_S = 86400.0


class Lifecycle:
    """`POST /_sim/storage/lifecycle`: one sweep over every bucket."""

    def __init__(self, shelf: Shelf, parts: Parts) -> None:
        self._shelf = shelf
        self._parts = parts
        self._world = shelf.world

    def sweep(self, _: Request) -> Answer:
        """Do what the rules say at the world's time; answers what was done to whom."""
        done: list[Doc] = []
        for name in self._world.store.all("bucket"):
            bucket = self._shelf.bucket(name)
            rules = bucket.get("lifecycle", {}).get("rule", [])
            for doc in [d for d in self._shelf.versions(name) if d["state"] != SOFT_DELETED]:
                done += self._apply(bucket, rules, doc)
            done += self._abort(name, rules)
        return Answer(json={"done": done})

    def _abort(self, bucket: str, rules: list[Doc]) -> list[Doc]:
        """Give up the uploads in parts that nobody finished."""
        done: list[Doc] = []
        uploads = self._world.store.all("multipart-upload").items()
        for id_, upload in [(i, u) for i, u in uploads if u["bucket"] == bucket]:
            days = (self._world.now() - upload["at"]) / _DAY_S
            for rule in rules:
                condition, name = rule["condition"], upload["name"]
                if (
                    rule["action"]["type"] == "AbortIncompleteMultipartUpload"
                    and days >= condition.get("age", 0)
                    and name.startswith(tuple(condition.get("matchesPrefix", [""])))
                    and name.endswith(tuple(condition.get("matchesSuffix", [""])))
                ):
                    self._parts.drop(id_)
                    done.append({"bucket": bucket, "name": name, "action": rule["action"]["type"]})
                    break
        return done

    def _apply(self, bucket: Doc, rules: list[Doc], doc: Doc) -> list[Doc]:
        fitting = [rule["action"] for rule in rules if self._fits(rule["condition"], doc)]
        resource = doc["resource"]
        told = {"bucket": bucket["name"], "name": resource["name"]}
        # Deleting wins over a change of class.
        if any(action["type"] == "Delete" for action in fitting):
            self._shelf.bury(bucket, doc)
            return [{**told, "action": "Delete"}]
        for action in fitting:
            if action["type"] == "SetStorageClass":
                resource["storageClass"] = action["storageClass"]
                self._shelf.changed(doc)
                return [{**told, "action": "SetStorageClass"}]
        return []

    def _fits(self, condition: Doc, doc: Doc) -> bool:
        return all(self._holds(name, value, doc) for name, value in condition.items())

    def _holds(self, name: str, value: Any, doc: Doc) -> bool:
        resource = doc["resource"]
        own, size = resource["name"], int(resource["size"])
        judges: dict[str, Callable[[], bool]] = {
            "age": lambda: self._days(resource["timeCreated"]) >= value,
            "createdBefore": lambda: resource["timeCreated"] < value,
            "customTimeBefore": lambda: resource.get("customTime", "9999") < value,
            "daysSinceCustomTime": lambda: self._days(resource.get("customTime")) >= value,
            "daysSinceNoncurrentTime": lambda: self._days(resource.get("timeDeleted")) >= value,
            "noncurrentTimeBefore": lambda: resource.get("timeDeleted", "9999") < value,
            "isLive": lambda: (doc["state"] == LIVE) == value,
            "matchesPattern": lambda: re.search(value, own) is not None,
            "matchesPrefix": lambda: own.startswith(tuple(value)),
            "matchesSuffix": lambda: own.endswith(tuple(value)),
            "matchesStorageClass": lambda: resource["storageClass"] in value,
            "numNewerVersions": lambda: self._newer(doc) >= value,
            "sizeAboveBytes": lambda: size > int(value),
            "sizeBelowBytes": lambda: size < int(value),
        }
        return judges[name]()

    def _days(self, stamp: str | None) -> float:
        if stamp is None:
            return -1.0
        now = datetime.fromtimestamp(self._world.now(), UTC)
        return (now - datetime.fromisoformat(stamp)).total_seconds() / _DAY_S

    def _newer(self, doc: Doc) -> int:
        resource = doc["resource"]
        return sum(
            other["resource"]["name"] == resource["name"]
            and int(other["resource"]["generation"]) > int(resource["generation"])
            for other in self._shelf.versions(resource["bucket"])
        )

    def routes(self) -> list[Route]:
        """Return the control endpoint."""
        return [Route(method="POST", pattern="/_sim/storage/lifecycle", handler=self.sweep)]
