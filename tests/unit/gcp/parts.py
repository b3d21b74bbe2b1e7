"""Values that the tests of the Google Cloud provider's pure parts share."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from cynthus.spec import Resources
from webhook_server.providers.gcp_order import Surroundings
from webhook_server.runs.lending import Offer, Order

PLANE = "abcdef123456"


def an_offer(**changes: Any) -> Offer:
    given: dict[str, Any] = {
        "provider": "gcp",
        "place": "us-central1-a",
        "machine": "g2-standard-8",
        "gpu_type": "l4",
        "gpu_count": 1,
        "cpu": 8,
        "memory_bytes": 32 << 30,
        "usd_per_hour": Decimal("0.86"),
    }
    return Offer(**(given | changes))


def an_order(**changes: Any) -> Order:
    given: dict[str, Any] = {
        "name": "cynthus-arun00000001-1",
        "run_id": "arun00000001",
        "attempt": 1,
        "repository_id": 4711,
        "offer": an_offer(),
        "need": Resources(),
        "max_life": timedelta(hours=3),
    }
    return Order(**(given | changes))


def around(**changes: Any) -> Surroundings:
    given: dict[str, Any] = {
        "control_plane": PLANE,
        "image": "projects/cos-cloud/global/images/family/cos-stable",
        "network": "global/networks/default",
        "subnetwork": "",
        "service_account": "runner@cynthus.iam.gserviceaccount.com",
        "external_ip": False,
        "secure_boot": True,
    }
    return Surroundings(**(given | changes))
