"""Typical lives of runs, each played on the real engine and stores with a fake provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal

from cynthus.grammar import gate
from cynthus.repository_policy import ApprovalLine, RepositoryPolicy
from cynthus.spec import Resources, Retry
from cynthus.wire import AgentEvent, AgentState, EventKind
from tests.builders import OUTPUT, a_draft, a_spec, an_exit, seconds, some_facts
from tests.engine.test_money import costing, with_budgets
from tests.engine.world import RUN, World
from tests.fake_provider import AnswerLost, EffectLate
from webhook_server.providers.provider import NoCapacity, ProviderUnavailable, QuotaExceeded
from webhook_server.runs.model import Extension, SpecFault
from webhook_server.runs.policy import CLOUD

HERE = some_facts(address="10.0.0.1")
NEXT = "arun00000002"
MINUTE = timedelta(minutes=1)
PLAIN = a_spec(outputs=())
WARM = a_spec(keep_warm=seconds(600), outputs=(), resources=Resources(max_duration=seconds(3600)))


def _works(world: World, run_id: str = RUN) -> str:
    """Let the newest instance's agent come and begin; return the instance."""
    world.step()
    name = world.enrol(run_id)
    world.step()
    world.beat(name)
    world.step()
    return name


def _ends(world: World, name: str, code: int = 0) -> None:
    world.beat(name, AgentState.UPLOADING, exit=an_exit(code))
    world.step()
    world.finish_work(name, an_exit(code), (OUTPUT,))
    world.seqs.pop(name)
    world.step()
    world.release()
    world.wait(2 * MINUTE)


def succeeded(world: World) -> None:
    world.submit()
    _ends(world, _works(world))


def failed(world: World) -> None:
    world.submit()
    _ends(world, _works(world), code=3)


def retried_after_preemption(world: World) -> None:
    world.submit()
    name = _works(world)
    world.beat(name, preempted=True)
    world.step()
    world.provider.instances.pop(name)
    world.seqs.pop(name)
    world.wait(MINUTE)
    _ends(world, _works(world))


def retried_after_it_vanished(world: World) -> None:
    world.submit()
    name = _works(world)
    world.seqs.pop(name)
    world.provider.instances.clear()
    world.wait(2 * MINUTE)
    _ends(world, _works(world))


def silent_until_no_attempt_was_left(world: World) -> None:
    world.submit(spec=a_spec(retry=Retry(2), outputs=()))
    for _ in range(2):
        name = _works(world)
        world.seqs.pop(name)
        world.wait(4 * MINUTE)


def cancelled_before_its_order(world: World) -> None:
    world.provider.lent = []
    world.submit()
    world.wait(MINUTE)
    world.runs.cancel(RUN, "ada", world.now)
    world.wait(MINUTE)


def cancelled_while_it_ran(world: World) -> None:
    world.submit(spec=PLAIN)
    name = _works(world)
    world.runs.cancel(RUN, "ada", world.now)
    world.step()
    world.finish_work(name, an_exit(143, stopped=True))
    world.seqs.pop(name)
    world.wait(MINUTE)


def superseded(world: World) -> None:
    world.submit(spec=PLAIN)
    name = _works(world)
    world.runs.cancel(RUN, "the policy", world.now, superseded=True)
    world.step()
    world.finish_work(name, an_exit(143, stopped=True))
    world.seqs.pop(name)
    world.wait(MINUTE)


def gang(world: World) -> None:
    world.submit(spec=a_spec(resources=Resources(nodes=2), outputs=()))
    world.step()
    attempt = world.run().attempt
    assert attempt is not None
    names = [member.name for member in attempt.members]
    for name in names:
        world.instances.enrol(name, nonce=name, token_sha256="t" + name, facts=HERE, now=world.now)
        world.seqs[name] = 0
        world.beat(name, AgentState.READY)
    world.step()
    for name in names:
        world.beat(name)
    world.step()
    for name in names:
        world.finish_work(name, an_exit(0))
    world.wait(2 * MINUTE)


def warm(world: World) -> None:
    world.submit(spec=WARM, wants_release=False)
    name = _works(world)
    world.finish_work(name, an_exit(0))
    world.seqs.pop(name)
    world.wait(seconds(20))
    world.submit(NEXT, spec=WARM, wants_release=False)
    name = _works(world, NEXT)
    world.finish_work(name, an_exit(0))
    world.seqs.pop(name)
    world.wait(MINUTE)


def over_the_months_budget(world: World) -> None:
    with_budgets(world, "4.99")
    world.submit(spec=costing("5"))
    world.wait(MINUTE)


def over_its_own_cost(world: World) -> None:
    world.submit(spec=costing("0.60"))
    name = _works(world)
    world.wait(10 * MINUTE, beats=True)
    world.finish_work(name, an_exit(143, stopped=True))
    world.seqs.pop(name)
    world.wait(2 * MINUTE)


def timed_out(world: World) -> None:
    world.submit(spec=a_spec(resources=Resources(max_duration=5 * MINUTE), outputs=()))
    name = _works(world)
    world.wait(6 * MINUTE, beats=True)
    world.finish_work(name, an_exit(143, stopped=True))
    world.seqs.pop(name)
    world.wait(2 * MINUTE)


def extended(world: World) -> None:
    world.submit(spec=a_spec(resources=Resources(max_duration=5 * MINUTE), outputs=()))
    name = _works(world)
    world.runs.extend(RUN, Extension(key="1", by="ada", at=world.now, more=5 * MINUTE))
    world.wait(6 * MINUTE, beats=True)
    _ends(world, name)


def parked(world: World) -> None:
    world.provider.poison.add(RUN)
    world.submit(spec=PLAIN)
    world.wait(20 * MINUTE)


def held_then_approved(world: World) -> None:
    world.govern(RepositoryPolicy(approval=ApprovalLine(cost_usd=Decimal(5))))
    world.submit(spec=a_spec(resources=Resources(max_duration=4 * MINUTE), outputs=()))
    world.wait(5 * MINUTE)
    world.approve()
    _ends(world, _works(world))


def not_built(world: World) -> None:
    world.runs.accept(a_draft(id=RUN), arrived=None, token_id=None, now=world.now)
    world.wait(MINUTE)
    world.runs.refuse_build(RUN, "the build failed", world.now)
    world.submit(NEXT, spec=None, spec_faults=(SpecFault(line=1, column=1, text="is no spec"),))
    world.wait(MINUTE)


def waited_for_capacity(world: World) -> None:
    world.provider.fail("create", NoCapacity("zone a"), ProviderUnavailable("no answer"))
    world.submit()
    world.wait(2 * MINUTE)
    _ends(world, _works(world))
    world.wait(CLOUD.grace)


def refused_for_good(world: World) -> None:
    world.provider.fail("create", QuotaExceeded("quota L4 is 0"))
    world.submit()
    world.wait(MINUTE)


def order_without_an_answer(world: World) -> None:
    world.provider.fail("create", AnswerLost())
    world.submit()
    world.wait(seconds(40))
    _ends(world, _works(world))
    world.wait(CLOUD.grace)


def cancelled_before_its_instance_appeared(world: World) -> None:
    world.provider.fail("create", EffectLate())
    world.submit()
    world.step()
    world.runs.cancel(RUN, "ada", world.now)
    world.wait(5 * MINUTE)
    world.provider.appear(world.provider.late[0])
    world.wait(CLOUD.grace)


def never_booted(world: World) -> None:
    world.submit(spec=a_spec(retry=Retry(1)))
    world.step()
    world.now += CLOUD.boot_limit
    world.wait(2 * MINUTE)


def gated(world: World) -> None:
    world.submit(spec=a_spec(gate=(gate("loss < 0.5"),)))
    name = _works(world)
    told = {"name": "loss", "step": 1, "value": 0.7}
    event = AgentEvent(at=world.now, kind=EventKind.METRIC, body=told)
    world.beat(name, events=(event,))
    _ends(world, name)


#: By the name that a history's file has.
LIVES: Mapping[str, Callable[[World], None]] = {
    life.__name__: life
    for life in (
        succeeded,
        failed,
        retried_after_preemption,
        retried_after_it_vanished,
        silent_until_no_attempt_was_left,
        cancelled_before_its_order,
        cancelled_while_it_ran,
        superseded,
        gang,
        warm,
        over_the_months_budget,
        over_its_own_cost,
        timed_out,
        extended,
        parked,
        held_then_approved,
        not_built,
        waited_for_capacity,
        refused_for_good,
        order_without_an_answer,
        cancelled_before_its_instance_appeared,
        never_booted,
        gated,
    )
}
