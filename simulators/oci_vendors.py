"""How the simulated registries differ: one line of facts for each vendor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """What one vendor does in its own way."""

    name: str
    auth: Literal["none", "token"] = "token"
    token_path: str = "/token"  # noqa: S105 - a path
    token_life_s: int = 300
    # On what a token that has ended, or no right at all, is answered.
    expired_status: Literal[401, 403] = 401
    names_placeholder: bool = False  # the challenge names a scope of nobody's repository
    location: Literal["state", "relative", "elsewhere"] = "state"
    # A request with Content-Range: None takes any size, 0 none at all.
    most_ranged_bytes: int | None = None
    reads_ranges: bool = True  # 416 for a piece that does not begin where the last one ended
    cancels: bool = True  # DELETE of an upload
    resumes: bool = True  # after a cut the upload can be asked how far it got
    deletes: Literal["oci", "untagged", "none"] = "oci"
    redirect_status: Literal[0, 302, 307] = 0  # of blobs, to a storage that takes no token
    tags_a_page: int | None = None  # unless asked for more or fewer; None: all
    name_parts: tuple[int, int] = (1, 64)  # how many parts a repository's name has
    made_before: bool = False  # a push to a repository that nobody made is refused


VENDORS = {
    vendor.name: vendor
    for vendor in (
        # As measured of Debian's docker-registry 2.8.2: it ignores Content-Range, and an upload
        # that was cut in the middle of a piece is lost (its `_state` no longer fits).
        Vendor(name="distribution", auth="none", reads_ranges=False, resumes=False),
        Vendor(
            name="ghcr",
            token_life_s=300,
            # https://github.com/renovatebot/renovate/issues/11446
            expired_status=403,
            # https://github.com/cloudflare/serverless-registry/issues/148
            names_placeholder=True,
            location="relative",
            # https://github.com/oras-project/rust-oci-client/issues/35
            most_ranged_bytes=4 * MIB,
            # 405: https://github.com/radius-project/radius/pull/12623
            cancels=False,
            # 405: https://github.com/containers/skopeo/issues/1880
            deletes="none",
            redirect_status=307,
            tags_a_page=100,
            name_parts=(2, 64),
        ),
        Vendor(
            name="artifact-registry",
            token_path="/v2/token",  # noqa: S106 - a path
            token_life_s=3600,
            location="elsewhere",
            # https://cloud.google.com/artifact-registry/docs/reference/docker-api
            most_ranged_bytes=0,
            cancels=False,
            # GOOGLE_MANIFEST_DANGLING_TAG: https://github.com/fluxcd/pkg/pull/328
            deletes="untagged",
            redirect_status=302,
            name_parts=(3, 64),
            made_before=True,
        ),
        # Resumes as the specification says it should; whether Docker Hub does is not known.
        Vendor(
            name="hub",
            token_life_s=300,  # https://github.com/renovatebot/renovate/discussions/47314
            # 405: https://github.com/docker/hub-feedback/issues/2360
            deletes="none",
            redirect_status=307,
            tags_a_page=100,  # https://github.com/gadievron/raptor/pull/495
            name_parts=(2, 2),
        ),
    )
}
