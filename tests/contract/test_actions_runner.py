"""A pushed workflow runs as it would on GitHub, by real git and real shells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulators.actions_builtin import lend_python, machine_has_python
from tests.contract.actions_github import (
    ROOT,
    TOKEN,
    FakeGitHub,
    ReportedJob,
    common_payload,
    fake_github,
    git,
    run_once,
)

WORKFLOW = ".github/workflows/ci.yml"


@pytest.fixture
def github(tmp_path: Path) -> Iterator[FakeGitHub]:
    with fake_github(tmp_path / "github") as server:
        yield server


def a_workflow(steps: str, *, top: str = "", job: str = "") -> str:
    return "\n".join(
        [
            "on: [push, pull_request]",
            textwrap.dedent(top),
            "jobs:",
            "  job:",
            "    runs-on: ubuntu-latest",
            textwrap.indent(textwrap.dedent(job), "    "),
            "    steps:",
            textwrap.indent(textwrap.dedent(steps), "      "),
        ]
    )


def run_steps(
    github: FakeGitHub, tmp_path: Path, steps: str, *options: str, **more: Any
) -> ReportedJob:
    files = more.pop("files", {})
    github.push({WORKFLOW: a_workflow(steps, **more), **files})
    run_once(github, tmp_path / "state", *options)
    return github.job("job")


def messages(job: ReportedJob) -> list[str]:
    return [one["message"] for one in job.last["annotations"]]


def said(job: ReportedJob) -> list[str]:
    """Give the lines of the log without their dates."""
    return [line.partition(" ")[2] for line in job.log.splitlines()]


def test_a_job_is_registered_started_and_reported_with_its_log(
    github: FakeGitHub, tmp_path: Path
) -> None:
    sha = github.push({WORKFLOW: "name: CI\n" + a_workflow("- run: echo hello-$((40 + 2))")})
    ended = run_once(github, tmp_path / "state")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    job = github.job("job")
    registration = job.registration
    assert registration["sha"] == sha
    assert registration["ref"] == "refs/heads/main"
    assert registration["event"] == "push"
    assert registration["event_payload"]["after"] == sha
    assert registration["workflow_path"] == WORKFLOW
    assert registration["workflow_name"] == "CI"
    assert registration["actor"] == "grace"
    assert [one["status"] for one in job.reports] == ["in_progress", "completed"]
    assert job.conclusion == "success"
    assert "hello-42" in said(job)


def test_a_failing_step_fails_the_job_and_skips_the_rest(
    github: FakeGitHub, tmp_path: Path
) -> None:
    job = run_steps(
        github,
        tmp_path,
        """
        - run: exit 3
        - run: echo never-$((1 + 1))
        - run: echo after-${{ job.status }}
          if: failure()
        - run: echo always-$((1 + 1))
          if: always()
        """,
    )
    assert job.conclusion == "failure"
    assert messages(job) == ["Process completed with exit code 3."]
    assert {"after-failure", "always-2"} <= set(said(job))
    assert "never-2" not in said(job)


def test_the_exit_code_says_whether_the_jobs_succeeded(github: FakeGitHub, tmp_path: Path) -> None:
    github.push({WORKFLOW: a_workflow("- run: exit 1")})
    assert run_once(github, tmp_path / "state").returncode == 1


def test_continue_on_error_keeps_outcome_and_conclusion_apart(
    github: FakeGitHub, tmp_path: Path
) -> None:
    job = run_steps(
        github,
        tmp_path,
        """
        - id: bad
          run: exit 1
          continue-on-error: true
        - run: echo "${{ steps.bad.outcome }}/${{ steps.bad.conclusion }}"
        """,
    )
    assert job.conclusion == "success"
    assert "failure/success" in said(job)


@pytest.mark.parametrize(
    ("shell", "script", "conclusion"),
    [
        ("bash", "false | true", "failure"),  # pipefail
        ("", "false | true", "success"),  # without a name: bash -e
        ("sh", "echo $0; test -z \"${BASH_VERSION-}\" || test -n x", "success"),
        ("python", "import sys; sys.exit(0 if sys.argv[0].endswith('.py') else 1)", "success"),
        ("bash -c 'exit 0' {0}", "exit 1", "success"),
        ("bash --version", "true", "failure"),  # no {0}
    ],
)  # fmt: skip
def test_a_shell_runs_the_script_as_documented(
    github: FakeGitHub, tmp_path: Path, shell: str, script: str, conclusion: str
) -> None:
    step: dict[str, str] = {"run": script} | ({"shell": shell} if shell else {})
    python = "- uses: actions/setup-python@v5\n" if shell == "python" else ""
    job = run_steps(github, tmp_path, f"{python}- {json.dumps(step)}")
    assert job.conclusion == conclusion


def test_a_step_speaks_through_its_files(github: FakeGitHub, tmp_path: Path) -> None:
    job = run_steps(
        github,
        tmp_path,
        """
        - id: one
          run: |
            echo "short=1" >> "$GITHUB_OUTPUT"
            printf 'long<<EOF\\na\\nb=c\\nEOF\\n' >> "$GITHUB_OUTPUT"
            echo "FROM_ENV=yes" >> "$GITHUB_ENV"
            mkdir -p "$RUNNER_TEMP/bin"
            printf '#!/bin/sh\\necho my-tool-ran\\n' > "$RUNNER_TEMP/bin/my-tool"
            chmod +x "$RUNNER_TEMP/bin/my-tool"
            echo "$RUNNER_TEMP/bin" >> "$GITHUB_PATH"
            echo "# Title" >> "$GITHUB_STEP_SUMMARY"
        - run: |
            echo "short=${{ steps.one.outputs.short }} env=$FROM_ENV ${{ env.FROM_ENV }}"
            echo '${{ toJSON(steps.one.outputs.long) }}'
            my-tool
            echo "second" >> "$GITHUB_STEP_SUMMARY"
        """,
    )
    assert job.conclusion == "success"
    assert {"short=1 env=yes yes", '"a\\nb=c"', "my-tool-ran"} <= set(said(job))
    assert job.last["summary"] == "# Title\n\n\nsecond\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('echo "nonsense" >> "$GITHUB_ENV"', "Invalid format 'nonsense'"),
        ('echo "a<<E" >> "$GITHUB_OUTPUT"', "Matching delimiter not found 'E'"),
        ('echo "::set-env name=a::b"', "The `set-env` command is disabled."),
    ],
)
def test_a_wrong_file_or_disabled_command_fails_the_step(
    github: FakeGitHub, tmp_path: Path, line: str, message: str
) -> None:
    job = run_steps(github, tmp_path, f"- run: {line}")
    assert job.conclusion == "failure"
    assert any(message in one for one in messages(job))


def test_node_options_and_the_runners_own_names_cannot_be_set(
    github: FakeGitHub, tmp_path: Path
) -> None:
    job = run_steps(
        github,
        tmp_path,
        """
        - run: printf 'NODE_OPTIONS=--x\\nGITHUB_SHA=0\\nRUNNER_OS=Beos\\n' >> "$GITHUB_ENV"
        - run: test -z "$NODE_OPTIONS" && echo "$GITHUB_SHA $RUNNER_OS"
        """,
    )
    assert messages(job) == [
        "Can't store NODE_OPTIONS output parameter using '$GITHUB_ENV' command."
    ]
    assert f"{job.registration['sha']} Linux" in said(job)


def test_a_summary_over_one_mebibyte_is_refused_and_the_step_goes_on(
    github: FakeGitHub, tmp_path: Path
) -> None:
    job = run_steps(
        github, tmp_path, '- run: head -c 1048577 /dev/zero | tr "\\0" x > "$GITHUB_STEP_SUMMARY"'
    )
    assert job.conclusion == "success"
    assert job.last["summary"] == ""
    assert "upload aborted, supports content up to a size of 1024k" in messages(job)[0]


def test_annotations_carry_their_place_and_stop_at_ten_of_a_level(
    github: FakeGitHub, tmp_path: Path
) -> None:
    job = run_steps(
        github,
        tmp_path,
        """
        - run: |
            for i in $(seq 12); do echo "::error file=a.py,line=$i,title=T::e$i"; done
            for i in $(seq 12); do echo "::warning::w$i"; done
        - run: echo "::notice::n"
        """,
    )
    found = job.last["annotations"]
    levels = [one["annotation_level"] for one in found]
    assert levels == ["failure"] * 10 + ["warning"] * 10 + ["notice"]
    assert found[2] == {
        "path": "a.py",
        "start_line": 3,
        "end_line": 3,
        "annotation_level": "failure",
        "title": "T",
        "message": "e3",
    }
    assert found[-1]["path"] == ".github"


def test_no_secret_reaches_log_summary_or_annotation(github: FakeGitHub, tmp_path: Path) -> None:
    github.push(
        {
            WORKFLOW: a_workflow(
                """
                - run: |
                    echo "secret=$S token=$T"
                    printf %s "$S" | base64
                    V=found
                    echo "::add-mask::$V-later"
                    echo "x $V-later y" | tee "$GITHUB_STEP_SUMMARY"
                    echo "::error title=$S::$S"
                  env: {S: "${{ secrets.KEY }}", T: "${{ secrets.GITHUB_TOKEN }}"}
                - id: out
                  run: echo "v=$S" >> "$GITHUB_OUTPUT"
                  env: {S: "${{ secrets.KEY }}"}
                """,
                job='outputs: {leak: "${{ steps.out.outputs.v }}", fine: "1"}',
            )
        }
    )
    ended = run_once(github, tmp_path / "state", "--secret", "KEY", env={"KEY": "hunter2-and-more"})
    job = github.job("job")
    told = json.dumps(job.reports) + ended.stdout
    for secret in ("hunter2-and-more", "aHVudGVyMi1hbmQtbW9yZQ==", TOKEN, "oidc-request-secret"):
        assert secret not in told
    assert "x found-later y" not in told
    assert "secret=*** token=***" in said(job)
    assert "##[warning]Skip output 'leak' since it may contain secret." in said(job)


def test_stopped_commands_are_ordinary_output(github: FakeGitHub, tmp_path: Path) -> None:
    job = run_steps(
        github,
        tmp_path,
        """
        - run: |
            echo "::stop-commands::t0ken"
            echo "::error::not this"
            echo "::t0ken::"
            echo "::error::this"
        """,
    )
    assert messages(job) == ["this"]
    assert "::error::not this" in said(job)


def test_a_job_sees_githubs_variables_and_nothing_of_the_persons_own(
    github: FakeGitHub, tmp_path: Path
) -> None:
    github.push(
        {
            WORKFLOW: a_workflow(
                "- run: env -0 | tr '\\0' '\\n' | sed 's/^/E:/'; cp $GITHUB_EVENT_PATH /dev/stdout"
            )
        }
    )
    own = {"MY_PRIVATE": "1", "PIP_INDEX_URL": "http://127.0.0.1:1/simple"}
    run_once(github, tmp_path / "state", env=own)
    job = github.job("job")
    lines = [line.removeprefix("E:") for line in said(job) if line.startswith("E:")]
    found = dict(line.partition("=")[::2] for line in lines)
    assert found["GITHUB_REPOSITORY"] == "ada/demo"
    assert found["GITHUB_REPOSITORY_ID"] == "42"
    assert found["GITHUB_REPOSITORY_OWNER_ID"] == "7"
    assert found["GITHUB_REF_NAME"] == "main"
    assert found["GITHUB_RUN_ID"] == "5000"
    assert found["GITHUB_WORKFLOW_REF"] == f"ada/demo/{WORKFLOW}@refs/heads/main"
    assert found["GITHUB_API_URL"] == f"{github.url}/api"
    assert found["GITHUB_SERVER_URL"] == github.url
    assert found["CI"] == found["GITHUB_ACTIONS"] == "true"
    assert found["PIP_INDEX_URL"] == own["PIP_INDEX_URL"]
    assert found["HOME"] != os.environ.get("HOME")
    assert "MY_PRIVATE" not in found
    assert "PYTHONPATH" not in found
    assert '"login": "grace",' in [line.strip() for line in said(job)]


@pytest.mark.parametrize(
    ("permissions", "asked"),
    [
        ("permissions: {id-token: write}", True),
        ("permissions: write-all", True),
        ("permissions: {contents: read}", False),
        ("", False),
    ],
)
def test_only_a_job_with_the_permission_can_ask_for_an_id_token(
    github: FakeGitHub, tmp_path: Path, permissions: str, asked: bool
) -> None:
    run_steps(
        github,
        tmp_path,
        """
        - run: |
            test -n "$ACTIONS_ID_TOKEN_REQUEST_URL" || exit 0
            curl --silent --fail -H "Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN" \\
              "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=me"
        """,
        top=permissions,
    )
    assert github.id_token_asked == (["bearer oidc-request-secret"] if asked else [])


def a_pull_request(sha: str, base: str, *, fork: bool) -> dict[str, Any]:
    here = {"id": 42, "full_name": "ada/demo"}
    there = {"id": 99, "full_name": "eve/demo"}
    return {
        "action": "opened",
        "number": 5,
        "pull_request": {
            "number": 5,
            "head": {"ref": "topic", "sha": sha, "repo": there if fork else here},
            "base": {"ref": "main", "sha": base, "repo": here},
        },
        **common_payload(),
    }


@pytest.mark.parametrize("fork", [False, True])
def test_a_pull_request_runs_its_merge_commit_and_a_fork_gets_no_rights(
    github: FakeGitHub, tmp_path: Path, fork: bool
) -> None:
    report = (
        '- run: echo "id=${ACTIONS_ID_TOKEN_REQUEST_URL:+yes} key=${{ secrets.KEY }}'
        ' $GITHUB_HEAD_REF $GITHUB_BASE_REF $GITHUB_REF_NAME"'
    )
    files = {WORKFLOW: a_workflow(report, top="permissions: {id-token: write}")}
    base = github.commit({"a": "1"})
    head = github.commit(files)
    git("push", "--quiet", "origin", "HEAD:refs/pull/5/merge", folder=github.work())
    github.happen("pull_request", a_pull_request(head, base, fork=fork))
    run_once(github, tmp_path / "state", "--secret", "KEY=s-value")
    job = github.job("job")
    assert job.registration["ref"] == "refs/pull/5/merge"
    assert job.registration["sha"] == head
    expected = "id= key=" if fork else "id=yes key=***"
    assert f"{expected} topic main 5/merge" in said(job)


def test_needs_pass_outputs_and_a_matrix_makes_one_job_for_each_value(
    github: FakeGitHub, tmp_path: Path
) -> None:
    github.push(
        {
            WORKFLOW: textwrap.dedent(
                """
                on: push
                jobs:
                  first:
                    runs-on: x
                    outputs: {list: "${{ steps.a.outputs.list }}"}
                    steps:
                      - id: a
                        run: echo 'list=["x","y"]' >> "$GITHUB_OUTPUT"
                  many:
                    needs: first
                    runs-on: x
                    strategy:
                      matrix: {v: "${{ fromJSON(needs.first.outputs.list) }}"}
                    steps:
                      - run: echo "value-${{ matrix.v }} of ${{ strategy.job-total }}"
                  last:
                    needs: [first, many]
                    runs-on: x
                    steps:
                      - run: echo "many=${{ needs.many.result }}"
                """
            )
        }
    )
    assert run_once(github, tmp_path / "state").returncode == 0
    names = [job.name for job in github.jobs.values()]
    assert sorted(names) == ["first", "last", "many (x)", "many (y)"]
    assert names[0] == "first"
    assert names[-1] == "last"
    assert "value-x of 2" in said(github.job("many (x)"))
    assert "many=success" in said(github.job("last"))


def test_a_job_behind_a_failure_is_skipped_unless_it_says_otherwise(
    github: FakeGitHub, tmp_path: Path
) -> None:
    github.push(
        {
            WORKFLOW: textwrap.dedent(
                """
                on: push
                jobs:
                  bad: {runs-on: x, steps: [run: exit 1]}
                  after: {runs-on: x, needs: bad, steps: [run: 'true']}
                  later: {runs-on: x, needs: after, if: always(), steps: [run: 'true']}
                  rescue: {runs-on: x, needs: bad, if: failure(), steps: [run: 'true']}
                  never: {runs-on: x, if: "github.ref == 'refs/heads/dev'", steps: [run: 'true']}
                """
            )
        }
    )
    assert run_once(github, tmp_path / "state").returncode == 1
    assert {job.name: job.conclusion for job in github.jobs.values()} == {
        "bad": "failure",
        "after": "skipped",
        "later": "success",
        "rescue": "success",
        "never": "skipped",
    }


GREET = """
name: greet
inputs:
  who: {description: whom, default: "${{ github.actor }}"}
  Loud-Mode: {default: "no"}
outputs:
  said: {value: "${{ steps.say.outputs.said }}"}
runs:
  using: composite
  steps:
    - id: say
      shell: bash
      env: {WHO: "${{ inputs.who }}", LOUD: "${{ inputs.loud-mode }}"}
      run: |
        echo "input-variables=$(env | grep -c '^INPUT_')"
        echo "said=hello $WHO $LOUD" >> "$GITHUB_OUTPUT"
        echo "FROM_ACTION=set" >> "$GITHUB_ENV"
        test "$GITHUB_ACTION_PATH" = "${{ github.action_path }}" && cat "$GITHUB_ACTION_PATH/note"
"""


def test_a_composite_action_has_inputs_outputs_and_a_path_of_its_own(
    github: FakeGitHub, tmp_path: Path
) -> None:
    job = run_steps(
        github,
        tmp_path,
        """
        - uses: actions/checkout@v4
        - id: hi
          uses: ./greet
          with: {loud-mode: "yes", nonsense: 1}
        - run: echo "${{ steps.hi.outputs.said }} $FROM_ACTION path=[$GITHUB_ACTION_PATH]"
        """,
        files={"greet/action.yml": GREET, "greet/note": "note-in-the-action\n"},
    )
    assert job.conclusion == "success", job.log
    assert {"hello grace yes set path=[]", "input-variables=0", "note-in-the-action"} <= set(
        said(job)
    )
    assert any("Unexpected input(s) 'nonsense'" in line for line in said(job))


def test_actions_come_from_a_given_folder_or_from_githubs_own_repositories(
    github: FakeGitHub, tmp_path: Path
) -> None:
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "action.yml").write_text(
        """
runs:
  using: composite
  steps:
    - uses: ada/tools/inner@v1
"""
    )
    inner = """
runs:
  using: composite
  steps:
    - {shell: sh, run: 'echo "inner $GITHUB_ACTION_REPOSITORY@$GITHUB_ACTION_REF"'}
"""
    github.commit({"inner/action.yml": inner}, repo="ada/tools")
    git("push", "--quiet", "origin", "HEAD:refs/tags/v1", folder=github.work("ada/tools"))
    job = run_steps(
        github, tmp_path, "- uses: Cynthus/cynthus@v0", "--action", f"cynthus/cynthus={folder}"
    )
    assert job.conclusion == "success", job.log
    assert "inner ada/tools@v1" in said(job)


@pytest.mark.parametrize(
    ("uses", "action", "message"),
    [
        ("./missing", "", "Can't find 'action.yml', 'action.yaml' or 'Dockerfile' under"),
        ("ada/none@v1", "", "Unable to resolve action `ada/none@v1`, repository not found"),
        ("ada/demo@v9", "", "Unable to resolve action `ada/demo@v9`, unable to find version `v9`"),
        ("nonsense", "", "Expected format {org}/{repo}[/path]@ref. Actual 'nonsense'"),
        ("docker://alpine", "", "docker images are not supported"),
        ("./act", "runs: {using: node24, main: x.js}", "`using: node24` is not supported"),
        ("./act", "runs: {using: docker, image: Dockerfile}", "`using: docker` is not supported"),
        ("./act", "runs: {using: composite, steps: [run: x]}", "property is missing: shell"),
        ("./act", "name: x", "Required property is missing: runs.using"),
        ("./act", "runs: {using: composite, steps: [{uses: ./act}]}", "exceeded max depth 9"),
        (
            "./act",
            "runs: {using: composite, steps: [{run: 'echo ${{ secrets.A }}', shell: sh}]}",
            "Unrecognized named-value: 'secrets'",
        ),
    ],
)  # fmt: skip
def test_an_action_that_cannot_run_fails_plainly(
    github: FakeGitHub, tmp_path: Path, uses: str, action: str, message: str
) -> None:
    files = {"act/action.yml": action} if action else {}
    steps = f"- uses: actions/checkout@v4\n- uses: {uses}"
    job = run_steps(github, tmp_path, steps, files=files)
    assert job.conclusion == "failure"
    assert any(message in one for one in messages(job)), messages(job)


def test_a_failure_inside_an_action_stops_it_and_its_always_step_runs(
    github: FakeGitHub, tmp_path: Path
) -> None:
    action = """
runs:
  using: composite
  steps:
    - {shell: bash, run: exit 4}
    - {shell: bash, run: 'echo never-$((1+1))'}
    - {shell: bash, run: 'echo cleanup-$((1+1))', if: always()}
"""
    steps = "- uses: actions/checkout@v4\n- uses: ./act\n- run: echo outer-$((1+1))"
    job = run_steps(github, tmp_path, steps, files={"act/action.yml": action})
    assert job.conclusion == "failure"
    assert "cleanup-2" in said(job)
    assert not {"never-2", "outer-2"} & set(said(job))


def test_checkout_honours_path_depth_and_credentials(github: FakeGitHub, tmp_path: Path) -> None:
    github.commit({"one": "1"})
    job = run_steps(
        github,
        tmp_path,
        """
        - uses: actions/checkout@v4
          with: {path: shallow, persist-credentials: false}
        - uses: actions/checkout@v4
          with: {path: deep, fetch-depth: 0}
        - run: |
            cd shallow
            echo "shallow=$(git rev-list --count HEAD) $(git branch --show-current)"
            cd ..
            echo "deep=$(git -C deep rev-list --count HEAD)"
            echo "kept=$(git -C shallow config --get-regexp extraheader | wc -l)"
            echo "persisted=$(git -C deep config --get-regexp extraheader | wc -l)"
        """,
    )
    assert {"shallow=1 main", "deep=2", "kept=0", "persisted=1"} <= set(said(job)), job.log


def test_setup_python_gives_the_job_a_python_of_its_own(github: FakeGitHub, tmp_path: Path) -> None:
    job = run_steps(
        github,
        tmp_path,
        """
        - id: py
          uses: actions/setup-python@v5
          with: {python-version: "3.11"}
        - run: |
            test "$(command -v python)" = "${{ steps.py.outputs.python-path }}"
            python -c 'import sys; print("packages:", sys.prefix == "'"$pythonLocation"'")'
            python -m pip --version && pip list --format freeze
        """,
    )
    assert job.conclusion == "success", job.log
    assert "packages: True" in said(job)
    assert any("stands in for '3.11'" in line for line in said(job))
    assert not any(line.startswith("pytest==") for line in said(job))


def test_a_step_and_a_job_end_at_their_time_limit(github: FakeGitHub, tmp_path: Path) -> None:
    github.push(
        {
            WORKFLOW: textwrap.dedent(
                """
                on: push
                jobs:
                  step:
                    runs-on: x
                    steps:
                      - {name: slow, run: exec sleep 60, timeout-minutes: 0.005}
                      - {run: 'echo after-$((1+1))', if: failure()}
                  job:
                    runs-on: x
                    timeout-minutes: 0.005
                    steps:
                      - {run: exec sleep 60}
                      - {run: 'echo cleanup-$((1+1))', if: always()}
                """
            )
        }
    )
    run_once(github, tmp_path / "state")
    step, job = github.job("step"), github.job("job")
    assert (step.conclusion, job.conclusion) == ("failure", "cancelled")
    assert "The action 'slow' has timed out after 0.005 minutes." in messages(step)
    assert any("exceeded the maximum execution time" in one for one in messages(job))
    assert "after-2" in said(step)
    assert "cleanup-2" in said(job)


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ("container: alpine", "jobs.job.container"),
        ("services: {db: {image: postgres}}", "jobs.job.services"),
        ("strategy: {matrix: {a: []}}", "does not contain any values"),
        ("if: nonsense(", "Unrecognized function: 'nonsense'"),
    ],
)
def test_a_job_that_cannot_run_here_fails_plainly(
    github: FakeGitHub, tmp_path: Path, job: str, message: str
) -> None:
    reported = run_steps(github, tmp_path, "- run: 'true'", job=job)
    assert reported.conclusion == "failure"
    assert message in messages(reported)[0]


def test_a_broken_workflow_file_is_a_failed_run(github: FakeGitHub, tmp_path: Path) -> None:
    github.push({WORKFLOW: "on: push\njobs: {a: {runs-on: x, stepz: []}}"})
    assert run_once(github, tmp_path / "state").returncode == 1
    job = github.job(WORKFLOW)
    assert job.conclusion == "failure"
    assert "Unexpected value 'stepz'" in messages(job)[0]


def test_a_workflow_started_by_hand_gets_its_inputs(github: FakeGitHub, tmp_path: Path) -> None:
    github.commit(
        {
            WORKFLOW: textwrap.dedent(
                """
                on:
                  workflow_dispatch:
                    inputs:
                      who: {default: world}
                      loud: {type: boolean}
                jobs:
                  job:
                    runs-on: x
                    steps: [run: "echo hello-${{ inputs.who }}-${{ inputs.loud && 'loud' }}"]
                """
            )
        }
    )
    payload = {"ref": "main", "workflow": WORKFLOW, "inputs": {"loud": "true"}}
    github.happen("workflow_dispatch", payload | common_payload())
    run_once(github, tmp_path / "state")
    assert "hello-world-loud" in said(github.job("job"))


def test_a_dispatch_runs_the_default_branch_whatever_its_payload_names(
    github: FakeGitHub, tmp_path: Path
) -> None:
    said_so = "echo got=${{ github.event.client_payload.commit_sha }} at=$GITHUB_REF $GITHUB_SHA"
    on = "on: {repository_dispatch: {types: [cynthus]}}"
    tip = github.commit(
        {WORKFLOW: f"{on}\njobs: {{job: {{runs-on: x, steps: [run: '{said_so}']}}}}"}
    )
    payload = {"action": "cynthus", "branch": "main", "client_payload": {"commit_sha": "abc"}}
    github.happen("repository_dispatch", payload | common_payload())
    run_once(github, tmp_path / "state")
    job = github.job("job")
    assert f"got=abc at=refs/heads/main {tip}" in said(job)
    assert (job.registration["event"], job.registration["fork"]) == ("repository_dispatch", False)
    assert (job.registration["ref"], job.registration["sha"]) == ("refs/heads/main", tip)


def test_defaults_and_env_at_every_level_reach_the_step(github: FakeGitHub, tmp_path: Path) -> None:
    job = run_steps(
        github,
        tmp_path,
        """
        - run: mkdir -p sub
          working-directory: .
        - run: echo "$A $B $C $D $(basename "$PWD") ${{ vars.V }}"
          env: {C: step, D: "${{ env.B }}+"}
        """,
        "--var",
        "V=variable",
        top="env: {A: workflow, B: workflow, C: workflow}",
        job="""
        env: {B: job, C: job}
        defaults: {run: {working-directory: sub, shell: bash}}
        """,
    )
    assert "workflow job step job+ sub variable" in said(job), job.log


def test_what_a_job_leaves_running_is_ended(github: FakeGitHub, tmp_path: Path) -> None:
    job = run_steps(
        github,
        tmp_path,
        """
        - run: |
            setsid sleep 300 >/dev/null 2>&1 &
            echo "pid=$!"
        """,
    )
    (line,) = [line for line in said(job) if line.startswith("pid=") and "$" not in line]
    assert job.conclusion == "success"
    assert _ends(line.removeprefix("pid="))


def _ends(pid: str) -> bool:
    """A killed process is gone once the kernel has come round to it."""
    tick = threading.Event()
    for _ in range(1200):
        try:
            if "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        tick.wait(0.05)
    return False


@pytest.mark.parametrize("example", ["digits", "digits-pytorch"])
def test_the_workflows_of_the_examples_satisfy_githubs_schema(example: str) -> None:
    files = list((ROOT / "examples" / example / ".github/workflows").glob("*.yml"))
    assert files
    done = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.github-workflows"),
            *map(str, files),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_jobs_of_a_run_are_registered_as_one_with_their_rights(
    github: FakeGitHub, tmp_path: Path
) -> None:
    github.push(
        {
            WORKFLOW: textwrap.dedent(
                """
                on: push
                permissions: {contents: read}
                jobs:
                  one: {runs-on: x, steps: [run: 'true']}
                  two: {runs-on: x, needs: one, permissions: write-all, steps: [run: 'true']}
                """
            )
        }
    )
    run_once(github, tmp_path / "state")
    one, two = github.job("one").registration, github.job("two").registration
    assert "run_id" not in one
    assert two["run_id"] == 5000
    assert one["run_key"] == two["run_key"]
    assert one["permissions"] == {"contents": "read"}
    assert two["permissions"]["id-token"] == two["permissions"]["contents"] == "write"
    assert one["repo"] == "ada/demo"


def test_a_failure_in_a_matrix_cancels_the_rest_unless_it_shall_not(
    github: FakeGitHub, tmp_path: Path
) -> None:
    github.push(
        {
            WORKFLOW: textwrap.dedent(
                """
                on: push
                jobs:
                  fast:
                    runs-on: x
                    strategy: {matrix: {v: [1, 2]}}
                    steps: [run: "[ ${{ matrix.v }} = 2 ] && exec sleep 60; exit 1"]
                  slow:
                    runs-on: x
                    strategy: {fail-fast: false, max-parallel: 1, matrix: {v: [1, 2]}}
                    steps: [run: "[ ${{ matrix.v }} = 2 ]"]
                """
            )
        }
    )
    assert run_once(github, tmp_path / "state").returncode == 1
    assert {job.name: job.conclusion for job in github.jobs.values()} == {
        "fast (1)": "failure",
        "fast (2)": "cancelled",
        "slow (1)": "failure",
        "slow (2)": "success",
    }


def test_a_file_names_actions_of_its_own_repository_without_a_checkout(
    github: FakeGitHub, tmp_path: Path
) -> None:
    inner = "runs: {using: composite, steps: [{run: echo inner-ran, shell: sh}]}"
    outer = "runs: {using: composite, steps: [{uses: $/inner}]}"
    files = {"inner/action.yml": inner, "outer/action.yml": outer}
    job = run_steps(github, tmp_path, "- uses: $/outer", files=files)
    assert job.conclusion == "success", job.log
    assert "inner-ran" in said(job)


def test_concurrency_is_noted_and_has_no_effect(github: FakeGitHub, tmp_path: Path) -> None:
    job = run_steps(github, tmp_path, "- run: 'true'", top="concurrency: one")
    assert job.conclusion == "success"
    assert any(line.startswith("`concurrency` is read and has no effect") for line in said(job))


def test_a_machine_without_a_fit_python_lends_the_job_one(tmp_path: Path) -> None:
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    assert not machine_has_python(str(tmp_path))
    assert not machine_has_python(str(tmp_path / "nothing"))
    folder = lend_python(tmp_path / "work")
    assert machine_has_python(str(folder))
    done = subprocess.run([folder / "pip", "--version"], capture_output=True, check=True)
    assert str(tmp_path) in done.stdout.decode()
