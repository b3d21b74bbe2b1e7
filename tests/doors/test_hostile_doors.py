"""What arrives when a disk is full, a spec is wrong, or a row is damaged: the doors' side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cynthus import specfile
from cynthus.errors import UserError
from tests.doors.conftest import IMAGE, Site, open_site, raw
from tests.fixtures.bad_specs import CASES, MARKER, RIGHT, WHOLE
from tests.small_disk import fill, small_disk
from webhook_server.inbox.spec_at import _read
from webhook_server.settings import Settings

__all__ = ["small_disk"]  # a fixture


@pytest.mark.case("A13")
def test_a13_an_upload_into_a_full_disk_leaves_nothing_and_is_taken_once_there_is_room(
    settings: Settings, small_disk: Path
) -> None:
    url = (small_disk / "blobs").as_uri()
    content = b"weights" * 600_000  # several blocks: the disk is full in the middle of one
    with open_site(replace(settings, blob_url=url)) as site:
        agent = site.an_agent()
        filler = fill(small_disk)
        with filler.open("ab") as file:
            file.truncate(filler.stat().st_size - 2_500_000)
        assert agent.upload("outputs/model", content).status == 507
        assert list((small_disk / "blobs" / ".incoming").iterdir()) == []
        filler.unlink()
        assert agent.upload("outputs/model", content).status == 201
        assert agent.ask_upload("outputs/model", content).json["url"] is None


# ── specs ───────────────────────────────────────────────────────────────────────────────────────

REQUEST = {
    "repository_id": 0,
    "repository": "a folder",
    "commit_sha": "c" * 40,
    "ref": "refs/heads/main",
    "event": "local",
    "trigger": "local/1",
    "spec_path": "cynthus.yaml",
    "image": IMAGE,
}
BAD = [RIGHT + text for text, _, _ in CASES] + [text for text, _, _ in WHOLE]


@pytest.mark.case("S1", "S2")
def test_s1_s2_a_wrong_spec_gets_the_same_verdict_at_every_door(site: Site) -> None:
    """The file on the command line, GitHub's contents, a run request: one validator, one answer."""
    for marked in BAD:
        text = marked.replace(MARKER, "")
        with pytest.raises(UserError) as refused:
            specfile.parse(text.encode(), "cynthus.yaml")
        faults = refused.value.faults
        answer = site.ask("POST", "/api/v1/runs", value={**REQUEST, "spec_text": text})
        assert answer.status == 422, (text, answer.body)
        for fault in faults:
            assert fault.message in answer.fault, text
        pushed = _read(text.encode(), "cynthus.yaml")
        assert pushed.spec is None
        assert [(f.line, f.column) for f in pushed.faults] == [(f.line, f.column) for f in faults]
        for line in answer.fault.splitlines():
            assert not line.startswith("::")
            assert line.isprintable(), text
    assert site.parts.runs.is_empty()


@pytest.mark.case("S1")
@pytest.mark.parametrize("text", ["version: 1\nname: \ud800\n", "\x00", "\ufeff", "a" * 65_537, ""])
def test_s1_what_is_no_text_is_refused_as_such(site: Site, text: str) -> None:
    answer = site.ask("POST", "/api/v1/runs", value={**REQUEST, "spec_text": text})
    assert answer.status == 422, answer.body


@pytest.mark.parametrize("member", ["failure", "workflow_run_url", "repository", "ref", "trigger"])
@pytest.mark.parametrize("odd", ["\ud800", "\x00", "\udfff\ud800"])
def test_s1_odd_characters_in_any_member_are_no_fault_of_ours(
    site: Site, member: str, odd: str
) -> None:
    value = {**REQUEST, "spec_text": RIGHT, "image": None, "failure": "no image", member: odd}
    answer = site.ask("POST", "/api/v1/runs", value=value)
    assert answer.status in (202, 422), answer.body


@pytest.mark.case("S3")
def test_s3_a_newer_version_of_the_spec_is_named_as_what_it_is(site: Site) -> None:
    text = RIGHT.replace("version: 1", "version: 2")
    answer = site.ask("POST", "/api/v1/runs", value={**REQUEST, "spec_text": text})
    assert answer.status == 422
    assert "version" in answer.fault
    assert 'the only version there is, found "2"' in answer.fault


@pytest.mark.case("S7")
def test_s7_the_run_keeps_the_exact_bytes(site: Site) -> None:
    text = "# é 名\r\n" + RIGHT.replace("\n", "\r\n") + "# the end, without a line end"
    answer = site.ask("POST", "/api/v1/runs", value={**REQUEST, "spec_text": text})
    assert answer.status == 202, answer.body
    assert site.parts.runs.spec_text(answer.json["run_id"]) == text


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.case("A9")
@pytest.mark.parametrize(
    "value",
    [
        "abc",
        "       a       ",
        "x" * (1 << 20),
        "a\nb\nc\nd\ne\nf",
        "ab\r\ncd\r\nef\r\ngh",
        "long enough\0",
    ],
)
def test_a9_a_secret_that_could_not_be_hidden_is_refused(site: Site, value: str) -> None:
    with pytest.raises(UserError) as refused:
        site.parts.secrets.set(7, "TOKEN", value)
    assert value not in str(refused.value)
    assert site.parts.secrets.names(7) == []


@pytest.mark.case("A9")
def test_a9_a_key_of_several_lines_is_taken_and_hidden_line_by_line(site: Site) -> None:
    key = '{\n  "type": "key",\n  "private": "0123456789abcdef"\n}\n'
    site.parts.secrets.set(7, "TOKEN", key)
    agent = site.an_agent(repository_id=7, spec_text=RIGHT + "secrets: [TOKEN]\n")
    agent.beat(("log", {"text": 'a\n  "private": "0123456789abcdef"\nb\n'}))
    assert "0123456789abcdef" not in "".join(site.parts.events.log_text(agent.run_id, 1))


# ── outputs, tokens ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.case("A14")
def test_a1_a14_an_upload_address_is_good_for_one_object_of_one_attempt(site: Site) -> None:
    one, two = site.an_agent(), site.an_agent(commit="d" * 40)
    theirs = two.ask_upload("outputs/a", b"x").json["url"]
    mine = one.ask_upload("outputs/a", b"x").json["url"]
    address, _, terms = mine.partition("?")
    other = theirs.partition("?")[0]
    assert site.ask("PUT", f"{other}?{terms}", body=b"x").status == 403
    assert (
        site.ask("PUT", f"{address}/../{other.rpartition('/')[2]}?{terms}", body=b"x").status == 403
    )
    assert site.ask("GET", mine).status == 403
    assert site.ask("PUT", mine, body=b"x").status == 201


@pytest.mark.case("A6")
def test_a6_what_is_said_after_the_end_changes_nothing(site: Site) -> None:
    agent = site.an_agent()
    agent.beat(state="done", exit={"code": 0}, outputs=[])
    agent.beat(state="done", exit={"code": 1}, outputs=[an_output("outputs/late")])
    seen = site.parts.instances.observe(agent.instance).agent
    assert seen is not None
    assert seen.exit is not None
    assert (seen.exit.code, seen.outputs) == (0, ())


def an_output(path: str) -> dict[str, object]:
    return {"path": path, "size_bytes": 1, "sha256": "a" * 64}


@pytest.mark.case("A12")
@pytest.mark.parametrize("odd", ["a\ud800", "\ud800", "a\udc80b"])
def test_a12_half_a_character_in_a_name_is_never_our_fault(site: Site, odd: str) -> None:
    agent = site.an_agent()
    assert agent.ask_upload(odd, b"x").status == 422
    assert site.enrol(odd).status in (401, 410, 422)
    assert agent.beat(("log", {"text": odd}), ("phase", {"name": odd})).status == 200
    done = agent.beat(state="done", exit={"code": 0, "error": odd}, outputs=[an_output(odd)])
    assert done.status in (200, 422)


# ── requests within requests ────────────────────────────────────────────────────────────────────

SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
UNCLEAR = {
    "length and chunks": b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n",
    "two chunkings": b"Transfer-Encoding: identity, chunked, x\r\nX: %d\r\n\r\n0\r\n\r\n",
    "a length with a sign": b"Content-Length: +0\r\nX: %d\r\n\r\n",
    "a chunk that is none": b"Transfer-Encoding: chunked\r\nX: %d\r\n\r\nzz\r\n\r\n0\r\n\r\n",
    "a line end alone": b"X: %d\nContent-Length: 0\r\n\r\n",
    "a space before the colon": b"Content-Length : %d\r\n\r\n",
}


@pytest.mark.case("W19")
@pytest.mark.parametrize("path", ["/webhooks/github", "/api/v1/runs", "/agent/v1/heartbeat"])
@pytest.mark.parametrize("told", UNCLEAR.values(), ids=UNCLEAR.keys())
def test_w19_nothing_behind_an_unclear_length_is_a_request(
    site: Site, path: str, told: bytes
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    answer = raw(site.port, head.encode() + told % len(SMUGGLED) + SMUGGLED, wait_s=60)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert b"ok\n" not in answer
    assert not answer.startswith(b"HTTP/1.1 2")
    assert not answer.startswith(b"HTTP/1.1 5")
