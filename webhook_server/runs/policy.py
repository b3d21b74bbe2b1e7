"""The times that decisions are made by, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cynthus.frozen import replace
from cynthus.wire import HEARTBEAT_S
from webhook_server.runs.honour import Powers

_CLOUD_POWERS = Powers(
    data=True,
    gangs=True,
    checkpoints=True,
    spot=True,
    places=True,
    keep_warm=True,
    labels=True,
)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Times of one provider; the defaults are for clouds."""

    #: Wait for the Action's image: a cold CUDA build takes half of it.
    build_limit: timedelta = timedelta(seconds=3600)
    #: From the order to the agent's enrolment: large GPU machines boot in up to 10 min.
    boot_limit: timedelta = timedelta(seconds=15 * 60)
    #: From the order to the provider's word that the instance executes: it takes half a minute.
    provision_limit: timedelta = timedelta(seconds=10 * 60)
    #: From the enrolment to the command's start, a gang's meeting included: 100 GB at 30 MB/s.
    pull_limit: timedelta = timedelta(seconds=3600)
    #: A create that was not answered by then is repeated: clouds answer a stock-out within 30 s.
    create_patience: timedelta = timedelta(seconds=30)
    #: Between repeated creates, and between questions about an instance that worries us.
    ask_every: timedelta = timedelta(seconds=10)
    #: Between questions about an instance that boots: only its end would be news.
    ask_booting: timedelta = timedelta(seconds=30)
    #: A place that refused is left alone this long, doubled with every refusal in a row …
    cool_down: timedelta = timedelta(seconds=30)
    #: … up to this: stock comes back within minutes or not for hours.
    longest_cool_down: timedelta = timedelta(seconds=10 * 60)
    #: A new instance may be missing from answers this long (eventual consistency).
    visible_after: timedelta = timedelta(seconds=60)
    #: From beat to beat of an agent that has no news; an order to stop is heard with the answer.
    heartbeat: timedelta = timedelta(seconds=HEARTBEAT_S)
    #: What its instances can do beyond running the command.
    powers: Powers = _CLOUD_POWERS
    #: Three heartbeats, one every 10 s.
    suspect_after: timedelta = timedelta(seconds=30)
    #: Silent though the provider says that it runs: a network partition rarely heals later.
    silence_limit: timedelta = timedelta(seconds=120)
    #: One heartbeat to hear of the stop, the grace, the report, and as much again.
    stop_limit: timedelta = timedelta(seconds=60)
    #: Upload of the outputs: 100 GB at 30 MB/s.
    collect_limit: timedelta = timedelta(seconds=3600)
    #: A create whose answer was lost takes effect within this: nothing longer was ever reported.
    grace: timedelta = timedelta(seconds=15 * 60)
    #: Whether the provider itself knows a repeated create as the first one, by an id that it keeps
    #: longer than any create of an attempt can be late: one instance is all that comes of them.
    one_create: bool = False
    #: From the deletion to our seeing "not found": a guest may take 90 s to shut down
    #: (https://cloud.google.com/compute/docs/instances/deleting-instance), and we ask ever more
    #: slowly, at 124 s after 64 s. `max_cost` pays for it.
    delete_allowance: timedelta = timedelta(seconds=150)
    #: An instance's own hard end acts up to 30 s late:
    #: https://cloud.google.com/compute/docs/instances/limit-vm-runtime
    end_late: timedelta = timedelta(seconds=30)
    #: First wait for a deletion to be done; it doubles up to `slowest_look`.
    delete_retry: timedelta = timedelta(seconds=1)
    #: Longest wait between tries of anything: a person watching accepts a minute.
    slowest_look: timedelta = timedelta(seconds=60)
    #: Longest wait between looks for a free instance.
    slowest_offer_look: timedelta = timedelta(seconds=60)
    #: A run waits for a free instance this long: one night and the day after it.
    capacity_limit: timedelta = timedelta(seconds=24 * 3600)
    #: Refusals for want of capacity use up no attempt this long.
    capacity_forgiven: timedelta = timedelta(seconds=30 * 60)
    #: The release must be made by then: GitHub's outages end sooner.
    release_limit: timedelta = timedelta(seconds=6 * 3600)
    #: A deletion that takes longer is shown to people.
    delete_alert: timedelta = timedelta(seconds=10 * 60)
    #: Of the instance's own hard end: above every limit of ours, so that ours come first.
    life_margin: timedelta = timedelta(seconds=3600)


CLOUD = Policy()
#: This machine: a create is done when it returns, and an agent starts in a second. The grace
#: covers a server that was killed between saying "create" and hearing the answer. A person waits
#: for Ctrl-C to take effect, and few agents share the server: with a beat every second it is heard
#: within one, for about 2 ms of processor time each.
LOCAL = Policy(
    heartbeat=timedelta(seconds=1),
    suspect_after=timedelta(seconds=5),  # then the agent's lock is looked at: it costs nothing
    powers=Powers(data=True, gangs=True, checkpoints=True),
    boot_limit=timedelta(seconds=60),
    create_patience=timedelta(seconds=5),
    ask_every=timedelta(seconds=5),
    ask_booting=timedelta(seconds=5),
    cool_down=timedelta(seconds=1),  # what is refused are slots, which come back by themselves
    longest_cool_down=timedelta(seconds=60),
    visible_after=timedelta(0),
    grace=timedelta(seconds=10),
    delete_allowance=timedelta(seconds=10),  # a container is gone within one or two
    delete_retry=timedelta(seconds=0.05),
    slowest_offer_look=timedelta(seconds=1),
    capacity_forgiven=timedelta(seconds=24 * 3600),
)

#: All creates of one name carry one request id, and "the server will ignore the second request":
#: https://cloud.google.com/python/docs/reference/compute/latest/google.cloud.compute_v1.types.InsertInstanceRequest
#: How long it does is not stated there. The last create and its grace are over half an hour after
#: the first, and for an hour other interfaces of Google's "guarantee that":
#: https://cloud.google.com/python/docs/reference/networkconnectivity/1.1.0/google.cloud.networkconnectivity_v1.types.DeleteHubRequest
GCP = Policy(one_create=True)

#: By provider; any other is a cloud.
_POLICIES = {"local": LOCAL, "gcp": GCP}


def within(policy: Policy, longest: timedelta) -> Policy:
    """Return the times of a server that lets no run take longer than that."""
    return replace(policy, powers=replace(policy.powers, longest=longest))


def policy_of(provider: str) -> Policy:
    """Return the times of a provider."""
    return _POLICIES.get(provider, CLOUD)
