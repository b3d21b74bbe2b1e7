"""A simulated Google Cloud seen through Google's own clients, every exchange judged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import requests
from google.api_core.client_options import ClientOptions
from google.api_core.retry import Retry
from google.auth.credentials import AnonymousCredentials, Credentials
from google.cloud import secretmanager_v1, storage
from google.cloud.storage.retry import DEFAULT_RETRY
from google.oauth2 import service_account

from tests.contract.google_description import judge_exchanges
from tests.gcp_fixture import GcpSimulator, gcp_simulator

_numbers = count(1)
SOON: Retry = DEFAULT_RETRY.with_delay(initial=0.01, maximum=0.05)  # no test waits a second


class Cloud:
    """A running simulator, and clients of it."""

    def __init__(self, simulator: GcpSimulator) -> None:
        self.simulator = simulator
        self._judged = 0

    @property
    def url(self) -> str:
        return self.simulator.url

    @property
    def project(self) -> str:
        return self.simulator.project

    def storage(self, credentials: Credentials | None = None) -> storage.Client:
        return storage.Client(
            project=self.project,
            credentials=credentials or AnonymousCredentials(),
            client_options=ClientOptions(api_endpoint=self.url),
        )

    def secrets(self) -> secretmanager_v1.SecretManagerServiceClient:
        return secretmanager_v1.SecretManagerServiceClient(
            transport="rest",
            client_options=ClientOptions(api_endpoint=self.url),
            credentials=AnonymousCredentials(),
        )

    def bucket(self, **properties: Any) -> storage.Bucket:
        """Return a new bucket with uniform access and without soft deletion, or as wished."""
        bucket = self.storage().bucket(f"cynthus-{next(_numbers)}")
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket._patch_property("softDeletePolicy", {"retentionDurationSeconds": "0"})
        for name, value in properties.items():
            bucket._patch_property(name, value)
        bucket.create(location="us-central1")
        return bucket

    def signer(self, name: str = "signer") -> service_account.Credentials:
        """Return a service account with a key file of its own."""
        key_file = self.simulator.post("/service-accounts", {"name": name, "key_file": True})
        return service_account.Credentials.from_service_account_info(
            key_file, scopes=["https://www.googleapis.com/auth/cloud-platform"]
        )

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        """Send a request as no client would."""
        return requests.request(method, f"{self.url}{path}", timeout=60, **more)

    def problems(self) -> list[str]:
        """Return what Google's descriptions object to since the last time."""
        lines = self.simulator.exchanges.read_text().splitlines()
        new, self._judged = lines[self._judged :], len(lines)
        return judge_exchanges(new)


@contextlib.contextmanager
def a_cloud(folder: Path) -> Iterator[Cloud]:
    """Run a simulator with its state in a folder; judge what happened at the end."""
    with gcp_simulator(folder) as simulator:
        cloud = Cloud(simulator)
        yield cloud
        assert cloud.problems() == []
