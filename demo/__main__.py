"""Show a push, then a comment, become finished runs: `python -m demo [--example NAME] [--stay]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from cynthus.screen import open_screen
from cynthus.wire import EventKind, RunView
from demo.processes import StageError, ended_by_signals
from demo.pull_request import Act, play
from demo.stage import OWNER, ROOT, Stage, standing

RELEASE_LIMIT_S = (
    60.0  # the release is there when the run is finished; its check run follows at once
)


def main() -> int:
    """Run the demo; exit 0 when the release with the trained model is published."""
    options = _options()
    source = ROOT / "examples" / options.example
    if not (source / "cynthus.yaml").is_file():
        known = ", ".join(sorted(p.parent.name for p in ROOT.glob("examples/*/cynthus.yaml")))
        print(f"EXAMPLE: should be one of {known}, found {options.example!r}.", file=sys.stderr)
        return 2
    try:
        with ended_by_signals(), tempfile.TemporaryDirectory(prefix="cynthus-demo-") as folder:
            return _show(Path(folder), source, options)
    except StageError as error:
        print(f"the demo stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--example", default="digits", help="a folder of examples/")
    parser.add_argument("--process", action="store_true", help="as on a machine without Docker")
    parser.add_argument("--stay", action="store_true", help="keep everything up at the end")
    return parser.parse_args()


def _show(folder: Path, source: Path, options: argparse.Namespace) -> int:
    begin = time.monotonic()
    screen = open_screen(plain=True)
    screen.say("raising the stage: GitHub, a runner, a registry, a Cynthus server")
    with standing(folder, process=options.process) as stage:
        engine = stage.engine
        where = f"Docker at {engine.client}" if engine.client else f"process mode: {engine.why_not}"
        screen.say(f"engine: {where}")
        screen.say(f"GitHub (simulated): {stage.github.url}   dashboard: {stage.server.url}")
        stage.create_repository(source.name)
        commit = stage.push(source.name, source)
        screen.say(
            f"git push: {OWNER}/{source.name} at {commit[:7]}; the workflow builds the image"
        )
        log = threading.Thread(target=_relay_runner, args=(stage, screen), daemon=True)
        log.start()
        run_id = stage.wait_for_run(commit)
        stage.wait_for_image(run_id)
        screen.say(f"run {run_id}: {stage.server.url}/runs/{run_id}")
        for event in stage.client.follow(run_id):
            screen.show(event)
            if event.kind is EventKind.STATE and event.body.get("state") == "finished":
                break
        view = stage.client.get(run_id)
        good = _print_end(stage, source.name, commit, view)
        act = play(stage, source.name, screen.say)
        _print_act(act)
        print(f"\n{time.monotonic() - begin:.0f} s from nothing to here.")
        if options.stay:
            _stay(stage, run_id)
        return 0 if good and act.good else 1


def _relay_runner(stage: Stage, screen: Any) -> None:
    """Print what the Actions runner says: the build is the longest wait."""
    program = stage.runner
    tick = threading.Event()
    with program.log.open("r", encoding="utf-8", errors="replace") as log:
        while program.running:
            for line in log:
                screen.say(f"[runner] {line.rstrip()}")
            tick.wait(0.2)


def _print_end(stage: Stage, name: str, commit: str, view: RunView) -> bool:
    """Print check run, metrics and assets as GitHub has them; say whether all is as promised."""
    check = wait_for_check(stage, name, commit)
    print(f"\n── check run: {check['name']} · {check['status']} · {check['conclusion']}")
    print(f"   {check['output']['title']}")
    print("   " + "\n   ".join(check["output"]["summary"].splitlines()))
    print("\n── metrics")
    for metric, value in sorted(view.metrics.items()):
        print(f"   {metric:<24}{value:.4g}")
    release = published_release(stage, name)
    print(f"\n── release: {release['tag_name'] if release else 'none'}")
    for asset in release["assets"] if release else []:
        print(f"   {asset['name']:<32}{asset['size']:>12,} bytes  {asset['digest']}")
    return bool(release) and view.outcome == "succeeded" and check["conclusion"] == "success"


def _print_act(act: Act) -> None:
    """Print what the pull request shows."""
    for check in (act.plan, act.check):
        print(f"\n── pull request #{act.number}: {check['name']} · {check['conclusion']}")
        print(f"   {check['output']['title']}")
    print(f"\n── pull request #{act.number}: the one comment")
    shown = [line for line in act.comment.splitlines() if not line.startswith("<!--")]
    print("   " + "\n   ".join(shown))


def wait_for_check(stage: Stage, name: str, commit: str) -> dict[str, Any]:
    """Return Cynthus' check run of a commit once it is completed, or as it is at the limit."""
    tick = threading.Event()
    check: dict[str, Any] = {}
    for _ in range(int(RELEASE_LIMIT_S / 0.2)):
        token = stage.installation_token()
        answer = stage.github.get(f"repos/{OWNER}/{name}/commits/{commit}/check-runs", token)
        ours = [c for c in answer["check_runs"] if c["app"]["id"] == stage.app_id]
        check = ours[0] if ours else check
        if check and check["status"] == "completed":
            return check
        tick.wait(0.2)
    if not check:
        raise StageError("no check run of ours appeared on the commit")
    return check


def published_release(stage: Stage, name: str) -> dict[str, Any] | None:
    """Return the newest published release, or None."""
    releases = stage.github.get(f"repos/{OWNER}/{name}/releases", stage.installation_token())
    return next((release for release in releases if not release["draft"]), None)


def _stay(stage: Stage, run_id: str) -> None:
    print(
        f"\nEverything stays up; Ctrl-C ends it.\n"
        f"   dashboard   {stage.server.url}/runs/{run_id}   token {stage.server.api_token}\n"
        f"   GitHub      {stage.github.url}\n"
        f"   state, logs {stage.folder}"
    )
    threading.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
