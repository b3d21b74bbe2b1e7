"""One layer more: which image it goes on, what the new one says, and which bases are refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from action.failures import BuildFailed
from action.image import append
from action.image.append import Change, Top
from action.plan import Origin
from cynthus.wire_image import Environment

NAME = "ghcr.io/acme/base:1"
GZIP = f"{append.OCI_LAYER}+gzip"
TOP = Top(
    digest=f"sha256:{'7' * 64}", diff_id=f"sha256:{'8' * 64}", size_bytes=512, compression="gzip"
)
CHANGE = Change(labels=(("dev.cynthus.environment", "e" * 32),), created_s=1_700_000_000)


def digest(sign: str) -> str:
    return f"sha256:{sign * 64}"


def a_manifest(*layers: dict[str, Any], docker: bool = False, **more: Any) -> dict[str, Any]:
    kind = append.DOCKER_CONFIG if docker else append.OCI_CONFIG
    return {
        "schemaVersion": 2,
        "mediaType": append.DOCKER_MANIFEST if docker else append.OCI_MANIFEST,
        "config": {"mediaType": kind, "size": 9, "digest": digest("c")},
        "layers": list(layers),
        **more,
    }


def a_layer(kind: str = GZIP, **more: Any) -> dict[str, Any]:
    return {"mediaType": kind, "size": 100, "digest": digest("1"), **more}


def a_config(layers: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/opt/bin:/bin", "HOME=/root"], "Cmd": ["python3"]},
        "rootfs": {"type": "layers", "diff_ids": [digest("2")] * layers},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "base"}],
        **more,
    }


def checked(manifest: dict[str, Any], config: object = None) -> append.Below:
    found = a_config(len(manifest["layers"])) if config is None else config
    return append.below(NAME, manifest["mediaType"], manifest, found)


def appended(
    manifest: dict[str, Any], config: object = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    made = append.append(checked(manifest, config), TOP, CHANGE)
    return json.loads(made.manifest), json.loads(made.config)


# ── what the new image says ─────────────────────────────────────────────────────────────────────


def test_the_manifest_names_the_layers_below_as_they_were_then_ours_and_the_new_config() -> None:
    stargz = a_layer(annotations={"containerd.io/snapshot/stargz/toc.digest": digest("5")})
    made = append.append(checked(a_manifest(stargz)), TOP, CHANGE)
    assert json.loads(made.manifest) == {
        "schemaVersion": 2,
        "mediaType": append.OCI_MANIFEST,
        "config": {
            "mediaType": append.OCI_CONFIG,
            "size": len(made.config),
            "digest": append.sha256(made.config),
        },
        "layers": [stargz, {"mediaType": GZIP, "size": 512, "digest": TOP.digest}],
    }
    assert made.config_digest == append.sha256(made.config)
    assert made.digest == append.sha256(made.manifest)


def test_a_container_of_it_runs_as_the_plain_user_in_the_workspace_without_a_command() -> None:
    _, config = appended(a_manifest(a_layer()))
    assert config["config"] == {
        "User": "1000:1000",
        "WorkingDir": "/workspace",
        "Env": ["PATH=/opt/bin:/bin", "HOME=/home/workload", "USER=workload", "PYTHONUNBUFFERED=1"],
        "Labels": {"dev.cynthus.environment": "e" * 32},
    }


def test_the_config_counts_the_new_layer_and_tells_its_history() -> None:
    _, config = appended(a_manifest(a_layer()))
    assert config["rootfs"] == {"type": "layers", "diff_ids": [digest("2"), TOP.diff_id]}
    assert config["created"] == "2023-11-14T22:13:20Z"
    assert [step["created_by"] for step in config["history"]] == [
        "base",
        "COPY . /workspace # cynthus",
    ]


def test_what_the_base_says_is_kept_but_for_the_story_of_its_own_build() -> None:
    kept = {"ExposedPorts": {"80/tcp": {}}, "Shell": ["/bin/bash"], "Labels": {"a": "b"}}
    config = a_config(1, config={**kept, "Entrypoint": ["/x"], "Image": "y"}, author="someone")
    gone = {"moby.buildkit.cache.v0": "b64", "container_config": {}, "parent": "p"}
    _, made = appended(a_manifest(a_layer()), {**config, **gone})
    assert made["author"] == "someone"
    assert not set(gone) & set(made)
    assert made["config"]["ExposedPorts"] == {"80/tcp": {}}
    assert made["config"]["Labels"] == {"a": "b", "dev.cynthus.environment": "e" * 32}
    assert not {"Entrypoint", "Image"} & set(made["config"])


def test_a_docker_image_stays_one() -> None:
    manifest = a_manifest(a_layer(f"{append.DOCKER_LAYER}.gzip"), docker=True)
    made, _ = appended(manifest)
    assert made["mediaType"] == append.DOCKER_MANIFEST
    assert made["config"]["mediaType"] == append.DOCKER_CONFIG
    assert made["layers"][-1]["mediaType"] == f"{append.DOCKER_LAYER}.gzip"


def test_the_same_parts_give_the_same_bytes_and_another_commit_gives_others() -> None:
    found = checked(a_manifest(a_layer()))
    later = Change(labels=CHANGE.labels, created_s=CHANGE.created_s + 1)
    one, same, other = (append.append(found, TOP, change) for change in (CHANGE, CHANGE, later))
    assert one == same
    assert one.digest != other.digest


def test_an_image_without_settings_history_or_variables_is_a_base_too() -> None:
    bare = {key: a_config()[key] for key in ("architecture", "os", "rootfs")}
    _, config = appended(a_manifest(a_layer()), bare)
    assert config["config"]["User"] == "1000:1000"
    assert len(config["history"]) == 1


def test_a_user_that_the_base_names_keeps_the_name() -> None:
    assert append.environment(["USER=jovyan", "A=b=c"]) == [
        "USER=jovyan",
        "A=b=c",
        "HOME=/home/workload",
        "PYTHONUNBUFFERED=1",
    ]


def test_labels_say_where_the_image_comes_from_and_nothing_that_is_not_known() -> None:
    origin = Origin(source_url="https://github.com/a/b", commit_sha="a" * 40, spec_sha256="b" * 64)
    about = Environment(key="e" * 32, base="python:3.11", base_digest=digest("d"))
    assert dict(append.labels(origin, about, created_s=1_700_000_000)) == {
        "org.opencontainers.image.created": "2023-11-14T22:13:20Z",
        "org.opencontainers.image.source": "https://github.com/a/b",
        "org.opencontainers.image.revision": "a" * 40,
        "org.opencontainers.image.base.name": "python:3.11",
        "org.opencontainers.image.base.digest": digest("d"),
        "dev.cynthus.environment": "e" * 32,
        "dev.cynthus.spec.sha256": "b" * 64,
    }
    nothing = Environment(key="", base="", base_digest="")
    assert append.labels(Origin(), nothing) == ()


# ── gzip or zstd ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kinds", "packed"),
    [
        ((GZIP, GZIP), "gzip"),
        ((append.OCI_LAYER,), "gzip"),
        ((GZIP, f"{append.OCI_LAYER}+zstd"), "zstd"),
        ((), "gzip"),
    ],
)
def test_a_layer_is_packed_by_zstd_only_where_the_base_is(
    kinds: tuple[str, ...], packed: str
) -> None:
    manifest = a_manifest(*(a_layer(kind) for kind in kinds))
    assert append.compression(checked(manifest)) == packed


# ── an index ────────────────────────────────────────────────────────────────────────────────────


def entry(sign: str, platform: dict[str, str] | None) -> dict[str, Any]:
    named = {} if platform is None else {"platform": platform}
    return {"digest": digest(sign), "size": 1, "mediaType": append.OCI_MANIFEST, **named}


AMD = {"os": "linux", "architecture": "amd64"}
INDEX = {
    "manifests": [
        entry("a", {"os": "linux", "architecture": "arm64", "variant": "v8"}),
        entry("b", {**AMD, "variant": "v3"}),
        entry("c", AMD),
        entry("d", {"os": "unknown", "architecture": "unknown"}),
        entry("e", None),
    ]
}


def test_of_an_index_the_plainest_image_of_the_platform_counts() -> None:
    assert append.child(NAME, INDEX) == digest("c")
    assert append.child(NAME, INDEX, "linux/arm64") == digest("a")


def test_a_platform_that_an_index_lacks_is_refused_with_what_it_has() -> None:
    with pytest.raises(
        BuildFailed, match=r"for linux/riscv64, found .* for linux/amd64, linux/arm64"
    ):
        append.child(NAME, INDEX, "linux/riscv64")


# ── bases that are refused ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("manifest", "config", "told"),
    [
        (a_manifest(a_layer(GZIP, urls=["https://example.org"])), None, "no registry may pass on"),
        (
            a_manifest(a_layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")),
            None,
            "no registry may pass on",
        ),
        (a_manifest(a_layer(f"{GZIP}+encrypted")), None, "an encrypted layer"),
        (a_manifest(a_layer("text/plain")), None, "of an unknown kind, `text/plain`"),
        (a_manifest(a_layer(digest="sha256:1")), None, "names a part by `sha256:1`, no digest"),
        (a_manifest(*[a_layer()] * 125), None, "fewer than 125 layers"),
        (a_manifest(a_layer()), a_config(2), "a config of others"),
        (a_manifest(a_layer()), a_config(architecture="arm64"), "found .* for linux/arm64"),
        (a_manifest(a_layer()), a_config(os="windows"), "found .* for windows/amd64"),
        (a_manifest(a_layer()), a_config(config={"OnBuild": ["RUN x"]}), "ONBUILD steps"),
        (a_manifest(a_layer()), a_config(config=[1]), "a config that is none"),
        (a_manifest(a_layer()), [], "a manifest or config that is none"),
        (a_manifest(a_layer(), manifests=[]), None, "says two things"),
        (
            a_manifest(a_layer(), config={"mediaType": "application/vnd.cncf.helm.config.v1+json"}),
            None,
            "which is `application/vnd.cncf.helm.config.v1[+]json`",
        ),
    ],
)
def test_a_base_that_no_layer_can_go_on_is_refused_with_the_reason(
    manifest: dict[str, Any], config: object, told: str
) -> None:
    with pytest.raises(BuildFailed, match=told):
        checked(manifest, config)


def test_a_base_of_the_first_format_is_refused_with_the_remedy() -> None:
    old = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    with pytest.raises(BuildFailed, match=r"Docker's first format\. Push it anew"):
        append.below(NAME, old, {"schemaVersion": 1}, {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "layers",
                    "config",
                    "manifests",
                    "digest",
                    "platform",
                    "rootfs",
                    "Env",
                    "mediaType",
                ]
            )
            | st.text(max_size=3),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(value=JSON, other=JSON)
def test_whatever_a_registry_answers_is_an_image_or_a_sentence(
    value: object, other: object
) -> None:
    """No answer of a registry ends in a stack trace."""
    for config in (other, {**a_config(), "config": other}, {**a_config(), "rootfs": other}):
        for manifest in (value, a_manifest(a_layer()), {**a_manifest(a_layer()), "layers": value}):
            try:
                found = append.below(NAME, append.OCI_MANIFEST, manifest, config)
            except BuildFailed:
                continue
            append.append(found, TOP, CHANGE)
    with contextlib.suppress(BuildFailed):
        append.child(NAME, value)
