"""The door at which an agent whose attempt is done asks for the next."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from tests.doors.conftest import NONCE, SPEC, Agent, Answer, Site
from webhook_server.runs.model import Outcome, Run, State

WARM = SPEC + "keep_warm: 10m\n"
HOUR = timedelta(hours=1)


def ask(
    agent: Agent, token: str | None = None, instance: str | None = None, nonce: str = NONCE
) -> Answer:
    return agent.site.ask(
        "POST",
        "/agent/v1/next",
        value={"instance": instance or agent.instance, "nonce": nonce},
        token=agent.token if token is None else token,
    )


def keep(agent: Agent) -> None:
    """Hand the agent's instance over to those that wait, as the loop does."""
    now = agent.site.parts.now()

    def change(run: Run) -> Run:
        [attempt] = run.attempts
        members = tuple(replace(m, gone_at=now) for m in attempt.members)
        over = replace(attempt, members=members, ended_at=now, kept_until=now + HOUR)
        return replace(run, state=State.FINISHED, outcome=Outcome.SUCCEEDED, attempts=(over,))

    agent.site.save(agent.run_id, change)
    agent.site.parts.instances.close(agent.instance, now)


def take(site: Site, agent: Agent) -> str:
    """Give the waiting instance to another run of the repository; return the new name."""
    return site.order(
        site.a_run(repository_id=7, spec_text=WARM), provider="fake", warm=agent.instance
    )


def a_warm_agent(site: Site) -> Agent:
    """Return an agent on a cloud's instance: a machine of ours needs no keeping."""
    run_id = site.a_run(repository_id=7, spec_text=WARM)
    instance = site.order(run_id, provider="fake")
    told = site.enrol(instance).json
    assert told["work"]["keep_warm_s"] == 600
    return Agent(site, run_id, instance, told["token"], told["work"])


def test_until_its_end_is_decided_and_until_somebody_comes_it_is_told_to_wait(site: Site) -> None:
    agent = a_warm_agent(site)
    assert ask(agent).status == 204
    keep(agent)
    before = site.parts.warm.of(agent.instance)
    assert ask(agent).status == 204
    after = site.parts.warm.of(agent.instance)
    assert before is not None
    assert after is not None
    assert after.heard_at > before.heard_at


def test_the_next_attempt_comes_with_a_token_of_its_own_and_again_when_asked_again(
    site: Site,
) -> None:
    agent = a_warm_agent(site)
    keep(agent)
    name = take(site, agent)
    answer = ask(agent)
    assert answer.status == 200
    assert answer.json["token"] != agent.token
    assert answer.json["work"]["run_id"] == name.split("-")[1]
    assert ask(agent).json == answer.json | {"work": ask(agent).json["work"]}
    beat = {"seq": 1, "events": []}
    assert agent.send(beat, token=answer.json["token"]).status == 200
    assert agent.send(beat).status == 410, "the attempt before is over for ever"
    assert ask(agent, nonce="f" * 32).status == 409


def test_what_was_not_kept_waited_long_enough_or_is_anothers_is_over(site: Site) -> None:
    plain = site.an_agent(repository_id=7)
    assert plain.work["keep_warm_s"] == 0
    site.parts.instances.close(plain.instance, site.parts.now())
    assert ask(plain).status == 410
    agent = a_warm_agent(site)
    keep(agent)
    assert ask(agent, instance=plain.instance).status == 410
    kept = site.parts.warm.of(agent.instance)
    assert kept is not None
    assert site.parts.warm.end(kept, site.parts.now())
    assert ask(agent).status == 410


def test_strangers_get_nothing(site: Site) -> None:
    agent = a_warm_agent(site)
    keep(agent)
    take(site, agent)
    assert ask(agent, token="cya_guess").status == 401
    assert ask(agent, nonce="short").status == 422
    other = site.an_agent(repository_id=8)
    assert ask(other, instance=agent.instance).status == 204, "its own attempt is not over"
    site.parts.instances.close(other.instance, site.parts.now())
    assert ask(other, instance=agent.instance).status == 410


def test_a_folder_on_this_machine_keeps_nothing(site: Site) -> None:
    assert site.an_agent(repository_id=0, spec_text=WARM).work["keep_warm_s"] == 0
