"""Buckets and objects of the simulated Cloud Storage, through Google's own client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.api_core.exceptions import (
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    NotModified,
    PreconditionFailed,
    TooManyRequests,
)
from google.cloud import storage

from tests.contract.gcp_cloud import Cloud, a_cloud

OWNER = "roles/storage.objectAdmin"


@pytest.fixture(scope="module")
def module_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with a_cloud(tmp_path_factory.mktemp("gcp")) as cloud:
        yield cloud


@pytest.fixture
def cloud(module_cloud: Cloud) -> Iterator[Cloud]:
    """Return the module's cloud; what the test sent is judged when it ends."""
    yield module_cloud
    module_cloud.simulator.sim("DELETE", "/faults")
    assert module_cloud.problems() == []


def names(bucket: storage.Bucket, **more: object) -> list[str]:
    return [blob.name for blob in bucket.client.list_blobs(bucket.name, **more)]


# buckets ----------------------------------------------------------------------------------


def test_a_bucket_comes_back_as_it_was_made(cloud: Cloud) -> None:
    rule = {"action": {"type": "Delete"}, "condition": {"age": 3, "matchesPrefix": ["incoming/"]}}
    made = cloud.bucket(
        labels={"cynthus": "yes"},
        lifecycle={"rule": [rule]},
        versioning={"enabled": True},
    )
    found = cloud.storage().get_bucket(made.name)
    assert found.location == "US-CENTRAL1"
    assert found.labels == {"cynthus": "yes"}
    assert [dict(each) for each in found.lifecycle_rules] == [rule]
    assert found.versioning_enabled
    assert found.iam_configuration.uniform_bucket_level_access_enabled
    assert found.soft_delete_policy.retention_duration_seconds == 0
    assert found.metageneration == 1


def test_a_new_bucket_keeps_deleted_objects_for_a_week_unless_told(cloud: Cloud) -> None:
    bucket = cloud.storage().create_bucket("cynthus-usual")
    assert bucket.soft_delete_policy.retention_duration_seconds == 604800
    assert bucket.iam_configuration.public_access_prevention == "inherited"


def test_a_bucket_is_changed_part_by_part(cloud: Cloud) -> None:
    bucket = cloud.bucket(labels={"a": "1", "b": "2"})
    bucket.labels = {"b": "3"}
    bucket.iam_configuration.public_access_prevention = "enforced"
    bucket.patch()
    found = cloud.storage().get_bucket(bucket.name)
    assert found.labels == {"b": "3"}
    assert found.iam_configuration.public_access_prevention == "enforced"
    assert found.iam_configuration.uniform_bucket_level_access_enabled
    assert found.metageneration == 2


@pytest.mark.parametrize(
    "name",
    ["ab", "UPPER-case", "a..b", "-dash", "10.0.0.1", "goog-mine", "my-google-bucket", "a" * 64],
)
def test_a_bucket_name_beyond_the_rules_is_refused(cloud: Cloud, name: str) -> None:
    answer = cloud.call("POST", "/storage/v1/b", params={"project": "p"}, json={"name": name})
    assert answer.status_code == 400
    assert answer.json()["error"]["errors"][0]["reason"] == "invalid"


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {}}]}}, "condition"),
        (
            {"lifecycle": {"rule": [{"action": {"type": "Burn"}, "condition": {"age": 1}}]}},
            "action",
        ),
        ({"softDeletePolicy": {"retentionDurationSeconds": "3600"}}, "7 and 90 days"),
        ({"encryption": {"defaultKmsKeyName": "my-key"}}, "KMS"),
        ({"storageClass": "WARM"}, "storage class"),
        ({"labels": {"Upper": "x"}}, "label"),
        ({"acl": [{"entity": "allUsers", "role": "READER"}]}, "uniform bucket-level access"),
    ],
)
def test_what_a_bucket_cannot_be_is_refused(
    cloud: Cloud, wish: dict[str, object], words: str
) -> None:
    with pytest.raises(BadRequest, match=words):
        cloud.bucket(**wish)


def test_a_bucket_is_made_once_and_deleted_only_when_empty(cloud: Cloud) -> None:
    bucket = cloud.bucket()
    with pytest.raises(Conflict):
        bucket.client.create_bucket(bucket.name)
    bucket.blob("a").upload_from_string(b"x")
    with pytest.raises(Conflict, match="not empty"):
        bucket.delete()
    bucket.blob("a").delete()
    bucket.delete()
    assert not bucket.exists()
    with pytest.raises(NotFound):
        bucket.delete()


def test_a_key_must_lie_where_the_bucket_does_and_be_granted(cloud: Cloud) -> None:
    key = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
    with pytest.raises(BadRequest, match="location"):
        cloud.bucket(encryption={"defaultKmsKeyName": key.replace("us-central1", "europe-west4")})
    bucket = cloud.bucket(encryption={"defaultKmsKeyName": key})
    blob = bucket.blob("a")
    blob.upload_from_string(b"x")
    assert blob.kms_key_name == f"{key}/cryptoKeyVersions/1"
    cloud.simulator.fault("kms_denied", times=2)
    with pytest.raises(Forbidden, match="Cloud KMS key"):
        bucket.blob("b").upload_from_string(b"x")
    with pytest.raises(Forbidden, match="Cloud KMS key"):
        blob.download_as_bytes()
    assert blob.download_as_bytes() == b"x"
    assert (
        cloud.storage()
        .get_service_account_email()
        .endswith("gs-project-accounts.iam.gserviceaccount.com")
    )


def test_the_access_policy_is_changed_by_who_read_it_last(cloud: Cloud) -> None:
    bucket = cloud.bucket(iamConfiguration={
        "uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced",
    })  # fmt: skip
    policy = bucket.get_iam_policy(requested_policy_version=3)
    stale = bucket.get_iam_policy(requested_policy_version=3)
    policy.version = 3
    condition = {"title": "own", "expression": "resource.name.startsWith('projects/_/buckets/b')"}
    policy.bindings.append(
        {"role": OWNER, "members": {"serviceAccount:run@p"}, "condition": condition}
    )
    bucket.set_iam_policy(policy)
    found = bucket.get_iam_policy(requested_policy_version=3)
    assert found.bindings[-1]["condition"] == condition
    stale.bindings.append({"role": OWNER, "members": {"user:late@example.org"}})
    with pytest.raises(PreconditionFailed):
        bucket.set_iam_policy(stale)
    found.bindings.append({"role": OWNER, "members": {"allUsers"}})
    with pytest.raises(PreconditionFailed):
        bucket.set_iam_policy(found)
    assert bucket.test_iam_permissions(["storage.objects.create"]) == ["storage.objects.create"]


def test_buckets_are_listed_by_prefix_and_page(cloud: Cloud) -> None:
    made = sorted(cloud.storage().create_bucket(f"listed-{n}").name for n in range(5))
    found = cloud.storage().list_buckets(prefix="listed-", page_size=2)
    assert [bucket.name for bucket in found] == made


@pytest.mark.parametrize(
    "body",
    [
        {"labels": ["a"]},
        {"labels": {"a": 1}},
        {"lifecycle": {"rule": [1]}},
        {"lifecycle": {"rule": [{"action": "Delete", "condition": {"age": "old"}}]}},
        {"iamConfiguration": {"uniformBucketLevelAccess": True}},
        {"encryption": "key"},
        {"softDeletePolicy": 0},
        {"color": "red"},
        [],
        "text",
    ],
)
def test_a_body_of_another_shape_is_refused_in_words(cloud: Cloud, body: object) -> None:
    bucket = cloud.bucket()
    answer = cloud.call("PATCH", f"/storage/v1/b/{bucket.name}", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


# objects ----------------------------------------------------------------------------------


def test_an_object_carries_hashes_metadata_and_generation(cloud: Cloud) -> None:
    blob = cloud.bucket().blob("out/model é.pt")
    blob.metadata = {"sha256": "abc"}
    blob.content_disposition = "attachment"
    blob.upload_from_string(b"weights", content_type="application/x-pt")
    found = blob.bucket.get_blob("out/model é.pt")
    assert found.size == 7
    assert found.metadata == {"sha256": "abc"}
    assert found.content_type == "application/x-pt"
    assert found.content_disposition == "attachment"
    assert found.storage_class == "STANDARD"
    assert found.crc32c == blob.crc32c
    assert (found.generation, found.metageneration) == (blob.generation, 1)
    assert found.download_as_bytes(checksum="crc32c") == b"weights"


def test_metadata_is_merged_and_counted(cloud: Cloud) -> None:
    blob = cloud.bucket().blob("a")
    blob.metadata = {"one": "1", "two": "2"}
    blob.upload_from_string(b"x")
    blob.metadata = {"two": None, "three": "3"}
    blob.patch(if_metageneration_match=1)
    blob.reload()
    assert blob.metadata == {"one": "1", "three": "3"}
    assert blob.metageneration == 2
    with pytest.raises(PreconditionFailed):
        blob.patch(if_metageneration_match=1)
    blob.metadata = {"big": "x" * 9000}
    with pytest.raises(BadRequest, match="8192"):
        blob.patch()


def test_generation_zero_creates_once(cloud: Cloud) -> None:
    bucket = cloud.bucket()
    bucket.blob("lock").upload_from_string(b"first", if_generation_match=0)
    with pytest.raises(PreconditionFailed) as refused:
        bucket.blob("lock").upload_from_string(b"second", if_generation_match=0)
    assert refused.value.response.json()["error"]["errors"][0] == {
        "message": "At least one of the pre-conditions you specified did not hold.",
        "domain": "global",
        "reason": "conditionNotMet",
        "locationType": "parameter",
        "location": "ifGenerationMatch",
    }
    assert bucket.blob("lock").download_as_bytes() == b"first"


def test_every_precondition_is_honoured(cloud: Cloud) -> None:
    blob = cloud.bucket().blob("a")
    blob.upload_from_string(b"one")
    old = blob.generation
    blob.upload_from_string(b"two", if_generation_match=old)
    new = blob.generation
    assert new > old
    with pytest.raises(PreconditionFailed):
        blob.download_as_bytes(if_generation_match=old)
    with pytest.raises(NotModified):
        blob.reload(if_generation_not_match=new)
    with pytest.raises(NotModified):
        blob.reload(if_metageneration_not_match=1)
    with pytest.raises(PreconditionFailed):
        blob.reload(if_metageneration_match=7)
    with pytest.raises(PreconditionFailed):
        blob.delete(if_generation_match=old)
    with pytest.raises(NotModified):
        cloud.bucket().blob("none").upload_from_string(b"x", if_generation_not_match=0)
    blob.delete(if_generation_match=new)
    with pytest.raises(NotFound):
        blob.delete(if_generation_match=new)


def test_an_overwritten_generation_is_gone_without_versioning(cloud: Cloud) -> None:
    blob = cloud.bucket().blob("a")
    blob.upload_from_string(b"one")
    old = blob.generation
    blob.upload_from_string(b"two")
    assert blob.bucket.get_blob("a", generation=old) is None


def test_versioning_keeps_what_was_overwritten_or_deleted(cloud: Cloud) -> None:
    bucket = cloud.bucket(versioning={"enabled": True})
    blob = bucket.blob("a")
    blob.upload_from_string(b"one")
    first = blob.generation
    blob.upload_from_string(b"two")
    bucket.blob("a").delete()
    assert names(bucket) == []
    assert names(bucket, versions=True) == ["a", "a"]
    assert bucket.blob("a", generation=first).download_as_bytes() == b"one"
    bucket.blob("a", generation=first).delete()
    assert names(bucket, versions=True) == ["a"]


def test_soft_deletion_keeps_for_a_while_and_restores(cloud: Cloud) -> None:
    bucket = cloud.bucket(softDeletePolicy={"retentionDurationSeconds": "604800"})
    blob = bucket.blob("a")
    blob.upload_from_string(b"one")
    generation = blob.generation
    bucket.blob("a").delete()
    assert names(bucket) == []
    found = list(bucket.list_blobs(soft_deleted=True))
    assert [each.generation for each in found] == [generation]
    assert found[0].hard_delete_time > found[0].soft_delete_time
    restored = bucket.restore_blob("a", generation=generation)
    assert restored.generation > generation
    assert bucket.blob("a").download_as_bytes() == b"one"


def test_ranges_are_served_to_the_byte(cloud: Cloud) -> None:
    blob = cloud.bucket().blob("a")
    blob.upload_from_string(b"0123456789")
    assert blob.download_as_bytes(start=2, end=4) == b"234"
    assert blob.download_as_bytes(start=7) == b"789"
    assert blob.download_as_bytes(start=8, end=99) == b"89"
    place = f"/download/storage/v1/b/{blob.bucket.name}/o/a?alt=media"
    last = cloud.call("GET", place, headers={"Range": "bytes=-3"})
    assert (last.status_code, last.content) == (206, b"789")
    assert last.headers["Content-Range"] == "bytes 7-9/10"
    behind = cloud.call("GET", place, headers={"Range": "bytes=10-"})
    assert behind.status_code == 416


def test_listing_groups_pages_and_matches(cloud: Cloud) -> None:
    bucket = cloud.bucket()
    for name in ["a/1.txt", "a/2.txt", "a/b/3.txt", "b.txt", "c/4.bin", "é"]:
        bucket.blob(name).upload_from_string(b"x")
    assert names(bucket) == ["a/1.txt", "a/2.txt", "a/b/3.txt", "b.txt", "c/4.bin", "é"]
    assert names(bucket, page_size=2) == names(bucket)
    listing = bucket.client.list_blobs(bucket, delimiter="/", page_size=1)
    assert [blob.name for blob in listing] == ["b.txt", "é"]
    assert listing.prefixes == {"a/", "c/"}
    inner = bucket.client.list_blobs(bucket, prefix="a/", delimiter="/")
    assert [blob.name for blob in inner] == ["a/1.txt", "a/2.txt"]
    assert inner.prefixes == {"a/b/"}
    assert names(bucket, match_glob="a/*.txt") == ["a/1.txt", "a/2.txt"]
    assert names(bucket, match_glob="**/*.{txt,bin}") == [
        "a/1.txt",
        "a/2.txt",
        "a/b/3.txt",
        "b.txt",
        "c/4.bin",
    ]
    assert names(bucket, start_offset="a/2.txt", end_offset="c") == [
        "a/2.txt",
        "a/b/3.txt",
        "b.txt",
    ]
    assert names(bucket, max_results=3) == ["a/1.txt", "a/2.txt", "a/b/3.txt"]


def test_a_listing_holds_only_the_fields_asked_for(cloud: Cloud) -> None:
    bucket = cloud.bucket()
    for name in "abc":
        bucket.blob(name).upload_from_string(b"x")
    wish = {"fields": "items(name,size),nextPageToken", "page_size": 2}
    found = list(bucket.client.list_blobs(bucket, **wish))
    assert [(blob.name, blob.size, blob.generation) for blob in found] == [
        (name, 1, None) for name in "abc"
    ]


@pytest.mark.parametrize(
    "name", ["x" * 1025, "a\nb", "a\rb", "é" * 513, ".", ".well-known/acme-challenge/x"]
)
def test_an_object_name_beyond_the_rules_is_refused(cloud: Cloud, name: str) -> None:
    with pytest.raises(BadRequest):
        cloud.bucket().blob(name).upload_from_string(b"x")


def test_a_name_of_1024_bytes_is_taken(cloud: Cloud) -> None:
    bucket = cloud.bucket()
    bucket.blob("é" * 512).upload_from_string(b"x")
    assert names(bucket) == ["é" * 512]


def test_access_lists_are_refused_under_uniform_access(cloud: Cloud) -> None:
    with pytest.raises(BadRequest, match="uniform bucket-level access"):
        cloud.bucket().blob("a").upload_from_string(b"x", predefined_acl="publicRead")


def test_copy_rewrite_and_compose_keep_bytes_and_checksums(cloud: Cloud) -> None:
    bucket, other = cloud.bucket(), cloud.bucket()
    one, two = bucket.blob("one"), bucket.blob("two")
    one.metadata = {"k": "v"}
    one.upload_from_string(b"hello ")
    two.upload_from_string(b"world")
    copy = bucket.copy_blob(one, other, "copy", if_generation_match=0)
    assert (copy.crc32c, copy.metadata) == (one.crc32c, {"k": "v"})
    one.delete()
    assert copy.download_as_bytes() == b"hello "
    with pytest.raises(PreconditionFailed):
        bucket.copy_blob(two, other, "copy", if_generation_match=0)
    both = other.blob("both")
    both.compose([copy, copy], if_generation_match=0)
    assert both.download_as_bytes() == b"hello hello "
    assert (both.component_count, both.md5_hash) == (2, None)
    with pytest.raises(BadRequest):
        other.blob("many").compose([copy] * 33)


def test_a_rewrite_to_another_class_takes_several_calls(cloud: Cloud) -> None:
    bucket = cloud.bucket()
    source, target = bucket.blob("a"), bucket.blob("b")
    source.upload_from_string(bytes(3 << 20))
    target.storage_class = "NEARLINE"
    place = f"/storage/v1/b/{bucket.name}/o/a/rewriteTo/b/{bucket.name}/o/b"
    query = {"maxBytesRewrittenPerCall": str(2 << 20)}
    first = cloud.call("POST", place, params=query, json={"storageClass": "NEARLINE"}).json()
    assert (first["done"], first["totalBytesRewritten"]) == (False, str(2 << 20))
    query["rewriteToken"] = first["rewriteToken"]
    last = cloud.call("POST", place, params=query, json={"storageClass": "NEARLINE"}).json()
    assert (last["done"], last["resource"]["storageClass"]) == (True, "NEARLINE")


def test_a_batch_answers_each_call_alone(cloud: Cloud) -> None:
    bucket = cloud.bucket()
    for name in "ab":
        bucket.blob(name).upload_from_string(b"x")
    with bucket.client.batch(raise_exception=False) as batch:
        bucket.blob("a").delete()
        bucket.blob("absent").delete()
        bucket.blob("b").delete()
    assert [answer.status_code for answer in batch._responses] == [204, 404, 204]
    assert names(bucket) == []


def test_one_name_is_not_written_as_fast_as_one_likes(cloud: Cloud) -> None:
    blob = cloud.bucket().blob("heartbeat")
    cloud.simulator.post("/settings", {"storage_write_burst": 3})
    try:
        for _ in range(3):
            blob.upload_from_string(b"x", retry=None)
        with pytest.raises(TooManyRequests, match="rate limit for object mutation"):
            blob.upload_from_string(b"x", retry=None)
        blob.bucket.blob("another").upload_from_string(b"x", retry=None)
    finally:
        cloud.simulator.post("/settings", {"storage_write_burst": 20})


def test_the_environment_points_the_client_here(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = cloud.bucket()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", cloud.url)
    client = storage.Client(project=cloud.project)
    client.bucket(bucket.name).blob("a").upload_from_string(b"x")
    assert client.bucket(bucket.name).blob("a").download_as_bytes() == b"x"


def test_what_was_answered_survives_a_kill(tmp_path_factory: pytest.TempPathFactory) -> None:
    with a_cloud(tmp_path_factory.mktemp("killed")) as cloud:
        bucket = cloud.bucket()
        bucket.blob("a").upload_from_string(b"kept")
        cloud.simulator.kill()
        cloud.simulator.start()
        found = cloud.storage().bucket(bucket.name)
        assert found.blob("a").download_as_bytes() == b"kept"
        found.blob("a").upload_from_string(b"again")
        assert found.blob("a").download_as_bytes() == b"again"


def test_lifecycle_rules_act_when_their_day_has_come(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with a_cloud(tmp_path_factory.mktemp("aged")) as cloud:
        rule = {"action": {"type": "Delete"}, "condition": {"age": 2, "matchesPrefix": ["tmp/"]}}
        bucket = cloud.bucket(lifecycle={"rule": [rule]})
        for name in ["tmp/a", "keep/a"]:
            bucket.blob(name).upload_from_string(b"x")
        assert cloud.simulator.post("/storage/lifecycle")["done"] == []
        cloud.simulator.post("/clock", advance_s=2 * 86400 + 1)
        done = cloud.simulator.post("/storage/lifecycle")["done"]
        assert [each["name"] for each in done] == ["tmp/a"]
        assert names(bucket) == ["keep/a"]
