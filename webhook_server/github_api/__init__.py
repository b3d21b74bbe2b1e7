"""Talk with GitHub's REST API: the only door to PyGithub."""

from webhook_server.github_api.api import (
    AppSettings,
    CheckRunRef,
    Comment,
    Entry,
    GithubApi,
    PullFacts,
    RepositoryFacts,
    web_url,
)
from webhook_server.github_api.app_hooks import AppHooks, FailedDelivery
from webhook_server.github_api.door import Invalid, NotFound
from webhook_server.github_api.releases import Asset, Release, Releases

__all__ = [
    "AppHooks",
    "AppSettings",
    "Asset",
    "CheckRunRef",
    "Comment",
    "Entry",
    "FailedDelivery",
    "GithubApi",
    "Invalid",
    "NotFound",
    "PullFacts",
    "Release",
    "Releases",
    "RepositoryFacts",
    "web_url",
]
