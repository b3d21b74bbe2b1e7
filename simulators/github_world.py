"""Accounts, repositories, apps and installations: who exists and who may do what."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from simulators.github_git import Git
from simulators.github_state import Doc, Store, stamp

ROLES = ("none", "read", "triage", "write", "maintain", "admin")
# What the API's `permission` says for a role: docs of `get-collaborator-permission-level`.
COARSE = {"triage": "read", "maintain": "write"}
ACTIONS_SLUG = "github-actions"
ACTIONS_APP_ID = 15368  # GitHub's own Actions app has this id


class World:
    """The simulated GitHub's inhabitants, kept in the store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.wake: Callable[[], None] = lambda: None  # tells the delivery worker to look
        self._make_actions_app()

    def _make_actions_app(self) -> None:
        if self.store.get("app", ACTIONS_APP_ID):
            return
        owner = self.account("github", type_="Organization")
        app = new_app(owner, "GitHub Actions", ACTIONS_SLUG)
        self.store.put("app", {**app, "id": ACTIONS_APP_ID, "hook": None})
        self.account(f"{ACTIONS_SLUG}[bot]", type_="Bot")
        self.store.commit()

    def account(self, login: str, *, type_: str = "User") -> Doc:
        """Return the account of that name, made when new; each has its own id for ever."""
        found = self.find_account(login)
        if found:
            return found
        return self.store.put(
            "account", {"login": login, "type": type_, "created_at": self.store.stamp()}
        )

    def find_account(self, login: str) -> Doc | None:
        """Return an account by its name in any case, or None."""
        exact = self.store.first("account", login=login)
        if exact:
            return exact
        lower = login.lower()
        return next((a for a in self.store.find("account") if a["login"].lower() == lower), None)

    def owner(self, repo: Doc) -> Doc:
        """Return the account that owns a repository."""
        return self.store.must("account", repo["owner_id"])

    def full_name(self, repo: Doc) -> str:
        """Return `OWNER/NAME` as it is now."""
        return f"{self.owner(repo)['login']}/{repo['name']}"

    def find_repo(self, owner: str, name: str) -> Doc | None:
        """Return a repository by its present name, or None."""
        account = self.find_account(owner)
        if account is None:
            return None
        lower = name.lower()
        repos = self.store.find("repo", owner_id=account["id"])
        return next((repo for repo in repos if repo["name"].lower() == lower), None)

    def moved_repo(self, owner: str, name: str) -> Doc | None:
        """Return the repository that once had this name, or None."""
        old = self.store.first("rename", full_name=f"{owner}/{name}".lower())
        return self.store.get("repo", old["repo_id"]) if old else None

    def create_repo(self, owner: Doc, wish: Doc) -> Doc:
        """Make a repository with its bare git folder."""
        now = self.store.stamp()
        branch = wish.get("default_branch") or "main"
        repo = self.store.put(
            "repo",
            {
                "owner_id": owner["id"],
                "name": wish["name"],
                "default_branch": branch,
                "private": bool(wish.get("private", False)),
                "open": bool(wish.get("open", False)),
                "description": wish.get("description"),
                "fork_of": wish.get("fork_of"),
                "created_at": wish.get("created_at") or now,
                "updated_at": now,
                "pushed_at": now,
                "immutable_releases": False,
                "collaborators": {},
                "known_refs": {},
                "known_default": False,
                "next_number": 1,
                # Repositories made, renamed or moved after 2026-07-15 name ids in `sub`:
                # https://docs.github.com/actions/reference/security/oidc
                "immutable_sub": (wish.get("created_at") or now) >= "2026-07-15",
            },
        )
        self.git(repo).create(branch)
        return repo

    def delete_repo(self, repo: Doc) -> None:
        """Remove a repository; pull requests from it lose their head repository."""
        self.store.delete("repo", repo["id"])
        shutil.rmtree(self._git_folder(repo), ignore_errors=True)

    def git(self, repo: Doc) -> Git:
        """Return the bare git repository behind a repository."""
        return Git(self._git_folder(repo))

    def _git_folder(self, repo: Doc) -> Path:
        return self.store.folder / "git" / f"{repo['id']}.git"

    def role(self, repo: Doc, user: Doc | None) -> str:
        """Return what a user may do in a repository, highest of all grants."""
        if user is None:
            return "none" if repo["private"] else "read"
        if user["id"] == repo["owner_id"]:
            return "admin"
        granted: str = repo["collaborators"].get(str(user["id"]), "none")
        floor = "none" if repo["private"] else "read"
        return max(granted, floor, key=ROLES.index)

    def may(self, repo: Doc, user: Doc | None, role: str) -> bool:
        """Say whether a user has at least this role."""
        return ROLES.index(self.role(repo, user)) >= ROLES.index(role)

    def create_app(self, wish: Doc) -> tuple[Doc, str]:
        """Register a GitHub App; returns it and its private key, which is not kept."""
        owner = self.account(wish.get("owner") or "cynthus-dev")
        name = wish.get("name") or "Cynthus"
        slug = "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")
        app = new_app(owner, name, slug)
        key = _key(wish.get("pem"))
        app |= {
            "public_key": public_pem(key),
            "permissions": {"metadata": "read", **(wish.get("permissions") or {})},
            "events": list(wish.get("events") or []),
            "external_url": wish.get("external_url") or "https://cynthus.example",
            "hook": {
                "id": self.store.new_id("hook"),
                "url": wish.get("webhook_url") or "",
                "secret": wish.get("webhook_secret") or "",
                "content_type": "json",
                "insecure_ssl": "0",
            },
        }
        self.store.put("app", app)
        self.account(f"{slug}[bot]", type_="Bot")
        return app, private_pem(key)

    def bot(self, app: Doc) -> Doc:
        """Return the account an app acts as."""
        return self.account(f"{app['slug']}[bot]", type_="Bot")

    def installation_for(self, repo: Doc, app_id: int) -> Doc | None:
        """Return the installation of an app that covers a repository, or None."""
        found = self.store.find("installation", app_id=app_id)
        return next((i for i in found if self.covers(i, repo)), None)

    def covers(self, installation: Doc, repo: Doc) -> bool:
        """Say whether an installation may see a repository."""
        if installation["account_id"] != repo["owner_id"]:
            return False
        return installation["selection"] == "all" or repo["id"] in installation["repo_ids"]

    def installation_repos(self, installation: Doc) -> list[Doc]:
        """Return the repositories of an installation."""
        repos = self.store.find("repo", owner_id=installation["account_id"])
        return [repo for repo in repos if self.covers(installation, repo)]

    def pull(self, repo: Doc, number: int) -> Doc | None:
        """Return a pull request or issue by its number, or None."""
        return self.store.first("issue", repo_id=repo["id"], number=number)

    def head_repo(self, pull: Doc) -> Doc | None:
        """Return the repository a pull request comes from; None once a fork is deleted."""
        return self.store.get("repo", pull["head_repo_id"])


def new_app(owner: Doc, name: str, slug: str) -> Doc:
    """Return an app's first form, without permissions or hook."""
    now = "2026-01-01T00:00:00Z"
    return {
        "owner_id": owner["id"],
        "name": name,
        "slug": slug,
        "client_id": f"Iv23li{secrets.token_hex(7)}",
        "description": "",
        "external_url": "https://docs.github.com/actions",
        "permissions": {"metadata": "read", "checks": "write"},
        "events": [],
        "created_at": now,
        "updated_at": now,
        "public_key": "",
    }


def _key(pem: str | None) -> rsa.RSAPrivateKey:
    """Make a new key, or take one that was given: to make or to judge one takes 50 ms and more."""
    if pem is None:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    key = serialization.load_pem_private_key(
        pem.encode(), None, unsafe_skip_rsa_key_validation=True
    )
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("pem: should be an RSA key, as an App's is")
    return key


def private_pem(key: rsa.RSAPrivateKey) -> str:
    """Return a private key as GitHub hands it out."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


def public_pem(key: rsa.RSAPrivateKey) -> str:
    """Return the public half of a key."""
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def later(store: Store, **delta: float) -> str:
    """Return a moment after now as GitHub writes it."""
    from datetime import timedelta

    return stamp(store.now() + timedelta(**delta))
