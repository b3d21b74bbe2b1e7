"""The act at a pull request: its plan, a comment that asks for a run, the answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from cynthus.wire import EventKind, RunView
from demo.processes import StageError
from demo.stage import OWNER, PERSON, Stage

COLLEAGUE = "ada"
TOPIC = "cheaper"
RUN = "/cynthus run epochs=15"
COMPARE = "/cynthus compare"  # with the release of `main`, and the run named behind it
PLAN = "cynthus/plan"
# GitHub's moments are whole seconds, and a comment is of a head that is surely older than it: who
# asks within the second of a push is asked to name the commit. Nobody reads a plan that fast.
READING_S = 2.0
SHOWN_LIMIT_S = 60.0  # everything below takes seconds; a busy machine gets a minute
LOOK_EACH_S = 0.2

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Act:
    """What the pull request shows at the end of the act."""

    number: int
    head: str
    view: RunView
    plan: dict[str, Any]
    check: dict[str, Any]
    comment: str

    @property
    def good(self) -> bool:
        """Whether all is there that was asked for."""
        well = self.view.outcome == "succeeded" and self.check["conclusion"] == "success"
        answered = RUN in self.comment and "refused" not in self.comment
        return well and answered and self.plan["conclusion"] == "success"


def play(stage: Stage, name: str, say: Callable[[str], None]) -> Act:
    """Play the whole act in a repository that has its spec and workflow on `main`.

    Raises StageError, naming what did not come, when a step takes too long.
    """
    number, head = open_pull(stage, name)
    say(f"pull request #{number}: {stage.github.url}/{OWNER}/{name}/pull/{number}")
    plan = until(lambda: _plan(stage, name, head), f"the check run {PLAN}")
    say(f"{PLAN}: {plan['output']['title']}")
    threading.Event().wait(READING_S)
    say(f"{COLLEAGUE} comments: {RUN}")
    comment(stage, name, number, f"Are fifteen epochs enough?\n\n{RUN}")
    view = run_to_end(stage, head, say)
    check = until(lambda: _check_of(stage, name, head, view.id), "the completed check run")
    compare = f"{COMPARE} {view.id}"
    say(f"{COLLEAGUE} comments: {compare}")
    comment(stage, name, number, compare)
    text = until(lambda: _answer(stage, name, number, compare), "the answer")
    return Act(number=number, head=head, view=view, plan=plan, check=check, comment=text)


def open_pull(stage: Stage, name: str) -> tuple[int, str]:
    """Push a change to a branch and open a pull request with it; return its number and head."""
    repo = f"{OWNER}/{name}"
    stage.github.control("POST", "users", {"login": COLLEAGUE})
    door = f"repos/{repo}/collaborators/{COLLEAGUE}"
    stage.github.control("PUT", door, {"permission": "write"})
    work = stage.folder / "work" / name
    spec = work / "cynthus.yaml"
    spec.write_text(spec.read_text("utf-8").replace("max_cost: 0.50", "max_cost: 0.40"), "utf-8")
    stage.git(work, "commit", "--quiet", "--all", "--allow-empty", "--message", "Spend less")
    stage.git(work, "push", "--quiet", "origin", f"HEAD:{TOPIC}")
    wish = {"repo": repo, "head": TOPIC, "user": PERSON, "title": "Spend less"}
    made = stage.github.control("POST", "pulls", wish)
    return int(made["number"]), stage.git(work, "rev-parse", "HEAD").strip()


def comment(stage: Stage, name: str, number: int, body: str) -> None:
    """Have the colleague write a comment."""
    wish = {"repo": f"{OWNER}/{name}", "number": number, "user": COLLEAGUE, "body": body}
    stage.github.control("POST", "comments", wish)


def run_to_end(stage: Stage, head: str, say: Callable[[str], None]) -> RunView:
    """Follow the run of a head to its end, telling its states; return what it was."""
    run_id = stage.wait_for_run(head)
    say(f"run {run_id}: the server asks the repository's workflow for the image")
    stage.wait_for_image(run_id)
    for event in stage.client.follow(run_id):
        if event.kind is EventKind.STATE:
            say(f"run {run_id}: {event.body['state']}")
            if event.body["state"] == "finished":
                break
    return stage.client.get(run_id)


def until(look: Callable[[], Found | None], what: str) -> Found:
    """Return what `look` finds, once it does. Raises StageError at the limit."""
    tick = threading.Event()
    for _ in range(int(SHOWN_LIMIT_S / LOOK_EACH_S)):
        if (found := look()) is not None:
            return found
        tick.wait(LOOK_EACH_S)
    raise StageError(f"{what} did not come within {SHOWN_LIMIT_S:.0f} s")


def _checks(stage: Stage, name: str, head: str) -> list[dict[str, Any]]:
    path = f"repos/{OWNER}/{name}/commits/{head}/check-runs"
    answer = stage.github.get(path, stage.person_token)
    ours = [check for check in answer["check_runs"] if check["app"]["id"] == stage.app_id]
    return [check for check in ours if check["status"] == "completed"]


def _plan(stage: Stage, name: str, head: str) -> dict[str, Any] | None:
    return next((one for one in _checks(stage, name, head) if one["name"] == PLAN), None)


def _check_of(stage: Stage, name: str, head: str, run_id: str) -> dict[str, Any] | None:
    found = _checks(stage, name, head)
    return next((one for one in found if one["external_id"] == run_id), None)


def _answer(stage: Stage, name: str, number: int, asked: str) -> str | None:
    """Return the one comment of the app's once it holds the answer to an ask."""
    path = f"repos/{OWNER}/{name}/issues/{number}/comments"
    found = stage.github.get(path, stage.person_token)
    texts = (str(one["body"]) for one in found if one["user"]["type"] == "Bot")
    return next((text for text in texts if asked in text), None)
