"""Money on the whole way: a priced local provider, real agents, the command line."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from cynthus.client import Client
from cynthus.money import usd
from cynthus.spec import Resources
from cynthus.wire import RunRequest, RunView
from tests.cynthus_run import Home, terminal
from tests.doors.conftest import open_site
from tests.fake_provider import FakeProvider
from webhook_server import loops
from webhook_server.doors import open_doors, open_parts
from webhook_server.ground import clock, ground, listen, new_id
from webhook_server.http_server import http_server
from webhook_server.providers.provider import Instance, Provider
from webhook_server.runs.lending import Offer, Order
from webhook_server.runs.policy import LOCAL
from webhook_server.settings import Settings
from webhook_server.settings_reader import read

TOKEN = "o" * 24
QUICK = "echo hello; sleep 0.2\n"
SLOW = "echo begun; trap 'exit 3' TERM; while :; do sleep 0.1; done\n"
PRICES = "a table made for this test"


class Priced:
    """The local provider, with a bill."""

    name = "local"

    def __init__(self, inner: Provider) -> None:
        self.inner = inner
        self.usd_per_hour = Decimal("3.60")

    def offers(self, need: Resources) -> list[Offer]:
        return [
            replace(offer, usd_per_hour=self.usd_per_hour, price_source=PRICES)
            for offer in self.inner.offers(need)
        ]

    def create(self, order: Order, enrol_secret: str) -> Instance:
        return self.inner.create(order, enrol_secret)

    def get(self, name: str) -> Instance:
        return self.inner.get(name)

    def list(self) -> list[Instance]:
        return self.inner.list()

    def delete(self, name: str) -> None:
        self.inner.delete(name)


@dataclass(frozen=True)
class Shop:
    """A server whose machines cost money."""

    client: Client
    provider: Priced
    bundles: Path

    def submit(self, script: str, max_cost: str) -> str:
        """Ask for a run of a script as a plain process."""
        bundle = self.bundles / secrets.token_hex(8)
        (bundle / "workspace").mkdir(parents=True)
        told = {"bin": "/usr/bin", "workspace": "workspace"}
        (bundle / "bundle.json").write_text(json.dumps(told))
        (bundle / "workspace" / "work.sh").write_text(script)
        request = RunRequest(
            repository_id=0,
            repository="local/little",
            commit_sha="c" * 40,
            ref="",
            event="local",
            trigger=f"local/{secrets.token_hex(8)}",
            spec_path="cynthus.yaml",
            spec_text=a_spec(max_cost),
            image=bundle.as_uri(),
        )
        return self.client.submit(request).run_id

    def end(self, run_id: str) -> RunView:
        for _ in self.client.follow(run_id):
            pass
        return self.client.get(run_id)

    def first_to_end(self, *run_ids: str) -> RunView:
        """Return the run that ends first."""
        for _ in range(1200):
            for view in map(self.client.get, run_ids):
                if view.state == "finished":
                    return view
            time.sleep(0.05)  # two feeds cannot be followed by one reader
        raise AssertionError([self.client.get(run_id) for run_id in run_ids])

    def wait_until_running(self, run_id: str) -> None:
        for event in self.client.follow(run_id):
            if event.kind == "log":
                return


def a_spec(max_cost: str) -> str:
    return f"version: 1\nname: little\nrun: sh work.sh\nresources: {{max_cost: {max_cost}}}\n"


@contextmanager
def open_shop(settings: Settings, bundles: Path) -> Iterator[Shop]:
    with ExitStack() as stack:
        listening = stack.enter_context(listen(settings))
        found = stack.enter_context(ground(settings, listening))
        base = loops.Ground(
            settings=settings,
            key=found.key,
            base_url=found.base_url,
            database=found.database,
            bell=found.bell,
            blobs=found.blobs,
            github=None,
            now=clock,
            new_id=new_id,
        )
        provider = Priced(loops.open_providers(base)["local"])
        running = loops.open_loops(base, {"local": provider})
        parts = open_parts(found, jobs=None, alive=tuple, providers=dict(running.providers))
        started = threading.Event()
        doors = open_doors(parts, more_gauges=lambda: loops.gauges(running, None))
        server = http_server(doors, started=started.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        running.start()
        thread.start()
        try:
            assert started.wait(60)
            yield Shop(Client(found.base_url, TOKEN), provider, bundles)
        finally:
            for instance in provider.list():
                provider.delete(instance.name)
            running.stop()
            server.stop()
            thread.join(60)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    settings = read(
        {
            "CYNTHUS_STATE_DIR": str(folder / "state"),
            "CYNTHUS_PORT": "0",
            "CYNTHUS_API_TOKEN": TOKEN,
            "CYNTHUS_BUNDLES_DIR": str(folder),
            "CYNTHUS_LOCAL_SLOTS": "2",
            "CYNTHUS_REPOSITORY_BUDGET": "1000",
        }
    )
    with open_shop(settings, folder) as opened:
        yield opened


@pytest.fixture
def home(tmp_path: Path, shop: Shop) -> Home:
    (tmp_path / "folder").mkdir()
    (tmp_path / "tmp").mkdir()
    told = {"CYNTHUS_SERVER": shop.client.server, "CYNTHUS_TOKEN": TOKEN}
    return Home(tmp_path / "folder", tmp_path / "tmp", told)


# ── runs ────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_shows_its_cost_beside_its_limit_and_that_it_is_an_estimate(
    shop: Shop, home: Home
) -> None:
    view = shop.end(shop.submit(QUICK, "5"))
    assert view.outcome == "succeeded", view.reason
    assert 0 < view.cost_usd < 1
    assert (view.max_cost_usd, view.price_source) == (5, PRICES)
    told = home.run("status", view.id).stdout
    cents = Decimal(str(view.cost_usd))  # a cent pays for ten seconds: a busy machine takes more
    assert f"  cost       {usd(cents)} of $5.00 (an estimate by {PRICES})" in told.splitlines()


@contextmanager
def priced_at(shop: Shop, usd_per_hour: str) -> Iterator[None]:
    before, shop.provider.usd_per_hour = shop.provider.usd_per_hour, Decimal(usd_per_hour)
    yield
    shop.provider.usd_per_hour = before


def test_of_two_runs_at_once_the_budget_pays_for_one(shop: Shop) -> None:
    with priced_at(shop, "36"):  # 24 hours would be more than max_cost, which is what counts
        first, second = shop.submit(SLOW, "600"), shop.submit(SLOW, "600")
        refused = shop.first_to_end(first, second)
        assert (refused.outcome, refused.cause) == ("over_budget", "budget")
        assert "left of $1,000.00" in str(refused.reason)
        assert "may need $600.00" in str(refused.reason)
        assert refused.attempts == ()
        [other] = {first, second} - {refused.id}
        shop.wait_until_running(other)
        shop.client.cancel(other)
        assert shop.end(other).outcome == "cancelled"
        # What the first did not use is there again.
        again = shop.end(shop.submit(QUICK, "600"))
    assert again.outcome == "succeeded", again.reason


def test_a_run_is_stopped_before_max_cost_is_spent(shop: Shop) -> None:
    end = (LOCAL.stop_limit + LOCAL.delete_allowance).total_seconds()
    with priced_at(shop, "36000"):  # ten dollars a second
        run_id = shop.submit(SLOW, str(int(end + 3) * 10))
        shop.wait_until_running(run_id)
        view = shop.end(run_id)
    assert (view.outcome, view.cause) == ("over_budget", "max_cost")
    assert view.max_cost_usd is not None
    assert 30 <= view.cost_usd <= view.max_cost_usd
    [attempt] = view.attempts
    assert attempt.ended_at is not None
    assert attempt.ended_at - attempt.ordered_at >= timedelta(seconds=3)


def test_a_max_cost_that_pays_for_nothing_is_refused_before_anything_is_lent(shop: Shop) -> None:
    view = shop.end(shop.submit(QUICK, "0.05"))
    assert (view.outcome, view.cause, view.attempts) == ("over_budget", "max_cost", ())
    assert "resources/max_cost: should pay" in str(view.reason)


# ── cynthus plan ────────────────────────────────────────────────────────────────────────────────


def spec_file(home: Home, text: str) -> str:
    (home.folder / "cynthus.yaml").write_text(text)
    return "cynthus.yaml"


def test_plan_prints_offers_prices_and_budgets(home: Home, shop: Shop) -> None:
    done = home.run("plan", spec_file(home, a_spec("5")))
    assert (done.returncode, done.stderr) == (0, "")
    head, names, row, *rest = done.stdout.splitlines()
    assert head == "little: local, at most 24h, at most $5.00"
    assert names.split("  ")[0] == "TRY"
    assert " ".join(row.split()) == "1 local this machine - no $3.60 $5.00 $5.00 -"
    assert rest[0] == f"prices are estimates by {PRICES}"
    assert rest[1].startswith("budget of the repository: $")
    assert "left of $1,000.00 until " in rest[1]


def test_plan_as_json_has_exact_decimals(home: Home) -> None:
    done = home.run("plan", "--json", spec_file(home, a_spec("5")))
    plan = json.loads(done.stdout)
    [offer] = plan["offers"]
    assert (offer["usd_per_hour"], offer["expected_usd"], offer["refusal"]) == ("3.60", "5", None)
    assert plan["refusal"] is None


def test_plan_of_a_run_that_would_not_start_ends_with_1(home: Home) -> None:
    done = home.run("plan", spec_file(home, a_spec("5000")))
    assert done.returncode == 0, "24 h at 3.60 and its end fit the budget"
    done = home.run("plan", spec_file(home, a_spec("0.05")))
    assert done.returncode == 1
    assert "it would not start: resources/max_cost: should pay" in done.stdout


def test_plan_of_a_faulty_spec_says_what_validate_says(home: Home) -> None:
    spec = spec_file(home, "version: 1\nname: Little\nrum: x\n")
    planned, validated = home.run("plan", spec), home.run("validate", spec)
    assert planned.returncode == 2
    assert planned.stderr.splitlines() == validated.stderr.splitlines()[:-1]
    as_json = home.run("plan", "--json", spec)
    assert as_json.returncode == 2
    wanted = home.run("validate", "--format", "json", spec).stdout
    assert json.loads(as_json.stdout) == json.loads(wanted)


def test_plan_on_a_terminal_is_a_table(home: Home) -> None:
    with terminal(home, "plan", spec_file(home, a_spec("5"))) as opened:
        assert opened.end() == 0
        assert "an hour" in opened.shown
        assert "$3.60" in opened.shown


def test_plan_without_a_server_asks_this_machine_and_leaves_nothing(home: Home) -> None:
    alone = replace(home, environment={})
    done = alone.run("plan", spec_file(home, a_spec("5")))
    assert done.returncode == 0, done.stderr
    assert "1    local  this machine  -    no    $0" in done.stdout
    home.wait_until_nothing_runs()
    assert list(home.temporary.iterdir()) == []


# ── cynthus gcp audit ───────────────────────────────────────────────────────────────────────────


def test_audit_lists_what_works_and_what_it_costs(home: Home, shop: Shop) -> None:
    run_id = shop.submit(SLOW, "5")
    shop.wait_until_running(run_id)
    done = home.run("gcp", "audit")
    told = json.loads(home.run("gcp", "audit", "--json").stdout)
    shop.client.cancel(run_id)
    shop.end(run_id)
    assert done.returncode == 0, done.stderr
    assert f"working   cynthus-{run_id}-1  instance  local" in done.stdout
    assert "1 lent for $3.60 an hour" in done.stdout.splitlines()
    assert told["usd_per_hour"] == "3.60"
    assert [one["run_id"] for one in told["lent"]] == [run_id]


def test_audit_finds_nothing_to_sweep(home: Home) -> None:
    done = home.run("gcp", "audit", "--sweep")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "0 deletions begun"


def test_metrics_tell_of_the_fleet(shop: Shop) -> None:
    from urllib.request import Request, urlopen

    asked = Request(f"{shop.client.server}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    with urlopen(asked, timeout=60) as answer:
        text = answer.read().decode()
    assert 'cynthus_unknown_instances{provider="local"} 0' in text
    assert 'cynthus_unknown_usd_per_hour{provider="local"} 0' in text


# ── cynthus gcp audit --sweep ───────────────────────────────────────────────────────────────────


@pytest.fixture
def strays(tmp_path: Path) -> Iterator[tuple[FakeProvider, Home]]:
    """A server whose provider lends two things that nobody knows."""
    lender = FakeProvider(clock, "local")
    environment = {"CYNTHUS_STATE_DIR": str(tmp_path / "state"), "CYNTHUS_PORT": "0"}
    with open_site(read(environment), providers={"local": lender}) as site:
        site.a_run()
        lender.appear("stray-1")
        lender.appear("stray-2")
        for name in ("folder", "tmp"):
            (tmp_path / name).mkdir()
        told = {"CYNTHUS_SERVER": site.url}
        yield lender, Home(tmp_path / "folder", tmp_path / "tmp", told)


Strays = tuple[FakeProvider, Home]


def test_strays_end_the_audit_with_1_and_say_why_they_are_kept(strays: Strays) -> None:
    _, home = strays
    done = home.run("gcp", "audit")
    assert done.returncode == 1
    assert "2 unknown to the server, $0 an hour" in done.stdout.splitlines()
    assert "unknown ones are kept: 2 of 2 is too many at once" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--sweep",), "Write --confirm 2"),
        (("--sweep", "--confirm", "3"), "confirmed with the number of unknown names, 2"),
        (("--confirm", "2"), "--confirm: should come with --sweep"),
    ],
)
def test_a_sweep_without_the_right_number_deletes_nothing(
    strays: Strays, words: tuple[str, ...], told: str
) -> None:
    lender, home = strays
    done = home.run("gcp", "audit", *words)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(lender.instances) == 2


def test_a_script_confirms_with_the_number(strays: Strays) -> None:
    lender, home = strays
    done = home.run("gcp", "audit", "--sweep", "--confirm", "2")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "2 deletions begun")
    assert lender.instances == {}


def test_a_person_types_the_number(strays: Strays) -> None:
    lender, home = strays
    with terminal(home, "gcp", "audit", "--sweep") as opened:
        opened.wait_for("type 2 to delete 2 unknown for ever")
        opened.type(b"yes\n")
        assert opened.end() == 2
    assert len(lender.instances) == 2
    with terminal(home, "gcp", "audit", "--sweep") as opened:
        opened.wait_for("type 2 to delete 2 unknown for ever")
        opened.type(b"2\n")
        assert opened.end() == 0
    assert lender.instances == {}
