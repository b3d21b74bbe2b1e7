"""Many runs in one installation, and long outages, against a GitHub that enforces its limits.

Server and GitHub share one clock that the test moves: hours pass in seconds.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cynthus import specfile
from tests.github_fixture import GithubSimulator, github_simulator, one_key, webhook_sink
from tests.github_parts import SPEC, Server
from webhook_server.runs.commands import Decision
from webhook_server.runs.model import Cause, Outcome, Reason, RunDraft, RunKey, State
from webhook_server.runs.report import conclusion_of, status_of

# Thirty ask for the same rules as a thousand; a look at each every minute is what takes time.
MANY = 1000 if os.environ.get("LONG") else 30


class Crowd:
    """Many runs of one repository, shown by one publisher."""

    def __init__(self, github: GithubSimulator, server: Server, repo: dict[str, Any], sha: str):
        self.github, self.server, self.repo, self.sha = github, server, repo, sha
        self.ids: list[str] = []
        app = github.integration(server.app)
        owner, _, name = repo["full_name"].partition("/")
        self.installation = int(app.get_repo_installation(owner, name).id)
        server.waited = _Waits(self)  # type: ignore[assignment]  # its `append` is what is used
        server.restart()

    def accept(self, count: int) -> None:
        for number in range(count):
            key = RunKey(
                repository_id=self.repo["id"],
                commit_sha=self.sha,
                spec_path="cynthus.yaml",
                trigger=f"comment/{len(self.ids)}/{number}",
            )
            draft = RunDraft(
                id=f"m{len(self.ids):05}",
                key=key,
                repository=self.repo["full_name"],
                ref="refs/heads/main",
                event="push",
                default_branch="main",
                pull_request=None,
                workflow_run_url=None,
                spec=specfile.parse(SPEC.encode(), "cynthus.yaml"),
                spec_text=SPEC,
            )
            self.server.runs.accept(draft, arrived=None, token_id=None, now=self.server.clock())
            self.ids.append(draft.id)

    def go(self, run_ids: list[str], state: State) -> None:
        """Bring runs to a state as the loop would."""
        now, runs = self.server.clock(), self.server.runs
        outcome = Outcome.SUCCEEDED if state is State.FINISHED else None
        for run_id in run_ids:
            runs.wake(run_id, now)
        for claim in runs.claim(limit=len(self.ids), lease=timedelta(minutes=1), now=now):
            run = replace(
                claim.run,
                state=state if claim.run.id in run_ids else claim.run.state,
                state_since=now,
                outcome=outcome,
                finished_at=now if outcome else None,
                reason=Reason(cause=Cause.EXIT, text=f"it is {state.value} now"),
            )
            again_at = None if outcome else now + timedelta(days=1)
            assert runs.save(claim, Decision(run=run, look_again_at=again_at), now)

    def pass_by(self, time: timedelta) -> None:
        self.server.clock.pass_by(seconds=time.total_seconds())
        self.github.post("/clock", advance_s=time.total_seconds())

    def publish_for(self, time: timedelta) -> None:
        """Let the publisher work until the time is over; nothing happens between what is due."""
        ends_at = self.server.clock() + time
        while (now := self.server.clock()) < ends_at:
            self.server.publisher.step()
            due_at = self.server.publications.next_due() or ends_at
            self.pass_by(max(min(due_at, ends_at) - now, timedelta(milliseconds=50)))

    def shown(self) -> dict[str, tuple[str, str | None]]:
        """Return status and conclusion of every check run, by run."""
        client = self.github.client(self.server.app, self.installation)
        commit = client.get_repo(self.repo["full_name"]).get_commit(self.sha)
        found = commit.get_check_runs(filter="all")
        return {item.external_id: (item.status, item.conclusion) for item in found}

    def wrong(self) -> list[str]:
        """Return the runs whose check run does not say what they are."""
        shown = self.shown()
        found = []
        for run_id in self.ids:
            run = self.server.runs.get(run_id)
            assert run is not None
            ended = run.state is State.FINISHED
            wanted = (status_of(run.state), conclusion_of(run.outcome) if ended else None)
            if shown.get(run_id) != wanted:
                found.append(run_id)
        return found


class _Waits:
    """What the server waits for, the clock does."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd

    def append(self, seconds: float) -> None:
        self._crowd.pass_by(timedelta(seconds=seconds))


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    with github_simulator(tmp_path / "github") as github, webhook_sink() as sink:
        app = github.create_app(webhook_url=sink.url, pem=one_key())
        github.post("/owners", login="octo")
        github.post("/repos", owner="octo", name="digits", open=True)
        github.post("/installations", app_id=app.id, owner="octo")
        sha = github.push(tmp_path / "work", {"cynthus.yaml": SPEC}, to="octo/digits")
        (tmp_path / "server").mkdir()
        server = Server(github, app, "octo", tmp_path / "server", spacing=timedelta(seconds=1))
        repo = server.api.installation_of("octo/digits")
        facts = github.client(app, repo).get_repo("octo/digits")
        try:
            yield Crowd(github, server, {"id": facts.id, "full_name": "octo/digits"}, sha)
        finally:
            server.close()


def _refused(crowd: Crowd) -> list[dict[str, Any]]:
    """Return the requests that GitHub refused for a limit."""
    requests: list[dict[str, Any]] = crowd.github.sim("GET", "/requests")
    return [one for one in requests if one["status"] in (403, 429)]


def _writes(crowd: Crowd) -> list[datetime]:
    requests: list[dict[str, Any]] = crowd.github.sim("GET", "/requests")
    return [
        datetime.fromisoformat(one["at"])
        for one in requests
        if one["method"] != "GET" and not one["path"].endswith("/access_tokens")
    ]


@pytest.mark.case("G8", "R13", "R17")
def test_a_thousand_live_runs_never_break_a_limit_and_an_outage_of_two_hours_loses_nothing(
    crowd: Crowd,
) -> None:
    crowd.accept(MANY)
    crowd.go(crowd.ids, State.RUNNING)
    crowd.publish_for(timedelta(seconds=MANY * 1.1 + 60))
    assert crowd.wrong() == []

    crowd.publish_for(timedelta(minutes=20))  # nothing changes: almost nothing is sent
    before = len(_writes(crowd))
    assert before <= MANY * 2

    crowd.github.post("/faults", kind="error", status=503, times=-1, match={"path": "check-runs"})
    ended = crowd.ids[: MANY * 2 // 5]
    for hour in range(2):
        half = len(ended) // 2
        crowd.go(ended[hour * half : (hour + 1) * half], State.FINISHED)
        crowd.publish_for(timedelta(hours=1))
    asked = Counter(one["fault"] is not None for one in crowd.github.sim("GET", "/requests"))
    assert asked[True] <= 100  # one probe in two minutes, not one for every run
    crowd.github.sim("DELETE", "/faults")
    crowd.publish_for(timedelta(minutes=10))
    assert crowd.wrong() == []
    assert _refused(crowd) == []


def test_writes_of_one_installation_are_a_second_apart(crowd: Crowd) -> None:
    crowd.accept(30)
    crowd.go(crowd.ids, State.RUNNING)
    crowd.publish_for(timedelta(seconds=60))
    writes = _writes(crowd)
    assert len(writes) == 30
    # The log has whole seconds: thirty writes a second apart take at least 28 of them.
    assert (writes[-1] - writes[0]).total_seconds() >= 28
