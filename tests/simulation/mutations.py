"""Mistakes that such servers are made with, and those that ours had: each must be found.

A mutation is the real code with exact replacements; one whose old text is not there exactly once
fails loudly, so that none goes stale unseen. `python -m tests.simulation.mutated` runs them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulation.fates import Fate, Plan

_S = "webhook_server"


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One replacement in one module's source."""

    module: str
    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """A mistake, and what shows it.

    `seeds`: of its story, or of drawn histories; they are tried in their order, then `search` more.
    """

    name: str
    edits: tuple[Edit, ...]
    world: str = "engine"  # or "hub": with GitHub
    story: str = ""  # a history that is written down; empty: drawn ones show it
    plan: Plan | None = None  # the one fault of a story of the hub
    replayed: bool = False  # deliveries come a second time, under a new id
    seeds: tuple[int, ...] = ()
    by: str = ""  # the invariant that must speak; empty: whichever does
    said: str = ""  # what is not quite the mistake that its name is known for


def _edit(module: str, old: str, new: str) -> Edit:
    return Edit(module=f"{_S}.{module}", old=old, new=new)


_CANCEL_FORGETS = _edit(
    "runs.model",
    '        """Return the instances that are not confirmed gone."""\n'
    "        return tuple(member for member in self.members if member.gone_at is None)",
    '        """Forget, at a wished end, the one that is being created."""\n'
    "        gone = (m for m in self.members if m.gone_at is None)\n"
    "        return tuple(m for m in gone if m.create_answered or self.lost or not self.ended_at)",
)

#: The sixteen of the model that the protocol was proven by.
ENGINE: tuple[Mutation, ...] = (
    Mutation(
        name="record after create",
        edits=(
            _edit(
                "reconcile",
                '        with span("save"):\n            saved =',
                "        for one in decision.commands:\n"
                '            if hasattr(one, "order"):\n'
                "                lent = self.hands.providers[one.order.offer.provider]\n"
                "                try:\n"
                '                    lent.create(one.order, "cye_")\n'
                "                except ProviderRefusal as error:\n"
                '                    log.info("create %s", error)\n'
                '        with span("save"):\n            saved =',
            ),
            _edit(
                "reconcile",
                "from webhook_server.runs.decide import decide, park\n",
                "from webhook_server.providers.provider import ProviderRefusal\n"
                "from webhook_server.runs.decide import decide, park\n",
            ),
        ),
        story="dies_ordering",
        said="the order is given before its row is saved, and once more after it",
    ),
    Mutation(
        name="new name on time-out",
        seeds=(0,),
        edits=(
            _edit(
                "runs.waiting",
                "            name=member.name,\n            run_id=at.run.id,",
                '            name=f"{member.name}x{int(at.now.timestamp()) % 10**6}",\n'
                "            run_id=at.run.id,",
            ),
            _edit(
                "perform",
                "    if hands.instances.observe(order.name).closed_at is not None:\n",
                '    known, _, _ = order.name.partition("x")\n'
                "    if hands.instances.observe(known).closed_at is not None:\n",
            ),
            _edit(
                "perform",
                "    hands.instances.record_create(order.name, seen)\n",
                "    hands.instances.record_create(known, seen)\n",
            ),
        ),
    ),
    Mutation(
        name="delete assumed",
        seeds=(9,),
        edits=(
            _edit(
                "runs.giving_back",
                "    if told is None or told.gone is not Gone.ABSENT or attempt.ended_at is None:",
                "    if told is None or attempt.ended_at is None:",
            ),
        ),
    ),
    Mutation(
        name="cost from first heartbeat",
        seeds=(2,),
        edits=(
            _edit(
                "runs.limits",
                "(member.gone_at or now) - attempt.ordered_at for member",
                "(member.gone_at or now) - (attempt.started_at or member.gone_at or now)"
                " for member",
            ),
        ),
    ),
    Mutation(
        name="cancel forgets the machine being created",
        edits=(_CANCEL_FORGETS,),
        story="late_create",
        by="I6",
    ),
    Mutation(
        name="no fence",
        story="sleeps_over_its_claim",
        seeds=(1,),
        by="I2",
        edits=(
            _edit(
                "stores.run_statements",
                'HELD = _OF_RUN.where(runs.c.lock_token == bindparam("claim_token"))',
                "HELD = _OF_RUN.where(\n"
                '    or_(runs.c.lock_token == bindparam("claim_token"), runs.c.id != "")\n'
                ")",
            ),
            _edit(
                "stores.run_statements",
                'HELD.where(runs.c.version == bindparam("read_version"))',
                'HELD.where(or_(runs.c.version == bindparam("read_version"), runs.c.id != ""))',
            ),
        ),
    ),
    Mutation(
        name="no limit of the machine's own",
        seeds=(0,),
        edits=(
            _edit(
                "runs.waiting",
                "            max_life=attempt.max_life,\n",
                "            max_life=attempt.max_life * 100,\n",
            ),
        ),
        said="a hundred times the limit: clouds without any are no clouds that we rent from",
    ),
    Mutation(
        name="late finish wins",
        edits=(
            _edit(
                "stores.heartbeats",
                "    if instance.closed:\n",
                "    if instance.closed and beat.exit is None:\n",
            ),
            _edit(
                "observe",
                "    return [member.name for member in run.living]\n",
                "    return [one.name for attempt in run.attempts for one in attempt.members]\n",
            ),
            _edit(
                "runs.decide",
                "    if run.state is State.FINISHED:\n"
                "        return Decision(run=withdrawn(run, seen.release))\n",
                "    if run.state is State.FINISHED:\n"
                "        agents = [one.agent for one in seen.instances.values()]\n"
                "        if any(one and one.exit and one.exit.code == 0 for one in agents):\n"
                '            run = replace(run, outcome=type(run.outcome)("succeeded"))\n'
                "        return Decision(run=withdrawn(run, seen.release))\n",
            ),
        ),
        story="late_exit",
        seeds=(1,),
        by="I2",
        said="two things stand in its way here: a closed attempt is not heard, an end stays",
    ),
    Mutation(
        name="unbound token",
        edits=(
            _edit(
                "stores.heartbeats",
                "    if instance.closed:\n",
                "    if instance.closed and instance.run_id is None:\n",
            ),
        ),
        story="late_beat",
        said="a token names its instance by itself here; this one outlives its attempt",
    ),
    Mutation(
        name="no sweeper",
        story="late_create",
        by="I1",
        edits=(
            _CANCEL_FORGETS,
            _edit(
                "sweep",
                "            try:\n                self.sweep(provider)\n",
                "            try:\n                provider.name\n",
            ),
        ),
    ),
    Mutation(
        name="404 believed",
        edits=(
            _edit(
                "runs.giving_back",
                "    if told.asked_at < settled_at(attempt, member, seen, policy):",
                "    if False:",
            ),
        ),
        story="late_create",
    ),
    Mutation(
        name="waiting time from the first attempt",
        story="late_last_create",
        seeds=(5,),
        edits=(
            _edit(
                "runs.giving_back",
                "        return max(ended_at, member.last_try_at + policy.grace)",
                "        return max(ended_at, attempt.ordered_at + policy.grace)",
            ),
        ),
    ),
    Mutation(
        name="retry before the old machine is gone",
        story="half_a_gang",
        edits=(
            _edit(
                "runs.giving_back",
                "        return _try_again(at) if is_quiet(at.attempt) else Decision(run=at.run)",
                "        return _try_again(at)",
            ),
        ),
    ),
)

#: Of GitHub's half: the rest of the sixteen, and what the threat model fears there.
HUB: tuple[Mutation, ...] = (
    Mutation(
        name="delivery id is all that is once",
        edits=(
            _edit(
                "inbox.comments",
                '    return f"comment/{intent.comment_id}/{line.number}"',
                "    _HANDLED.append(intent)\n"
                '    return f"comment/{intent.comment_id}/{len(_HANDLED)}"\n\n\n'
                "_HANDLED: list[object] = []",
            ),
            _edit(
                "inbox.comments",
                "        if self._parts.deliveries.was_handled(intent.key):\n"
                '            raise Skip("was carried out before")\n',
                "",
            ),
        ),
        world="hub",
        story="ask_to_run",
        replayed=True,
        said="intents never see a delivery's id: a key that is new each time stands for it",
    ),
    Mutation(
        name="fire-and-forget check",
        edits=(
            _edit(
                "publish.failures",
                "            self._put_off(item, error, error.retry_at)",
                "            self._store.save(replace(item, due_at=None))",
            ),
        ),
        world="hub",
        story="press_cancel",
        plan=Plan(nth=0, fate=Fate.REFUSED, of="github.PATCH check-runs/{}"),
    ),
    Mutation(
        name="ack first",
        edits=(
            _edit(
                "routes.github_events",
                "            new = await self._landing.wait_for(stored)",
                "            new = stored is not None",
            ),
        ),
        world="hub",
        story="push",
        plan=Plan(nth=0, fate=Fate.REFUSED, of="delivery_store._store"),
    ),
    Mutation(
        name="twins are left",
        edits=(
            _edit(
                "publish.sending",
                "        item = doubted(item, self._now())\n",
                "",
            ),
        ),
        world="hub",
        story="press_cancel",
        plan=Plan(nth=0, fate=Fate.LATE, of="github.POST check-runs"),
    ),
    Mutation(
        name="the payload's word for a role",
        edits=(
            _edit(
                "inbox.rights_now",
                "        return policy, parts.api.role(place, sender.login, sender.id)",
                "        return policy, Role.WRITE",
            ),
        ),
        world="hub",
        story="ask_without_the_right",
    ),
    Mutation(
        name="an approval is of whatever is the head now",
        edits=(
            _edit(
                "runs.pull",
                "    if named is not None and named.lower() == now_sha:\n",
                "    if named is not None:\n",
            ),
        ),
        world="hub",
        story="approve_without_looking",
    ),
    Mutation(
        name="runs of strangers are found by their id",
        edits=(
            _edit(
                "inbox.targets",
                "    return run if run is not None and run.key.repository_id == repository_id"
                " else None",
                "    return run",
            ),
        ),
        world="hub",
        story="meddle_with_strangers",
    ),
    Mutation(
        name="what people write is shown as it is",
        edits=(
            _edit(
                "runs.hostile",
                '    ticks = "`" * (_longest_run(text, "`") + 1)\n'
                '    return f"{ticks} {text} {ticks}" if text else ""',
                "    return text",
            ),
        ),
        world="hub",
        story="ask_in_foreign_words",
    ),
    Mutation(
        name="the manifest is written first",
        edits=(
            _edit(
                "publish.release_maker",
                "        files = self._own_files(feed)\n"
                "        own = [self._put_own(release, name, file, there) for name, file in"
                " files]\n",
                "        own: list[OwnFile] = []\n",
            ),
            _edit(
                "publish.release_maker",
                "        for planned in self._plan.assets:\n"
                "            self._put_planned(release, planned, there)\n",
                "",
            ),
        ),
        world="hub",
        story="push",
    ),
    Mutation(
        name="the check run says success",
        edits=(
            _edit(
                "runs.standing",
                '            return "cancelled"\n',
                '            return "success"\n',
            ),
        ),
        world="hub",
        story="press_cancel",
    ),
)

#: What was really wrong once, and was found by drawn histories.
FOUND: tuple[Mutation, ...] = (
    Mutation(
        # A pass may die between the save that hands the instance over and the command to close it.
        name="a kept instance is closed by a command alone",
        edits=(
            _edit(
                "stores.run_changes",
                "            instance_store.close(connection, attempt.members[0].name, now)\n",
                "",
            ),
        ),
        seeds=(1390,),
    ),
    Mutation(
        # A server may sleep within its question: the instance goes while it does.
        name="gone when it was asked for",
        edits=(
            _edit(
                "runs.giving_back",
                "    return told.heard_at or told.asked_at\n",
                "    return told.asked_at\n",
            ),
        ),
        story="sleeps_within_its_questions",
        seeds=(5, 8),
    ),
    Mutation(
        # The database may take neither what became of a release nor that it failed.
        name="a release dies with its database",
        edits=(
            _edit(
                "publish.releases",
                "        except DatabaseUnavailable as error:\n",
                "        except ZeroDivisionError as error:\n",
            ),
        ),
        world="hub",
        seeds=(283,),
    ),
    Mutation(
        # One replica notes a create, another tries it without an answer.
        name="what was noted here was tried by nobody",
        edits=(
            _edit(
                "publish.creating",
                "        if begun == _TRIED or self._is_untried(begun):\n",
                "        if begun:\n",
            ),
        ),
        world="hub",
        seeds=(117,),
    ),
    Mutation(
        # Of two creates without an answer the second may take effect once the first was given back.
        name="an instance is kept that may come twice",
        edits=(
            _edit(
                "runs.look",
                " or may_come_twice(ended, ended.members[0], at):\n",
                ":\n",
            ),
        ),
        story="kept_and_ordered_twice",
        seeds=(1, 2, 3),
    ),
    Mutation(
        # A publishing whose answer was lost may take effect while the next try changes files.
        name="a release tells what the run has cost by now",
        edits=(
            _edit(
                "publish.release_maker",
                "shape.as_told(run), sources\n",
                "run, sources\n",
            ),
        ),
        world="hub",
        seeds=(213,),
    ),
)
MUTATIONS = (*ENGINE, *HUB, *FOUND)
