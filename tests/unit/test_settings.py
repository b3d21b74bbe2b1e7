"""Settings: what starts a server, what does not, and that the page tells all of them."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from cynthus.errors import UserError
from docs.generate_settings import PAGE, settings_page
from webhook_server.settings import Secret, Settings
from webhook_server.settings_reader import read

GITHUB = {
    "CYNTHUS_GITHUB_APP_ID": "7",
    "CYNTHUS_GITHUB_PRIVATE_KEY": "-----BEGIN",
    "CYNTHUS_WEBHOOK_SECRET": "w" * 24,
    "CYNTHUS_ALLOWED": "acme",
}


def test_an_empty_environment_gives_a_server_for_this_machine_alone() -> None:
    settings = read({})
    assert (settings.host, settings.provider, settings.github_configured) == (
        "127.0.0.1",
        "local",
        False,
    )


def test_values_are_read_by_their_kind() -> None:
    settings = read(
        {
            "CYNTHUS_PORT": "0",
            "CYNTHUS_ALLOWED": "acme, other/repo,",
            "CYNTHUS_STATE_DIR": "/var/lib/cynthus",
            "CYNTHUS_GITHUB_WRITE_SPACING": "0.25",
        }
    )
    assert settings.port == 0
    assert settings.allowed == ("acme", "other/repo")
    assert settings.state_dir == Path("/var/lib/cynthus")
    assert settings.github_write_spacing == timedelta(milliseconds=250)


def test_budgets_are_exact_and_absent_unless_they_are_set() -> None:
    settings = read({"CYNTHUS_REPOSITORY_BUDGET": "99.50"})
    assert settings.repository_budget_usd == Decimal("99.50")
    assert settings.owner_budget_usd is None
    assert read({"CYNTHUS_OWNER_BUDGET": "0"}).owner_budget_usd == 0


def test_hubs_have_their_own_addresses_unless_others_are_set() -> None:
    assert read({}).hubs == {"hf": "https://huggingface.co", "kaggle": "https://api.kaggle.com"}
    settings = read({"CYNTHUS_HF_URL": "http://127.0.0.1:9/", "CYNTHUS_DATA_BUCKETS": "7=gs://b-1"})
    assert settings.hubs["hf"] == "http://127.0.0.1:9"
    assert settings.data_buckets == ("7=gs://b-1",)


def test_a_complete_github_setting_is_accepted() -> None:
    assert read(GITHUB).github_configured


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"CYNTHUS_PORT": "70000"}, "CYNTHUS_PORT: should be from 0 to 65535"),
        ({"CYNTHUS_PORT": "٣"}, "CYNTHUS_PORT: should be a whole number"),
        ({"CYNTHUS_REPOSITORY_BUDGET": "-1"}, "CYNTHUS_REPOSITORY_BUDGET: should be US dollars"),
        ({"CYNTHUS_OWNER_BUDGET": "1e3"}, "CYNTHUS_OWNER_BUDGET: should be US dollars"),
        ({"CYNTHUS_OWNER_BUDGET": "0.001"}, "at most two decimals, found '0.001'"),
        ({"CYNTHUS_OWNER_BUDGET": "NaN"}, "or leave it empty for no limit"),
        ({"CYNTHUS_LOG_LEVEL": "loud"}, "CYNTHUS_LOG_LEVEL: should be one of DEBUG"),
        ({"CYNTHUS_LOG_FORMAT": "xml"}, "CYNTHUS_LOG_FORMAT: should be text or json"),
        ({"CYNTHUS_TRAIL_MONTHS": "-1"}, "CYNTHUS_TRAIL_MONTHS: should be"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "otel:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT: should begin"),
        ({"CYNTHUS_MAX_DURATION": "0"}, "CYNTHUS_MAX_DURATION: should be above zero"),
        ({"CYNTHUS_MAX_DURATION": "NaN"}, "CYNTHUS_MAX_DURATION: should be seconds"),
        ({"CYNTHUS_LOG_LIMIT_BYTES": "0"}, "CYNTHUS_LOG_LIMIT_BYTES: should be at least 1"),
        ({"CYNTHUS_GITHUB_WRITE_SPACING": "-1"}, "CYNTHUS_GITHUB_WRITE_SPACING: should not be"),
        ({"CYNTHUS_PUBLIC_URL": "ftp://x"}, "CYNTHUS_PUBLIC_URL: should be https://HOST"),
        ({"CYNTHUS_PUBLIC_URL": "http://example.com"}, "CYNTHUS_PUBLIC_URL: should be https"),
        ({"CYNTHUS_PUBLIC_URL": "http://10.0.0.7:8080"}, "should be https outside this machine"),
        ({"CYNTHUS_PUBLIC_URL": "http://server:8080"}, "should be https outside this machine"),
        ({"STORAGE_EMULATOR_HOST": "http://10.0.0.7"}, "should be https outside this machine"),
        ({"CYNTHUS_GCP_KMS_KEY": "my-key"}, "CYNTHUS_GCP_KMS_KEY: should be projects/P"),
        ({"CYNTHUS_DATA_CACHE_BYTES": "0"}, "CYNTHUS_DATA_CACHE_BYTES: should be at least 1"),
        ({"CYNTHUS_PUBLIC_URL": "https://u:p@example.com"}, "CYNTHUS_PUBLIC_URL: should be"),
        ({"CYNTHUS_GCP_COMPUTE_URL": "http://x.example"}, "CYNTHUS_GCP_COMPUTE_URL: should be"),
        ({"CYNTHUS_HF_URL": "http://hub.example"}, "CYNTHUS_HF_URL: should be https://HOST"),
        ({"CYNTHUS_KAGGLE_URL": "ftp://x"}, "CYNTHUS_KAGGLE_URL: should be https://HOST"),
        ({"CYNTHUS_DATA_BUCKETS": "gs://b"}, "CYNTHUS_DATA_BUCKETS: should be ID=gs://BUCKET"),
        ({"CYNTHUS_DATA_BUCKETS": "1=gs://b-1,a/b=gs://b-2"}, "found 'a/b=gs://b-2'"),
        ({"CYNTHUS_DATABASE_URL": "mysql://x"}, "CYNTHUS_DATABASE_URL: should begin with"),
        ({"CYNTHUS_BLOB_URL": "s3://x"}, "CYNTHUS_BLOB_URL: should be file:///PATH"),
        ({"CYNTHUS_API_TOKEN": "t" * 23}, "CYNTHUS_API_TOKEN: should have at least 24 bytes"),
        ({"CYNTHUS_SERVER_KEY": "zz"}, "CYNTHUS_SERVER_KEY: should be 64 hex digits"),
        ({**GITHUB, "CYNTHUS_WEBHOOK_SECRET": "w" * 23}, "CYNTHUS_WEBHOOK_SECRET: should have"),
        ({**GITHUB, "CYNTHUS_WEBHOOK_SECRET": f"{'w' * 24},short"}, "CYNTHUS_WEBHOOK_SECRET"),
        ({**GITHUB, "CYNTHUS_WEBHOOK_SECRET": ""}, "CYNTHUS_WEBHOOK_SECRET: should have"),
        ({**GITHUB, "CYNTHUS_ALLOWED": " , "}, "CYNTHUS_ALLOWED: should name who may use"),
        ({**GITHUB, "CYNTHUS_GITHUB_PRIVATE_KEY": ""}, "CYNTHUS_GITHUB_PRIVATE_KEY: should be"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_name(change: dict[str, str], told: str) -> None:
    with pytest.raises(UserError) as refusal:
        read(change)
    assert told in str(refusal.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(UserError) as refusal:
        read({"CYNTHUS_LOG_LEVEL": "loud", "CYNTHUS_API_TOKEN": "short"})
    assert len(str(refusal.value).splitlines()) == 2


def test_a_refusal_never_shows_a_secret() -> None:
    secret = "hunter2-hunter2"
    with pytest.raises(UserError) as refusal:
        read(
            {
                "CYNTHUS_API_TOKEN": secret,
                "CYNTHUS_SERVER_KEY": secret,
                "CYNTHUS_DATABASE_URL": f"mysql://u:{secret}@h/d",
            }
        )
    assert secret not in str(refusal.value)


def test_secrets_do_not_show_themselves() -> None:
    assert "hunter" not in repr(Settings(api_token=Secret("hunter2")))


def test_the_settings_page_is_up_to_date_with_every_setting() -> None:
    assert PAGE.read_text("utf-8") == settings_page()
    assert all(item.metadata["doc"] for item in fields(Settings))
