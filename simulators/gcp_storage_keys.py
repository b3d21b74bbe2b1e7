"""Keys of Cloud KMS, as far as Storage meets them: each is granted until a fault denies it."""

from __future__ import annotations

from simulators.gcp_storage_refusals import forbidden
from simulators.gcp_world import World


def check_key(world: World, key: str) -> None:
    """Refuse when the key is switched to be denied: fault `kms_denied`, matched by `key`."""
    if world.faults.take("kms_denied", {"key": key}):
        raise forbidden(
            "Permission denied on Cloud KMS key. Please ensure that your Cloud Storage service "
            f"account has been authorized to use this key: {key}"
        )
