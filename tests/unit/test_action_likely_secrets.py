"""What looks like a credential, and what only looks alike."""

from __future__ import annotations

import random
import string
import time
from pathlib import Path

import pytest

from action.source import likely_secrets
from action.source.likely_secrets import Likeness

# Made here and by chance, so that no scanner of this repository takes them for somebody's.
CHANCE = random.Random(7)
LETTERS = string.ascii_letters + string.digits


def some(count: int, letters: str = LETTERS) -> str:
    return "".join(CHANCE.choice(letters) for _ in range(count))


def armored(kind: str, end: str = "\n") -> str:
    body = end.join(some(64, LETTERS + "+/") for _ in range(4))
    return f"-----BEGIN {kind}-----{end}{body}{end}-----END {kind}-----{end}"


FOUND = [
    ("a private key", armored("PRIVATE KEY")),
    ("a private key", armored("OPENSSH PRIVATE KEY")),
    ("a private key", armored("RSA PRIVATE KEY", "\r\n")),
    ("a private key", armored("ENCRYPTED PRIVATE KEY")),
    ("a private key", '{"private_key": "' + armored("PRIVATE KEY", "\\n") + '"}'),
    ("a private key", armored("PGP PRIVATE KEY BLOCK", "\n")),
    ("a GitHub token", f"ghp_{some(36)}"),
    ("a GitHub token", f'token: "ghs_{some(36)}",'),
    ("a GitHub token", f"https://x:gho_{some(36)}@github.com/a/b"),
    ("a GitHub token", f"github_pat_{some(22)}_{some(59)}"),
    ("an AWS access key", f"AKIA{some(16, string.ascii_uppercase + '234567')}"),
    ("an AWS secret key", f"aws_secret_access_key = {some(40, LETTERS + '+/')}"),
    (
        "an AWS secret key",
        f'os.environ["AWS_SECRET_ACCESS_KEY"] = "{some(40)}"'.replace('"] =', '" :'),
    ),
    ("a Google access token", f"Bearer ya29.{some(120)}"),
    ("a Google client secret", f"GOCSPX-{some(28)}"),
    ("a Hugging Face token", f"login(token='hf_{some(34)}')"),
    ("a Slack token", f"xoxb-{some(12, string.digits)}-{some(24)}"),
    ("an OpenAI key", f"sk-{some(20)}T3BlbkFJ{some(20)}"),
    ("an OpenAI key", f"sk-proj-{some(74)}T3BlbkFJ{some(74)}"),
    ("an Anthropic key", f"sk-ant-api03-{some(93)}AA"),
]


@pytest.mark.parametrize(("what", "text"), FOUND, ids=lambda text: text[:24])
def test_a_credential_is_found_with_its_line(what: str, text: str) -> None:
    found = likely_secrets.in_text(f"# é\n\nkey = {text}\nmore\n".encode())
    assert found == Likeness(what=what, line=3)


HARMLESS = [
    "ghp_" + "x" * 36,
    "hf_" + "XXXX" * 8 + "XX",
    "hf_" + "abc" * 3,
    "hf_hub_download, hf_model_with_a_rather_long_name_of_a_function",
    "AKIAIOSFODNN7EXAMPLE",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "aws_secret_access_key: ${{ secrets.AWS_SECRET_ACCESS_KEY }}",
    "aws_secret_access_key=os.environ['AWS_SECRET_ACCESS_KEY']",
    'if text.startswith("-----BEGIN PRIVATE KEY-----"):\n    raise ValueError("-----END")\n' * 9,
    "-----BEGIN CERTIFICATE-----\n" + some(400) + "\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\n" + some(400) + "\n-----END PUBLIC KEY-----",
    "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
    "xoxb-your-token",
    "sk-ant-api03-...",
    "sk-...T3BlbkFJ...",
    f"prefixghp_{some(36)}",
    f"\0ghp_{some(36)}",
]


@pytest.mark.parametrize("text", HARMLESS, ids=lambda text: text[:24])
def test_what_only_looks_alike_is_not_taken_for_one(text: str) -> None:
    assert likely_secrets.in_text(text.encode()) is None


def test_pythons_own_library_raises_no_alarm() -> None:
    files = sorted(Path(string.__file__).parent.glob("*.py"))
    assert len(files) > 100
    assert [path for path in files if likely_secrets.in_text(path.read_bytes())] == []


@pytest.mark.parametrize("mark", [mark for kind in likely_secrets._KINDS for mark in kind.marks])
def test_a_hostile_text_costs_little_time(mark: bytes) -> None:
    endings = (b"", b"A" * 40, b" PRIVATE KEY-----\n", b" = '")
    for text in ((mark + ending) * 60_000 for ending in endings):
        started = time.process_time()
        likely_secrets.in_text(text[: likely_secrets.LARGEST_TEXT_BYTES])
        assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        "a/.env.production",
        "a/.ssh",
        "gha-creds-0a1b.json",
        "a/.docker/config.json",
        ".docker/config.json",
        ".cache/huggingface/token",
        ".streamlit/secrets.toml",
        "keys/id_ed25519",
        "client.p12",
        "infra/terraform.tfstate",
    ],
)
def test_a_place_of_credentials_is_known_by_its_name(path: str) -> None:
    assert likely_secrets.by_name(path)


@pytest.mark.parametrize(
    "path",
    [
        ".env.example",
        "env",
        "my.env.py",
        ".docker/Dockerfile",
        "docker/config.json",
        "token",
        "id_rsa.pub",
        "ca.pem",
        "ssh",
        ".environment",
    ],
)
def test_a_name_that_only_looks_alike_is_none(path: str) -> None:
    assert not likely_secrets.by_name(path)
