"""REST: check runs, check suites and their annotations."""

from __future__ import annotations

from simulators import github_checks as checks
from simulators import github_shapes_work as shapes
from simulators import github_webhooks as webhooks
from simulators.github_auth import allowed, repo_of
from simulators.github_http import Answer, ApiError, Call, Route, need_commit, not_found, page
from simulators.github_state import Doc


def _authorised(call: Call, level: str) -> Doc:
    repo = repo_of(call)
    allowed(call, repo, f"checks:{level}")
    return repo


def create_run(call: Call) -> Answer:
    """POST /repos/{owner}/{repo}/check-runs."""
    repo = _authorised(call, "write")
    app = call.caller.app or {}
    wish = checks.checked(call.json(), creating=True)
    git = call.world.git(repo)
    sha = wish["head_sha"]
    if not git.has_object(sha) or git.object_type(sha) != "commit":
        raise ApiError(422, f"No commit found for SHA: {sha}", docs=checks.DOCS_PAGE)
    run = checks.create(call.world, repo, app, wish)
    return Answer(
        status=201,
        json=shapes.check_run(call.world, run),
        headers={"Location": shapes.check_run(call.world, run)["url"]},
    )


def _run(call: Call, repo: Doc) -> Doc:
    run = call.store.get("check_run", call.number("check_run_id"))
    if run is None or run["repo_id"] != repo["id"]:
        raise not_found()
    return run


def get_run(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/check-runs/{check_run_id}."""
    repo = _authorised(call, "read")
    run = checks.aged(call.world, _run(call, repo))
    return Answer(json=shapes.check_run(call.world, run))


def update_run(call: Call) -> Answer:
    """PATCH /repos/{owner}/{repo}/check-runs/{check_run_id}."""
    repo = _authorised(call, "write")
    run = _run(call, repo)
    if run["app_id"] != (call.caller.app or {}).get("id"):
        raise ApiError(
            403,
            "Invalid app_id `check_run` can only be modified by the GitHub App that created it.",
        )
    wish = checks.checked(call.json(), creating=False)
    checks.update(call.world, run, wish)
    return Answer(json=shapes.check_run(call.world, run))


def list_annotations(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/check-runs/{check_run_id}/annotations."""
    repo = _authorised(call, "read")
    run = _run(call, repo)
    return page(call, [shapes.annotation(call.world, run, a) for a in run["annotations"]])


def rerequest_run(call: Call) -> Answer:
    """POST /repos/{owner}/{repo}/check-runs/{check_run_id}/rerequest."""
    repo = _authorised(call, "write")
    run = _run(call, repo)
    if run["status"] != "completed":
        raise ApiError(422, "This check run is not rerequestable")
    checks.rerequest(call.world, run, call.caller.user or {})
    return Answer(status=201, json={})


def runs_for_ref(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/commits/{ref}/check-runs."""
    repo = _authorised(call, "read")
    sha = need_commit(call.world.git(repo), call.args["ref"])
    return _listed(call, call.store.find("check_run", head_sha=sha, repo_id=repo["id"]))


def runs_in_suite(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/check-suites/{check_suite_id}/check-runs."""
    repo = _authorised(call, "read")
    suite = _suite(call, repo)
    return _listed(call, call.store.find("check_run", suite_id=suite["id"]))


def _listed(call: Call, runs: list[Doc]) -> Answer:
    params = call.params
    runs = [checks.aged(call.world, run) for run in reversed(runs)]
    if "check_name" in params:
        runs = [run for run in runs if run["name"] == params["check_name"]]
    if "status" in params:
        runs = [run for run in runs if run["status"] == params["status"]]
    if "app_id" in params:
        runs = [run for run in runs if str(run["app_id"]) == params["app_id"]]
    if params.get("filter", "latest") == "latest":
        runs = _latest(runs)
    shown = [shapes.check_run(call.world, run) for run in runs]
    return page(call, shown, key="check_runs")


def _latest(runs: list[Doc]) -> list[Doc]:
    # `latest` keeps the newest of each name in each suite; the newest come first here.
    seen: set[tuple[int, str]] = set()
    kept = []
    for run in runs:
        key = (run["suite_id"], run["name"])
        if key not in seen:
            kept.append(run)
        seen.add(key)
    return kept


def _suite(call: Call, repo: Doc) -> Doc:
    suite = call.store.get("check_suite", call.number("check_suite_id"))
    if suite is None or suite["repo_id"] != repo["id"]:
        raise not_found()
    return suite


def get_suite(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/check-suites/{check_suite_id}."""
    repo = _authorised(call, "read")
    return Answer(json=shapes.check_suite(call.world, _suite(call, repo)))


def suites_for_ref(call: Call) -> Answer:
    """GET /repos/{owner}/{repo}/commits/{ref}/check-suites."""
    repo = _authorised(call, "read")
    sha = need_commit(call.world.git(repo), call.args["ref"])
    suites = call.store.find("check_suite", head_sha=sha, repo_id=repo["id"])
    if "app_id" in call.params:
        suites = [s for s in suites if str(s["app_id"]) == call.params["app_id"]]
    shown = [shapes.check_suite(call.world, suite) for suite in suites]
    return page(call, shown, key="check_suites")


def create_suite(call: Call) -> Answer:
    """POST /repos/{owner}/{repo}/check-suites."""
    repo = _authorised(call, "write")
    sha = call.json().get("head_sha")
    if not isinstance(sha, str):
        raise ApiError(422, 'Invalid request.\n\n"head_sha" wasn\'t supplied.')
    if not call.world.git(repo).has_object(sha):
        raise ApiError(422, f"No commit found for SHA: {sha}")
    app = call.caller.app or {}
    known = call.store.first("check_suite", head_sha=sha, repo_id=repo["id"], app_id=app["id"])
    suite = checks.suite_for(call.world, repo, app, sha)
    body = shapes.check_suite(call.world, suite)
    return Answer(status=200 if known else 201, json=body)


def rerequest_suite(call: Call) -> Answer:
    """POST /repos/{owner}/{repo}/check-suites/{check_suite_id}/rerequest."""
    repo = _authorised(call, "write")
    suite = _suite(call, repo)
    suite |= {"status": "queued", "conclusion": None, "updated_at": call.store.stamp()}
    call.store.put("check_suite", suite)
    payload = webhooks.about(
        call.world,
        repo,
        call.caller.user or {},
        action="rerequested",
        check_suite=checks.suite_in_webhook(call.world, suite),
    )
    webhooks.emit(call.world, "check_suite", payload, repo, only_app=suite["app_id"])
    return Answer(status=201, json={})


_RUNS = "/repos/{owner}/{repo}/check-runs"
_SUITES = "/repos/{owner}/{repo}/check-suites"
_COMMITS = "/repos/{owner}/{repo}/commits/{ref...}"
ROUTES = (
    Route(method="POST", template=_RUNS, handler=create_run),
    Route(method="GET", template=f"{_RUNS}/{{check_run_id}}", handler=get_run),
    Route(method="PATCH", template=f"{_RUNS}/{{check_run_id}}", handler=update_run),
    Route(method="GET", template=f"{_RUNS}/{{check_run_id}}/annotations", handler=list_annotations),
    Route(method="POST", template=f"{_RUNS}/{{check_run_id}}/rerequest", handler=rerequest_run),
    Route(method="GET", template=f"{_COMMITS}/check-runs", handler=runs_for_ref),
    Route(method="GET", template=f"{_COMMITS}/check-suites", handler=suites_for_ref),
    Route(method="POST", template=_SUITES, handler=create_suite),
    Route(method="GET", template=f"{_SUITES}/{{check_suite_id}}", handler=get_suite),
    Route(method="GET", template=f"{_SUITES}/{{check_suite_id}}/check-runs", handler=runs_in_suite),
    Route(
        method="POST", template=f"{_SUITES}/{{check_suite_id}}/rerequest", handler=rerequest_suite
    ),
)
