"""Stand-ins for `actions/checkout` and `actions/setup-python`, whose own code needs Node."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from simulators.actions_git import GitError, git, login_header
from simulators.actions_job import JobState, StepRecord
from simulators.actions_values import to_text

Inputs = Mapping[str, str]
_PYTHON_FACTS = (
    "import json, sys, sysconfig, importlib.util as u; s = u.find_spec('pip'); "
    "print(json.dumps(['%d.%d.%d' % sys.version_info[:3], sys.base_prefix, s and s.origin]))"
)


class BuiltInError(Exception):
    """A built-in action that failed, in the words of the real one."""


def checkout(job: JobState, inputs: Inputs, record: StepRecord) -> str:
    """Do what https://github.com/actions/checkout does, with this machine's git."""
    job.log.say("actions/checkout: this simulator's own equivalent stands in, with real git")
    repository = inputs.get("repository") or to_text(job.github["repository"])
    folder = _inside_workspace(job, inputs.get("path", ""))
    try:
        commit = _check_out(job, inputs, repository, folder)
    except GitError as fault:
        raise BuiltInError(f"The process '/usr/bin/git' failed: {fault}") from fault
    record.outputs |= {"commit": commit, "ref": inputs.get("ref") or to_text(job.github["ref"])}
    return "success"


def _inside_workspace(job: JobState, path: str) -> Path:
    folder = (job.workspace / path).resolve()
    if not folder.is_relative_to(job.workspace.resolve()):
        raise BuiltInError(f"Repository path '{folder}' is not under '{job.workspace}'")
    return folder


def _check_out(job: JobState, inputs: Inputs, repository: str, folder: Path) -> str:
    server = to_text(job.github["server_url"])
    header = _login(job, inputs)
    _start_repository(folder, f"{server}/{repository}", clean=inputs.get("clean") != "false")
    own = repository.lower() == to_text(job.github["repository"]).lower()
    wanted = inputs.get("ref") or (to_text(job.github["sha"]) if own else "HEAD")
    job.log.say(f"Fetching {wanted} of {repository}")
    commit = _fetch(folder, wanted, _depth(inputs), header)
    _switch(job, inputs, folder, commit)
    if inputs.get("persist-credentials", "true").lower() == "true":
        git(["config", "--local", f"http.{server}/.extraheader", header], folder)
        job.after.append(lambda: _forget_login(folder, server))
    job.log.say(git(["log", "-1", "--format=%H %s"], folder).strip())
    return commit


def _login(job: JobState, inputs: Inputs) -> str:
    header = login_header(inputs.get("token") or to_text(job.github["token"]))
    job.masks.add(header.rpartition(" ")[2])
    return header


def _start_repository(folder: Path, url: str, *, clean: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ".git").exists():
        git(["init", "--quiet"], folder)
        git(["remote", "add", "origin", url], folder)
    elif clean:
        git(["clean", "-ffdx"], folder)


def _depth(inputs: Inputs) -> list[str]:
    depth = inputs.get("fetch-depth") or "1"
    if depth == "0":
        return ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
    return [f"--depth={int(depth)}"] if depth.isdigit() else ["--depth=1"]


def _fetch(folder: Path, wanted: str, how: list[str], header: str) -> str:
    options = [one for one in how if one.startswith("--")]
    refs = [one for one in how if not one.startswith("--")]
    fetch = ["fetch", "--quiet", "--no-tags", "--force"]
    for name in (wanted, f"refs/heads/{wanted}", f"refs/tags/{wanted}"):
        try:
            git([*fetch, *options, "origin", name], folder, header)
        except GitError:
            continue
        commit = git(["rev-parse", "FETCH_HEAD^{commit}"], folder).strip()
        if refs:
            git([*fetch, "origin", *refs], folder, header)
        return commit
    # A server may refuse to give a bare commit: fetch all branches and look there.
    git([*fetch, "origin", "+refs/*:refs/remotes/origin/all/*"], folder, header)
    return git(["rev-parse", "--verify", f"{wanted}^{{commit}}"], folder).strip()


def _switch(job: JobState, inputs: Inputs, folder: Path, commit: str) -> None:
    ref = to_text(job.github["ref"])
    own = not inputs.get("ref") and not inputs.get("repository")
    if own and ref.startswith("refs/heads/"):
        branch = ref.removeprefix("refs/heads/")
        git(["checkout", "--quiet", "--force", "-B", branch, commit], folder)
        return
    git(["checkout", "--quiet", "--force", "--detach", commit], folder)


def _forget_login(folder: Path, server: str) -> None:
    try:
        git(["config", "--local", "--unset-all", f"http.{server}/.extraheader"], folder)
    except (GitError, OSError):
        return  # the job removed its checkout: nothing is left to forget


def setup_python(job: JobState, inputs: Inputs, record: StepRecord) -> str:
    """Put a Python of this machine on PATH, in a folder of the job's own."""
    wanted = inputs.get("python-version", "").split()
    program = _interpreter(wanted[0] if wanted else "")
    version, base, pip = _facts(program)
    home = Path(to_text(job.runner["tool_cache"])) / "Python" / version / "x64"
    job.log.say(
        f"actions/setup-python: Python {version} of this machine ({base}) stands in for "
        f"'{' '.join(wanted) or 'default'}', in a fresh environment of this job"
    )
    if not home.exists():
        _make_environment(program, home, pip)
    job.paths += [str(home / "bin")]
    if inputs.get("update-environment", "true").lower() == "true":
        names = ("pythonLocation", "Python_ROOT_DIR", "Python2_ROOT_DIR", "Python3_ROOT_DIR")
        job.env |= dict.fromkeys(names, str(home))
    record.outputs |= {
        "python-version": version,
        "python-path": str(home / "bin" / "python"),
        "cache-hit": "false",
    }
    return "success"


def _interpreter(wanted: str) -> str:
    """Take `python3.12` where 3.12 is asked for and exists, else the simulator's own Python."""
    short = ".".join(wanted.split(".")[:2])
    for candidate in (shutil.which(f"python{short}") if short else None, _own_python()):
        if candidate and _starts(candidate):
            return candidate
    raise BuiltInError(
        f"The version '{wanted}' with architecture 'x64' was not found for this machine."
    )


def _own_python() -> str:
    # Not sys.executable: in a virtual environment it would show its packages to the job.
    return str(getattr(sys, "_base_executable", sys.executable))


def _starts(program: str) -> bool:
    done = subprocess.run([program, "-c", ""], capture_output=True, timeout=60, check=False)
    return done.returncode == 0


def _facts(program: str) -> tuple[str, str, str | None]:
    done = subprocess.run(
        [program, "-I", "-c", _PYTHON_FACTS], capture_output=True, timeout=60, check=True
    )
    version, base, pip = json.loads(done.stdout)
    return version, base, pip


def _make_environment(program: str, home: Path, pip: str | None) -> None:
    """Make the job's own Python, so that what it installs is gone with it, as on a hosted runner.

    pip is copied when the interpreter has it: that takes a tenth of the time of `ensurepip`.
    """
    options = ["--without-pip"] if pip else []
    subprocess.run(
        [program, "-m", "venv", *options, str(home)], capture_output=True, timeout=300, check=True
    )
    if pip:
        _copy_pip(Path(pip).parent, home)


def _copy_pip(package: Path, home: Path) -> None:
    (site,) = (home / "lib").glob("python*/site-packages")
    skip = shutil.ignore_patterns("__pycache__")
    for part in (package, *package.parent.glob("pip-*.dist-info")):
        shutil.copytree(part, site / part.name, ignore=skip)
    for name in ("pip", "pip3"):
        script = home / "bin" / name
        script.write_text('#!/bin/sh\nexec "$(dirname "$0")/python" -m pip "$@"\n')
        script.chmod(0o755)


@cache
def machine_has_python(path: str) -> bool:
    """Say whether `python3` is there as in GitHub's images: 3.11 or newer, with pip and venv."""
    program = shutil.which("python3", path=path)
    test = "import sys, pip, venv; sys.exit(sys.version_info < (3, 11))"
    if program is None:
        return False
    done = subprocess.run([program, "-c", test], capture_output=True, timeout=60, check=False)
    return done.returncode == 0


def lend_python(work: Path) -> Path:
    """Give a job on a machine without a fit `python3` one of its own; the answer is its `bin`."""
    program = _own_python()
    _make_environment(program, work / "_python", _facts(program)[2])
    return work / "_python" / "bin"


BUILT_IN_ACTIONS: dict[str, Callable[[JobState, Inputs, StepRecord], str]] = {
    "actions/checkout": checkout,
    "actions/setup-python": setup_python,
}
