"""What a person sees, and that a stranger's text stays text."""

from __future__ import annotations

import requests

from tests.contract.conftest import Town

EVIL = "<script>alert(1)</script> [x](javascript:alert(2)) <img src=x onerror=alert(3)>"


def _page(town: Town, path: str) -> requests.Response:
    return requests.get(f"{town.github.url}/{town.name}{path}", timeout=60)


def _harmless(html: str) -> bool:
    return not any(word in html for word in ("<script", 'href="javascript:', "<img src=x"))


def test_a_check_run_shows_its_markdown_annotations_and_buttons_that_work(town: Town) -> None:
    run = town.repo_call(
        "POST",
        "/check-runs",
        {
            "name": "cynthus",
            "head_sha": town.sha,
            "conclusion": "success",
            "output": {
                "title": "Accuracy 97 %",
                "summary": "| metric | value |\n|---|---|\n| accuracy | **0.97** |\n\n" + EVIL,
                "text": "```\n" + EVIL + "\n```",
                "annotations": [
                    {
                        "path": "cynthus.yaml",
                        "start_line": 1,
                        "end_line": 1,
                        "annotation_level": "warning",
                        "message": EVIL,
                    }
                ],
            },
            "actions": [{"label": "Cancel", "description": "Stop", "identifier": "cancel"}],
        },
    ).json()
    page = _page(town, f"/runs/{run['id']}")
    assert page.status_code == 200
    assert "<td><strong>0.97</strong></td>" in page.text
    assert _harmless(page.text)
    assert "script-src" not in page.headers["content-security-policy"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    pressed = requests.post(f"{page.url}/press", data={"identifier": "cancel"}, timeout=60)
    assert pressed.status_code == 200
    assert town.sink.wait_for("check_run.requested_action").payload["sender"]["login"] == town.owner
    requests.post(f"{page.url}/press", timeout=60)
    town.sink.wait_for("check_run.rerequested")


def test_every_page_opens_and_a_missing_one_says_so(town: Town) -> None:
    town.push({"evil.txt": EVIL}, branch="feature", message=EVIL)
    town.github.post("/pulls", repo=town.name, head="feature", title=EVIL, body=EVIL)
    town.github.post("/comments", repo=town.name, number=1, user="bob", body=EVIL)
    town.repo_call("POST", "/releases", {"tag_name": "v1", "name": EVIL, "body": EVIL})
    job = town.github.post("/workflow_jobs", repo=town.name, sha=town.sha, workflow=EVIL)
    town.github.sim("PATCH", f"/workflow_jobs/{job['job_id']}", {"log": EVIL})
    places = (
        "",
        f"/commit/{town.sha}/checks",
        "/releases",
        "/releases/tag/v1",
        "/pull/1",
        "/blob/feature/evil.txt",
        f"/actions/runs/{job['run_id']}/job/{job['job_id']}",
    )
    for place in places:
        page = _page(town, place)
        assert (place, page.status_code, _harmless(page.text)) == (place, 200, True)
    assert requests.get(town.github.url, timeout=60).status_code == 200
    assert _page(town, "/runs/1").status_code == 404
    raw = _page(town, "/raw/feature/evil.txt")
    assert raw.headers["content-type"].startswith("text/plain")


def test_a_pull_request_shows_folded_answers_without_their_marker_and_its_buttons(
    town: Town,
) -> None:
    sha = town.push({"a": "1"}, branch="topic")
    town.github.post("/pulls", repo=town.name, head="topic", draft=True)
    sticky = (
        "<!-- a hidden marker -->\n### Answers\n\n<details><summary>older</summary>\n\n"
        f"**done**\n\n</details>\n\n{EVIL}\n<details onclick=x>"
    )
    town.repo_call("POST", "/issues/1/comments", {"body": sticky})
    button = {"label": "Approve", "description": "Let it run", "identifier": "approve"}
    town.repo_call(
        "POST",
        "/check-runs",
        {"name": "c", "head_sha": sha, "conclusion": "action_required", "actions": [button]},
    )
    page = _page(town, "/pull/1").text
    assert "<details><summary>older</summary>" in page
    assert "<strong>done</strong>" in page
    assert "hidden marker" not in page
    assert _harmless(page)
    assert "<details onclick" not in page
    assert "Draft</span>" in page
    assert '<button name="identifier" value="approve"' in page
