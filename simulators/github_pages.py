"""What a person sees in a browser: repositories, checks, releases, pull requests."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from simulators import github_checks as checks
from simulators import github_markdown
from simulators import github_shapes_work as work
from simulators.github_http import ApiError
from simulators.github_state import Doc, Json
from simulators.github_world import World

FOLDER = Path(__file__).parent / "pages"
# Nothing runs in these pages and nothing is loaded from elsewhere, whatever a run's text says.
SAFE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
}
_AVATAR = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><rect width="40" height="40" '
    'rx="20" fill="hsl({hue} 45% 55%)"/><circle cx="20" cy="16" r="7" fill="#fff"/>'
    '<path d="M6 38a14 12 0 0 1 28 0z" fill="#fff"/></svg>'
)


class Missing(Exception):  # noqa: N818 - reads as what happened
    """There is no such page."""


class Pages:
    """The ASGI program for everything that is not an interface of machines."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._templates = Environment(
            loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined
        )
        self._templates.filters["markdown"] = github_markdown.render
        self._templates.filters["size"] = readable_size
        self._templates.globals["ago"] = self._ago
        self._routes: tuple[tuple[str, str, Callable[..., Response]], ...] = (
            ("GET", r"/", self.home),
            ("GET", r"/_pages/style\.css", self.style),
            ("GET", r"/_pages/avatar\.svg", self.avatar),
            ("GET", r"/_assets/(?P<asset>\d+)", self.asset),
            ("GET", r"/(?P<o>[^/]+)/(?P<r>[^/]+)", self.repo),
            ("GET", r"/(?P<o>[^/]+)/(?P<r>[^/]+)/commit/(?P<sha>[0-9a-f]+)(/checks)?", self.commit),
            ("GET", r"/(?P<o>[^/]+)/(?P<r>[^/]+)/runs/(?P<run>\d+)", self.run),
            ("POST", r"/(?P<o>[^/]+)/(?P<r>[^/]+)/runs/(?P<run>\d+)/press", self.press),
            ("GET", r"/(?P<o>[^/]+)/(?P<r>[^/]+)/actions/runs/\d+/job/(?P<job>\d+)", self.job),
            ("GET", r"/(?P<o>[^/]+)/(?P<r>[^/]+)/releases", self.releases),
            ("GET", r"/(?P<o>[^/]+)/(?P<r>[^/]+)/releases/tag/(?P<tag>.+)", self.release),
            (
                "GET",
                r"/(?P<o>[^/]+)/(?P<r>[^/]+)/releases/download/(?P<tag>.+)/(?P<name>[^/]+)",
                self.download,
            ),
            ("GET", r"/(?P<o>[^/]+)/(?P<r>[^/]+)/(pull|issues)/(?P<number>\d+)", self.pull),
            ("GET", r"/(?P<o>[^/]+)/(?P<r>[^/]+)/raw/(?P<ref>[^/]+)/(?P<path>.+)", self.raw),
            ("GET", r"/(?P<o>[^/]+)/(?P<r>[^/]+)/blob/(?P<ref>[^/]+)/(?P<path>.+)", self.blob),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        form = parse_qs((await request.body()).decode(errors="replace"))
        fields = {name: values[-1] for name, values in form.items()}
        response = await run_in_threadpool(self._answer, request, fields)
        for name, value in SAFE_HEADERS.items():
            response.headers[name] = value
        await response(scope, receive, send)

    def _answer(self, request: Request, form: dict[str, str]) -> Response:
        with self._world.store.lock:
            try:
                return self._routed(request, form)
            except (Missing, ApiError):
                return self._page("missing.html", 404, path=request.url.path)
            finally:
                self._world.store.commit()

    def _routed(self, request: Request, form: dict[str, str]) -> Response:
        for method, pattern, handler in self._routes:
            found = re.fullmatch(pattern, request.url.path.rstrip("/") or "/")
            if found and method == request.method:
                args = found.groupdict()
                more = {"form": form} if method == "POST" else {}
                if "o" in args:
                    more["repo"] = self._repo(args.pop("o"), args.pop("r"))
                return handler(**args, **more)
        raise Missing

    def _repo(self, owner: str, name: str) -> Doc:
        found = self._world.find_repo(owner, name) or self._world.moved_repo(owner, name)
        if found is None:
            raise Missing
        return found

    def _page(self, template: str, status: int = 200, **values: Json) -> Response:
        html = self._templates.get_template(template).render(
            base=self._world.store.base_url, **values
        )
        return HTMLResponse(html, status)

    def _repo_page(self, template: str, repo: Doc, **values: Json) -> Response:
        releases = self._world.store.find("release", repo_id=repo["id"])
        return self._page(
            template,
            repo=repo,
            full_name=self._world.full_name(repo),
            release_count=sum(not r["draft"] for r in releases),
            **values,
        )

    def _ago(self, stamp: str | None) -> str:
        from simulators.github_state import moment

        if stamp is None:
            return ""
        seconds = max(0, int((self._world.store.now() - moment(stamp)).total_seconds()))
        for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
            if seconds >= size:
                count = seconds // size
                return f"{count} {name}{'s' if count > 1 else ''} ago"
        return "just now"

    def home(self) -> Response:
        """List every repository."""
        repos = [(self._world.full_name(r), r) for r in self._world.store.find("repo")]
        return self._page("home.html", repos=sorted(repos, key=lambda pair: pair[0]))

    def style(self) -> Response:
        """Serve the one style sheet."""
        return FileResponse(FOLDER / "style.css", media_type="text/css")

    def avatar(self) -> Response:
        """Serve a face for everybody."""
        return Response(_AVATAR.format(hue=210), media_type="image/svg+xml")

    def asset(self, asset: str) -> Response:
        """Serve an asset's bytes, as the storage host does that downloads are redirected to."""
        return self._bytes(self._world.store.get("asset", int(asset)))

    def _bytes(self, asset: Doc | None) -> Response:
        if asset is None or asset["state"] != "uploaded":
            raise Missing
        path = self._world.store.folder / "assets" / str(asset["id"])
        return FileResponse(path, media_type="application/octet-stream", filename=asset["name"])

    def repo(self, repo: Doc) -> Response:
        """Show a repository: its files, last commits with their checks, pull requests."""
        git = self._world.git(repo)
        tip = git.resolve(repo["default_branch"])
        commits = git.log("--max-count=15", "--branches") if tip else []
        issues = self._world.store.find("issue", repo_id=repo["id"])
        return self._repo_page(
            "repo.html",
            repo,
            entries=git.tree(tip) if tip else [],
            commits=[(commit, self._runs(repo, commit.sha)) for commit in commits],
            pulls=[i for i in reversed(issues) if i["is_pull"]],
        )

    def _runs(self, repo: Doc, sha: str) -> list[Doc]:
        return self._world.store.find("check_run", head_sha=sha, repo_id=repo["id"])

    def commit(self, repo: Doc, sha: str) -> Response:
        """Show a commit and its checks."""
        git = self._world.git(repo)
        full = git.resolve(sha)
        if full is None:
            raise Missing
        runs = [(run, self._app_of(run)) for run in self._runs(repo, full)]
        return self._repo_page("commit.html", repo, commit=git.commit(full), runs=runs)

    def _app_of(self, run: Doc) -> Doc:
        return self._world.store.must("app", run["app_id"])

    def run(self, repo: Doc, run: str) -> Response:
        """Show one check run."""
        found = self._run_of(repo, run)
        return self._repo_page(
            "run.html",
            repo,
            run=found,
            app=self._app_of(found),
            others=self._runs(repo, found["head_sha"]),
        )

    def _run_of(self, repo: Doc, run: str) -> Doc:
        found = self._world.store.get("check_run", int(run))
        if found is None or found["repo_id"] != repo["id"]:
            raise Missing
        return checks.aged(self._world, found)

    def press(self, repo: Doc, run: str, form: dict[str, str]) -> Response:
        """Do what a button says: a requested action, or a re-run."""
        found = self._run_of(repo, run)
        account = self._world.owner(repo)
        name = form.get("identifier")
        if name is None:
            checks.rerequest(self._world, found, account)
        else:
            checks.press(self._world, found, account, name)
        page = f"/{self._world.full_name(repo)}/runs/{found['id']}"
        return RedirectResponse(page, 303)

    def job(self, repo: Doc, job: str) -> Response:
        """Show a workflow job and its log."""
        found = self._world.store.get("job", int(job))
        if found is None or found["repo_id"] != repo["id"]:
            raise Missing
        return self._repo_page("job.html", repo, job=found)

    def releases(self, repo: Doc) -> Response:
        """List the published releases."""
        found = [
            r
            for r in reversed(self._world.store.find("release", repo_id=repo["id"]))
            if not r["draft"]
        ]
        return self._repo_page("releases.html", repo, releases=[self._shown(r) for r in found])

    def _shown(self, release: Doc) -> Doc:
        return work.release(self._world, release)

    def release(self, repo: Doc, tag: str) -> Response:
        """Show one release with its files."""
        for release in self._world.store.find("release", repo_id=repo["id"]):
            if tag in {release["tag_name"], f"untagged-{release['id']:x}"}:
                return self._repo_page("releases.html", repo, releases=[self._shown(release)])
        raise Missing

    def download(self, repo: Doc, tag: str, name: str) -> Response:
        """Serve a file of a release."""
        for release in self._world.store.find("release", repo_id=repo["id"], tag_name=tag):
            for asset in self._world.store.find("asset", release_id=release["id"], name=name):
                return self._bytes(asset)
        raise Missing

    def pull(self, repo: Doc, number: str) -> Response:
        """Show a pull request or issue with its comments and checks."""
        found = self._world.pull(repo, int(number))
        if found is None:
            raise Missing
        comments = self._world.store.find("comment", issue_id=found["id"])
        shown = [work.comment(self._world, comment) for comment in comments]
        runs = self._runs(repo, found["head_sha"]) if found["is_pull"] else []
        source = self._world.head_repo(found) if found["is_pull"] else None
        author = self._world.store.get("account", found["user_id"])
        return self._repo_page(
            "pull.html",
            repo,
            issue=found,
            comments=shown,
            runs=runs,
            standing=_standing(found),
            source=self._world.full_name(source) if source else "a deleted repository",
            author=author["login"] if author else "ghost",
            reactions=REACTION_FACES,
        )

    def raw(self, repo: Doc, ref: str, path: str) -> Response:
        """Serve a file's bytes, never as a page."""
        content = self._content(repo, ref, path)
        guess = mimetypes.guess_type(path)[0] or "text/plain"
        safe = guess if guess.startswith("image/") and "svg" not in guess else "text/plain"
        return Response(content, media_type=safe)

    def blob(self, repo: Doc, ref: str, path: str) -> Response:
        """Show a file as text."""
        text = self._content(repo, ref, path).decode(errors="replace")
        return self._repo_page("blob.html", repo, path=path, lines=text.splitlines())

    def _content(self, repo: Doc, ref: str, path: str) -> bytes:
        git = self._world.git(repo)
        commit = git.resolve(ref)
        entry = git.entry(commit, path) if commit else None
        if entry is None or entry.type != "blob":
            raise Missing
        return git.blob(entry.sha)


def _standing(issue: Doc) -> str:
    """Return the word beside an issue's title."""
    if issue["merged_at"]:
        return "merged"
    return "draft" if issue["draft"] and issue["state"] == "open" else str(issue["state"])


REACTION_FACES = {
    "+1": "👍", "-1": "👎", "laugh": "😄", "hooray": "🎉",
    "confused": "😕", "heart": "❤️", "rocket": "🚀", "eyes": "👀",
}  # fmt: skip


def readable_size(size: int) -> str:
    """Return a file size as GitHub shows it."""
    value = float(size)
    for unit in ("Bytes", "KB", "MB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "Bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.2f} GB"
