"""Run the script of one `run` step and take in what it says."""

from __future__ import annotations

import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from simulators.actions_commands import (
    LEVELS,
    Command,
    FileCommandError,
    StopState,
    parse_env_file,
)
from simulators.actions_environment import github_variables, runner_variables
from simulators.actions_job import Frame, JobState, StepRecord
from simulators.actions_process import TRACKING, Cancel, Program, run_program

# https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstepsshell
_SHELLS = {
    "": ("bash -e {0}", ".sh"),
    "bash": ("bash --noprofile --norc -eo pipefail {0}", ".sh"),
    "sh": ("sh -e {0}", ".sh"),
    "python": ("python {0}", ".py"),
}
_SUMMARY_BYTES = 1 << 20
_MOST_SUMMARIES = 20
_AFTER_CANCEL_S = 300.0  # GitHub lets `always()` steps of a cancelled job run for five minutes
_BLOCKED = "NODE_OPTIONS"
_DISABLED = (
    "The `{name}` command is disabled. Please upgrade to using Environment Files or opt into "
    "unsecure command execution by setting the `ACTIONS_ALLOW_UNSECURE_COMMANDS` environment "
    "variable to `true`. For more information see: https://github.blog/changelog/"
    "2020-10-01-github-actions-deprecating-set-env-and-add-path-commands/"
)


@dataclass(frozen=True, kw_only=True)
class ScriptCall:
    """One `run` step with everything evaluated."""

    script: str
    shell: str
    folder: Path
    env: dict[str, str]
    frame: Frame


@dataclass(frozen=True, kw_only=True)
class _Files:
    """The files through which a step speaks: GITHUB_ENV and its kin."""

    env: Path
    output: Path
    path: Path
    state: Path
    step_summary: Path

    def variables(self) -> dict[str, str]:
        return {f"GITHUB_{name.upper()}": str(path) for name, path in vars(self).items()}


def run_script(job: JobState, call: ScriptCall, record: StepRecord) -> str:
    """Run a script; the answer is its outcome, or `timeout`."""
    template, suffix = _SHELLS.get(call.shell, (call.shell, ""))
    script = job.temp_file("", suffix)
    script.write_text(call.script.replace("\r\n", "\n") + "\n", encoding="utf-8")
    files = _new_files(job)
    env = _environment(job, call, files)
    argv = _argv(template, script, env["PATH"])
    _announce(job, call, " ".join([*argv[:-1], "{0}"]))
    if not call.folder.is_dir():
        job.error(f"An error occurred trying to start process '{argv[0]}' with working directory '{call.folder}'. No such file or directory")  # fmt: skip # noqa: E501 - the runner's own words
        return "failure"
    listener = _Listener(job, record)
    ended = run_program(_program(job, call, argv, env), listener.hear)
    said_well = _take_files(job, files, record)
    if ended.why:
        job.error("The operation was canceled." if ended.why == "cancelled" else "The step took too long and was ended.")  # fmt: skip # noqa: E501
        return ended.why
    if ended.code:
        job.error(f"Process completed with exit code {ended.code}.")
    return "success" if ended.code == 0 and said_well and not listener.broken else "failure"


def _new_files(job: JobState) -> _Files:
    place = "_runner_file_commands/"
    names = ("env", "output", "path", "state", "step_summary")
    return _Files(**{name: job.temp_file(f"{place}{name}_") for name in names})


def _environment(job: JobState, call: ScriptCall, files: _Files) -> dict[str, str]:
    env = (
        job.base_env
        | call.env
        | github_variables(job.github | call.frame.github)
        | runner_variables(job.runner)
        | job.oidc
        | files.variables()
        | {TRACKING: job.tracking_id}
    )
    return env | {"PATH": ":".join([*reversed(job.paths), env["PATH"]])}


def _argv(template: str, script: Path, path: str) -> list[str]:
    words = shlex.split(template)
    if not words or not any("{0}" in word for word in words):
        raise OSError(f"Invalid shell option. Shell must be a valid built-in (bash, sh, python) or a format string containing '{{0}}'. Found '{template}'")  # fmt: skip # noqa: E501 - the runner's own words
    program = shutil.which(words[0], path=path)
    if program is None:
        raise OSError(f"{words[0]}: command not found")
    return [program, *(word.replace("{0}", str(script)) for word in words[1:])]


def _announce(job: JobState, call: ScriptCall, shown: str) -> None:
    lines = call.script.strip().splitlines() or [""]
    variables = [f"  {name}: {value}" for name, value in sorted(call.env.items())]
    body = [*lines, f"shell: {shown}", *(["env:", *variables] if variables else [])]
    job.log.group(f"Run {lines[0]}", body)


def _program(job: JobState, call: ScriptCall, argv: list[str], env: dict[str, str]) -> Program:
    deadline, cancel = call.frame.deadline, job.cancel
    if cancel.is_set():  # a step with `always()` after the cancellation
        cancel = Cancel()
        last = time.monotonic() + _AFTER_CANCEL_S
        deadline = last if deadline is None else min(deadline, last)
    return Program(argv=argv, folder=call.folder, environment=env, deadline=deadline, cancel=cancel)


class _Listener:
    """Hear the lines of one step: carry out its commands, log the rest."""

    def __init__(self, job: JobState, record: StepRecord) -> None:
        self._job = job
        self._record = record
        self._stop = StopState()
        self.broken = False

    def hear(self, line: str) -> None:
        command = self._stop.read(line)
        if command is None or command.name == "stop-commands":
            self._job.log.say(line)
            return
        self._obey(command)

    def _obey(self, command: Command) -> None:
        match command.name:
            case name if name in LEVELS:
                self._job.issue(self._record, command)
            case "add-mask":
                self._mask(command.data)
            case "group" | "endgroup":
                self._job.log.say(f"##[{command.name}]{command.data}")
            case "set-output":
                self._set_output(command)
            case "set-env" | "add-path":
                self.broken = True
                self._job.error(_DISABLED.format(name=command.name))
            case _:  # debug, echo, save-state and matchers show nothing without RUNNER_DEBUG
                pass

    def _mask(self, value: str) -> None:
        if value.strip():
            self._job.masks.add(value)
        else:
            self._job.log.say("##[warning]Can't add secret mask for empty string in ##[add-mask] command.")  # fmt: skip # noqa: E501 - the runner's own words
        self._job.log.say("::add-mask::***")

    def _set_output(self, command: Command) -> None:
        self._record.outputs[command.properties.get("name", "")] = command.data
        self._job.log.say("##[warning]The `set-output` command is deprecated and will be disabled soon. Please upgrade to using Environment Files.")  # fmt: skip # noqa: E501 - the runner's own words


def _take_files(job: JobState, files: _Files, record: StepRecord) -> bool:
    taken = True
    for name, path in (("env", files.env), ("output", files.output), ("path", files.path)):
        try:
            _take(job, name, path, record)
        except (FileCommandError, OSError) as fault:
            job.error(f"Unable to process file command '{name}' successfully.")
            job.error(str(fault))
            taken = False
    _take_summary(job, files.step_summary)
    return taken


def _take(job: JobState, name: str, path: Path, record: StepRecord) -> None:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    if name == "path":
        job.paths.extend(line for line in text.splitlines() if line)
    elif name == "output":
        record.outputs |= dict(parse_env_file(text))
    else:
        for key, value in parse_env_file(text):
            _set_env(job, key, value)


def _set_env(job: JobState, name: str, value: str) -> None:
    if name.upper() == _BLOCKED:
        job.error(f"Can't store {_BLOCKED} output parameter using '$GITHUB_ENV' command.")
    elif name.upper().startswith(("GITHUB_", "RUNNER_")):
        job.log.say(f"##[warning]{name} is one of the runner's own variables and keeps its value.")
    else:
        job.env[name] = value


def _take_summary(job: JobState, path: Path) -> None:
    size = path.stat().st_size if path.exists() else 0
    if size > _SUMMARY_BYTES:
        job.error(f"$GITHUB_STEP_SUMMARY upload aborted, supports content up to a size of {_SUMMARY_BYTES // 1024}k, got {size // 1024}k. For more information see: https://docs.github.com/actions/using-workflows/workflow-commands-for-github-actions#adding-a-markdown-summary")  # fmt: skip # noqa: E501 - the runner's own words
    elif size and len(job.summaries) < _MOST_SUMMARIES:
        job.summaries.append(job.masks.hide(path.read_text(encoding="utf-8", errors="replace")))
