"""A simulated Google Cloud with an account whose key can sign, and our stores on it."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from google.cloud.storage import Client

from tests.gcp_fixture import GcpSimulator
from webhook_server.settings import Settings
from webhook_server.settings_reader import read
from webhook_server.stores.bucket_rules import bucket_place, wanted_shape
from webhook_server.stores.bucket_setup import look, put_right
from webhook_server.stores.gcs_blobs import GcsBlobs, open_client, open_gcs_blobs
from webhook_server.stores.secret_manager import ManagerSecrets, open_manager_secrets


@dataclass(frozen=True)
class Cloud:
    """One simulator, one account, one bucket."""

    sim: GcpSimulator
    key_file: Path
    bucket: str = "acme-outputs"
    open: ExitStack = field(default_factory=ExitStack)  # what was opened, until the test's end

    @property
    def environment(self) -> dict[str, str]:
        return {
            "CYNTHUS_BLOB_URL": f"gs://{self.bucket}/cynthus",
            "CYNTHUS_SECRETS_URL": f"gcp://{self.sim.project}",
            "CYNTHUS_GCP_PROJECT": self.sim.project,
            "CYNTHUS_GCP_SECRETS_URL": self.sim.url,
            "CYNTHUS_GCP_IAM_URL": self.sim.url,
            "STORAGE_EMULATOR_HOST": self.sim.url,
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.key_file),
        }

    def settings(self, **more: str) -> Settings:
        return read({**self.environment, **more})

    def blobs(self, **more: str) -> GcsBlobs:
        return self.open.enter_context(closing(open_gcs_blobs(self.settings(**more))))

    def client(self) -> Client:
        return self.open.enter_context(closing(open_client(self.settings())))

    def secrets(self) -> ManagerSecrets:
        return self.open.enter_context(closing(open_manager_secrets(self.settings())))


def a_cloud(sim: GcpSimulator, folder: Path) -> Cloud:
    """Make the account with a key file, and the bucket as our own command makes it."""
    key_file = folder / "account.json"
    key_file.write_text(json.dumps(sim.post("/service-accounts", {"name": "c", "key_file": True})))
    return Cloud(sim, key_file)


def make_bucket(cloud: Cloud) -> None:
    settings = cloud.settings()
    client = cloud.client()
    place = bucket_place(settings.blob_url, None, None, settings.gcp_places)
    wanted = wanted_shape(place.prefix, 0, "")
    put_right(client, place, wanted, look(client, place, wanted))
