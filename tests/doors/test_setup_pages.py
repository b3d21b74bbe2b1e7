"""The pages of set-up refuse whoever did not begin there, and never make two Apps of one way."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
import requests

from tests.browser_fixture import NEEDS_CHROMIUM, chromium, take_picture
from tests.doors.conftest import Answer, Site, open_site
from tests.github_fixture import GithubSimulator, github_simulator
from webhook_server.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Page

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GithubSimulator]:
    with github_simulator(tmp_path_factory.mktemp("github")) as simulator:
        simulator.post("/settings", local_hooks=True, viewer="ada")
        yield simulator


@pytest.fixture
def site(settings: Settings, github: GithubSimulator) -> Iterator[Site]:
    with open_site(replace(settings, github_api_url=github.api_url)) as opened:
        yield opened


def fields(page: str) -> dict[str, str]:
    pairs = re.findall(r'<input[^>]*?name="([^"]+)"[^>]*?value="([^"]*)"', page)
    return {name: html.unescape(value) for name, value in pairs}


def post(site: Site, **change: str) -> Answer:
    """Fill the form in and send it."""
    filled = fields(site.ask("GET", "/setup").body.decode()) | change
    return site.ask("POST", "/setup", body=urlencode(filled).encode(), headers=FORM)


def leave(site: Site, github: GithubSimulator, name: str, **change: str) -> tuple[str, str]:
    """Go to GitHub and press its button; return the way back and the cookie."""
    review = post(site, name=name, **change)
    assert review.status == 200, review.body
    page = review.body.decode()
    [target] = re.findall(r'<form method="post" action="(http[^"]+)"', page)
    state = parse_qs(urlsplit(html.unescape(target)).query)["state"][0]
    form = {"manifest": fields(page)["manifest"], "state": state}
    made = requests.post(
        html.unescape(target).replace("/new?", "?"), data=form, timeout=60, allow_redirects=False
    )
    assert made.status_code == 302, made.text
    return made.headers["location"], review.headers["set-cookie"].partition(";")[0]


def come_back(site: Site, way: str, cookie: str) -> Answer:
    return site.ask("GET", way, headers={"Cookie": cookie})


def test_the_form_says_what_stands_in_the_way(site: Site) -> None:
    page = site.ask("GET", "/setup").body.decode()
    assert "Set CYNTHUS_PUBLIC_URL" in page
    assert "Connect GitHub" in page


def test_the_cookie_goes_to_no_other_site_and_to_no_script(site: Site) -> None:
    cookie = post(site, name="Cookie").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "path=/setup" in cookie
    assert "max-age=3600" in cookie


def test_only_the_review_may_send_its_form_to_github(site: Site, github: GithubSimulator) -> None:
    policy = post(site, name="Policy").headers["content-security-policy"]
    assert f"form-action 'self' {github.url};" in policy
    assert "form-action 'self';" in site.ask("GET", "/setup").headers["content-security-policy"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"organization": "a/../b"}, "not an organisation"),
        ({"allowed": "acme, -"}, "should list owners"),
    ],
)
def test_what_cannot_be_is_told_on_the_form(site: Site, change: dict[str, str], told: str) -> None:
    answer = post(site, **change)
    assert answer.status == 422
    assert told in answer.body.decode()


def test_nobody_sets_out_where_the_keys_could_not_be_kept(site: Site, state_dir: Path) -> None:
    (state_dir / "secrets").write_text("in the way of the folder")
    answer = post(site, name="Homeless")
    assert answer.status == 422
    assert "should be a folder that can be written" in answer.body.decode()
    assert site.parts.database.state("app_ask") is None


@pytest.mark.case("D1")
def test_a_form_of_another_site_is_refused(site: Site) -> None:
    assert post(site, form_token="forged").status == 403


def test_the_way_back_leads_to_an_app_with_what_was_wished_for(
    site: Site, github: GithubSimulator
) -> None:
    github.post("/owners", login="acme")
    open_tab = urlencode(fields(site.ask("GET", "/setup").body.decode())).encode()
    way, cookie = leave(site, github, "Wished", organization="acme", allowed="acme/digits, 12")
    done = come_back(site, way, cookie)
    assert (done.status, done.headers["location"]) == (303, "/setup")
    app = site.parts.app.get()
    assert app is not None
    assert (app.name, app.owner, app.allowed) == ("Wished", "acme", ("acme/digits", "12"))
    keys = site.parts.app.keys(app)
    assert keys is not None
    assert "PRIVATE KEY" in keys.private_key
    # A second visit, by whatever way, changes nothing and shows the name alone.
    assert come_back(site, way, cookie).headers["location"] == "/setup"
    second = site.ask("POST", "/setup", body=open_tab, headers=FORM)
    assert (second.status, second.headers["location"]) == (303, "/setup")
    assert "Wished is set up" in site.ask("GET", "/setup").body.decode()


def test_the_owner_alone_may_use_it_unless_others_are_named(
    site: Site, github: GithubSimulator
) -> None:
    come_back(site, *leave(site, github, "Alone"))
    app = site.parts.app.get()
    assert app is not None
    assert app.owner == "ada"
    assert [entry.isdigit() for entry in app.allowed] == [True]


@pytest.mark.case("D1")
@pytest.mark.parametrize("cookie", ["", "cynthus_setup=another"])
def test_a_browser_that_did_not_leave_from_here_is_refused(
    site: Site, github: GithubSimulator, cookie: str
) -> None:
    way, right = leave(site, github, f"Browser{len(cookie)}")
    refused = come_back(site, way, cookie)
    assert refused.status == 400
    assert "own way to GitHub" in refused.body.decode()
    assert site.parts.app.get() is None
    assert come_back(site, way, right).status == 303  # the attack has not spoilt the real way


@pytest.mark.case("D1")
def test_a_state_of_ones_own_making_is_refused(site: Site) -> None:
    post(site, name="Made up")
    way = "/setup/callback?code=c&state=forged"
    refused = site.ask("GET", way, headers={"Cookie": "cynthus_setup=forged"})
    assert refused.status == 400
    assert "used up, or older" in refused.body.decode()


def test_a_code_that_github_does_not_know_makes_nothing(
    site: Site, github: GithubSimulator
) -> None:
    way, cookie = leave(site, github, "Unknown")
    refused = come_back(site, re.sub(r"code=[^&]+", f"code={quote('../x')}", way), cookie)
    assert refused.status == 400
    assert site.parts.app.get() is None
    again = come_back(site, way, cookie)
    assert (again.status, "used up" in again.body.decode()) == (400, True)


def test_an_outage_of_github_spoils_nothing_and_tells_no_code(
    site: Site, github: GithubSimulator
) -> None:
    way, cookie = leave(site, github, "Outage")
    match = {"method": "POST", "path": "/app-manifests/"}
    github.post("/faults", kind="error", match=match, status=502)
    refused = come_back(site, way, cookie)
    assert refused.status == 503
    assert parse_qs(urlsplit(way).query)["code"][0] not in refused.body.decode()
    assert come_back(site, way, cookie).status == 303


def test_strangers_are_led_to_sign_in(settings: Settings) -> None:
    with open_site(replace(settings, api_token=type(settings.api_token)("t" * 32))) as site:
        for path in ("/setup", "/setup/callback?code=a&state=b"):
            answer = site.ask("GET", path)
            assert (answer.status, answer.headers["location"][:13]) == (303, "/sign-in?next")
        assert site.ask("POST", "/setup", body=b"name=x", headers=FORM).status == 401
        assert site.ask("GET", "/api/v1/doctor").status == 401


def test_set_up_begins_where_github_leads_back_to(site: Site) -> None:
    page = site.ask("GET", "/setup", headers={"Host": f"localhost:{site.port}"}).body.decode()
    assert f'href="{site.url}/setup"' in page
    assert "<form" not in page


@pytest.mark.browser
@NEEDS_CHROMIUM
def test_a_person_clicks_through_it(site: Site, github: GithubSimulator) -> None:
    with chromium() as browser:
        page: Page = browser.new_page()
        page.goto(f"{site.url}/setup")
        take_picture(page, "setup.png")
        page.get_by_label("Name of the App").fill("Clicked")
        page.get_by_role("button", name="Continue").click()
        take_picture(page, "setup-review.png")
        page.get_by_role("button", name="Create it on GitHub").click()
        page.get_by_role("button", name="Create GitHub App for ada").click()
        page.wait_for_url(f"{site.url}/setup")
        assert page.get_by_role("heading", name="Clicked is set up").is_visible()
