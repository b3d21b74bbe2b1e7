"""Say what looks like a credential, by a file's name or by its text. Pure.

An image travels further than a working copy: to a registry, to every machine that runs it. The
value found is never returned, only what kind it seems to be of and the line.

Kinds of text are few and have a mark that their issuer chose to make them findable, so that false
alarms are rare. The patterns follow the issuers' pages and
https://github.com/gitleaks/gitleaks/blob/master/config/gitleaks.toml.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from fnmatch import translate

NAMES = (
    ".aws",
    ".azure",
    ".boto",
    ".databrickscfg",
    ".env",
    ".env.*",
    ".git-credentials",
    ".gnupg",
    ".kaggle",
    ".kube",
    ".modal.toml",
    ".netrc",
    ".npmrc",
    ".pgpass",
    ".pypirc",
    ".s3cfg",
    ".ssh",
    ".vault-token",
    "*.kdbx",  # a password store, as the next two are key stores
    "*.p12",
    "*.pfx",
    "*.tfstate",  # Terraform writes passwords into it as they are
    "_netrc",
    "application_default_credentials.json",  # gcloud's
    "gha-creds-*.json",  # google-github-actions/auth writes it into the workspace
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_rsa",
    "kaggle.json",
)
HARMLESS = frozenset({".env.example", ".env.sample", ".env.template", ".env.dist"})
# Folders that often hold harmless files beside the one with a credential in it.
PATHS = (
    "/.cargo/credentials.toml",
    "/.docker/config.json",
    "/.streamlit/secrets.toml",
    "/huggingface/token",
)

# A credential stands in a script, a settings file, a notebook. What is larger is data, and looking
# through it would cost seconds.
LARGEST_TEXT_BYTES = 1 << 20
# Fewer different characters are a placeholder such as `ghp_xxxxxxxx`; 8 are 3 bits a character,
# the entropy that gitleaks asks for.
LEAST_DIFFERENT = 8
# What git looks at to tell a text from other data: https://git-scm.com/docs/gitattributes (diff)
_HEAD_BYTES = 8000


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """What a text seems to hold, and where; lines count from 1."""

    what: str
    line: int


@dataclass(frozen=True)
class _Kind:
    what: str
    marks: tuple[bytes, ...]  # searched first: a hundred times as fast as a pattern
    pattern: re.Pattern[bytes]


def _kind(what: str, marks: str, pattern: str) -> _Kind:
    return _Kind(what, tuple(marks.encode().split()), re.compile(pattern.encode()))


_KINDS = (
    _kind(  # https://www.rfc-editor.org/rfc/rfc7468; in JSON the line ends are written `\n`
        "a private key",
        "-----BEGIN",
        r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
        # No `--` inside: a text full of beginnings would be searched anew from each of them.
        r"((?:[A-Za-z0-9+/=,:.()@]|-(?!-)|\s|\\[nr]){64,32768}?)-----END",
    ),
    _kind(  # https://github.blog/changelog/2021-03-31-authentication-token-format-updates-are-generally-available/
        "a GitHub token",
        "ghp_ gho_ ghu_ ghs_ ghr_",
        r"\bgh[pousr]_([A-Za-z0-9]{36,251})\b",
    ),
    _kind("a GitHub token", "github_pat_", r"\bgithub_pat_(\w{82})\b"),
    _kind(  # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
        "an AWS access key", "AKIA ASIA", r"\b(?:AKIA|ASIA)([A-Z2-7]{16})\b(?<!EXAMPLE)"
    ),
    _kind(
        "an AWS secret key",
        "secret_access_key SECRET_ACCESS_KEY",
        r"(?:secret_access_key|SECRET_ACCESS_KEY)[\"']?\s{0,4}[:=]\s{0,4}[\"']?"
        r"([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])(?<!EXAMPLEKEY)",
    ),
    _kind("a Google access token", "ya29.", r"\bya29\.([A-Za-z0-9_-]{40,})"),
    _kind("a Google client secret", "GOCSPX-", r"\bGOCSPX-([A-Za-z0-9_-]{28})(?![A-Za-z0-9_-])"),
    _kind(  # https://huggingface.co/docs/hub/security-tokens
        "a Hugging Face token", "hf_", r"\bhf_([A-Za-z0-9]{34})\b"
    ),
    _kind(  # https://api.slack.com/authentication/token-types
        "a Slack token", "xox", r"\bxox[abeoprs]-([A-Za-z0-9-]{24,})"
    ),
    _kind(  # every OpenAI key holds `OpenAI` in base64
        "an OpenAI key",
        "T3BlbkFJ",
        r"\bsk-((?:[A-Za-z0-9]+-)?[A-Za-z0-9_-]{20,74}T3BlbkFJ[A-Za-z0-9_-]{20,74})",
    ),
    _kind("an Anthropic key", "sk-ant-", r"\bsk-ant-[a-z]+[0-9]{2}-([A-Za-z0-9_-]{80,})"),
)


def by_name(path: str) -> bool:
    """Say whether a path (relative, with `/`) is one where tools keep credentials."""
    name = posixpath.basename(path)
    if _NAMED(name):
        return name not in HARMLESS
    return f"/{path}".endswith(PATHS)


_NAMED = re.compile("|".join(translate(name) for name in NAMES)).match


def in_text(text: bytes) -> Likeness | None:
    """Return the first credential that a file seems to hold; None for none, or for no text."""
    if text.find(b"\0", 0, _HEAD_BYTES) >= 0:
        return None
    for mark, kind in _BY_MARK:
        if mark in text and (at := _first(kind, text)) is not None:
            return Likeness(what=kind.what, line=1 + text.count(b"\n", 0, at))
    return None


_BY_MARK = tuple((mark, kind) for kind in _KINDS for mark in kind.marks)


def _first(kind: _Kind, text: bytes) -> int | None:
    """Return where the first of its kind begins that is no placeholder."""
    for found in kind.pattern.finditer(text):
        if len(set(found[1])) >= LEAST_DIFFERENT:
            return found.start()
    return None
