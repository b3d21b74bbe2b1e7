"""The life of check runs and suites: what may be written, what follows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from simulators import github_shapes as shapes
from simulators import github_shapes_work as work
from simulators import github_webhooks as webhooks
from simulators.github_http import ApiError, unprocessable
from simulators.github_state import Doc, Json, moment, stamp
from simulators.github_world import World

DOCS_PAGE = "https://docs.github.com/rest/checks/runs"
TEXT_LIMIT = 65535
ANNOTATIONS_PER_REQUEST = 50
MESSAGE_LIMIT = 64 * 1024
TITLE_LIMIT = 255
STALE_AFTER = timedelta(days=14)
STATUSES = ("queued", "in_progress", "completed")
RESERVED = ("waiting", "requested", "pending")  # GitHub Actions' own
CONCLUSIONS = (
    "action_required",
    "cancelled",
    "failure",
    "neutral",
    "success",
    "skipped",
    "timed_out",
)
LEVELS = ("notice", "warning", "failure")
ACTION_LIMITS = {"label": 20, "description": 40, "identifier": 20}
NAMED_RUNS_PER_SUITE = 1000
# What a suite concludes when its runs differ: the first that any of them has.
_WORST = ("failure", "timed_out", "cancelled", "action_required", "stale", "neutral")


def checked(wish: Doc, *, creating: bool) -> Doc:
    """Return the body of a create or update when GitHub would take it."""
    _strings(wish, ("name", "head_sha", "details_url", "external_id", "started_at", "completed_at"))
    if creating:
        for name in ("name", "head_sha"):
            if name not in wish:
                raise unprocessable(f'"{name}" wasn\'t supplied.')
    _status(wish, creating=creating)
    if wish.get("output") is not None:
        _output(wish["output"], creating=creating)
    if wish.get("actions") is not None:
        _actions(wish["actions"])
    for name in ("started_at", "completed_at"):
        if wish.get(name) is not None:
            wish[name] = _moment(name, wish[name])
    return wish


def _strings(wish: Doc, names: tuple[str, ...]) -> None:
    for name in names:
        if name in wish and not isinstance(wish[name], str):
            raise unprocessable(f"For 'properties/{name}', {wish[name]!r} is not a string.")


def _moment(name: str, text: str) -> str:
    try:
        return stamp(datetime.fromisoformat(text).replace(microsecond=0).astimezone(UTC))
    except ValueError:
        raise unprocessable(f"For 'properties/{name}', {text} is not a valid date-time.") from None


def _status(wish: Doc, *, creating: bool) -> None:
    status, conclusion = wish.get("status"), wish.get("conclusion")
    if status is not None and status not in STATUSES:
        if status in RESERVED:
            raise ApiError(422, f"Only GitHub Actions may set the status {status}.", docs=DOCS_PAGE)
        raise unprocessable(f"For 'properties/status', {status!r} is not a possible value.")
    if conclusion is not None and conclusion not in CONCLUSIONS:
        raise unprocessable(f"For 'properties/conclusion', {conclusion!r} is not a possible value.")
    if conclusion is not None:
        return
    # An update of a completed run with `completed_at` alone was seen to pass on real GitHub.
    if status == "completed" or (creating and "completed_at" in wish):
        raise unprocessable('"conclusion" wasn\'t supplied.')


def _output(output: Json, *, creating: bool) -> None:
    if not isinstance(output, dict):
        raise unprocessable("For 'properties/output', the value is not an object.")
    _strings(output, ("title", "summary", "text"))
    for name in ("title", "summary") if creating else ("summary",):
        if name not in output:
            raise unprocessable(f'"{name}" wasn\'t supplied.')
    for name in ("summary", "text"):
        size = len(output.get(name) or "")
        if size > TEXT_LIMIT:
            raise _too_long("CheckRun", name, size)
    annotations = output.get("annotations") or []
    if len(annotations) > ANNOTATIONS_PER_REQUEST:
        raise unprocessable(
            f"No more than {ANNOTATIONS_PER_REQUEST} items are allowed; {len(annotations)} were "
            "supplied."
        )
    for item in annotations:
        _annotation(item)
    for image in output.get("images") or []:
        _needs(image, ("alt", "image_url"))


def _too_long(resource: str, name: str, size: int) -> ApiError:
    message = f"Only {TEXT_LIMIT} characters are allowed; {size} were supplied."
    return ApiError(
        422,
        f"Invalid request.\n\n{message}",
        errors=[{"resource": resource, "field": name, "code": "custom", "message": message}],
        docs=DOCS_PAGE,
    )


def _needs(item: Json, names: tuple[str, ...]) -> None:
    if not isinstance(item, dict):
        raise unprocessable(f"For 'items', {item!r} is not an object.")
    for name in names:
        if item.get(name) is None:
            raise unprocessable(f'"{name}" wasn\'t supplied.')


def _annotation(item: Json) -> None:
    _needs(item, ("path", "start_line", "end_line", "annotation_level", "message"))
    if item["annotation_level"] not in LEVELS:
        raise unprocessable(f"{item['annotation_level']!r} is not one of {', '.join(LEVELS)}.")
    lines = (item["start_line"], item["end_line"])
    if not all(isinstance(line, int) and line >= 0 for line in lines) or lines[0] > lines[1]:
        raise unprocessable("end_line must be greater than or equal to start_line.")
    columns = item.get("start_column") is not None or item.get("end_column") is not None
    if columns and lines[0] != lines[1]:
        raise unprocessable("start_column and end_column need start_line and end_line to be equal.")
    for name, limit in (("message", MESSAGE_LIMIT), ("raw_details", MESSAGE_LIMIT)):
        if len((item.get(name) or "").encode()) > limit:
            raise unprocessable(f"{name} exceeds a maximum bytesize of {limit}.")
    if len(item.get("title") or "") > TITLE_LIMIT:
        raise unprocessable(f"title exceeds the maximum of {TITLE_LIMIT} characters.")


def _actions(actions: Json) -> None:
    if not isinstance(actions, list) or len(actions) > 3:
        raise unprocessable(f"No more than 3 items are allowed; {len(actions)} were supplied.")
    for action in actions:
        _needs(action, tuple(ACTION_LIMITS))
        for name, limit in ACTION_LIMITS.items():
            if len(action[name]) > limit:
                raise unprocessable(
                    f"Only {limit} characters are allowed; {len(action[name])} were supplied."
                )


def suite_for(world: World, repo: Doc, app: Doc, sha: str, branch: str | None = None) -> Doc:
    """Return the suite of an app at a commit, made when new."""
    found = world.store.first("check_suite", head_sha=sha, repo_id=repo["id"], app_id=app["id"])
    if found:
        return found
    parents = world.git(repo).commit(sha).parents
    now = world.store.stamp()
    return world.store.put(
        "check_suite",
        {
            "repo_id": repo["id"],
            "app_id": app["id"],
            "head_sha": sha,
            "head_branch": branch or _branch_at(world, repo, sha),
            "before": parents[0] if parents else "0" * 40,
            "status": "queued",
            "conclusion": None,
            "created_at": now,
            "updated_at": now,
        },
    )


def _branch_at(world: World, repo: Doc, sha: str) -> str | None:
    # Null for a fork's commit: only pushes in the base repository are seen.
    for name, tip in world.git(repo).refs().items():
        if tip == sha and name.startswith("refs/heads/"):
            return name.removeprefix("refs/heads/")
    return None


def create(world: World, repo: Doc, app: Doc, wish: Doc) -> Doc:
    """Make a check run and tell the apps that listen."""
    suite = suite_for(world, repo, app, wish["head_sha"])
    concluded = wish.get("conclusion") is not None
    status = "completed" if concluded else wish.get("status", "queued")
    now = world.store.stamp()
    run = world.store.put(
        "check_run",
        {
            "repo_id": repo["id"],
            "app_id": app["id"],
            "suite_id": suite["id"],
            "head_sha": wish["head_sha"],
            "name": wish["name"],
            "external_id": wish.get("external_id", ""),
            "details_url": wish.get("details_url"),
            "status": status,
            "conclusion": wish.get("conclusion"),
            "started_at": wish.get("started_at") or now,
            "completed_at": (wish.get("completed_at") or now) if concluded else None,
            "output": {},
            "annotations": [],
            "actions": wish.get("actions") or [],
            "created_at": now,
        },
    )
    _take_output(run, wish.get("output"))
    world.store.put("check_run", run)
    _drop_oldest(world, run)
    _after_change(world, run, "created")
    if concluded:
        _after_change(world, run, "completed")
    return run


def _drop_oldest(world: World, run: Doc) -> None:
    same = world.store.find("check_run", suite_id=run["suite_id"], name=run["name"])
    for old in same[:-NAMED_RUNS_PER_SUITE]:
        world.store.delete("check_run", old["id"])


def _take_output(run: Doc, output: Doc | None) -> None:
    if output is None:
        return
    run["output"] = run["output"] | {
        name: output[name] for name in ("title", "summary", "text") if name in output
    }
    run["annotations"] = run["annotations"] + list(output.get("annotations") or [])


def update(world: World, run: Doc, wish: Doc) -> None:
    """Change a check run; annotations are added to those it has."""
    names = ("name", "external_id", "details_url", "started_at", "completed_at", "actions")
    run |= {name: wish[name] for name in names if name in wish}
    was = run["status"]
    if wish.get("conclusion") is not None:
        run |= {"status": "completed", "conclusion": wish["conclusion"]}
        run["completed_at"] = wish.get("completed_at") or world.store.stamp()
    elif wish.get("status") is not None:
        run |= {"status": wish["status"], "conclusion": None, "completed_at": None}
    _take_output(run, wish.get("output"))
    world.store.put("check_run", run)
    finished = run["status"] == "completed" and was != "completed"
    _after_change(world, run, "completed" if finished else None)


def _after_change(world: World, run: Doc, action: str | None) -> None:
    refresh_suite(world, world.store.must("check_suite", run["suite_id"]))
    if action is None:
        return
    repo = world.store.must("repo", run["repo_id"])
    emit_run(world, run, repo, action, world.bot(world.store.must("app", run["app_id"])))


def emit_run(
    world: World,
    run: Doc,
    repo: Doc,
    action: str,
    account: Doc,
    **more: Json,
) -> None:
    """Send `check_run`; re-requests and buttons reach the app that owns the run only."""
    payload = webhooks.about(
        world, repo, account, action=action, check_run=work.check_run_in_webhook(world, run), **more
    )
    private = action in {"rerequested", "requested_action"}
    webhooks.emit(world, "check_run", payload, repo, only_app=run["app_id"] if private else None)


def refresh_suite(world: World, suite: Doc) -> None:
    """Give a suite the status and conclusion that follow from its runs."""
    runs = world.store.find("check_run", suite_id=suite["id"])
    done = bool(runs) and all(run["status"] == "completed" for run in runs)
    conclusions = {run["conclusion"] for run in runs}
    worst = next((name for name in _WORST if name in conclusions), "success")
    before = suite["status"]
    started = any(run["status"] != "queued" for run in runs)
    suite |= {
        "status": "completed" if done else "in_progress" if started else "queued",
        "conclusion": worst if done else None,
        "updated_at": world.store.stamp(),
    }
    world.store.put("check_suite", suite)
    if done and before != "completed":
        emit_suite(world, suite, "completed")


def emit_suite(world: World, suite: Doc, action: str) -> None:
    """Send `check_suite` to the app that owns the suite."""
    repo = world.store.must("repo", suite["repo_id"])
    account = world.bot(world.store.must("app", suite["app_id"]))
    payload = webhooks.about(
        world, repo, account, action=action, check_suite=suite_in_webhook(world, suite)
    )
    webhooks.emit(world, "check_suite", payload, repo, only_app=suite["app_id"])


def suite_in_webhook(world: World, suite: Doc) -> Doc:
    """Return a suite as `check_suite` payloads carry it."""
    shape = work.check_suite(world, suite)
    del shape["repository"]
    return shape


def rerequest(world: World, run: Doc, account: Doc) -> None:
    """Ask the owner for a new run: the suite is reset, the run is left as it is."""
    suite = world.store.must("check_suite", run["suite_id"])
    suite |= {"status": "queued", "conclusion": None, "updated_at": world.store.stamp()}
    world.store.put("check_suite", suite)
    repo = world.store.must("repo", run["repo_id"])
    emit_run(world, run, repo, "rerequested", account)


def press(world: World, run: Doc, account: Doc, identifier: str) -> bool:
    """Click a button; False where none of that name is shown: only a completed run shows any."""
    shown = {action["identifier"] for action in run["actions"]}
    if run["status"] != "completed" or identifier not in shown:
        return False
    repo = world.store.must("repo", run["repo_id"])
    asked = {"requested_action": {"identifier": identifier}}
    emit_run(world, run, repo, "requested_action", account, **asked)
    return True


def aged(world: World, run: Doc) -> Doc:
    """Return a run, `stale` when it has been incomplete for 14 days."""
    if run["status"] == "completed":
        return run
    if world.store.now() - moment(run["created_at"]) < STALE_AFTER:
        return run
    run |= {
        "status": "completed",
        "conclusion": "stale",
        "completed_at": world.store.stamp(),
    }
    return world.store.put("check_run", run)


def shape_app(world: World, run: Doc) -> Doc:
    """Return the app that owns a run."""
    return shapes.app(world, world.store.must("app", run["app_id"]))
