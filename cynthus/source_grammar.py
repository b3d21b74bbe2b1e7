"""The texts of a spec's `data` entries: where data comes from, and which of its files are meant.

Every pattern matches whole strings and ASCII digits, and none can backtrack more than linearly.
"""

from __future__ import annotations

import re

from cynthus.grammar import Wrong
from cynthus.hosts import host_complaint

_HUB_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_SLUG = r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}"
_KAGGLE = {
    "datasets": re.compile(rf"{_SLUG}/{_SLUG}"),
    "competitions": re.compile(_SLUG),
    # Variations are named after numbers too: `2b-it`, `1.5-pro`.
    "models": re.compile(rf"{_SLUG}/{_SLUG}/{_SLUG}/[A-Za-z0-9][A-Za-z0-9._-]{{0,99}}"),
}
_KAGGLE_REMEDY = (
    "Write `kaggle://datasets/OWNER/NAME@VERSION`, `kaggle://competitions/NAME` or"
    " `kaggle://models/OWNER/MODEL/FRAMEWORK/VARIATION@VERSION`"
)
_KAGGLE_VERSION = re.compile(r"[1-9][0-9]{0,8}")
# https://cloud.google.com/storage/docs/buckets#naming
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_URL = re.compile(r"https://([^/?#\\]*)([/?][^#]*)?")
_PORT = re.compile(r"(.*?)(?::([0-9]{1,5}))?")
LONGEST_URL = 2048  # what every server and proxy takes

_SOURCE_REMEDY = (
    "Write `hf://datasets/OWNER/NAME@REVISION`, `hf://models/OWNER/NAME`, "
    "`kaggle://datasets/OWNER/NAME@VERSION`, `gs://BUCKET/PREFIX/` or `https://HOST/PATH`"
)


def source(text: str) -> str:
    """Return a data source; each scheme has its own grammar."""
    scheme, _, rest = text.partition("://")
    read = _SCHEMES.get(scheme)
    if read is None:
        raise Wrong("a source that Cynthus can stage", _SOURCE_REMEDY, found=_scheme_found(text))
    if len(text) > LONGEST_URL or not text.isascii() or not text.isprintable() or " " in text:
        raise Wrong(
            f"at most {LONGEST_URL} ASCII characters without spaces",
            "Write spaces as `%20`, other letters percent-encoded too",
            found=f"a {scheme} source that is not",
        )
    read(text, rest)
    return text


def _scheme_found(text: str) -> str | None:
    """Name a foreign scheme only: what follows it may hold a password."""
    match = re.match(r"[A-Za-z][A-Za-z0-9+.-]{0,20}:", text)
    return f"the scheme `{match[0]}`" if match else None


def _hugging_face(_text: str, rest: str) -> None:
    name, at, revision = rest.partition("@")
    kind, *parts = name.split("/")
    fits = kind in ("datasets", "models") and 1 <= len(parts) <= 2  # noqa: PLR2004 - OWNER/NAME
    if not fits or not all(_hub_part_fits(part) for part in parts):
        raise Wrong(
            "a dataset or model on Hugging Face",
            "Write `hf://datasets/OWNER/NAME@REVISION` or `hf://models/OWNER/NAME@REVISION`",
        )
    if at and not _revision_fits(revision):
        raise Wrong(
            "a branch, tag or commit after the `@`", "Write one such as `@main`, or leave it out"
        )


def _hub_part_fits(part: str) -> bool:
    # https://huggingface.co/docs/huggingface_hub: validate_repo_id
    fits = _HUB_PART.fullmatch(part) is not None
    return fits and "--" not in part and ".." not in part and not part.endswith(".git")


def _revision_fits(revision: str) -> bool:
    # https://git-scm.com/docs/git-check-ref-format
    if not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision:
        return False
    return not revision.endswith(("/", ".", ".lock"))


def _kaggle(_text: str, rest: str) -> None:
    path, at, version = rest.partition("@")
    shelf, _, name = path.partition("/")
    if shelf not in _KAGGLE or not _KAGGLE[shelf].fullmatch(name) or ".." in name:
        raise Wrong("a dataset, a competition or a model on Kaggle", _KAGGLE_REMEDY)
    if at and shelf == "competitions":
        raise Wrong(
            "a competition without a version, since Kaggle keeps none of those",
            "Write `kaggle://competitions/NAME`",
        )
    if at and not _KAGGLE_VERSION.fullmatch(version):
        raise Wrong("a version number after the `@`", "Write one such as `@4`, or leave it out")


def _cloud_storage(_text: str, rest: str) -> None:
    bucket, _, prefix = rest.partition("/")
    if not _bucket_fits(bucket):
        raise Wrong("a Cloud Storage bucket", "Write `gs://BUCKET/PREFIX/` with the bucket's name")
    parts = prefix.removesuffix("/").split("/") if prefix else []
    if any(part in ("", ".", "..") for part in parts) or set(prefix) & set("\\*?[]#"):
        raise Wrong(
            "a plain prefix after the bucket (no `..`, no pattern)",
            "Write `gs://BUCKET/PREFIX/`; everything below the prefix is staged",
        )


def _bucket_fits(bucket: str) -> bool:
    labels = bucket.split(".")
    if not _BUCKET.fullmatch(bucket) or any(not 1 <= len(label) <= 63 for label in labels):  # noqa: PLR2004 - as above
        return False
    if len(labels) == 4 and all(label.isdigit() for label in labels):  # noqa: PLR2004 - like an address
        return False
    return not bucket.startswith("goog") and (len(labels) > 1 or len(bucket) <= 63)  # noqa: PLR2004 - as above


def _https(text: str, _rest: str) -> None:
    match = _URL.fullmatch(text)
    if match is None or not match[1]:
        raise _url_wrong("an https address with a host and no `#`", "an address without one")
    authority = match[1]
    if "@" in authority:
        raise _url_wrong("an address without user name or password", "one (not shown)")
    port = _PORT.fullmatch(authority)
    host, number = (port[1], port[2]) if port else (authority, None)
    if number is not None and not 0 < int(number) < 65536:  # noqa: PLR2004 - TCP ports
        raise _url_wrong("an address with a port from 1 to 65535", f"port {number}")
    complaint = host_complaint(host)
    if complaint:
        raise _url_wrong("an address on the public internet", f"a host that {complaint}")


def _url_wrong(should: str, found: str) -> Wrong:
    return Wrong(should, "Write one such as `https://host.example.org/path/file.tgz`", found=found)


_SCHEMES = {"hf": _hugging_face, "kaggle": _kaggle, "gs": _cloud_storage, "https": _https}


# --- which of its files --------------------------------------------------------------------

LONGEST_PATTERN = 512  # of a path below a hub's own limit of 1024 bytes
_SUBSET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+-]{0,126}[A-Za-z0-9])?")
#: What can be unpacked, by its name.
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz")


def file_pattern(text: str) -> str:
    """Return a pattern of files as huggingface_hub's `allow_patterns` are: `*` passes `/` too.

    https://huggingface.co/docs/huggingface_hub/guides/download#filter-files-to-download
    """
    fits = text.isprintable() and text == text.strip() and "\\" not in text
    if not text or not fits or len(text.encode()) > LONGEST_PATTERN:
        raise Wrong(
            f"a pattern of 1 to {LONGEST_PATTERN} bytes, with `/` between folders",
            'Write one such as `"*.parquet"` or `"train/*"`',
        )
    if text.startswith("/") or ".." in text.split("/"):
        raise Wrong(
            "a pattern for paths inside the source, without a leading `/` and `..`",
            'Write one such as `"train/*"`',
        )
    return text


def subset(text: str) -> str:
    """Return the name of a subset: what a dataset's card calls a configuration.

    https://huggingface.co/docs/hub/datasets-manual-configuration
    """
    if not _SUBSET.fullmatch(text):
        raise Wrong(
            "the name of a subset: letters, digits, `.`, `_`, `+` and `-`",
            "Write one that the dataset's card names, such as `en`",
        )
    return text


def is_archive(source: str) -> bool:
    """Say whether a source's name is that of an archive that can be unpacked."""
    path = source.partition("?")[0].lower()
    return path.endswith(ARCHIVES)
