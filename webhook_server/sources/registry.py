"""Open every source that a spec may name: one line each."""

from __future__ import annotations

from collections.abc import Mapping

from webhook_server.settings import Settings
from webhook_server.sources.gcs import open_cloud_storage
from webhook_server.sources.hf import HuggingFace
from webhook_server.sources.https import Https
from webhook_server.sources.hub_http import Hub
from webhook_server.sources.kaggle import Kaggle
from webhook_server.sources.pins import Pins
from webhook_server.sources.source import Source
from webhook_server.stores.blob_protocol import BlobStore
from webhook_server.stores.secret_protocol import SecretStore


def open_pins(settings: Settings, blobs: BlobStore, secrets: SecretStore) -> Pins:
    """Return what looks a run's data up. Asks nobody anything yet."""
    return Pins(open_sources(settings, blobs), secrets)


def open_sources(settings: Settings, blobs: BlobStore) -> Mapping[str, Source]:
    """Return the sources by their scheme. Asks nobody anything yet."""
    return {
        "hf": HuggingFace(Hub(settings.hf_url)),
        "kaggle": Kaggle(Hub(settings.kaggle_url)),
        "gs": open_cloud_storage(settings, blobs),
        "https": Https(),
    }
