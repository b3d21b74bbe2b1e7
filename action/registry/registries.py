"""The one table of how registries differ. Data.

What is not listed behaves as the specification says:
https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What to know of one vendor before talking to it."""

    name: str
    hosts: str  # a regular expression, matched in full without the port
    # How much of a blob one request carries; None: all of it. Small pieces can be resumed after a
    # cut, but cost a round trip each.
    chunk_bytes: int | None
    mounts: bool  # a layer of another repository can be named instead of sent
    deletes: Literal["oci", "github", "none"]  # by which API an image is deleted
    untag_first: bool = False  # a manifest goes only when no tag names it
    most_blob_bytes: int | None = None
    most_manifest_bytes: int = 4 * MIB  # the specification: "at least 4 megabytes"
    push_remedy: str = "Check the login: it needs the right to pull and to push there."


KINDS = (
    Kind(
        name="ghcr",
        # A request with Content-Range is refused above 4 MiB ("exceeds the maximum permissible
        # limit of 4.00MiB"); one PUT with everything is not:
        # https://github.com/oras-project/rust-oci-client/issues/35,
        # https://github.com/kitops-ml/kitops/pull/780
        hosts=r"ghcr\.io",
        chunk_bytes=None,
        mounts=True,
        # 405 UNSUPPORTED: https://github.com/containers/skopeo/issues/1880; the way that works:
        # https://docs.github.com/rest/packages/packages#delete-a-package-version-for-an-organization
        deletes="github",
        # https://docs.github.com/packages/working-with-a-github-packages-registry/working-with-the-container-registry
        most_blob_bytes=10 * GIB,
        push_remedy=(
            "Give the job `permissions: packages: write`, and the repository the role Write in the "
            "package's settings (Manage Actions access)."
        ),
    ),
    Kind(
        name="artifact-registry",
        # "Artifact Registry does not support Docker chunked uploads":
        # https://cloud.google.com/artifact-registry/docs/reference/docker-api
        hosts=r"[a-z0-9-]+-docker\.pkg\.dev|(?:[a-z]+\.)?gcr\.io",
        chunk_bytes=None,
        mounts=True,
        deletes="oci",
        # GOOGLE_MANIFEST_DANGLING_TAG: https://github.com/fluxcd/pkg/pull/328
        untag_first=True,
        push_remedy=(
            "Give the service account `roles/artifactregistry.writer` on the repository, and make "
            "the repository before the first push."
        ),
    ),
    Kind(
        name="hub",
        hosts=r"(?:registry-1\.|index\.)?docker\.io",
        chunk_bytes=100 * MIB,  # https://github.com/kitops-ml/kitops/pull/329
        mounts=True,
        deletes="none",  # 405: https://github.com/docker/hub-feedback/issues/2360
        push_remedy="Give `password` an access token of Docker Hub with Read & Write.",
    ),
    Kind(
        name="ecr",
        # Its Range answers stand still and it ends a chunked upload early:
        # https://github.com/aws/containers-roadmap/issues/2831,
        # https://github.com/kitops-ml/kitops/pull/822
        hosts=r".+\.dkr\.ecr\..+\.amazonaws\.com(?:\.cn)?|public\.ecr\.aws",
        chunk_bytes=None,
        mounts=False,  # only for accounts that switched it on, and never across them
        deletes="none",  # its own API: https://github.com/fluxcd/pkg/pull/328
        push_remedy="The login needs ecr:PutImage, and the repository must have been made before.",
    ),
)
DISTRIBUTION = Kind(
    name="distribution",  # CNCF Distribution, and whoever keeps to the specification
    hosts=r".*",
    # Large enough that a round trip is lost in it (64 MiB take half a second at 1 Gbit/s), small
    # enough for what reverse proxies let through (Cloudflare: 100 MB) and to send again.
    chunk_bytes=64 * MIB,
    mounts=True,
    deletes="oci",
)
BY_NAME = {kind.name: kind for kind in (*KINDS, DISTRIBUTION)}

MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


def kind_of(host: str) -> Kind:
    """Return the line of the table for a host, which may carry a port."""
    bare = re.sub(r":\d+$", "", host).lower()
    return next((kind for kind in KINDS if re.fullmatch(kind.hosts, bare)), DISTRIBUTION)
