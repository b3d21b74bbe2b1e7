"""Making a world on a simulated Kaggle: `/_sim/kaggle/…`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import count
from typing import Any

from simulators.hub_http import Answer, Refusal, json_answer
from simulators.hub_kaggle_state import Item, Kind, Version, World, plain_name
from simulators.hub_wishes import Wishes

Wish = dict[str, Any]
Endpoint = Callable[[Wish, datetime], Answer]
_PARTS: dict[Kind, int] = {"datasets": 2, "competitions": 1, "models": 4}


class Control:
    """The endpoints that make and change datasets, competitions and models."""

    def __init__(self, world: World, wishes: Wishes) -> None:
        self._world, self._wishes = world, wishes
        self._ids = count(1001)
        self.endpoints: dict[tuple[str, str], Endpoint] = {
            ("POST", "users"): self._user,
            ("DELETE", "tokens"): self._end_token,
            ("POST", "accept"): self._accept,
        }
        for kind in _PARTS:
            self.endpoints["POST", kind] = self._making(kind)
            self.endpoints["PATCH", kind] = self._changing(kind)
            self.endpoints["DELETE", kind] = self._removing(kind)

    def _user(self, wish: Wish, _at: datetime) -> Answer:
        name = str(wish["name"])
        if "key" in wish:
            self._world.keys[name] = str(wish["key"])
        for token in wish.get("tokens", ()):
            self._world.tokens[token] = name
        return json_answer({"name": name}, 201)

    def _end_token(self, wish: Wish, _at: datetime) -> Answer:
        self._world.tokens.pop(wish["token"], None)
        return json_answer({})

    def _accept(self, wish: Wish, _at: datetime) -> Answer:
        self._known(wish["kind"], wish).accepted.add(wish["user"])
        return json_answer({})

    def _known(self, kind: Kind, wish: Wish) -> Item:
        found = self._world.item(kind, str(wish["name"]))
        if found is None:
            raise Refusal(404, {"error": f"no such thing in {kind}: {wish['name']}"})
        return found

    def _making(self, kind: Kind) -> Endpoint:
        def make(wish: Wish, at: datetime) -> Answer:
            name = str(wish["name"])
            if name.count("/") + 1 != _PARTS[kind]:
                raise Refusal(400, {"error": f"name: {_PARTS[kind]} parts, found {name!r}"})
            item = self._world.item(kind, name)
            version = self._version(item, wish, at)  # first: what is refused leaves nothing
            if item is None:
                item = Item(kind=kind, name=name, id=next(self._ids))
                self._world.items[kind, plain_name(kind, name)] = item
            _set(item, wish)
            item.versions.append(version)
            told = {
                path: {"size": content.size, "sha256": content.sha256}
                for path, content in version.files.items()
            }
            return json_answer({"name": name, "version": version.number, "files": told}, 201)

        return make

    def _changing(self, kind: Kind) -> Endpoint:
        def change(wish: Wish, _at: datetime) -> Answer:
            _set(self._known(kind, wish), wish)
            return json_answer({})

        return change

    def _removing(self, kind: Kind) -> Endpoint:
        def remove(wish: Wish, _at: datetime) -> Answer:
            item = self._known(kind, wish)
            del self._world.items[kind, plain_name(kind, item.name)]
            return json_answer({})

        return remove

    def _version(self, item: Item | None, wish: Wish, at: datetime) -> Version:
        return Version(
            number=len(item.versions) + 1 if item else 1,
            at=at,
            notes=str(wish.get("notes", "")),
            files=self._wishes.files(wish),
            archive=self._wishes.content(wish["archive"]) if "archive" in wish else None,
        )


def _set(item: Item, wish: Wish) -> None:
    for name in ("private", "gated"):
        if name in wish:
            setattr(item, name, bool(wish[name]))
    if "licenses" in wish:
        item.licenses = tuple(wish["licenses"])
    if "readers" in wish:
        item.readers = set(wish["readers"])
