"""`cynthus gcp setup-storage`: what it says, what it changes, and with what it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cynthus.wire_doctor import Verdict
from tests.cloud_fixture import Cloud
from webhook_server.doctor.bucket_key import key_finding
from webhook_server.stores.bucket_setup import default_key, shape_of

KEY = "projects/acme/locations/us-central1/keyRings/ring/cryptoKeys/outputs"


def set_up(
    cloud: Cloud, folder: Path, *words: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cynthus", "gcp", "setup-storage", *words],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **cloud.environment,
            **settings,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_bucket_is_made_once_and_found_right_afterwards(cloud: Cloud, tmp_path: Path) -> None:
    name = f"{cloud.bucket}-made"
    first = set_up(cloud, tmp_path, "--bucket", name)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.splitlines() == [
        f"gs://{name}: should exist, found no such bucket",
        f"gs://{name}: is now as it should be.",
    ]
    again = set_up(cloud, tmp_path, "--bucket", name)
    assert (again.returncode, again.stdout) == (0, f"gs://{name}: is as it should be.\n")
    made = cloud.client().get_bucket(name)
    shape = shape_of(made)
    assert (shape.uniform_access, shape.public_access, shape.soft_delete_s) == (True, "enforced", 0)
    assert made.location.lower() == "us-central1"


def test_what_is_wrong_is_told_put_right_and_the_rest_left_alone(
    cloud: Cloud, tmp_path: Path
) -> None:
    bucket = cloud.client().get_bucket(cloud.bucket)
    bucket.iam_configuration.public_access_prevention = "inherited"
    bucket.versioning_enabled = True
    bucket.labels = {"team": "ml"}
    bucket.soft_delete_policy.retention_duration_seconds = 7 * 86400
    theirs = {"action": {"type": "Delete"}, "condition": {"age": 3, "matchesPrefix": ["tmp/"]}}
    bucket.lifecycle_rules = [theirs]
    bucket.patch()

    dry = set_up(cloud, tmp_path, "--dry-run", CYNTHUS_BLOB_DAYS="30")
    assert dry.returncode == 2
    place = f"gs://{cloud.bucket}"
    assert dry.stdout.splitlines() == [
        f"{place}: public access prevention: should be enforced, found inherited",
        f"{place}: soft delete, in seconds: should be 0, found 604800",
        f"{place}: object versioning: should be off, found on",
        f"{place}: labels: should be managed-by=cynthus, found none",
        f"{place}: lifecycle rules: should be AbortIncompleteMultipartUpload after 7 days;"
        " Delete after 30 days, found none",
    ]
    assert set_up(cloud, tmp_path, CYNTHUS_BLOB_DAYS="30").returncode == 0
    assert set_up(cloud, tmp_path, "--dry-run", CYNTHUS_BLOB_DAYS="30").returncode == 0
    found = shape_of(cloud.client().get_bucket(cloud.bucket))
    assert found.labels == {"team": "ml", "managed-by": "cynthus"}
    assert theirs in found.rules
    assert len(found.rules) == 3
    # Another age takes the place of ours; nothing piles up.
    assert set_up(cloud, tmp_path, CYNTHUS_BLOB_DAYS="60").returncode == 0
    found = shape_of(cloud.client().get_bucket(cloud.bucket))
    assert [r["condition"]["age"] for r in found.rules] == [3, 7, 60]


def test_a_key_of_ones_own_is_set(cloud: Cloud, tmp_path: Path) -> None:
    assert set_up(cloud, tmp_path, "--kms-key", KEY).returncode == 0
    bucket = cloud.client().get_bucket(cloud.bucket)
    assert bucket.default_kms_key_name == KEY
    assert set_up(cloud, tmp_path, "--dry-run").returncode == 0  # no opinion when none is named


def test_the_key_of_the_settings_is_set_and_what_lies_there_is_encrypted_with_it(
    cloud: Cloud, tmp_path: Path
) -> None:
    assert set_up(cloud, tmp_path, CYNTHUS_GCP_KMS_KEY=KEY).returncode == 0
    bucket = cloud.client().get_bucket(cloud.bucket)
    assert bucket.default_kms_key_name == KEY
    blob = bucket.blob("probe")
    blob.upload_from_string(b"data")
    assert bucket.get_blob("probe").kms_key_name == f"{KEY}/cryptoKeyVersions/1"
    told = key_finding("key", cloud.bucket, default_key(cloud.client(), cloud.bucket), KEY)
    assert told.verdict is Verdict.OK
    other = key_finding("key", cloud.bucket, KEY, f"{KEY}2")
    assert other.verdict is Verdict.FAIL
    assert "setup-storage" in other.remedy


def test_a_key_that_cloud_storage_may_not_use_says_what_to_do(cloud: Cloud, tmp_path: Path) -> None:
    cloud.sim.fault("kms_denied", times=-1)
    found = set_up(cloud, tmp_path, "--kms-key", KEY)
    assert found.returncode == 3
    assert "--authorize-cmek" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--bucket", "No_Such"), "--bucket: should be a name"),
        (("--bucket", "a/b"), "--bucket: should be a name"),
        (("--location", "europe-west4"), "--location: should be us-central1"),
    ],
)
def test_what_cannot_be_ends_with_2_and_changes_nothing(
    cloud: Cloud, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    found = set_up(cloud, tmp_path, *words)
    assert (found.returncode, found.stdout) == (2, "")
    assert told in found.stderr


def test_a_refusal_names_the_role_and_ends_with_3(cloud: Cloud, tmp_path: Path) -> None:
    cloud.sim.fault("denied", {"api": "storage"}, times=-1)
    found = set_up(cloud, tmp_path)
    assert found.returncode == 3
    assert "roles/storage.admin" in found.stderr
