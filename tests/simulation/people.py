"""What people and their workflows do on GitHub in a history: each story is a method."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cynthus import specfile
from tests.simulation.github import CheckRow, Github, PullRow, Repo
from tests.simulation.github_history import Submitted
from tests.simulation.oracles_github import MARKER, image_of
from tests.simulation.scheduler import Unanswered
from webhook_server.runs.model import RunDraft, RunKey
from webhook_server.runs.observations import ImageArrived
from webhook_server.stores.run_accepting import SpecDiffers, TokenReused

if TYPE_CHECKING:
    from tests.simulation.hub import HubHistory, HubReplica

_AGAIN_S = 15.0  # a workflow's client tries again after this
_BUILT_S = 40.0  # a build takes so long at most
_TRIES = 40
_TOKEN_LIFE = timedelta(minutes=10)
_OUTPUTS = "outputs:\n  - path: outputs/model\n"
#: Text that would call people, link, embed and order, wherever it were shown as it is.
ADVERSE = f"{MARKER}[x](http://{MARKER}.test)<img src={MARKER}>@team"


class People:
    """Everybody on GitHub, and the workflows there."""

    def __init__(self, history: HubHistory, hub: Github, chance: random.Random) -> None:
        self._history, self._hub, self._chance = history, hub, chance
        self._scheduler = history.scheduler
        self._seeds, self._jtis = itertools.count(1), itertools.count(1)
        self.submitted: list[Submitted] = []
        self.repo = self._repo("acme", 7)
        self.other = self._repo("globex", 8)

    def _repo(self, owner: str, repository_id: int) -> Repo:
        repo = self._hub.add_repo(owner, "digits", repository_id)
        root = self._hub.commit(repo, {"README.md": b"hello"}, f"root of {owner}")
        repo.branches["main"] = root
        for login, role in (("ada", "write"), ("max", "admin"), ("rea", "read")):
            self._hub.set_role(repo, f"{login}-{owner}", role)
        return repo

    def begin(self, name: str) -> None:
        """Do what a story tells."""
        getattr(self, name)()

    # ── pushes ──────────────────────────────────────────────────────────────────────────────────

    def push(self) -> None:
        """Push to the default branch; the workflow builds the image."""
        self._push(self.repo)

    def push_twice(self) -> None:
        """Push a newer commit, now or soon; deliveries may tell of the older one last."""
        self._push(self.repo)
        self._sleep(40)
        self._push(self.repo)

    def push_and_submit_late(self) -> None:
        """Push, and let the workflow's job be run again once the run has long ended."""
        sha = self._push(self.repo)
        self._sleep(0, least=400.0)
        self.submit(self.repo, sha, "refs/heads/main", "push", "push")

    def _push(self, repo: Repo, branch: str = "main") -> str:
        sha = self._commit(repo)
        self._hub.push(repo, self._who(repo, "ada"), branch, sha)
        self._later(lambda: self.submit(repo, sha, f"refs/heads/{branch}", "push", "push"))
        if self._chance.random() < 0.2:  # a job that is run again sends the same once more
            self._later(lambda: self.submit(repo, sha, f"refs/heads/{branch}", "push", "push"))
        return sha

    def _commit(self, repo: Repo) -> str:
        number = next(self._seeds)
        more = _OUTPUTS if self._history.hub_scenario.has_outputs else ""
        text = (
            f"version: 1\nname: digits\nrun: echo {number} {MARKER}\n"
            f"resources:\n  max_duration: 5m\n{more}"
        )
        return self._hub.commit(repo, {"cynthus.yaml": text.encode()}, f"{number} {repo.id}")

    # ── pull requests ───────────────────────────────────────────────────────────────────────────

    def _pull(self, repo: Repo, *, fork: bool = False) -> PullRow:
        sha = self._commit(repo)
        login = "eve" if fork else self._who(repo, "ada")
        branch = f"{MARKER}/@team-{next(self._seeds)}"
        pull = self._hub.open_pull(
            repo, login, branch, sha, head_repository_id=999 if fork else repo.id
        )
        self._sleep(12, least=2.0)
        return pull

    def ask_to_run(self) -> PullRow:
        """Open a pull request and ask for a run of it."""
        pull = self._pull(self.repo)
        self._say(self.repo, pull, "ada", "/cynthus run")
        return pull

    def ask_and_lose_the_right(self) -> None:
        """Ask for a run, and be taken the role before anybody has looked."""
        pull = self._pull(self.repo)
        self._say(self.repo, pull, "ada", "/cynthus run")
        self._sleep(3)
        self._hub.set_role(self.repo, self._who(self.repo, "ada"), "read")

    def ask_without_the_right(self) -> None:
        """Ask for a run, a cancellation and an approval as somebody who may only read."""
        pull = self.ask_to_run()
        self._sleep(60)
        for words in ("/cynthus run", "/cynthus cancel", "/cynthus approve"):
            self._say(self.repo, pull, "rea", words)

    def ask_in_foreign_words(self) -> None:
        """Ask for what there is not, in words that would do something if they were not quoted."""
        pull = self._pull(self.repo)
        self._say(self.repo, pull, "ada", f"/cynthus run {ADVERSE}\n/cynthus {ADVERSE}")
        self._say(self.repo, pull, "max", "/cynthus status\n/cynthus plan")

    def ask_and_cancel(self) -> None:
        """Ask for a run, and soon for its end."""
        pull = self.ask_to_run()
        self._sleep(120)
        self._say(self.repo, pull, "ada", "/cynthus cancel")
        self._sleep(120)
        self._say(self.repo, pull, "ada", "/cynthus retry")

    def ask_of_a_fork(self) -> None:
        """Let a stranger's commit be looked at; another may come before the approval does."""
        pull = self._pull(self.repo, fork=True)
        sha = pull.shas[-1][1]
        self._say(self.repo, pull, "eve", "/cynthus run")
        if self._chance.random() < 0.5:
            self._hub.new_head(self.repo, pull, self._commit(self.repo), "eve")
        words = self._chance.choice([f"/cynthus approve {sha}", "/cynthus approve"])
        self._say(self.repo, pull, "max", words)

    def approve_without_looking(self) -> None:
        """Say yes to a fork's commit, after its author has put another in its place."""
        pull = self._pull(self.repo, fork=True)
        sha = pull.shas[-1][1]
        self._hub.new_head(self.repo, pull, self._commit(self.repo), "eve")
        self._sleep(5, least=3.0)
        self._say(self.repo, pull, "max", f"/cynthus approve {sha}")

    def close(self) -> None:
        """Ask for a run and close the pull request."""
        pull = self.ask_to_run()
        self._sleep(200)
        self._hub.close_pull(self.repo, pull, self._who(self.repo, "ada"))

    def meddle_with_strangers(self) -> None:
        """Ask in one repository for what is in another, whose names are the same."""
        self._push(self.repo)
        pull = self._pull(self.other)
        self._sleep(60)
        runs = [row.external_id for row in self.repo.check_runs.values()]
        for run_id in runs[:1]:
            for verb in ("cancel", "retry", "logs"):
                self._say(self.other, pull, "ada", f"/cynthus {verb} {run_id}")
        self._say(self.other, pull, "ada", "/cynthus run digits\n/cynthus cancel digits/1")

    # ── buttons ─────────────────────────────────────────────────────────────────────────────────

    def press_cancel(self) -> None:
        """Press "Cancel" on a check run, often; also as somebody who may not."""
        self._push(self.repo)
        row = self._check(lambda row: row.status != "completed")
        if row is not None:
            self._hub.press(self.repo, row, self._who(self.repo, "rea"), "cancel")
            for _ in range(self._chance.choice([1, 3])):
                self._hub.press(self.repo, row, self._who(self.repo, "ada"), "cancel")

    def press_again(self) -> None:
        """Press GitHub's own "Re-run" on a check run that has ended, often."""
        self._push(self.repo)
        row = self._check(lambda row: row.status == "completed")
        if row is not None:
            for _ in range(self._chance.choice([1, 3])):
                self._hub.press(self.repo, row, self._who(self.repo, "ada"), "rerequested")

    def _check(self, fits: Callable[[CheckRow], bool]) -> CheckRow | None:
        """Wait until a check run of a run's looks like this, or nobody wants to wait any more."""
        for _ in range(_TRIES):
            for row in self.repo.check_runs.values():
                if not row.external_id.startswith(("pull/", "commit/")) and fits(row):
                    return row
            self._scheduler.sleep(_AGAIN_S)
        return None

    # ── workflows ───────────────────────────────────────────────────────────────────────────────

    def dispatched(self, repo: Repo, payload: dict[str, Any]) -> None:
        """Run the workflow that a dispatch starts: it builds what was asked for."""
        sha, trigger = str(payload["commit_sha"]), str(payload["trigger"])
        event = "repository_dispatch"
        self._later(lambda: self.submit(repo, sha, "refs/heads/main", event, trigger))

    def submit(self, repo: Repo, sha: str, ref: str, event: str, trigger: str) -> None:
        """Send a run request as the Action does: each try has a token of its own."""
        text = repo.commits[sha].files["cynthus.yaml"]
        arrived = ImageArrived(image=image_of(repo.id, sha), failure=None)
        key = RunKey(
            repository_id=repo.id, commit_sha=sha, spec_path="cynthus.yaml", trigger=trigger
        )
        for _ in range(_TRIES):
            jti = f"jti-{next(self._jtis)}"

            def accept(replica: HubReplica, jti: str = jti) -> None:
                if event == "repository_dispatch" and not replica.runs.waits(key):
                    return  # as `auth.oidc.authorise` refuses what nobody waits for
                draft = RunDraft(
                    id=replica.new_run_id(),
                    key=key,
                    repository=repo.full_name,
                    ref=ref,
                    event=event,
                    default_branch=repo.default_branch,
                    pull_request=None,
                    workflow_run_url=None,
                    spec=specfile.parse(text, "cynthus.yaml"),
                    spec_text=text.decode(),
                    wants_release=event == "push",
                )
                token = (jti, replica.now() + _TOKEN_LIFE)
                replica.runs.accept(draft, arrived=arrived, token_id=token, now=replica.now())
                replica.bell.ring("runs")

            try:
                self._history.ask(accept)
            except Unanswered:
                self._scheduler.sleep(_AGAIN_S)
            except (SpecDiffers, TokenReused):
                return
            else:
                self._note(repo, sha, trigger)
                return

    def _note(self, repo: Repo, sha: str, trigger: str) -> None:
        told = Submitted(
            at=self._hub.now(),
            repository_id=repo.id,
            sha=sha,
            trigger=trigger,
            image=image_of(repo.id, sha),
        )
        self.submitted.append(told)

    # ── parts ───────────────────────────────────────────────────────────────────────────────────

    def _say(self, repo: Repo, pull: PullRow, who: str, words: str) -> None:
        self._hub.write_comment(repo, pull, self._who(repo, who), words)
        self._sleep(10, least=1.0)

    def _who(self, repo: Repo, who: str) -> str:
        return who if who == "eve" else f"{who}-{repo.owner.login}"

    def _sleep(self, most_s: float, least: float = 0.0) -> None:
        self._scheduler.sleep(least + self._chance.random() * most_s)

    def _later(self, what: Callable[[], None]) -> None:
        self._history.begin_later(self._chance.random() * _BUILT_S, what)
