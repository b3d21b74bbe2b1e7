"""Buckets of the simulated Cloud Storage: their resource, its rules, its access policy."""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import parse_qs

from simulators.gcp_http import Answer, Request, Route
from simulators.gcp_state import Doc
from simulators.gcp_storage_keys import check_key
from simulators.gcp_storage_refusals import (
    bad,
    condition_not_met,
    conflict,
    legacy_acl,
    required,
)
from simulators.gcp_storage_rules import Preconditions, check_bucket_name, check_class, whole
from simulators.gcp_storage_state import Shelf

_MULTI_REGIONS = {"US", "EU", "ASIA"}
# https://cloud.google.com/storage/docs/soft-delete: 0, or from 7 to 90 days; 7 unless told.
_SOFT_DELETE_S = 7 * 86400
_LONGEST_SOFT_DELETE_S = 90 * 86400
_LIFECYCLE_ACTIONS = {"Delete", "SetStorageClass", "AbortIncompleteMultipartUpload"}
_LIFECYCLE_CONDITIONS = {
    "age", "createdBefore", "customTimeBefore", "daysSinceCustomTime", "daysSinceNoncurrentTime",
    "isLive", "matchesPattern", "matchesPrefix", "matchesSuffix", "matchesStorageClass",
    "noncurrentTimeBefore", "numNewerVersions", "sizeAboveBytes", "sizeBelowBytes",
}  # fmt: skip
_MOST_RULES = 100  # https://cloud.google.com/storage/docs/lifecycle
_MUTABLE = {
    "autoclass", "billing", "cors", "defaultEventBasedHold", "encryption", "iamConfiguration",
    "labels", "lifecycle", "logging", "retentionPolicy", "rpo", "softDeletePolicy", "storageClass",
    "versioning", "website",
}  # fmt: skip
_ACLS = {"acl", "defaultObjectAcl"}
_MOST_LABELS = 64  # https://cloud.google.com/storage/docs/tags-and-labels#bucket-labels
_LABEL_KEY = re.compile(r"[a-z\d][a-z\d_-]{0,62}")  # letters of other scripts are refused here
_LABEL_VALUE = re.compile(r"[a-z\d_-]{0,63}")
_KEY = re.compile(
    r"projects/[^/]+/locations/(?P<place>[^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+", re.ASCII
)
_PUBLIC = {"allUsers", "allAuthenticatedUsers"}


class Buckets:
    """The methods of `buckets` in the JSON interface."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._world = shelf.world

    def insert(self, request: Request) -> Answer:
        """Make a bucket: `storage.buckets.insert`."""
        if "project" not in request.params:
            raise required("project")
        wish = dict(request.json())
        name = wish.get("name")
        if not isinstance(name, str):
            raise required("name")
        check_bucket_name(name)
        if self._world.store.get("bucket", name) is not None:
            raise conflict(
                "Your previous request to create the named bucket succeeded and you already own "
                "it.",
                xml_code="BucketAlreadyOwnedByYou",
            )
        bucket = self._fresh(name, str(wish.get("location", "US")).upper())
        self._change(bucket, wish, request.params)
        return Answer(json=self._shown(self._shelf.put_bucket(bucket)))

    def _fresh(self, name: str, location: str) -> Doc:
        now = _millis(self._world.zulu())
        return {
            "name": name,
            "projectNumber": self._world.project_number,
            "location": location,
            "locationType": "multi-region" if location in _MULTI_REGIONS else "region",
            "storageClass": "STANDARD",
            "generation": str(int(self._world.now() * 1_000_000)),
            "metageneration": "1",
            "timeCreated": now,
            "updated": now,
            "iamConfiguration": _access(enabled=False, prevention="inherited", lock=None),
            "softDeletePolicy": {
                "retentionDurationSeconds": str(_SOFT_DELETE_S),
                "effectiveTime": now,
            },
        } | ({"rpo": "DEFAULT"} if location in _MULTI_REGIONS else {})

    def get(self, request: Request) -> Answer:
        """Return a bucket: `storage.buckets.get`."""
        bucket = self._shelf.bucket(request.args["bucket"])
        Preconditions.read(request.params).check(bucket)
        return Answer(json=self._shown(bucket))

    def page(self, request: Request) -> Answer:
        """Return the project's buckets by name: `storage.buckets.list`."""
        params = request.params
        if "project" not in params:
            raise required("project")
        names = sorted(
            name
            for name in self._world.store.all("bucket")
            if name.startswith(params.get("prefix", "")) and name > params.get("pageToken", "")
        )
        size = min(whole(params.get("maxResults", "1000"), "maxResults"), 1000)
        page: Doc = {"kind": "storage#buckets"}
        if names[:size]:
            page["items"] = [self._shown(self._shelf.bucket(name)) for name in names[:size]]
        if len(names) > size:
            page["nextPageToken"] = names[size - 1]
        return Answer(json=page)

    def patch(self, request: Request) -> Answer:
        """Change parts of a bucket: `storage.buckets.patch`; null takes a part away."""
        bucket = self._shelf.bucket(request.args["bucket"])
        Preconditions.read(request.params).check(bucket)
        changed = dict(bucket)
        self._change(changed, request.json(), request.params)
        changed["metageneration"] = str(int(bucket["metageneration"]) + 1)
        changed["updated"] = _millis(self._world.zulu())
        return Answer(json=self._shown(self._shelf.put_bucket(changed)))

    def update(self, request: Request) -> Answer:
        """Replace all that may change in a bucket: `storage.buckets.update`."""
        bucket = self._shelf.bucket(request.args["bucket"])
        Preconditions.read(request.params).check(bucket)
        whole_wish = dict.fromkeys(_MUTABLE - {"iamConfiguration", "softDeletePolicy", "rpo"})
        changed = dict(bucket)
        wish = {**whole_wish, "storageClass": bucket["storageClass"], **request.json()}
        self._change(changed, wish, request.params)
        changed["metageneration"] = str(int(bucket["metageneration"]) + 1)
        changed["updated"] = _millis(self._world.zulu())
        return Answer(json=self._shown(self._shelf.put_bucket(changed)))

    def delete(self, request: Request) -> Answer:
        """Delete an empty bucket: `storage.buckets.delete`."""
        bucket = self._shelf.bucket(request.args["bucket"])
        Preconditions.read(request.params).check(bucket)
        if any(doc["state"] != "soft-deleted" for doc in self._shelf.versions(bucket["name"])):
            raise conflict(
                "The bucket you tried to delete is not empty.", xml_code="BucketNotEmpty"
            )
        self._shelf.drop_bucket(bucket["name"])
        return Answer(status=204)

    # rules --------------------------------------------------------------------------------

    def _change(self, bucket: Doc, wish: Doc, params: dict[str, str]) -> None:
        uniform = bucket["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"]
        access = wish.get("iamConfiguration")
        if access is not None:
            bucket["iamConfiguration"] = self._new_access(bucket["iamConfiguration"], access)
            uniform = bucket["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"]
        asked = {"predefinedAcl", "predefinedDefaultObjectAcl"} & params.keys()
        if uniform and (asked or any(wish.get(name) for name in _ACLS)):
            raise legacy_acl()
        for name in (wish.keys() & _MUTABLE) - {"iamConfiguration"}:
            value = self._checked(bucket, name, wish[name])
            if value is None:
                bucket.pop(name, None)
            else:
                bucket[name] = value
        bucket["etag"] = base64.b64encode(f"CA{bucket['metageneration']}=".encode()).decode()

    def _checked(self, bucket: Doc, name: str, value: Any) -> Any:
        match name:
            case "storageClass":
                return check_class(value)
            case "labels":
                return _labels(bucket.get("labels", {}), value)
            case "lifecycle":
                return _lifecycle(value)
            case "softDeletePolicy":
                return self._soft_delete(value)
            case "encryption":
                return self._encryption(bucket, value)
            case _:
                return value

    def _soft_delete(self, value: Doc | None) -> Doc:
        kept_s = whole(str((value or {}).get("retentionDurationSeconds", 0)), "softDeletePolicy")
        if kept_s and not _SOFT_DELETE_S <= kept_s <= _LONGEST_SOFT_DELETE_S:
            raise bad(
                "Soft delete policies must have a retention duration of 0 or between 7 and 90 days."
            )
        policy = {"retentionDurationSeconds": str(kept_s)}
        return policy | {"effectiveTime": _millis(self._world.zulu())}

    def _encryption(self, bucket: Doc, value: Doc | None) -> Doc | None:
        key = (value or {}).get("defaultKmsKeyName")
        if not key:
            return None
        found = _KEY.fullmatch(key)
        if not found:
            raise bad(f"Malformed Cloud KMS crypto key: {key}")
        if found["place"].upper() != bucket["location"]:
            raise bad(
                "Cloud KMS key location must match the location of the bucket: the key is in "
                f"{found['place']}, the bucket in {bucket['location'].lower()}."
            )
        check_key(self._world, key)
        return {"defaultKmsKeyName": key}

    def _new_access(self, old: Doc, wish: Doc) -> Doc:
        level = wish.get("uniformBucketLevelAccess") or wish.get("bucketPolicyOnly") or {}
        enabled = level.get("enabled", old["uniformBucketLevelAccess"]["enabled"])
        prevention = wish.get("publicAccessPrevention", old["publicAccessPrevention"])
        if prevention == "unspecified":
            prevention = "inherited"
        if prevention not in {"inherited", "enforced"}:
            raise bad(f"Invalid argument: publicAccessPrevention is {prevention!r}.")
        lock = old["uniformBucketLevelAccess"].get("lockedTime")
        if lock and not enabled and self._world.now() > self._world.epoch(lock):
            raise bad(
                "Uniform bucket-level access can no longer be disabled: its lock time passed."
            )
        # It may be taken back for 90 days: .../docs/uniform-bucket-level-access
        lock = lock or _millis(self._world.zulu(self._world.now() + 90 * 86400))
        return _access(enabled=enabled, prevention=prevention, lock=lock if enabled else None)

    # access policy ------------------------------------------------------------------------

    def get_policy(self, request: Request) -> Answer:
        """Return who may do what: `storage.buckets.getIamPolicy`."""
        bucket = self._shelf.bucket(request.args["bucket"])
        version = whole(request.params.get("optionsRequestedPolicyVersion", "1"), "version")
        policy = self._policy(bucket)
        if version < 3:  # conditions are shown to those only who know of them
            plain = [{k: b[k] for k in ("role", "members")} for b in policy["bindings"]]
            policy = {**policy, "version": 1, "bindings": plain}
        return Answer(json=policy)

    def _policy(self, bucket: Doc) -> Doc:
        owner = {
            "role": "roles/storage.legacyBucketOwner",
            "members": [f"projectOwner:{self._world.project}"],
        }
        kept = bucket.get("_policy") or {"bindings": [owner], "version": 1, "etag": "CAE="}
        return {
            "kind": "storage#policy",
            "resourceId": f"projects/_/buckets/{bucket['name']}",
            **kept,
        }

    def set_policy(self, request: Request) -> Answer:
        """Replace who may do what: `storage.buckets.setIamPolicy`."""
        bucket = self._shelf.bucket(request.args["bucket"])
        wish, now = request.json(), self._policy(bucket)
        if wish.get("etag") not in {None, now["etag"]}:
            raise condition_not_met("If-Match")
        bindings = wish.get("bindings", [])
        uniform = bucket["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"]
        if any("condition" in binding for binding in bindings):
            if wish.get("version", 1) < 3:
                raise bad("Policies with conditions need version 3.")
            if not uniform:
                raise bad("Conditions need uniform bucket-level access to be enabled.")
        members = {member for binding in bindings for member in binding.get("members", ())}
        prevention = bucket["iamConfiguration"]["publicAccessPrevention"]
        if prevention == "enforced" and members & _PUBLIC:
            raise condition_not_met("If-Match")
        number = self._world.store.count("bucket-policy")
        etag = base64.b64encode(f"policy-{number}".encode()).decode()
        bucket["_policy"] = {
            "bindings": bindings, "version": wish.get("version", 1), "etag": etag
        }  # fmt: skip
        self._shelf.put_bucket(bucket)
        return Answer(json=self._policy(bucket))

    def test_permissions(self, request: Request) -> Answer:
        """Return which of the permissions asked for are held: all that no fault denies."""
        bucket = self._shelf.bucket(request.args["bucket"])["name"]
        asked = parse_qs(request.query).get("permissions", [])
        held = [
            p
            for p in asked
            if not self._world.faults.take("denied", {"bucket": bucket, "permission": p})
        ]
        answer: Doc = {"kind": "storage#testIamPermissionsResponse"}
        return Answer(json=answer | ({"permissions": held} if held else {}))

    def account(self, _: Request) -> Answer:
        """Return Storage's own account in the project, which KMS keys are granted to."""
        email = f"service-{self._world.project_number}@gs-project-accounts.iam.gserviceaccount.com"
        return Answer(json={"kind": "storage#serviceAccount", "email_address": email})

    def _shown(self, bucket: Doc) -> Doc:
        shown = {k: v for k, v in bucket.items() if k[0] != "_"}
        link = f"{self._world.url}/storage/v1/b/{bucket['name']}"
        return {"kind": "storage#bucket", "id": bucket["name"], "selfLink": link, **shown}

    def routes(self) -> list[Route]:
        """Return the routes."""
        base, one = "/storage/v1/b", "/storage/v1/b/{bucket}"
        table = [
            ("POST", base, self.insert, "insert"),
            ("GET", base, self.page, "list"),
            ("GET", one, self.get, "get"),
            ("PATCH", one, self.patch, "patch"),
            ("PUT", one, self.update, "update"),
            ("DELETE", one, self.delete, "delete"),
            ("GET", f"{one}/iam", self.get_policy, "getIamPolicy"),
            ("PUT", f"{one}/iam", self.set_policy, "setIamPolicy"),
            ("GET", f"{one}/iam/testPermissions", self.test_permissions, "testIamPermissions"),
        ]
        account = Route(
            method="GET",
            pattern="/storage/v1/projects/{project}/serviceAccount",
            handler=self.account,
            verb="storage.projects.serviceAccount.get",
        )
        return [
            account,
            *(
                Route(method=m, pattern=p, handler=h, verb=f"storage.buckets.{v}")
                for m, p, h, v in table
            ),
        ]


def _access(*, enabled: bool, prevention: str, lock: str | None) -> Doc:
    level: Doc = {"enabled": enabled} | ({"lockedTime": lock} if lock else {})
    return {
        "bucketPolicyOnly": level,
        "uniformBucketLevelAccess": dict(level),
        "publicAccessPrevention": prevention,
    }


def _labels(old: Doc, wish: Doc | None) -> Doc | None:
    if wish is None:
        return None
    labels = {k: v for k, v in {**old, **wish}.items() if v is not None}
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise bad(f"Invalid label: '{key}': '{value}'.")
    if len(labels) > _MOST_LABELS:
        raise bad(f"A bucket may have {_MOST_LABELS} labels, found {len(labels)}.")
    return labels


def _lifecycle(value: Doc | None) -> Doc | None:
    rules = (value or {}).get("rule", [])
    if len(rules) > _MOST_RULES:
        raise bad(f"A lifecycle configuration may have {_MOST_RULES} rules, found {len(rules)}.")
    for rule in rules:
        action, condition = rule.get("action", {}), rule.get("condition", {})
        if action.get("type") not in _LIFECYCLE_ACTIONS:
            raise bad(f"Invalid lifecycle action {action.get('type')!r}.")
        if action["type"] == "SetStorageClass":
            check_class(action.get("storageClass", ""))
        if not condition or condition.keys() - _LIFECYCLE_CONDITIONS:
            raise bad("A lifecycle rule must have at least one condition, and only known ones.")
        aborts = action["type"] == "AbortIncompleteMultipartUpload"
        if aborts and condition.keys() - {"age", "matchesPrefix", "matchesSuffix"}:
            raise bad("AbortIncompleteMultipartUpload takes age, matchesPrefix and matchesSuffix.")
    return {"rule": rules} if rules else None


def _millis(zulu: str) -> str:
    return zulu[:23] + "Z"
