"""The issuer: tokens of workflow jobs, keys, forgeries."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
import requests

from tests.contract.conftest import Town

WRITE = {"id-token": "write", "contents": "read"}


def _token(job: dict[str, Any], audience: str = "https://cynthus.example") -> requests.Response:
    return requests.get(
        f"{job['id_token_request_url']}&audience={audience}",
        headers={"Authorization": f"Bearer {job['id_token_request_token']}"},
        timeout=60,
    )


def _verified(town: Town, token: str, audience: str = "https://cynthus.example") -> dict[str, Any]:
    issuer = f"{town.github.url}/oidc"
    found = requests.get(f"{issuer}/.well-known/openid-configuration", timeout=60).json()
    assert found["issuer"] == issuer
    key = jwt.PyJWKClient(found["jwks_uri"]).get_signing_key_from_jwt(token)
    return jwt.decode(token, key, algorithms=["RS256"], audience=audience, issuer=issuer)


def test_a_job_proves_its_repository_commit_and_workflow(town: Town) -> None:
    job = town.github.post(
        "/workflow_jobs", repo=town.name, sha=town.sha, permissions=WRITE, actor="ada"
    )
    claims = _verified(town, _token(job).json()["value"])
    assert claims["repository_id"] == str(town.repo_id)
    assert (claims["sha"], claims["ref"]) == (town.sha, "refs/heads/main")
    assert (claims["event_name"], claims["actor"]) == ("push", "ada")
    assert claims["check_run_id"] == str(job["check_run_id"])
    assert (claims["exp"] - claims["iat"], claims["iat"] - claims["nbf"]) == (300, 600)
    rest = {name: c for name, c in claims.items() if name not in {"exp", "iat", "nbf"}}
    assert all(isinstance(claim, str) for claim in rest.values())
    again = _verified(town, _token(job).json()["value"])
    assert again["jti"] != claims["jti"]


@pytest.mark.parametrize(
    ("immutable", "wish", "subject"),
    [
        (True, {}, "repo:O@OID/digits@RID:ref:refs/heads/main"),
        (False, {}, "repo:O/digits:ref:refs/heads/main"),
        (False, {"event": "pull_request"}, "repo:O/digits:pull_request"),
        (False, {"environment": "a:b"}, "repo:O/digits:environment:a%3Ab"),
    ],
)
def test_the_subject_has_two_formats(
    town: Town, immutable: bool, wish: dict[str, str], subject: str
) -> None:
    town.github.sim("PATCH", f"/repos/{town.name}", {"immutable_sub": immutable})
    job = town.github.post(
        "/workflow_jobs", repo=town.name, sha=town.sha, permissions=WRITE, **wish
    )
    claims = _verified(town, _token(job).json()["value"])
    for mark, value in (
        ("OID", claims["repository_owner_id"]),
        ("RID", str(town.repo_id)),
        ("O", town.owner),
    ):
        subject = subject.replace(mark, value)
    assert claims["sub"] == subject


def test_forks_and_jobs_without_the_right_get_no_token(town: Town) -> None:
    plain = town.github.post("/workflow_jobs", repo=town.name, sha=town.sha)
    assert plain["id_token_request_url"] is None
    fork = town.github.post(
        "/workflow_jobs", repo=town.name, sha=town.sha, permissions=WRITE, fork=True
    )
    assert fork["id_token_request_token"] is None
    url = f"{town.github.url}/oidc/token?api-version=2.0&job={fork['job_id']}"
    assert requests.get(url, timeout=60).status_code == 401
    body = {"name": "c", "head_sha": town.sha}
    path = f"/repos/{town.name}/check-runs"
    assert town.call("POST", path, fork["github_token"], body).status_code == 403


def test_a_token_ends_with_its_job(town: Town) -> None:
    job = town.github.post("/workflow_jobs", repo=town.name, sha=town.sha, permissions=WRITE)
    change = {"conclusion": "success", "summary": "**built**", "log": "hello"}
    town.github.sim("PATCH", f"/workflow_jobs/{job['job_id']}", change)
    assert _token(job).status_code == 401
    run = town.repo_call("GET", f"/check-runs/{job['check_run_id']}").json()
    assert (run["conclusion"], run["app"]["slug"]) == ("success", "github-actions")
    assert run["output"]["summary"] == "**built**"


def test_annotations_of_a_job_stand_on_its_check_run(town: Town) -> None:
    job = town.github.post("/workflow_jobs", repo=town.name, sha=town.sha)
    note = {"path": "cynthus.yaml", "line": 3, "level": "error", "message": "wrong"}
    town.github.sim("PATCH", f"/workflow_jobs/{job['job_id']}", {"annotations": [note]})
    path = f"/check-runs/{job['check_run_id']}/annotations"
    (shown,) = town.repo_call("GET", path).json()
    assert (shown["start_line"], shown["annotation_level"]) == (3, "failure")


def test_runs_of_a_workflow_are_numbered(town: Town) -> None:
    first = town.github.post("/workflow_jobs", repo=town.name, sha=town.sha)
    second = town.github.post("/workflow_jobs", repo=town.name, sha=town.sha)
    same = town.github.post(
        "/workflow_jobs",
        repo=town.name,
        sha=town.sha,
        run_id=second["run_id"],
        run_attempt=2,
    )
    assert [job["run_number"] for job in (first, second, same)] == [1, 2, 2]
    assert same["run_attempt"] == 2


def test_any_claims_can_be_forged_with_a_right_signature(town: Town) -> None:
    claims = {"aud": "me", "repository_id": "42", "sub": None, "iss": "https://evil.example"}
    forged = town.github.post(
        "/oidc", claims=claims, ttl=30, header={"jku": "https://evil.example"}
    )["value"]
    seen = jwt.decode(forged, options={"verify_signature": False})
    assert (seen["repository_id"], seen["iss"], "sub" in seen) == (
        "42",
        "https://evil.example",
        False,
    )
    assert jwt.get_unverified_header(forged)["jku"] == "https://evil.example"


def test_keys_rotate_with_and_without_overlap(town: Town) -> None:
    old = town.github.post("/oidc", claims={"aud": "me"})["value"]
    town.github.post("/oidc/rotate")
    new = town.github.post("/oidc", claims={"aud": "me"})["value"]
    for token in (old, new):
        assert _verified(town, token, "me")
    town.github.post("/oidc/rotate", forget=True)
    with pytest.raises(jwt.PyJWKClientError):
        _verified(town, new, "me")


def test_the_key_set_can_fail(town: Town) -> None:
    town.github.post("/faults", match={"path": "/oidc/.well-known/jwks"}, kind="html", status=200)
    url = f"{town.github.url}/oidc/.well-known/jwks"
    assert "<html>" in requests.get(url, timeout=60).text
    assert requests.get(url, timeout=60).json()["keys"]
