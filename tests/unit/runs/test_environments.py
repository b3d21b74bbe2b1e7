"""What an image's environment can do on a GPU is said before money is spent."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cynthus import cli_plan
from cynthus.spec import GpuNeed, Resources
from cynthus.wire_image import Framework
from tests.builders import (
    IMAGE,
    NOON,
    a_kept,
    a_run,
    a_spec,
    an_attempt,
    an_environment,
    an_offer,
)
from webhook_server.runs.commands import CreateInstance, Decision
from webhook_server.runs.decide import decide
from webhook_server.runs.environments import cuda_refusal, image_digest, kept
from webhook_server.runs.lending import Offer
from webhook_server.runs.model import Cause, Outcome, Run, State
from webhook_server.runs.observations import ImageArrived, Kept, Observations
from webhook_server.runs.plan import Question, plan
from webhook_server.runs.policy import CLOUD
from webhook_server.runs.work import Limits, work_for

WITH_GPU = a_spec(resources=Resources(gpu=(GpuNeed("l4", 1),)))
CPU_TORCH = Framework(name="torch", version="2.7.0")


def a_gpu_offer(driver: str, **changes: Any) -> Offer:
    return an_offer(gpu_type="l4", gpu_count=1, driver=driver, **changes)


def a_queued(**changes: Any) -> Run:
    return a_run(State.QUEUED, **({"spec": WITH_GPU, "environment": a_kept()} | changes))


def look(run: Run, *offers: Offer, **seen: Any) -> Decision:
    return decide(run, Observations(offers=offers, **seen), NOON)


def ordered(decision: Decision) -> list[str]:
    return [c.order.offer.place for c in decision.commands if isinstance(c, CreateInstance)]


# ── what is remembered ──────────────────────────────────────────────────────────────────────────


def test_the_same_content_of_the_same_owner_is_the_same_environment() -> None:
    assert kept(1, an_environment()) == kept(1, an_environment())
    ids = {kept(1, an_environment()).id, kept(2, an_environment()).id}
    ids |= {kept(1, an_environment(lock="other\n")).id, kept(1, an_environment(sbom=None)).id}
    assert len(ids) == 4


def test_a_run_remembers_its_lock_by_digest_only() -> None:
    about = a_kept().about
    assert about.lock_sha256 == hashlib.sha256(b"torch==2.7.0 --hash=sha256:00\n").hexdigest()
    assert about.frameworks == an_environment().frameworks
    assert a_kept(sbom=None).about.sbom_sha256 is None


def test_the_environment_comes_with_the_image() -> None:
    arrived = ImageArrived(image=IMAGE, failure=None, environment=a_kept())
    run = decide(a_run(State.BUILDING), Observations(image=arrived), NOON).run
    assert (run.state, run.environment) == (State.QUEUED, a_kept())


@pytest.mark.parametrize(
    ("image", "digest"),
    [
        (IMAGE, "sha256:" + "a" * 64),
        ("sha256:" + "b" * 64, None),
        ("file:///x", None),
        (None, None),
    ],
)
def test_only_a_pushed_image_has_a_digest_in_a_registry(
    image: str | None, digest: str | None
) -> None:
    assert image_digest(image) == digest


# ── a GPU without CUDA ──────────────────────────────────────────────────────────────────────────


def test_a_gpu_that_no_framework_can_use_is_refused() -> None:
    told = cuda_refusal(WITH_GPU, an_environment(frameworks=(CPU_TORCH,)))
    assert told is not None
    assert told.startswith("resources/gpu: ")
    assert "torch 2.7.0" in told
    assert "1 x l4" in told


@pytest.mark.parametrize(
    ("spec", "frameworks"),
    [
        (WITH_GPU, (CPU_TORCH, Framework(name="jax", version="0.6", cuda="12.8"))),
        (WITH_GPU, ()),  # a program of its own means
        (a_spec(), (CPU_TORCH,)),
    ],
)
def test_what_may_use_its_gpu_or_asks_for_none_is_not_refused(
    spec: Any, frameworks: tuple[Framework, ...]
) -> None:
    assert cuda_refusal(spec, an_environment(frameworks=frameworks)) is None
    assert cuda_refusal(spec, None) is None


# ── the driver ──────────────────────────────────────────────────────────────────────────────────


def test_a_place_with_an_older_driver_is_passed_over() -> None:
    old, new = a_gpu_offer("535.161.08", place="old"), a_gpu_offer("580.1", place="new")
    assert ordered(look(a_queued(), old, new)) == ["new"]
    assert ordered(look(a_queued(environment=None), old, new)) == ["old"]
    assert ordered(look(a_queued(environment=a_kept(minimum_driver=None)), old, new)) == ["old"]


def test_a_driver_that_nobody_knows_is_tried() -> None:
    assert ordered(look(a_queued(), a_gpu_offer("", place="there"))) == ["there"]


def test_without_any_new_enough_driver_the_run_ends_before_anything_is_ordered() -> None:
    decision = look(a_queued(), a_gpu_offer("535.161.08"), a_gpu_offer("550", place="there"))
    run = decision.run
    assert (run.state, run.outcome, run.reason.cause) == (
        State.FINISHED,
        Outcome.FAILED,
        Cause.REFUSED,
    )
    assert (decision.commands, run.attempts) == ((), ())
    assert "driver 570.26 or newer" in run.reason.text
    assert "CUDA 12.8 of torch 2.7.0" in run.reason.text
    assert "found 535.161.08, 550" in run.reason.text


def test_the_framework_with_the_newest_cuda_is_the_one_that_is_named() -> None:
    old = Framework(name="tensorflow", version="2.18.0", cuda="12.5")
    new = Framework(name="jax", version="0.6.0", cuda="12.10")  # a number, not a decimal
    run = a_queued(environment=a_kept(frameworks=(old, new)))
    assert "CUDA 12.10 of jax 0.6.0" in look(run, a_gpu_offer("535")).run.reason.text
    bare = a_queued(environment=a_kept(frameworks=()))
    assert "CUDA" not in look(bare, a_gpu_offer("535")).run.reason.text.replace("older CUDA", "")


def test_a_run_without_a_gpu_does_not_mind_the_driver() -> None:
    run = a_queued(spec=a_spec())
    assert ordered(look(run, an_offer(driver="535"))) == ["here"]


@pytest.mark.parametrize(("driver", "taken"), [("535.161.08", False), ("580.1", True), ("", True)])
def test_a_warm_instance_is_taken_over_only_with_a_driver_that_does(
    driver: str, *, taken: bool
) -> None:
    waits = Kept(
        machine="cynthus-other-1",
        repository_id=7,
        offer=a_gpu_offer(driver),
        disk_bytes=None,
        kept_by="cynthus-other-1",
        run_id="other",
        since=NOON,
        until=NOON + timedelta(minutes=10),
        dies_at=NOON + timedelta(days=3),
        heard_at=NOON,
    )
    run = look(a_queued(), a_gpu_offer("580.1", place="new"), kept=(waits,)).run
    assert run.attempt is not None
    assert (run.attempt.offer.warm == "cynthus-other-1") is taken


def test_the_agent_is_told_which_driver_the_image_wants() -> None:
    limits = Limits(max_duration=timedelta(hours=1), log_bytes=1, output_bytes=1, output_files=1)
    run, attempt = a_run(environment=a_kept()), an_attempt()
    assert work_for(run, attempt, 0, {}, limits, NOON).minimum_driver == "570.26"
    bare = replace(run, environment=None)
    assert work_for(bare, attempt, 0, {}, limits, NOON).minimum_driver is None


# ── the plan ────────────────────────────────────────────────────────────────────────────────────


def test_a_plan_says_which_places_have_too_old_a_driver() -> None:
    question = Question(
        spec=WITH_GPU,
        repository_id=7,
        repository="acme/vision",
        provider="fake",
        policy=CLOUD,
        minimum_driver="570.26",
    )
    old, new = a_gpu_offer("535.161.08", place="old"), a_gpu_offer("580.1", place="new")
    found = plan(question, Observations(offers=(old, new)), NOON)
    assert [(one.driver, one.refusal is None) for one in found.offers] == [
        ("535.161.08", False),
        ("580.1", True),
    ]
    assert found.refusal is None
    alone = plan(question, Observations(offers=(old,)), NOON)
    assert "old: its NVIDIA driver is 535.161.08" in str(alone.refusal)
    indifferent = plan(replace(question, minimum_driver=None), Observations(offers=(old,)), NOON)
    assert indifferent.refusal is None


def test_people_see_which_driver_is_too_old() -> None:
    old, new = a_gpu_offer("535.161.08"), a_gpu_offer("580")
    question = Question(
        spec=WITH_GPU,
        repository_id=7,
        repository="acme/vision",
        provider="fake",
        policy=CLOUD,
        minimum_driver="570.26",
    )
    views = plan(question, Observations(offers=(old, new, an_offer())), NOON).offers
    rows = [cli_plan._row(1, view, "570.26") for view in views]
    told = [row[3] for row in rows]
    assert told == ["1 l4, driver 535.161.08 (too old)", "1 l4, driver 580", "-"]
    assert "too much" not in "".join(rows[0])
