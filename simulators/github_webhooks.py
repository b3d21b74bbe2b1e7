"""Signed webhook deliveries and their three-day log."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import urlsplit

from simulators import github_faults as faults
from simulators import github_shapes as shapes
from simulators.github_state import Doc, Json, moment, node_id
from simulators.github_world import World

LIMIT_S = 10  # then the delivery counts as failed, and is not tried again
KEPT = timedelta(days=3)  # how long the delivery log goes back on github.com
LARGEST_BYTES = 25 * 1000 * 1000  # larger payloads are not sent at all
ALWAYS = {"installation", "installation_repositories", "ping", "github_app_authorization"}
CHECKS = {"check_run", "check_suite"}
UNSENT = {"waiting", "sending"}  # states of a delivery that is still to come
# Some events come with another permission: https://docs.github.com/webhooks (availability).
PERMISSION = {
    "push": "contents",
    "release": "contents",
    "pull_request": "pull_requests",
    "issue_comment": "issues",
    "workflow_run": "actions",
    "workflow_job": "actions",
}


def emit(world: World, event: str, payload: Doc, repo: Doc, *, only_app: int | None = None) -> None:
    """Queue an event for every app that is installed on a repository and listens."""
    for installation in world.store.find("installation"):
        if only_app not in {None, installation["app_id"]} or installation["suspended_at"]:
            continue
        if world.covers(installation, repo) and _listens(world, installation, event):
            emit_to(world, installation, event, payload, repo)


def _listens(world: World, installation: Doc, event: str) -> bool:
    app = world.store.must("app", installation["app_id"])
    rights = installation["permissions"]
    if event in CHECKS:
        return rights.get("checks") == "write" or (event in app["events"] and "checks" in rights)
    if event == "issue_comment" and "pull_requests" in rights:
        return event in app["events"]
    needed = PERMISSION.get(event)
    return event in app["events"] and (needed is None or needed in rights)


def emit_to(
    world: World, installation: Doc, event: str, payload: Doc, repo: Doc | None = None
) -> None:
    """Queue an event for one installation."""
    if "installation" not in payload:
        payload = payload | {
            "installation": {
                "id": installation["id"],
                "node_id": node_id("MDIzOkludGVncmF0aW9uSW5zdGFsbGF0aW9u", installation["id"]),
            }
        }
    app = world.store.must("app", installation["app_id"])
    if not app["hook"] or not app["hook"]["url"]:
        return
    body = json.dumps(payload, separators=(",", ":"), ensure_ascii=False)
    if len(body.encode()) > LARGEST_BYTES:
        return
    _queue(
        world,
        {
            "app_id": app["id"],
            "guid": str(uuid.uuid4()),
            "event": event,
            "action": payload.get("action"),
            "installation_id": installation["id"],
            "repository_id": repo["id"] if repo else None,
            "redelivery": False,
            "body": body,
        },
    )


def emit_ping(world: World, app: Doc) -> None:
    """Greet an App's webhook, as GitHub does when it is made."""
    if not app["hook"]["url"]:
        return
    body = json.dumps(_ping(app, world.store.base_url), separators=(",", ":"))
    about = {"action": None, "installation_id": None, "repository_id": None}
    wish = {"app_id": app["id"], "guid": str(uuid.uuid4()), "event": "ping", "redelivery": False}
    _queue(world, wish | about | {"body": body})


def _ping(app: Doc, base_url: str) -> Doc:
    """Return the payload that greets an App's webhook."""
    hook = app["hook"]
    return {
        "zen": "Approachable is better than simple.",
        "hook_id": hook["id"],
        "hook": {
            "type": "App",
            "id": hook["id"],
            "name": "web",
            "active": True,
            "events": app["events"],
            "config": {name: hook[name] for name in ("content_type", "insecure_ssl", "url")}
            | {"secret": "********"},
            "updated_at": app["updated_at"],
            "created_at": app["created_at"],
            "app_id": app["id"],
            "deliveries_url": f"{base_url}/api/app/hook/deliveries",
        },
    }


def _queue(world: World, wish: Doc) -> Doc:
    delivery = wish | {
        "state": "waiting",
        "delivered_at": world.store.stamp(),
        "throttled_at": None,
        "duration": 0.0,
        "status": "",
        "status_code": 0,
        "request_headers": {},
        "response_headers": {},
        "response_body": "",
        "not_before": 0.0,
    }
    fault = faults.webhook_fault(world, wish["event"], wish["action"])
    world.store.put("delivery", delivery)
    if fault:
        _apply(world, delivery, fault)
    world.wake()
    return delivery


def _apply(world: World, delivery: Doc, fault: Doc) -> None:
    match fault["kind"]:
        case "webhook_lose":
            world.store.delete("delivery", delivery["id"])
            return
        case "webhook_drop":
            delivery |= {"state": "done", "status": "failed to connect to host"}
        case "webhook_duplicate":
            twin = {key: value for key, value in delivery.items() if key != "id"}
            world.store.put("delivery", twin)
        case "webhook_delay":
            delivery["not_before"] = world.store.now().timestamp() + fault["delay_s"]
        case _:  # webhook_reorder
            delivery["state"] = "held"  # until another one has been sent
    world.store.put("delivery", delivery)


def redeliver(world: World, delivery: Doc) -> Doc:
    """Queue a delivery again: the same GUID, `redelivery` true."""
    names = ("app_id", "guid", "event", "action", "installation_id", "repository_id", "body")
    return _queue(world, {name: delivery[name] for name in names} | {"redelivery": True})


def log(world: World, app_id: int) -> list[Doc]:
    """Return an app's finished deliveries of the last three days, newest first."""
    since = world.store.now() - KEPT
    found = world.store.find("delivery", app_id=app_id)
    for old in [d for d in found if moment(d["delivered_at"]) < since]:
        world.store.delete("delivery", old["id"])
    return [
        d for d in reversed(found) if d["state"] == "done" and moment(d["delivered_at"]) >= since
    ]


def item(delivery: Doc) -> Doc:
    """Return `hook-delivery-item`."""
    names = (
        "id", "guid", "delivered_at", "redelivery", "duration", "status", "status_code",
        "event", "action", "installation_id", "repository_id", "throttled_at",
    )  # fmt: skip
    return {name: delivery[name] for name in names}


def full(world: World, delivery: Doc) -> Doc:
    """Return `hook-delivery`."""
    app = world.store.must("app", delivery["app_id"])
    return item(delivery) | {
        "url": app["hook"]["url"],
        "request": {
            "headers": delivery["request_headers"],
            "payload": json.loads(delivery["body"]),
        },
        "response": {
            "headers": delivery["response_headers"] or None,
            "payload": delivery["response_body"] or None,
        },
    }


def headers(app: Doc, delivery: Doc, body: bytes) -> dict[str, str]:
    """Return what GitHub sends with a delivery."""
    hook = app["hook"]
    sent = {
        "Accept": "*/*",
        "Content-Type": "application/json",
        "User-Agent": f"GitHub-Hookshot/{delivery['guid'][:7]}",
        "X-GitHub-Delivery": delivery["guid"],
        "X-GitHub-Event": delivery["event"],
        "X-GitHub-Hook-ID": str(hook["id"]),
        "X-GitHub-Hook-Installation-Target-ID": str(app["id"]),
        "X-GitHub-Hook-Installation-Target-Type": "integration",
    }
    if hook["secret"]:
        key = hook["secret"].encode()
        sent["X-Hub-Signature"] = f"sha1={hmac.new(key, body, hashlib.sha1).hexdigest()}"
        sent["X-Hub-Signature-256"] = f"sha256={hmac.new(key, body, hashlib.sha256).hexdigest()}"
    return sent


class Courier:
    """Sends queued deliveries from threads; starts over with what was queued before a crash."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._bell = threading.Event()
        self._stopping = False
        # GitHub delivers in parallel and promises no order.
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="webhook")
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)

    def start(self) -> None:
        """Begin to deliver, first whatever an earlier process left."""
        with self._world.store.lock:
            for delivery in self._world.store.find("delivery", state="sending"):
                self._world.store.put("delivery", delivery | {"state": "waiting"})
        self._world.wake = self._bell.set
        self._thread.start()
        self._bell.set()

    def stop(self) -> None:
        """Finish nothing more."""
        self._stopping = True
        self._bell.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        while not self._stopping:
            self._bell.wait(self._until_next())
            self._bell.clear()
            for delivery in self._due():
                self._pool.submit(self._send, delivery)

    def _until_next(self) -> float | None:
        with self._world.store.lock:
            now = self._world.store.now().timestamp()
            waits = [
                d["not_before"] - now for d in self._world.store.find("delivery", state="waiting")
            ]
        return max(0.0, min(waits)) if waits else None

    def _due(self) -> list[Doc]:
        with self._world.store.lock:
            now = self._world.store.now().timestamp()
            waiting = self._world.store.find("delivery", state="waiting")
            due = [d for d in waiting if d["not_before"] <= now]
            for delivery in due:
                self._world.store.put("delivery", delivery | {"state": "sending"})
            self._world.store.commit()
        return due

    def _send(self, delivery: Doc) -> None:
        with self._world.store.lock:
            app = self._world.store.must("app", delivery["app_id"])
        body = delivery["body"].encode()
        sent = headers(app, delivery, body)
        started = time.monotonic()
        result = _post(app["hook"]["url"], body, sent)
        took = round(time.monotonic() - started, 2)
        with self._world.store.lock:
            done = delivery | result | {"state": "done", "duration": took, "request_headers": sent}
            done["delivered_at"] = self._world.store.stamp()
            self._world.store.put("delivery", done)
            self._release_held(delivery["app_id"])
            self._world.store.commit()

    def _release_held(self, app_id: int) -> None:
        for held in self._world.store.find("delivery", app_id=app_id, state="held"):
            self._world.store.put("delivery", held | {"state": "waiting"})
            self._bell.set()


def _post(url: str, body: bytes, sent: dict[str, str]) -> Doc:
    place = urlsplit(url)
    connect = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    connection = connect(place.hostname or "", place.port, timeout=LIMIT_S)
    path = f"{place.path or '/'}{'?' + place.query if place.query else ''}"
    try:
        connection.request("POST", path, body=body, headers=sent)
        answer = connection.getresponse()
        text = answer.read(65536).decode(errors="replace")
    except TimeoutError:
        return {"status": "timed out", "status_code": 0}
    except (OSError, http.client.HTTPException):
        return {"status": "failed to connect to host", "status_code": 0}
    finally:
        connection.close()
    good = 200 <= answer.status < 300
    return {
        "status": "OK" if good else f"Invalid HTTP Response: {answer.status}",
        "status_code": answer.status,
        "response_headers": dict(answer.getheaders()),
        "response_body": text,
    }


def sender(world: World, account: Doc) -> Doc:
    """Return who caused an event."""
    return shapes.user(world, account)


def about(world: World, repo: Doc, account: Doc, **more: Json) -> Doc:
    """Return a payload about a repository: what happened, `repository`, `sender`."""
    payload = more | {
        "repository": shapes.repository(world, repo),
        "sender": shapes.user(world, account),
    }
    owner = world.owner(repo)
    if owner["type"] == "Organization":
        payload["organization"] = organization(world, owner)
    return payload


def organization(world: World, owner: Doc) -> Doc:
    """Return `organization-simple`."""
    url = f"{world.store.base_url}/api/orgs/{owner['login']}"
    return {
        "login": owner["login"],
        "id": owner["id"],
        "node_id": node_id("O", owner["id"]),
        "url": url,
        "repos_url": f"{url}/repos",
        "events_url": f"{url}/events",
        "hooks_url": f"{url}/hooks",
        "issues_url": f"{url}/issues",
        "members_url": f"{url}/members{{/member}}",
        "public_members_url": f"{url}/public_members{{/member}}",
        "avatar_url": f"{world.store.base_url}/_pages/avatar.svg?u={owner['id']}",
        "description": None,
    }
