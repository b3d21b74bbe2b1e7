"""Accounts, repositories, apps and commits in GitHub's JSON shapes."""

from __future__ import annotations

from simulators.github_git import Commit
from simulators.github_state import Doc, Json, node_id
from simulators.github_world import COARSE, World

_USER_URLS = (
    ("followers_url", "/followers"),
    ("following_url", "/following{/other_user}"),
    ("gists_url", "/gists{/gist_id}"),
    ("starred_url", "/starred{/owner}{/repo}"),
    ("subscriptions_url", "/subscriptions"),
    ("organizations_url", "/orgs"),
    ("repos_url", "/repos"),
    ("events_url", "/events{/privacy}"),
    ("received_events_url", "/received_events"),
)
_REPO_URLS = (
    ("archive_url", "/{archive_format}{/ref}"),
    ("assignees_url", "/assignees{/user}"),
    ("blobs_url", "/git/blobs{/sha}"),
    ("branches_url", "/branches{/branch}"),
    ("collaborators_url", "/collaborators{/collaborator}"),
    ("comments_url", "/comments{/number}"),
    ("commits_url", "/commits{/sha}"),
    ("compare_url", "/compare/{base}...{head}"),
    ("contents_url", "/contents/{+path}"),
    ("contributors_url", "/contributors"),
    ("deployments_url", "/deployments"),
    ("downloads_url", "/downloads"),
    ("events_url", "/events"),
    ("forks_url", "/forks"),
    ("git_commits_url", "/git/commits{/sha}"),
    ("git_refs_url", "/git/refs{/sha}"),
    ("git_tags_url", "/git/tags{/sha}"),
    ("hooks_url", "/hooks"),
    ("issue_comment_url", "/issues/comments{/number}"),
    ("issue_events_url", "/issues/events{/number}"),
    ("issues_url", "/issues{/number}"),
    ("keys_url", "/keys{/key_id}"),
    ("labels_url", "/labels{/name}"),
    ("languages_url", "/languages"),
    ("merges_url", "/merges"),
    ("milestones_url", "/milestones{/number}"),
    ("notifications_url", "/notifications{?since,all,participating}"),
    ("pulls_url", "/pulls{/number}"),
    ("releases_url", "/releases{/id}"),
    ("stargazers_url", "/stargazers"),
    ("statuses_url", "/statuses/{sha}"),
    ("subscribers_url", "/subscribers"),
    ("subscription_url", "/subscription"),
    ("tags_url", "/tags"),
    ("teams_url", "/teams"),
    ("trees_url", "/git/trees{/sha}"),
)


def api_url(world: World, repo: Doc, rest: str = "") -> str:
    """Return the API's URL of something in a repository."""
    return f"{world.store.base_url}/api/repos/{world.full_name(repo)}{rest}"


def html_url(world: World, repo: Doc, rest: str = "") -> str:
    """Return the page a person opens."""
    return f"{world.store.base_url}/{world.full_name(repo)}{rest}"


def user(world: World, account: Doc) -> Doc:
    """Return `simple-user`."""
    base = world.store.base_url
    url = f"{base}/api/users/{account['login']}"
    shape: Doc = {
        "login": account["login"],
        "id": account["id"],
        "node_id": node_id("O" if account["type"] == "Organization" else "U", account["id"]),
        "avatar_url": f"{base}/_pages/avatar.svg?u={account['id']}",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{base}/{account['login']}",
    }
    shape |= {name: url + rest for name, rest in _USER_URLS}
    return shape | {"type": account["type"], "user_view_type": "public", "site_admin": False}


def ghost(world: World) -> Doc:
    """Return the stand-in for a deleted user: https://github.com/ghost."""
    return user(world, {"login": "ghost", "id": 10137, "type": "User"})


def author(world: World, account_id: int | None) -> Doc:
    """Return who wrote something; the ghost when the account is gone."""
    account = world.store.get("account", account_id)
    return user(world, account) if account else ghost(world)


def minimal_repo(world: World, repo: Doc) -> Doc:
    """Return `minimal-repository`."""
    shape: Doc = {
        "id": repo["id"],
        "node_id": node_id("R", repo["id"]),
        "name": repo["name"],
        "full_name": world.full_name(repo),
        "private": repo["private"],
        "owner": user(world, world.owner(repo)),
        "html_url": html_url(world, repo),
        "description": repo["description"],
        "fork": repo["fork_of"] is not None,
        "url": api_url(world, repo),
    }
    return shape | {name: api_url(world, repo, rest) for name, rest in _REPO_URLS}


def repository(world: World, repo: Doc) -> Doc:
    """Return `repository`, as it stands in lists and webhooks."""
    issues = [i for i in world.store.find("issue", repo_id=repo["id"]) if i["state"] == "open"]
    page = html_url(world, repo)
    return minimal_repo(world, repo) | {
        "created_at": repo["created_at"],
        "updated_at": repo["updated_at"],
        "pushed_at": repo["pushed_at"],
        "git_url": page.replace("http://", "git://", 1) + ".git",
        "ssh_url": f"git@127.0.0.1:{world.full_name(repo)}.git",
        "clone_url": f"{page}.git",
        "svn_url": page,
        "homepage": None,
        "size": 0,
        "stargazers_count": 0,
        "watchers_count": 0,
        "language": None,
        "has_issues": True,
        "has_projects": True,
        "has_downloads": True,
        "has_wiki": True,
        "has_pages": False,
        "has_discussions": False,
        "forks_count": 0,
        "mirror_url": None,
        "archived": False,
        "disabled": False,
        "open_issues_count": len(issues),
        "license": None,
        "allow_forking": True,
        "is_template": False,
        "web_commit_signoff_required": False,
        "topics": [],
        "visibility": "private" if repo["private"] else "public",
        "forks": 0,
        "open_issues": len(issues),
        "watchers": 0,
        "default_branch": repo["default_branch"],
    }


def full_repo(world: World, repo: Doc, role: str) -> Doc:
    """Return `full-repository`, as `GET /repos/{owner}/{repo}` answers."""
    shape = repository(world, repo) | {
        "permissions": permissions(role),
        "temp_clone_token": None,
        "network_count": 0,
        "subscribers_count": 0,
    }
    parent = world.store.get("repo", repo["fork_of"])
    if parent:
        shape |= {"parent": repository(world, parent), "source": repository(world, parent)}
    return shape


def permissions(role: str) -> Doc:
    """Return what a role may do, right by right."""
    order = ("none", "read", "triage", "write", "maintain", "admin")
    rank = order.index(role)
    return {
        "admin": rank >= 5,
        "maintain": rank >= 4,
        "push": rank >= 3,
        "triage": rank >= 2,
        "pull": rank >= 1,
    }


def collaborator_permission(world: World, repo: Doc, account: Doc) -> Doc:
    """Return `repository-collaborator-permission`."""
    role = world.role(repo, account)
    # A custom role of the organisation has its own name and the rights of the one it inherits.
    name = repo.get("custom_roles", {}).get(str(account["id"]), role)
    person = user(world, account) | {"permissions": permissions(role), "role_name": name}
    return {"permission": COARSE.get(role, role), "user": person, "role_name": name}


def app(world: World, doc: Doc) -> Doc:
    """Return `integration`."""
    return {
        "id": doc["id"],
        "client_id": doc["client_id"],
        "slug": doc["slug"],
        "node_id": node_id("A", doc["id"]),
        "owner": user(world, world.store.must("account", doc["owner_id"])),
        "name": doc["name"],
        "description": doc["description"],
        "external_url": doc["external_url"],
        "html_url": f"{world.store.base_url}/apps/{doc['slug']}",
        "created_at": doc["created_at"],
        "updated_at": doc["updated_at"],
        "permissions": doc["permissions"],
        "events": doc["events"],
    }


def installation(world: World, doc: Doc) -> Doc:
    """Return `installation`."""
    account = world.store.must("account", doc["account_id"])
    app_ = world.store.must("app", doc["app_id"])
    base = world.store.base_url
    suspender = world.store.get("account", doc["suspended_by_id"])
    return {
        "id": doc["id"],
        "client_id": app_["client_id"],
        "account": user(world, account),
        "repository_selection": doc["selection"],
        "access_tokens_url": f"{base}/api/app/installations/{doc['id']}/access_tokens",
        "repositories_url": f"{base}/api/installation/repositories",
        "html_url": f"{base}/settings/installations/{doc['id']}",
        "app_id": doc["app_id"],
        "app_slug": app_["slug"],
        "target_id": doc["account_id"],
        "target_type": account["type"],
        "permissions": doc["permissions"],
        "events": doc["events"],
        "created_at": doc["created_at"],
        "updated_at": doc["updated_at"],
        "single_file_name": None,
        "has_multiple_single_files": False,
        "single_file_paths": [],
        "suspended_by": user(world, suspender) if suspender else None,
        "suspended_at": doc["suspended_at"],
    }


def git_person(name: str, email: str, date: str) -> Doc:
    """Return who wrote a commit, as git knows it."""
    return {"name": name, "email": email, "date": date}


def commit(world: World, repo: Doc, found: Commit) -> Doc:
    """Return `commit`, without its files."""
    url = api_url(world, repo, f"/commits/{found.sha}")
    return {
        "sha": found.sha,
        "node_id": f"C_{found.sha}",
        "commit": {
            "author": git_person(*found.author),
            "committer": git_person(*found.committer),
            "message": found.message,
            "tree": {
                "sha": found.tree,
                "url": api_url(world, repo, f"/git/trees/{found.tree}"),
            },
            "url": api_url(world, repo, f"/git/commits/{found.sha}"),
            "comment_count": 0,
            "verification": {
                "verified": False,
                "reason": "unsigned",
                "signature": None,
                "payload": None,
                "verified_at": None,
            },
        },
        "url": url,
        "html_url": html_url(world, repo, f"/commit/{found.sha}"),
        "comments_url": f"{url}/comments",
        # The simulator maps no e-mail address to an account, like GitHub for unknown ones.
        "author": None,
        "committer": None,
        "parents": [_parent(world, repo, sha) for sha in found.parents],
    }


def _parent(world: World, repo: Doc, sha: str) -> Doc:
    return {
        "sha": sha,
        "url": api_url(world, repo, f"/commits/{sha}"),
        "html_url": html_url(world, repo, f"/commit/{sha}"),
    }


def simple_commit(found: Commit) -> Doc:
    """Return `simple-commit`, as check suites carry it."""
    return {
        "id": found.sha,
        "tree_id": found.tree,
        "message": found.message,
        "timestamp": found.committer[2],
        "author": {"name": found.author[0], "email": found.author[1]},
        "committer": {"name": found.committer[0], "email": found.committer[1]},
    }


def listed(world: World, items: list[Doc], shape: Json) -> list[Doc]:
    """Return the shapes of several documents."""
    return [shape(world, item) for item in items]
