"""The simulated Secret Manager: secrets, their versions, their payloads."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

from simulators.gcp_bodies import checked
from simulators.gcp_http import Answer, GoogleError, Request, Route
from simulators.gcp_secret_rules import (
    bad,
    check_annotations,
    check_id,
    check_labels,
    check_payload,
    check_replication,
    crc32c,
    duration_s,
    fits,
    missing,
    precondition,
)
from simulators.gcp_state import Doc
from simulators.gcp_world import World

_STATES = ("STATE_UNSPECIFIED", "ENABLED", "DISABLED", "DESTROYED")
_LARGEST_PAGE = 25000  # discovery document, secretmanager.projects.secrets.list
_CHANGEABLE = {
    "annotations", "expireTime", "labels", "rotation", "topics", "ttl", "versionAliases",
    "versionDestroyTtl",
}  # fmt: skip


class Secrets:
    """The methods of `projects.secrets` and `projects.secrets.versions`."""

    def __init__(self, world: World) -> None:
        self._world = world

    # secrets ------------------------------------------------------------------------------

    def create(self, request: Request) -> Answer:
        """Make a secret without versions: `projects.secrets.create`."""
        self._check_project(request)
        id_, wish = check_id(request.params.get("secretId")), request.json()
        if self._present(id_) is not None:
            raise GoogleError(
                409, f"Secret [{self._name(id_)}] already exists.", status="ALREADY_EXISTS"
            )
        secret: Doc = {
            "name": self._name(id_),
            "replication": check_replication(wish.get("replication")),
            "createTime": self._world.zulu(),
        }
        self._change(secret, {k: v for k, v in wish.items() if k in _CHANGEABLE})
        return self._kept(id_, secret, request)

    def get(self, request: Request) -> Answer:
        """Return a secret, never its payload: `projects.secrets.get`."""
        return Answer(json=self._secret(request))

    def page(self, request: Request) -> Answer:
        """Return the project's secrets, newest first: `projects.secrets.list`."""
        self._check_project(request)
        found = [s for s in map(self._present, self._world.store.all("secret")) if s is not None]
        found.sort(key=lambda secret: secret["createTime"], reverse=True)
        chosen = [s for s in found if fits(request.params.get("filter", ""), s)]
        return Answer(json=_page(request, "secrets", chosen))

    def patch(self, request: Request) -> Answer:
        """Change the fields that `updateMask` names: `projects.secrets.patch`."""
        secret, wish = dict(self._secret(request)), request.json()
        _check_etag(secret, wish.get("etag"))
        mask = [_camel(name) for name in request.params.get("updateMask", "").split(",") if name]
        if not mask:
            raise bad("Field [update_mask] must not be empty.")
        if set(mask) - _CHANGEABLE - {"etag"}:
            raise bad(f"Field [update_mask] names fields that cannot be changed: {mask}.")
        self._change(secret, {name: wish.get(name) for name in mask if name != "etag"})
        return self._kept(request.args["secret"], secret, request)

    def delete(self, request: Request) -> Answer:
        """Delete a secret with all its versions: `projects.secrets.delete`."""
        _check_etag(self._secret(request), request.params.get("etag"))
        self._drop(request.args["secret"])
        return Answer(json={})

    def _change(self, secret: Doc, wish: Doc) -> None:
        if wish.get("ttl") and wish.get("expireTime"):
            raise bad("Only one of ttl and expireTime may be set.")
        for name, value in wish.items():
            secret.pop("expireTime" if name == "ttl" else name, None)
            if value in (None, {}, []):
                continue
            match name:
                case "ttl":
                    until = self._world.now() + duration_s(value)
                    secret["expireTime"] = self._world.zulu(until)
                case "labels":
                    secret["labels"] = check_labels(value)
                case "annotations":
                    secret["annotations"] = check_annotations(value)
                case "expireTime" if self._world.epoch(value) <= self._world.now():
                    raise bad("Field [secret.expire_time] must be in the future.")
                case _:
                    secret[name] = value

    # versions -----------------------------------------------------------------------------

    def add_version(self, request: Request) -> Answer:
        """Add a version with a payload: `projects.secrets.addVersion`."""
        secret, id_ = self._secret(request), request.args["secret"]
        data, checked = check_payload(request.json())
        number = self._world.store.count(f"secret-version/{id_}/{secret['createTime']}")
        kind = next(iter(secret["replication"]))
        status: Doc = {"automatic": {}}
        if kind == "userManaged":
            replicas = secret["replication"]["userManaged"]["replicas"]
            status = {"userManaged": {"replicas": [{"location": r["location"]} for r in replicas]}}
        version: Doc = {
            "name": f"{self._name(id_)}/versions/{number}",
            "createTime": self._world.zulu(),
            "state": "ENABLED",
            "replicationStatus": status,
        }
        if checked:
            version["clientSpecifiedPayloadChecksum"] = True
        doc = {"version": version, "data": base64.b64encode(data).decode()}
        return self._stored(id_, str(number), doc, request)

    def access(self, request: Request) -> Answer:
        """Return the payload of a version: `projects.secrets.versions.access`."""
        _, doc = self._version(request, "or has no versions")
        version = doc["version"]
        if version["state"] != "ENABLED":
            raise precondition(
                f"Secret Version [{version['name']}] is in {version['state']} state."
            )
        data = base64.b64decode(doc["data"])
        told = crc32c(data)
        if self._world.faults.take("corrupt", {"secret": request.args["secret"]}):
            data = bytes([data[0] ^ 0xFF]) + data[1:]
        payload = {"data": base64.b64encode(data).decode(), "dataCrc32c": str(told)}
        return Answer(json={"name": version["name"], "payload": payload})

    def get_version(self, request: Request) -> Answer:
        """Return a version without its payload: `projects.secrets.versions.get`."""
        _, doc = self._version(request)
        return Answer(json=_shown(doc["version"], request))

    def list_versions(self, request: Request) -> Answer:
        """Return a secret's versions, newest first: `projects.secrets.versions.list`."""
        self._secret(request)
        numbers = sorted(self._numbers(request.args["secret"]), reverse=True)
        docs = [self._stored_version(request.args["secret"], n) for n in numbers]
        chosen = [d["version"] for d in docs if d]
        chosen = [v for v in chosen if fits(request.params.get("filter", ""), v)]
        return Answer(json=_page(request, "versions", [_shown(v, request) for v in chosen]))

    def set_state(self, state: str) -> Callable[[Request], Answer]:
        """Return the method that brings a version into a state; what is destroyed stays so."""

        def change(request: Request) -> Answer:
            number, doc = self._version(request)
            version = doc["version"]
            _check_etag(version, request.json().get("etag"))
            if version["state"] == "DESTROYED":
                raise precondition(
                    f"Secret Version [{version['name']}] is in DESTROYED state and cannot change."
                )
            # A change to the same state makes a new etag: .../docs/etags
            changed = {**doc, "version": {**version, "state": state}}
            if state == "DESTROYED":
                changed["version"]["destroyTime"] = self._world.zulu()
                changed["data"] = ""
            return self._stored(request.args["secret"], number, changed, request)

        return change

    # access policy ------------------------------------------------------------------------

    def get_policy(self, request: Request) -> Answer:
        """Return who may do what with a secret: `projects.secrets.getIamPolicy`."""
        self._secret(request)
        found = self._world.store.get("secret-policy", request.args["secret"])
        return Answer(json=found or {"etag": "ACAB"})

    def set_policy(self, request: Request) -> Answer:
        """Replace who may do what with a secret: `projects.secrets.setIamPolicy`."""
        self._secret(request)
        id_, wish = request.args["secret"], request.json().get("policy") or {}
        now = self._world.store.get("secret-policy", id_) or {"etag": "ACAB"}
        if wish.get("etag") not in {None, now["etag"]}:
            raise GoogleError(
                409,
                "There were concurrent policy changes. Please retry the whole read-modify-write "
                "with exponential backoff.",
                status="ABORTED",
            )
        number = self._world.store.count("secret-policy")
        etag = base64.b64encode(f"policy{number}".encode()).decode()
        policy = {"version": wish.get("version", 1), "bindings": wish.get("bindings", [])}
        return Answer(json=self._world.store.put("secret-policy", id_, {**policy, "etag": etag}))

    def test_permissions(self, request: Request) -> Answer:
        """Return which of the permissions asked for are held: all that no fault denies."""
        self._secret(request)
        asked = request.json().get("permissions", [])
        facts = {"secret": request.args["secret"]}
        held = [
            p for p in asked if not self._world.faults.take("denied", {**facts, "permission": p})
        ]
        return Answer(json={"permissions": held} if held else {})

    # inside -------------------------------------------------------------------------------

    def _check_project(self, request: Request) -> None:
        if request.args["project"] not in {self._world.project, self._world.project_number}:
            raise GoogleError(
                403,
                "Permission 'secretmanager.secrets.list' denied on resource "
                f"'projects/{request.args['project']}' (or it may not exist).",
                status="PERMISSION_DENIED",
            )

    def _name(self, id_: str) -> str:
        # Answers name the project by its number, whatever was asked by.
        return f"projects/{self._world.project_number}/secrets/{id_}"

    def _present(self, id_: str) -> Doc | None:
        secret = self._world.store.get("secret", id_)
        expires = (secret or {}).get("expireTime")
        if expires and self._world.epoch(expires) <= self._world.now():
            self._drop(id_)
            return None
        return secret

    def _secret(self, request: Request, more: str = "") -> Doc:
        self._check_project(request)
        id_ = request.args["secret"]
        secret = self._present(id_)
        if secret is None:
            raise missing(f"Secret [{self._name(id_)}] not found{f' {more}' if more else ''}.")
        return secret

    def _kept(self, id_: str, secret: Doc, request: Request) -> Answer:
        secret["etag"] = self._etag()
        self._world.store.put("secret", id_, secret)
        return Answer(json=_shown(secret, request))

    def _numbers(self, id_: str) -> list[int]:
        start = f"{id_}/"
        keys = self._world.store.all("secret-version")
        return [int(key[len(start) :]) for key in keys if key.startswith(start)]

    def _stored_version(self, id_: str, number: int | str) -> Doc | None:
        return self._world.store.get("secret-version", f"{id_}/{number}")

    def _version(self, request: Request, more: str = "") -> tuple[str, Doc]:
        secret, id_ = self._secret(request, more), request.args["secret"]
        wanted = request.args["version"]
        if wanted == "latest":  # the newest, whatever its state
            wanted = str(max(self._numbers(id_), default=0))
        elif not wanted.isdigit():
            wanted = str(secret.get("versionAliases", {}).get(wanted, "0"))
        doc = self._stored_version(id_, wanted)
        if doc is None:
            if not self._numbers(id_):
                raise missing(f"Secret [{self._name(id_)}] not found or has no versions.")
            raise missing(f"Secret Version [{self._name(id_)}/versions/{wanted}] not found.")
        return wanted, doc

    def _stored(self, id_: str, number: str, doc: Doc, request: Request) -> Answer:
        doc["version"]["etag"] = self._etag()
        self._world.store.put("secret-version", f"{id_}/{number}", doc)
        return Answer(json=_shown(doc["version"], request))

    def _drop(self, id_: str) -> None:
        for number in self._numbers(id_):
            self._world.store.delete("secret-version", f"{id_}/{number}")
        self._world.store.delete("secret-policy", id_)
        self._world.store.delete("secret", id_)

    def _etag(self) -> str:
        # In quotes, as AIP-154 wants; long and ever new, as Google's are.
        return f'"{(1 << 52) + self._world.store.count("secret-etag"):x}"'

    def routes(self) -> list[Route]:
        """Return the routes."""
        all_ = "/v1/projects/{project}/secrets"
        one, versions = f"{all_}/{{secret}}", f"{all_}/{{secret}}/versions"
        version = f"{versions}/{{version}}"
        table: list[tuple[str, str, Callable[[Request], Answer], str]] = [
            ("POST", all_, self.create, "create"),
            ("GET", all_, self.page, "list"),
            ("GET", one, self.get, "get"),
            ("PATCH", one, self.patch, "patch"),
            ("DELETE", one, self.delete, "delete"),
            ("POST", f"{one}:addVersion", self.add_version, "addVersion"),
            ("GET", f"{one}:getIamPolicy", self.get_policy, "getIamPolicy"),
            ("POST", f"{one}:setIamPolicy", self.set_policy, "setIamPolicy"),
            ("POST", f"{one}:testIamPermissions", self.test_permissions, "testIamPermissions"),
            ("GET", versions, self.list_versions, "versions.list"),
            ("GET", version, self.get_version, "versions.get"),
            ("GET", f"{version}:access", self.access, "versions.access"),
            ("POST", f"{version}:enable", self.set_state("ENABLED"), "versions.enable"),
            ("POST", f"{version}:disable", self.set_state("DISABLED"), "versions.disable"),
            ("POST", f"{version}:destroy", self.set_state("DESTROYED"), "versions.destroy"),
        ]
        return [
            Route(method=m, pattern=p, handler=h, verb=f"secretmanager.projects.secrets.{v}")
            for m, p, h, v in table
        ]


def _shown(resource: Doc, request: Request) -> Doc:
    """Return a resource, its enums as numbers where the client asked for that."""
    if "state" in resource and "enum-encoding=int" in request.query:
        return {**resource, "state": _STATES.index(resource["state"])}
    return dict(resource)


def _check_etag(resource: Doc, etag: str | None) -> None:
    """Refuse a change of what changed meanwhile: 400, https://cloud.google.com/secret-manager/docs/etags."""
    if etag and etag != resource["etag"]:
        raise precondition(
            f"The etag provided [{etag}] does not match the current etag [{resource['etag']}]."
        )


def _page(request: Request, key: str, items: list[Any]) -> Doc:
    size = _whole(request, "pageSize") or _LARGEST_PAGE
    start = _whole(request, "pageToken")
    end = start + min(size, _LARGEST_PAGE)
    page: Doc = {"totalSize": len(items)}
    if items[start:end]:
        page[key] = items[start:end]
    if end < len(items):
        page["nextPageToken"] = str(end)
    return page


def _whole(request: Request, name: str) -> int:
    text = request.params.get(name) or "0"
    if not text.isdigit():
        raise bad(f"Invalid value at '{name}': [{text}].")
    return int(text)


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name.strip())


def routes(world: World) -> list[Route]:
    """Return the routes."""
    return [checked(route) for route in Secrets(world).routes()]
