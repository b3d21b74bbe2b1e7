"""Talk with GitHub's REST API: the only door to PyGithub."""

from webhook_server.github_api.api import GithubApi
from webhook_server.github_api.app_hooks import AppHooks, FailedDelivery
from webhook_server.github_api.app_reader import (
    AppFacts,
    AppReader,
    Converted,
    Delivered,
    HookConfig,
    Installation,
    convert,
)
from webhook_server.github_api.app_settings import AppSettings, web_url
from webhook_server.github_api.door import Invalid, NotFound, Way
from webhook_server.github_api.facts import (
    CheckRunRef,
    Comment,
    Entry,
    PullFacts,
    RepositoryFacts,
)
from webhook_server.github_api.releases import Asset, Release, Releases

__all__ = [
    "AppFacts",
    "AppHooks",
    "AppReader",
    "AppSettings",
    "Asset",
    "CheckRunRef",
    "Comment",
    "Converted",
    "Delivered",
    "Entry",
    "FailedDelivery",
    "GithubApi",
    "HookConfig",
    "Installation",
    "Invalid",
    "NotFound",
    "PullFacts",
    "Release",
    "Releases",
    "RepositoryFacts",
    "Way",
    "convert",
    "web_url",
]
