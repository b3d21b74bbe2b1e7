"""Build a commit's image and ask the server to run it, from top to bottom."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import PurePosixPath
from types import FrameType
from typing import TYPE_CHECKING

from action import build, forks, inputs, plan, refusals, specs, summary, workflow
from action.failures import BuildFailed
from action.inputs import Inputs, TokenDoor
from action.order import Built, Order
from action.resolving import indexes
from action.workflow import Console, JobConsole
from cynthus.errors import CynthusError, UserError
from cynthus.spec import Spec, spec_digest

if TYPE_CHECKING:
    from action.server import Server
    from action.submit import Sender
    from cynthus.wire import RunAccepted

# What speaks to the server is imported where it is needed, here and below: a build for
# `cynthus run`, a dry run and a job that does not wait each do without a part of it, and all that
# is imported is a tenth of a second, which a person waits for at every push.

DONE, RUN_FAILED, USERS_FAULT, OUR_FAULT = 0, 1, 2, 3  # as the command line's: docs/cli.md


def main(words: Sequence[str]) -> int:
    """Run as a step of a job, or with words as `cynthus run`'s builder."""
    if words:
        from action import local

        return local.main(words)
    console = JobConsole(sys.stdout)
    try:
        given = inputs.read()
    except UserError as error:
        for line in str(error).splitlines():
            console.error(line)
        return USERS_FAULT
    inputs.clean_environment()
    for secret in (*(one.value for one in given.build_secrets), *indexes.secrets()):
        console.mask(secret)
    signal.signal(signal.SIGTERM, _interrupt)  # how a cancelled job is told, after SIGINT
    try:
        return work(given, console)
    except KeyboardInterrupt:
        console.say("cancelled")
        return 130
    except UserError as error:
        return _tell_users_fault(error, given, console)
    except CynthusError as error:
        console.error(str(error))
        workflow.write_summary(given.summary_file, summary.failure_lines(str(error)))
        return OUR_FAULT
    except OSError as error:  # a full disk, where the outputs or the summary should go
        console.error(f"the builder's machine: {error.filename or ''}: {error.strerror or error}")
        return OUR_FAULT


def _secrets(given: Inputs) -> tuple[str, ...]:
    """Return what no sentence for the server may hold: GitHub masks the log, and no more."""
    values = [one.value for one in given.build_secrets]
    values += [given.login.password] if given.login else []
    return (*(one for one in values if len(one) >= indexes.SHORTEST_SECRET), *indexes.secrets())


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def work(given: Inputs, console: JobConsole) -> int:
    """Go from the inputs by spec, triggers, image and run request to the run's conclusion."""
    if reason := refusals.unsafe_event(given.job, dry_run=given.dry_run):
        raise UserError(reason)
    if reason := refusals.fork(given.job) or refusals.another_spec(given):
        return _skip(reason, given, console)
    if given.job.asked:
        return _work_as_asked(given, console)
    spec, text = specs.load(given.root, given.spec_path, given.spec_shown)
    if reason := refusals.unwanted(spec, given, _changed(given)):
        return _skip(reason, given, console)
    return _build(spec, text, given, console)


def _work_as_asked(given: Inputs, console: JobConsole) -> int:
    """Build what the server asked for, of the commit that it names; what hinders it is told it."""
    asked = given.job.asked
    assert asked is not None  # noqa: S101 - `work` has looked
    text = b""
    try:
        if reason := refusals.other_commit(given.job, specs.head(given.root)):
            raise UserError(reason)
        within = PurePosixPath(asked.spec_path).relative_to(given.prefix or ".")
        given = replace(given, spec_path=str(within))
        spec, text = specs.load(given.root, given.spec_path, given.spec_shown)
        if asked.fork:
            given = forks.kept_apart(given)
            forks.forget_logins(os.environ)
            if reason := forks.refusal(spec, given):
                raise UserError(reason)
    except UserError as error:
        return _tell_no_image(error, text, given, _sender(given, console))
    return _build(spec, text, given, console)


def _build(spec: Spec, text: bytes, given: Inputs, console: JobConsole) -> int:
    door = given.job.token_door
    if door is None and not given.dry_run:
        from action import server

        raise UserError(server.missing_token_remedy(given))
    sender = _sender(given, console)
    try:
        built = build.build(_order(given, spec, text), console)
    except (BuildFailed, UserError) as error:
        return _tell_no_image(error, text, given, sender)
    _tell_built(spec, built, given)
    if sender is None:
        console.notice("dry run: the image was built; nothing was pushed, and no run was asked for")
        return DONE
    from action import submit
    from action.prune import prune

    found = submit.Image(name=built.image, environment=built.about)
    request = submit.run_request(given, text.decode(), image=found)
    accepted = submit.send(request, sender)
    _tell_accepted(accepted, given, console)
    prune.after_run(sender, spec.name, built, now())
    return _follow(accepted, given, console) if given.wait else DONE


def _changed(given: Inputs) -> tuple[str, ...] | None:
    if given.job.changed_paths is not None or given.job.event != "push":
        return given.job.changed_paths
    return specs.changed_paths(given.root, given.job.before, given.job.sha)


def _skip(reason: str, given: Inputs, console: JobConsole) -> int:
    console.notice(reason)
    workflow.write_summary(given.summary_file, summary.skipped_lines(reason))
    workflow.write_outputs(given.output_file, {"conclusion": "skipped"})
    return DONE


def _sender(given: Inputs, console: JobConsole) -> Sender | None:
    door: TokenDoor | None = given.job.token_door
    if door is None or given.dry_run:
        return None
    from action import submit

    return submit.Sender(inputs=given, door=door, console=console, wait=time.sleep)


def _order(given: Inputs, spec: Spec, text: bytes) -> Order:
    job = given.job
    stranger = job.asked is not None and job.asked.fork
    tag = f"{plan.image_name(given.registry, spec.name)}:{job.commit_sha}"
    return Order(
        spec=spec,
        root=given.root,
        origin=plan.Origin(
            source_url=f"{job.server_url}/{job.repository}",
            commit_sha=job.commit_sha,
            spec_sha256=spec_digest(text),
            committed_s=specs.committed_s(given.root, job.commit_sha),
        ),
        push_to=None if given.dry_run else tag,
        environments=given.environments,
        login=given.login,
        base_image=given.base_image,
        engine_wish="auto",
        machine=given.machine,
        today=today(),
        server=None if stranger else _server(given),  # it lends no lease or lock of ours
        stranger=stranger,
        holder=f"{job.run_url}#{os.urandom(4).hex()}",  # jobs of a matrix share the URL
        spec_path=given.spec_shown,
        build_secrets=given.build_secrets,
    )


def _server(given: Inputs) -> Server | None:
    door = given.job.token_door
    if door is None or given.dry_run:
        return None
    from action import server

    return server.Server(url=given.server_url, audience=given.audience, door=door)


def now() -> datetime:
    """Return the moment."""
    return datetime.now(UTC)  # noqa: TID251 - this is the Action's composition root


def today() -> date:
    """Return the date: unpinned packages are looked up once a day."""
    return now().date()


# ── telling ─────────────────────────────────────────────────────────────────────────────────────


def _tell_users_fault(error: UserError, given: Inputs, console: Console) -> int:
    for fault in error.faults:
        console.error(fault.message, workflow.place_of(fault))
    for line in () if error.faults else str(error).splitlines():
        console.error(line)
    workflow.write_summary(given.summary_file, summary.failure_lines(str(error), error.faults))
    return USERS_FAULT


def _tell_no_image(
    error: BuildFailed | UserError, text: bytes, given: Inputs, sender: Sender | None
) -> int:
    """Annotate, and let the server end the run with the reason instead of waiting for an image."""
    console: Console = JobConsole(sys.stdout) if sender is None else sender.console
    if isinstance(error, UserError):
        code = _tell_users_fault(error, given, console)
        reason = "\n".join(map(str, error.faults)) or str(error)
    else:
        code, reason = RUN_FAILED, str(error)
        console.error(reason, error.place)
        workflow.write_summary(given.summary_file, summary.failure_lines(reason))
    outputs = {"conclusion": "failure"}
    if sender is not None:
        from action import submit

        told = workflow.hidden(reason, _secrets(given))
        request = submit.run_request(given, text.decode(), image=None, failure=told)
        accepted = submit.send(request, sender)
        outputs |= {"run-id": accepted.run_id, "run-url": accepted.url}
    workflow.write_outputs(given.output_file, outputs)
    return code


def _tell_built(spec: Spec, built: Built, given: Inputs) -> None:
    workflow.write_outputs(given.output_file, {"image": built.image, "digest": built.digest})
    workflow.write_summary(given.summary_file, summary.built_lines(spec.name, built))


def _tell_accepted(accepted: RunAccepted, given: Inputs, console: JobConsole) -> None:
    console.mask(accepted.token)
    console.say(f"run {accepted.run_id}: {accepted.url}")
    found = {"run-id": accepted.run_id, "run-url": accepted.url}
    workflow.write_outputs(given.output_file, found)
    workflow.write_summary(given.summary_file, summary.run_lines(accepted))


def _follow(accepted: RunAccepted, given: Inputs, console: JobConsole) -> int:
    from action import follow
    from cynthus.client import Client

    client = Client(given.server_url, accepted.token)
    follower = follow.Follower(
        client=client, run=accepted, console=console, limit=given.wait_timeout
    )
    try:
        with console.phase(f"Run {accepted.run_id}"):
            run = follow.follow(follower)
    except KeyboardInterrupt:
        heard = follow.cancel(follower)
        console.say("the run is cancelled too" if heard else "the server did not hear the cancel")
        raise
    word = follow.conclusion(run)
    workflow.write_outputs(given.output_file, {"conclusion": word})
    workflow.write_summary(given.summary_file, summary.end_lines(run))
    if word == "success":
        console.say(f"run {accepted.run_id} succeeded: {run.release_url or run.url}")
        return DONE
    console.error(f"run {accepted.run_id} ended as {word}: {run.reason or 'no reason given'}")
    return RUN_FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
