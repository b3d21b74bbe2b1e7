"""Write docs/screens.md: what each screen on GitHub looks like, played against the simulator."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cynthus.wire import EventKind
from docs.screen_text import Shown, check_screen, quoted
from tests.story import Story, telling
from webhook_server.providers.provider import NoCapacity
from webhook_server.runs.model import Run

PAGE = Path(__file__).parent / "screens.md"
_HEAD = """\
# What the screens look like

One conversation at one repository, as GitHub got it from the server: nothing here is written by
hand but the sentence above each screen. Ada may write, Grace may maintain, Mallory may read.

This page is generated: it is played against the simulators by `make docs`. What each part means
stands in [the check run](check_run.md), [the plan](plan.md) and [commands](commands.md).
"""
_SPEC = """\
version: 1
name: digits
run: python train.py
resources: {gpu: l4, spot: prefer, max_duration: 2h, max_cost: 5.00}
env: {LR: "0.1"}
outputs:
  - path: outputs/model
gate: [accuracy >= baseline - 0.01]
retry: {attempts: 2}
triggers: {push: {branches: [main], paths: [cynthus.yaml, train.py]}}
"""
_SLOWER = _SPEC.replace('"0.1"', '"0.05"')
_POLICY_PATH = ".github/cynthus-policy.yml"
_POLICY = """\
version: 1
approval: {cost: 1.00, by: maintain}
forks: {max_cost: 1.00, max_duration: 1h}
"""
_LOG = """\
device: NVIDIA L4, driver 570.26
epoch 1/3 loss 0.74
warning: 12 of 60000 images are blank, left out
epoch 2/3 loss 0.31
epoch 3/3 loss 0.12
"""
_GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Screen:
    """One screen of the page."""

    title: str
    words: str  # the one sentence before it
    shown: str


class Acts:
    """The conversation; each act yields the screens that it leaves."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.first = 0  # pull request
        self.shown = Shown(story.github.exchanges)

    def play(self) -> Iterator[Screen]:
        """Play all acts in their order: later ones rest on what earlier ones left."""
        for act in (self._push, self._plan, self._run, self._answers, self._gate, self._sweep):
            yield from act()
        for act in (self._again, self._preempted, self._time, self._refused, self._newer):
            yield from act()
        for act in (self._held, self._faults, self._fork, self._destroy):
            yield from act()

    # ── what is seen ────────────────────────────────────────────────────────────────────────────

    def _check(self, title: str, words: str, name: str = "cynthus/digits") -> Screen:
        check = self.shown.look().checks[self._newest_check(name)]
        return Screen(title=title, words=words, shown=check_screen(check))

    def _newest_check(self, name: str = "cynthus/digits") -> int:
        checks = self.shown.look().checks
        return max(number for number, one in checks.items() if one.name.startswith(name))

    def _comment(self, title: str, words: str, number: int = 0) -> Screen:
        """Return the newest answer; the comment's whole is shown once."""
        text = self.shown.look().comments[number or self.first]
        newest = text.partition("\n\n<details><summary>")[0].partition("\n\n| run |")[0]
        return Screen(title=title, words=words, shown=quoted(newest))

    def _whole(self, title: str, words: str) -> Screen:
        return Screen(
            title=title, words=words, shown=quoted(self.shown.look().comments[self.first])
        )

    def _pushes(self, branch: str, spec: str = _SPEC, program: str = "print('train')\n") -> None:
        """Push a commit, and let the server hear of it."""
        self.story.pushes(branch, {"cynthus.yaml": spec, "train.py": program})
        self.story.hear()

    def _policy(self, text: str) -> None:
        """Change the policy on the default branch, where the spec is as it was."""
        files = {_POLICY_PATH: text, "cynthus.yaml": _SPEC, "train.py": "print('train')\n"}
        self.story.pushes("main", files)
        self.story.hear()
        self.story.wait(seconds=10)

    # ── what is done ────────────────────────────────────────────────────────────────────────────

    def _says(self, login: str, body: str, number: int = 0) -> None:
        self.story.says(number or self.first, login, body)

    def _trains(self, run: Run, accuracy: float, busy: float = 91) -> None:
        """Take a run that has been ordered to its end."""
        name = self._boots(run)
        self._works(name, 1, accuracy, busy)
        for epoch in (2, 3):
            self.story.wait(minutes=3)
            self._works(name, epoch, accuracy, busy)
        self.story.ends(name, run, {"outputs/model/weights.pt": b"weights" * 9})
        self.story.wait(seconds=40)

    def _boots(self, run: Run) -> str:
        self.story.wait(seconds=70)
        return self.story.boots(run)

    def _works(self, instance: str, epoch: int, accuracy: float, busy: float = 91) -> None:
        """Let a command tell of one of its three epochs."""
        told: list[tuple[EventKind, dict[str, object]]] = []
        if epoch == 1:
            told += [(EventKind.LOG, {"text": _LOG}), (EventKind.PHASE, {"name": "train"})]
        value = round(accuracy - 0.2 * (3 - epoch) / 3, 3)
        metrics: dict[str, float] = {"epoch": epoch, "epochs": 3, "accuracy": value}
        told += [(EventKind.METRIC, {"name": name, "value": at}) for name, at in metrics.items()]
        told += [(EventKind.SAMPLE, _sample(busy + epoch))]
        told += [(EventKind.PROGRESS, {"value": epoch / 3})]
        self.story.tells(instance, *told)

    # ── the acts ────────────────────────────────────────────────────────────────────────────────

    def _push(self) -> Iterator[Screen]:
        story = self.story
        self._pushes("main")
        run = story.newest()
        story.builds(run)
        self._trains(run, 0.95, busy=18)
        yield self._check(
            "A run of a push, with advice",
            "A push to the default branch ran, was released, and left its GPU idle most of the"
            " time: the advice comes with the end.",
        )
        release = self.shown.look().release
        yield Screen(
            title="Its release",
            words="What the run made is kept with how it was made.",
            shown=quoted(f"**{release['name']}** · `{release['tag_name']}`\n\n{release['body']}"),
        )

    def _plan(self) -> Iterator[Screen]:
        story = self.story
        self._pushes("wider", _SLOWER)
        self.first = story.opens("wider", "A smaller learning rate")
        yield self._check(
            "A plan",
            "Ada opens a pull request that changes the spec: every head has a plan.",
            "cynthus/plan",
        )
        self._says("ada", "/cynthus help")
        yield self._comment("Help", "Ada asks what she may ask: `/cynthus help`.")

    def _run(self) -> Iterator[Screen]:
        story = self.story
        self._says("ada", "/cynthus run")
        run = story.newest()
        yield self._comment("A run is asked for", "Ada comments `/cynthus run`.")
        yield self._check("Building", "The run waits for the image, which a workflow run builds.")
        story.stage.lender.fail("create", *[NoCapacity("no g2-standard-4 is free")] * 4)
        story.builds(run)
        story.wait(seconds=70)
        self._says("ada", "/cynthus why")
        yield self._check("Waiting for capacity", "Neither spot nor on-demand instances are free.")
        yield self._comment("Why it waits", "Ada asks `/cynthus why`.")
        story.wait(minutes=2)
        name = self._boots(run)
        self._works(name, 1, 0.96)
        story.wait(minutes=3)
        self._works(name, 2, 0.96)
        story.wait(minutes=2)
        yield self._check("Running", "The command tells its phase, its metrics and its progress.")
        self._works(name, 3, 0.96)
        story.ends(name, run, {"outputs/model/weights.pt": b"better weights"})
        story.wait(seconds=40)
        yield self._check("Finished", "It succeeded: its gate passed, its outputs are released.")

    def _answers(self) -> Iterator[Screen]:
        for body, title in (
            ("/cynthus status", "Status"),
            ("/cynthus logs --grep warning", "Lines of the log"),
            ("/cynthus compare digits", "A comparison"),
        ):
            self._says("ada", body)
            yield self._comment(title, f"Ada asks `{body}`.")
        yield self._whole(
            "The whole comment", "All answers stand in one comment, older ones folded."
        )

    def _gate(self) -> Iterator[Screen]:
        self._says("ada", "/cynthus run LR=0.9")
        self._trains(self.story.newest(), 0.7)
        yield self._check(
            "A gate that is missed",
            "Ada tries `/cynthus run LR=0.9`, which is worse than the default branch.",
        )

    def _sweep(self) -> Iterator[Screen]:
        self._says("ada", "/cynthus sweep LR=0.02,0.2")
        first, second = self.story.server.runs.of_pull(self._repository_id, self.first, limit=2)
        names = [self._boots(run) for run in (second, first)]
        for run, name, accuracy in zip((second, first), names, (0.97, 0.94), strict=True):
            self._works(name, 3, accuracy)
            self.story.ends(name, run, {"outputs/model/weights.pt": b"weights"})
        self.story.wait(seconds=40)
        text = self.shown.look().comments[self.first]
        table = text[text.index("**Sweep") :].partition("\n\n<sub>")[0]
        yield Screen(
            title="A sweep",
            words="`/cynthus sweep LR=0.02,0.2` is one run for each value, and one table.",
            shown=quoted(table),
        )

    @property
    def _repository_id(self) -> int:
        return self.story.newest().key.repository_id

    def _again(self) -> Iterator[Screen]:
        self._says("ada", "/cynthus reproduce cynthus/digits/1")
        self._trains(self.story.newest(), 0.95)
        yield self._check(
            "A run that is reproduced",
            "`/cynthus reproduce cynthus/digits/1` runs the release's commit and image again.",
        )

    def _preempted(self) -> Iterator[Screen]:
        story = self.story
        self._says("ada", "/cynthus run")
        run = story.newest()
        name = self._boots(run)
        self._works(name, 1, 0.96)
        story.wait(minutes=6)
        story.preempts(name)
        story.wait(seconds=40)
        self._says("ada", "/cynthus why")
        yield self._comment("Why it began again", "The cloud took the spot instance back.")
        story.preempts(self._boots(run))
        story.wait(seconds=40)
        yield self._check("Preempted", "It was taken back once more, and has no attempt left.")
        story.presses(self._newest_check(), "retry_on_demand", "ada")
        yield self._comment("Retry on demand", "Ada presses **Retry on demand**.")

    def _time(self) -> Iterator[Screen]:
        self._boots(self.story.newest())
        self._says("ada", "/cynthus extend 30m")
        yield self._comment("More time", "Ada asks `/cynthus extend 30m`.")
        self._says("ada", "/cynthus cancel")
        yield self._comment("Cancel", "Ada asks `/cynthus cancel`.")
        self._dies()
        self.story.wait(minutes=1)
        yield self._check("Cancelled", "Its instance is gone, and what it cost is known.")

    def _dies(self) -> None:
        """Let every agent end: its instance is deleted."""
        self.story.beats.clear()

    def _refused(self) -> Iterator[Screen]:
        self._says("mallory", "/cynthus run")
        yield self._comment("Without the right", "Mallory may only read, and is told once.")

    def _newer(self) -> Iterator[Screen]:
        story = self.story
        self._says("ada", "/cynthus run")
        self._boots(story.newest())
        self._pushes("wider", _SLOWER, "print('train better')\n")
        self._dies()
        story.wait(minutes=1)
        yield self._check("Superseded", "Ada pushes while a run of the older commit is live.")

    def _held(self) -> Iterator[Screen]:
        story = self.story
        self._policy(_POLICY)
        yield self._check(
            "A policy", "A push to the default branch brings a policy into force.", "cynthus/policy"
        )
        self._pushes("wider", _SLOWER, "print('train best')\n")
        yield self._check("A plan that needs approval", "Ada pushes again.", "cynthus/plan")
        self._says("ada", "/cynthus run")
        run = story.newest()
        story.builds(run)
        story.wait(seconds=40)
        yield self._check("Held", "`/cynthus run` waits for somebody who may maintain.")
        story.presses(self._newest_check(), "approve", "grace")
        yield self._comment("Approved", "Grace presses **Approve**.")
        yield self._check(
            "Going on", "The run goes on, in a check run that takes the old one's place."
        )

    def _faults(self) -> Iterator[Screen]:
        broken = _SPEC.replace("spot: prefer", "spot: maybe").replace("run: python", "runs: python")
        self._dies()
        self._pushes("wider", broken)
        yield self._check("A spec with faults", "Ada's next push has two slips.", "cynthus/plan")
        self._pushes("wider", _SLOWER)
        self._policy(_POLICY.replace("maintain", "maintainer"))
        yield self._check("A policy with faults", "A slip in the policy.", "cynthus/policy")
        self._says("grace", "/cynthus run")
        yield self._comment("Nothing runs without a policy", "Grace asks `/cynthus run`.")
        self._policy(_POLICY)

    def _fork(self) -> Iterator[Screen]:
        story, github = self.story, self.story.github
        github.post("/repos", owner="mallory", name="digits", fork_of=story.repo, open=True)
        text = _SPEC.replace('"0.1"', '"0.3"')
        sha = story.pushes("theirs", {"cynthus.yaml": text}, to="mallory/digits")
        number = story.opens("theirs", "Mine", head_repo="mallory/digits", user="mallory")
        yield self._check("A fork's plan", "Mallory opens a pull request.", "cynthus/plan")
        self._says("ada", "/cynthus run", number)
        yield self._comment("A fork does not run", "Ada asks `/cynthus run`.", number)
        self._says("grace", f"/cynthus approve {sha[:7]}", number)
        yield self._comment("A fork is approved", "Grace has looked at the commit.", number)
        yield self._check("A fork's run", "It runs with less of everything.")

    def _destroy(self) -> Iterator[Screen]:
        self._says("ada", "/cynthus run")
        self._says("grace", "/cynthus destroy")
        yield self._comment("Destroy", "Grace ends all that lives at the pull request.")


def _sample(busy: float) -> dict[str, object]:
    gpu = {
        "utilization_pct": busy,
        "memory_bytes": 5 * _GIB,
        "memory_total_bytes": 24 * _GIB,
    }
    return {
        "cpu_pct": 140.0,
        "memory_bytes": 6 * _GIB,
        "memory_limit_bytes": 16 * _GIB,
        "gpus": [gpu],
    }


def screens_page() -> str:
    """Play the conversation and return the whole page; two plays make the same text."""
    with tempfile.TemporaryDirectory() as folder, telling(Path(folder)) as story:
        screens = list(Acts(story).play())
        text = "".join(f"\n## {one.title}\n\n{one.words}\n\n{one.shown}\n" for one in screens)
        return (_HEAD + text).replace(story.github.url, "https://github.com")


if __name__ == "__main__":
    PAGE.write_text(screens_page(), "utf-8")
