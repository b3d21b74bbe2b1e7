"""The limits of labels, metadata and tags, which anybody may put on a resource."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from simulators.gcp_compute_shapes import NAME, bad_request, invalid

# https://cloud.google.com/compute/docs/metadata/setting-custom-metadata#limitations
LARGEST_METADATA_VALUE, LARGEST_METADATA = 256 << 10, 512 << 10
_METADATA_KEY = re.compile(r"[a-zA-Z0-9-_]{1,128}")
# https://cloud.google.com/compute/docs/labeling-resources: letters of any language, no capitals.
MOST_LABELS = 64
MOST_TAGS = 64


def check_labels(labels: Mapping[str, Any]) -> None:
    """Refuse labels that break the limits."""
    at = "resource.labels"
    if len(labels) > MOST_LABELS:
        raise invalid(at, "", f"There may be at most {MOST_LABELS} labels.")
    for name, value in labels.items():
        if not _label(name) or not name[:1].isalpha():
            raise invalid(
                at,
                "",
                f"Label key '{name}' violates format constraints. The key must start with a "
                "lowercase character, can only contain lowercase letters, numeric characters, "
                "underscores and dashes. The key can be at most 63 characters long. "
                "International characters are allowed.",
            )
        if value and not _label(value):
            raise invalid(
                at,
                "",
                f"Label value '{value}' violates format constraints. The value can only contain "
                "lowercase letters, numeric characters, underscores and dashes. The value can be "
                "at most 63 characters long. International characters are allowed.",
            )


def _label(text: str) -> bool:
    return 0 < len(text) <= 63 and all(
        each in "_-" or (each.isalnum() and each == each.lower()) for each in text
    )


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Refuse metadata that breaks the limits."""
    at, total = "resource.metadata", 0
    seen: set[str] = set()
    for index, item in enumerate(metadata.get("items") or []):
        name, value = item.get("key", ""), item.get("value", "")
        if not _METADATA_KEY.fullmatch(name):
            raise invalid(f"{at}.items[{index}].key", name, "Must match '[a-zA-Z0-9-_]{1,128}'.")
        if name in seen:
            raise invalid(f"{at}.items[{index}].key", name, "Duplicate metadata key.")
        seen.add(name)
        size = len(value.encode())
        total += size
        if size > LARGEST_METADATA_VALUE:
            raise bad_request(
                f"Metadata value for key '{name}' is too large: maximum size "
                f"{LARGEST_METADATA_VALUE} character(s); actual size {size}.",
                "metadataTooLarge",
            )
    if total > LARGEST_METADATA:
        raise bad_request(f"Metadata is too large: {total} bytes.", "metadataTooLarge")


def check_tags(tags: Sequence[str]) -> None:
    """Refuse tags that break the limits."""
    if len(tags) > MOST_TAGS:
        raise invalid("resource.tags", "", f"There may be at most {MOST_TAGS} tags.")
    for index, tag in enumerate(tags):
        if not NAME.fullmatch(tag):
            raise invalid(f"resource.tags.items[{index}]", tag, "Must be a match of RFC 1035.")
