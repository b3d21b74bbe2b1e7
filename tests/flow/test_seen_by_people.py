"""A person follows a real run in a browser: live on the dashboard, then on the commit's page."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from demo.__main__ import wait_for_check
from demo.pull_request import RUN, play
from demo.stage import OWNER, ROOT, Stage
from tests.browser_fixture import NEEDS_CHROMIUM, chromium, take_picture

if TYPE_CHECKING:
    from playwright.sync_api import Page

LIVE_MS = 60_000  # the run itself takes seconds; a busy machine gets a minute
# Tells what the example tells, and learns nothing: its packages are half a gigabyte, and what they
# do is shown by test_push_to_release.py.
TELLS = """
import json
import os
from pathlib import Path

outputs = Path("outputs")
outputs.mkdir(exist_ok=True)
epochs = int(os.environ["EPOCHS"])
for epoch in range(1, epochs + 1):
    print(f"::metric name=loss,step={epoch}::{1 / epoch:.4f}")
    print(f"::metric name=accuracy,step={epoch}::{1 - 0.5 / epoch:.4f}")
    print(f"::progress::{epoch / epochs:.3f}", flush=True)
(outputs / "metrics.json").write_text(json.dumps({"accuracy": 1 - 0.5 / epochs}))
(outputs / "model.joblib").write_bytes(b"a model")
(outputs / "confusion.png").write_bytes(b"a picture")
"""
pytestmark = [pytest.mark.browser, NEEDS_CHROMIUM]


@pytest.fixture
def page() -> Iterator[Page]:
    with chromium() as browser:
        yield browser.new_page(viewport={"width": 1280, "height": 1000})


def test_a_run_is_followed_from_the_dashboard_to_the_commit(
    stage: Stage, page: Page, tmp_path: Path
) -> None:
    name = "digits-watched"
    stage.create_repository(name)
    source = tmp_path / name
    shutil.copytree(ROOT / "examples/digits", source)
    (source / "train.py").write_text(TELLS)
    (source / "requirements.txt").write_text("joblib==1.6.0\n")
    commit = stage.push(name, source)
    run_id = stage.wait_for_run(commit)
    page.goto(f"{stage.server.url}/runs/{run_id}")
    page.get_by_label("Token").fill(stage.server.api_token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile(f"/runs/{run_id}$"))
    page.evaluate("window.sameDocument = true")
    stage.wait_for_image(run_id)  # an environment may have to be built

    page.locator(".pill.finished, .pill.succeeded").first.wait_for(timeout=LIVE_MS)

    assert page.evaluate("window.sameDocument") is True, "the page was loaded again"
    assert "accuracy" in page.locator("main").inner_text()
    page.get_by_text("Spec and image").click()
    about = page.locator("#environment")  # the page was opened before there was an image
    assert "requirements.lock" in about.inner_text()
    live = about.inner_text()
    take_picture(page, "dashboard.png", whole=True)
    page.reload()
    page.get_by_text("Spec and image").click()
    assert about.inner_text() == live
    check = wait_for_check(stage, name, commit)
    page.goto(f"{stage.github.url}/{OWNER}/{name}/runs/{check['id']}")
    text = page.locator("body").inner_text()
    assert "succeeded" in text
    assert "accuracy" in text
    take_picture(page, "check_run.png")
    at_the_pull_request(stage, name, page)


def at_the_pull_request(stage: Stage, name: str, page: Page) -> None:
    """A colleague asks for a run in a comment; the pull request's page tells all of it."""
    act = play(stage, name, print)
    assert act.good, act
    repo = f"{stage.github.url}/{OWNER}/{name}"
    page.goto(f"{repo}/pull/{act.number}")
    text = page.locator("body").inner_text()
    assert RUN in text
    assert "👀" in text
    assert "accuracy" in text  # the comparison with the release of `main`
    assert [act.plan["name"], act.check["name"]] == ["cynthus/plan", "cynthus/digits (epochs=15)"]
    assert act.check["name"] in text
    take_picture(page, "pull_request.png", whole=True)
    page.goto(f"{repo}/runs/{act.plan['id']}")
    assert "would" in page.locator("main").inner_text()
    take_picture(page, "plan.png")
