"""Put bytes into a bucket, a value into Secret Manager, and read Google's keys.

Each step takes the ground, returns what it saw, and raises Differs (or another CynthusError).
"""

from __future__ import annotations

import hashlib
import json
import secrets
from contextlib import closing
from datetime import timedelta

import requests

from runner_images.agent.metadata import Metadata, NoMetadata
from scripts.gcp_live.ground import NOWHERE, SECRET_NAME, Differs, Ground
from webhook_server.auth.fetch import fetch
from webhook_server.auth.google_identity import GoogleIdentity
from webhook_server.ground import clock
from webhook_server.stores.blob_protocol import Announced, DirectPut, blob_key
from webhook_server.stores.bucket_rules import bucket_place, wanted_shape
from webhook_server.stores.bucket_setup import look, put_right
from webhook_server.stores.gcs_blobs import open_client, open_gcs_blobs
from webhook_server.stores.secret_manager import open_manager_secrets

_OK, _REFUSED = 200, 412  # HTTP


def see_storage(ground: Ground) -> str:
    """Make a bucket, put and get by signed addresses."""
    settings = ground.settings
    place = bucket_place(settings.blob_url, None, None, settings.gcp_places)
    wanted = wanted_shape(place.prefix, 1, "")
    ground.undo["bucket"] = ground.remove_bucket
    with closing(open_client(settings)) as client:
        put_right(client, place, wanted, look(client, place, wanted))
        wrong = look(client, place, wanted).wrong
    if wrong:
        raise Differs("; ".join(wrong))
    data = secrets.token_bytes(1024)
    key = blob_key(ground.repository_id, "live", 1, "check.bin")
    blob = Announced(
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
    )
    with closing(open_gcs_blobs(settings)) as blobs:
        put = blobs.direct_put(key, blob, timedelta(minutes=5))
        if put is None:
            raise Differs(
                "addresses should be signed, found nobody who can. Use a service account, with"
                " roles/iam.serviceAccountTokenCreator on itself."
            )
        _check_put(put, data)
        if not blobs.has(key, blob):
            raise Differs("what was put should be there with size and MD5, found that it is not")
        url = blobs.direct_url(key, "attachment", timedelta(minutes=5)) or ""
        if requests.get(url, timeout=30).content != data:
            raise Differs("the signed address should give the bytes back, found others")
    return f"gs://{place.name}: made, signed PUT and GET, the second PUT got 412"


def _check_put(put: DirectPut, data: bytes) -> None:
    first = requests.put(put.url, data, headers=put.headers, timeout=30)
    if first.status_code != _OK:
        raise Differs(f"a signed PUT should be taken, found {first.status_code} {first.text[:200]}")
    again = requests.put(put.url, data, headers=put.headers, timeout=30)
    if again.status_code != _REFUSED:
        raise Differs(f"a second PUT should get 412 by its generation, found {again.status_code}")
    longer = requests.put(put.url, data + b"x", headers=put.headers, timeout=30)
    if longer.status_code == _OK:
        raise Differs("a PUT of another length should be refused, found it taken")


def see_secrets(ground: Ground) -> str:
    """Set a secret, read it, pin its version."""
    value = secrets.token_urlsafe(24)
    ground.undo["secret"] = ground.remove_secret
    with closing(open_manager_secrets(ground.settings)) as store:
        store.set(ground.repository_id, SECRET_NAME, value)
        found = store.get(ground.repository_id, SECRET_NAME)
        if found is None or found.text != value:
            raise Differs("the secret should come back as it was set, found that it did not")
        if store.get(ground.repository_id + 1, SECRET_NAME) is not None:
            raise Differs("another repository should not get it, found that it did")
        if store.names(ground.repository_id) != [SECRET_NAME]:
            raise Differs("the filter by label should find it, found that it did not")
        store.set(ground.repository_id, SECRET_NAME, value + "2")
        old = store.get(ground.repository_id, SECRET_NAME, found.version)
    if old is None or old.text != value:
        raise Differs("the version of a run should stay, found another value")
    return "set, read by label, pinned version kept; another repository gets none"


def see_identity(ground: Ground) -> str:
    """Read Google's keys; on an instance verify its own token."""
    keys = json.loads(fetch(ground.settings.gcp_certs_url))["keys"]
    usable = [one for one in keys if one.get("alg") == "RS256" and one.get("kid")]
    if not usable:
        raise Differs("Google's keys should be RS256 with ids, found none")
    text = f"{len(usable)} keys of Google read"
    if ground.settings.gcp_compute_url:
        return f"{text}; a token only on an instance of Google"
    try:
        return f"{text}; {_own_token(ground)}"
    except NoMetadata:
        return f"{text}; no token: this machine is no instance (run this step on one)"


def _own_token(ground: Ground) -> str:
    metadata = Metadata()
    name = metadata.value("name").text.strip()
    zone = metadata.value("zone").text.strip().rpartition("/")[2]
    audience = ground.settings.public_url or NOWHERE
    verifier = GoogleIdentity(
        project=ground.settings.gcp_project,
        audience=audience,
        certs_url=ground.settings.gcp_certs_url,
        fetch=fetch,
        now=clock,
    )
    token = metadata.identity_token(audience)
    long_ago = clock() - timedelta(days=36500)
    number = verifier.verify(token, instance=name, place=zone, ordered_at=long_ago)
    return f"the token of {name} ({number}) is good"
