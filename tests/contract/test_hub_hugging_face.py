"""The simulated Hugging Face judged by its own unmodified client, in a process of its own."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from simulators.hub_content import Content
from simulators.hub_git import commit_id, folder_ids
from tests.hub_fixture import SECRET, Client, Hub, hugging_face

_numbers = count(1)
WEIGHTS = 3_000_000
CHUNK = 10 << 20  # what the client writes at once, huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    hub.make("hf/users", name="ada", token=SECRET)
    yield hub
    hub.stop()


@pytest.fixture(scope="module")
def client(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    client = hugging_face(hub, tmp_path_factory.mktemp("client"))
    yield client
    client.stop()


@pytest.fixture(autouse=True)
def fresh(hub: Hub) -> None:
    hub.forget()


def a_model(hub: Hub, **more: Any) -> tuple[str, Any]:
    """Make a model with a small file in a folder and a large one; return its name and answer."""
    name = f"org/net{next(_numbers)}"
    files = {
        "README.md": "---\nlicense: mit\nconfigs:\n- config_name: en\n---\nA net.\n",
        "sub/config.json": "{}",
        "model.safetensors": {"size": WEIGHTS, "seed": name},
    }
    return name, hub.make("hf/repos", **{"type": "model", "name": name, "files": files, **more})


def kinds(hub: Hub, method: str) -> list[tuple[str, int]]:
    return [(line["host"], line["status"]) for line in hub.seen(method)]


def test_a_snapshot_is_fetched_once_and_again_when_its_branch_moved(
    hub: Hub, client: Client
) -> None:
    name, made = a_model(hub)
    program = f"""
import urllib.request, json
def sim(endpoint, wish):
    data = json.dumps(wish).encode()
    urllib.request.urlopen(urllib.request.Request("{hub.url}/_sim/" + endpoint, data)).read()
def requests():
    lines = json.load(urllib.request.urlopen("{hub.url}/_sim/requests"))
    urllib.request.urlopen(
        urllib.request.Request("{hub.url}/_sim/requests", method="DELETE")).read()
    return [(line["method"], line["host"], line["status"]) for line in lines]
cold = hf.snapshot_download("{name}")
answer = {{"cold": [pathlib.Path(cold).name, files(cold), requests()]}}
warm = hf.snapshot_download("{name}")
answer["warm"] = [warm == cold, requests()]
pinned = hf.snapshot_download("{name}", revision=pathlib.Path(cold).name)
answer["pinned"] = [pinned == cold, requests()]
sim("hf/commits", {{"type": "model", "name": "{name}", "files": {{"sub/config.json": "new"}}}})
moved = hf.snapshot_download("{name}")
answer["moved"] = [moved != cold, files(moved), requests()]
answer["before"] = pathlib.Path(cold, "sub/config.json").read_text()
"""
    told = client.run(program)
    commit, found, requests = told["cold"]
    sizes = {path: entry["size"] for path, entry in made["files"].items()}
    assert (commit, found) == (made["commit"], sizes)
    # As the hub: every small file is asked for twice (its address at the commit), then fetched;
    # the large one is asked for once and lies on another host.
    assert requests.count(["HEAD", "api", 307]) == requests.count(["HEAD", "api", 200]) == 3
    assert requests.count(["HEAD", "api", 302]) == requests.count(["GET", "storage", 200]) == 1
    assert told["warm"] == [True, [["GET", "api", 200]]]
    assert told["pinned"] == [True, []]
    changed, found, requests = told["moved"]
    assert changed
    assert found == sizes | {"sub/config.json": 3}
    assert ["GET", "storage", 200] not in requests  # the large file is the same blob
    assert told["before"] == "{}"


def test_a_download_that_was_cut_goes_on_where_it_ended(hub: Hub, client: Client) -> None:
    size = CHUNK + WEIGHTS
    name, made = a_model(hub, files={"model.safetensors": {"size": size, "seed": "cut"}})
    hub.fault("cut", host="storage", after=CHUNK + 1_000_000)
    program = f"""
import hashlib
path = hf.hf_hub_download("{name}", "model.safetensors")
answer = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
"""
    assert client.run(program) == made["files"]["model.safetensors"]["sha256"]
    assert kinds(hub, "GET") == [("storage", 200), ("storage", 206)]
    again = hub.seen("GET")[1]
    assert (again["range"], again["bytes"]) == (f"bytes={CHUNK}-", WEIGHTS)


def test_other_bytes_than_the_tree_tells_come_when_a_fault_says_so(
    hub: Hub, client: Client
) -> None:
    name, made = a_model(hub)
    hub.fault("corrupt", host="storage")
    program = f"""
import hashlib
path = hf.hf_hub_download("{name}", "model.safetensors")
data = pathlib.Path(path).read_bytes()
answer = [hashlib.sha256(data).hexdigest(), len(data)]
"""
    digest, size = client.run(program)
    # The client itself does not notice: whoever stages must compare the hashes.
    assert digest != made["files"]["model.safetensors"]["sha256"]
    assert size == WEIGHTS


def test_patterns_fetch_a_part(hub: Hub, client: Client) -> None:
    name, _ = a_model(hub)
    program = f'answer = files(hf.snapshot_download("{name}", allow_patterns=["sub/*"]))'
    assert client.run(program) == {"sub/config.json": 2}
    assert [line["path"] for line in hub.seen("GET")][2:] == [
        path for line in hub.seen("GET") if (path := line["path"]).endswith("sub/config.json")
    ]


def test_what_is_hidden_gated_or_missing_is_told_apart(hub: Hub, client: Client) -> None:
    private, _ = a_model(hub, private=True)
    gated, _ = a_model(hub, gated="manual")
    waiting, _ = a_model(hub, gated="manual", pending=["ada"])
    disabled, _ = a_model(hub, disabled=True)
    program = f"""
answer = {{}}
def file(name, **more):
    return lambda: hf.hf_hub_download(name, "README.md", **more)
none = {{"token": False}}
answer["private, nobody"] = why(lambda: hf.model_info("{private}", **none))
answer["private, ada"] = why(lambda: hf.model_info("{private}"))
answer["missing, nobody"] = why(lambda: hf.model_info("org/none", **none))
answer["missing, ada"] = why(lambda: hf.model_info("org/none"))
answer["bad token"] = why(lambda: hf.model_info("{gated}", token="hf_nobody"))
answer["revision"] = why(file("{gated}", revision="nope"))
answer["gated, listing"] = [s.rfilename for s in hf.model_info("{gated}", **none).siblings]
answer["gated, nobody"] = why(file("{gated}", **none))
answer["gated, ada"] = why(file("{gated}"))
answer["gated, check"] = why(lambda: hf.HfApi().auth_check("{gated}"))
answer["waiting"] = why(file("{waiting}"))
answer["disabled"] = why(lambda: hf.model_info("{disabled}"))
answer["ada"] = hf.whoami()["name"]
"""
    told = client.run(program, HF_TOKEN=SECRET)
    short = {word: line[:3] for word, line in told.items() if isinstance(line, list)}
    missing = "RepositoryNotFoundError"
    assert short["private, nobody"] == short["missing, nobody"] == [missing, 401, "RepoNotFound"]
    assert short["private, ada"] == short["missing, ada"] == [missing, 404, "RepoNotFound"]
    assert short["bad token"] == ["HfHubHTTPError", 401, ""]
    assert "README.md" in told["gated, listing"]
    assert short["gated, nobody"] == ["GatedRepoError", 401, "GatedRepo"]
    assert short["gated, ada"] == short["gated, check"] == ["GatedRepoError", 403, "GatedRepo"]
    assert f"Visit https://huggingface.co/{gated} to ask for access" in told["gated, ada"][3]
    assert "awaiting a review" in told["waiting"][3]
    assert short["disabled"] == ["DisabledRepoError", 403, ""]
    assert told["ada"] == "ada"


def test_a_gate_opens_for_whom_it_is_opened(hub: Hub, client: Client) -> None:
    name, made = a_model(hub, gated="auto", private=True, readers=["ada"])
    hub.control("PATCH", "hf/repos", {"type": "model", "name": name, "granted": ["ada"]})
    program = f"""
answer = {{}}
answer["files"] = files(hf.snapshot_download("{name}"))
answer["entry"] = why(lambda: hf.hf_hub_download("{name}", "none.txt"))
answer["revision"] = why(lambda: hf.snapshot_download("{name}", revision="nope"))
answer["folder"] = why(lambda: list(hf.HfApi().list_repo_tree("{name}", "none")))
"""
    told = client.run(program, HF_TOKEN=SECRET)
    assert told["files"].keys() == made["files"].keys()
    assert told["entry"][:3] == ["RemoteEntryNotFoundError", 404, "EntryNotFound"]
    assert told["revision"][:3] == ["RevisionNotFoundError", 404, "RevisionNotFound"]
    assert told["folder"][:3] == ["RemoteEntryNotFoundError", 404, "EntryNotFound"]
    # The token goes to the hub, and never to the storage.
    shown = {(line["host"], line["auth"]) for line in hub.seen()}
    assert shown == {("api", "Bearer"), ("storage", "")}


def test_what_the_client_asks_about_a_repository(hub: Hub, client: Client) -> None:
    name, made = a_model(hub)
    first = made["commit"]
    hub.make("hf/refs", type="model", name=name, tag="v1", at="main")
    hub.make("hf/refs", type="model", name=name, branch="refs/pr/1", at="main")
    hub.make("hf/commits", type="model", name=name, delete=["README.md"], title="Away with it")
    program = f"""
api = hf.HfApi()
then = api.model_info("{name}", revision="v1", files_metadata=True)
large = next(s for s in then.siblings if s.rfilename == "model.safetensors")
refs = api.list_repo_refs("{name}", include_pull_requests=True)
paths = api.get_paths_info("{name}", ["sub", "sub/config.json", "none"], revision="v1", expand=True)
answer = {{
    "sha": then.sha, "card": then.card_data.to_dict(), "sibling": [large.size, large.lfs.sha256],
    "heads": [[b.name, b.target_commit == then.sha] for b in refs.branches],
    "tags": [[t.name, t.target_commit] for t in refs.tags],
    "pulls": [[p.name, p.ref] for p in refs.pull_requests],
    "commits": [c.title for c in api.list_repo_commits("{name}")],
    "paths": [[p.path, type(p).__name__, p.last_commit.title] for p in paths],
    "gone": [f.path for f in api.list_repo_tree("{name}", recursive=True)],
    "root": [f.path for f in api.list_repo_tree("{name}", revision="v1")],
    "expand": api.model_info("{name}", expand=["gated"]).sha,
    "pull": files(hf.snapshot_download("{name}", revision="refs/pr/1")),
}}
"""
    told = client.run(program)
    assert told["sha"] == first
    assert told["card"]["configs"] == [{"config_name": "en"}]
    large = made["files"]["model.safetensors"]
    assert told["sibling"] == [large["size"], large["sha256"]]
    assert told["heads"] == [["main", False]]
    assert told["tags"] == [["v1", first]]
    assert told["pulls"] == [["1", "refs/pr/1"]]
    assert told["commits"] == ["Away with it", "Upload files", "initial commit"]
    assert [line[:2] for line in told["paths"]] == [
        ["sub", "RepoFolder"],
        ["sub/config.json", "RepoFile"],
    ]
    assert told["gone"] == [".gitattributes", "model.safetensors", "sub", "sub/config.json"]
    assert told["root"] == [".gitattributes", "README.md", "model.safetensors", "sub"]
    assert told["expand"] is None
    assert told["pull"].keys() == made["files"].keys()


def test_a_model_that_was_renamed_is_found_by_its_old_name(hub: Hub, client: Client) -> None:
    name, made = a_model(hub)
    hub.control("PATCH", "hf/repos", {"type": "model", "name": name, "rename": f"{name}-new"})
    program = f"""
info = hf.model_info("{name}")
path = hf.hf_hub_download("{name}", "sub/config.json")
answer = [info.id, info.sha, pathlib.Path(path).read_text()]
"""
    assert client.run(program) == [f"{name}-new", made["commit"], "{}"]


def test_a_long_listing_comes_in_pages_and_a_dataset_lies_elsewhere(
    hub: Hub, client: Client
) -> None:
    name = f"org/rows{next(_numbers)}"
    many = {"count": 2500, "size": 10, "path": "data/{:05d}.txt"}
    hub.make("hf/repos", type="dataset", name=name, many=many)
    program = f"""
tree = list(hf.HfApi().list_repo_tree("{name}", recursive=True, repo_type="dataset"))
path = hf.hf_hub_download("{name}", "data/00042.txt", repo_type="dataset")
answer = [len(tree), len({{f.path for f in tree}}), pathlib.Path(path).stat().st_size]
"""
    # `.gitattributes`, the folder and the files.
    assert client.run(program) == [2502, 2502, 10]
    listings = [line for line in hub.seen("GET") if "/tree/" in line["path"]]
    assert len(listings) == 3
    assert all(line["path"].startswith("/api/datasets/") for line in listings)


def test_who_asks_too_often_is_told_how_long_to_wait(hub: Hub, client: Client) -> None:
    name, _ = a_model(hub)
    hub.fault("rate_limit", path="/api/models", reset_s=55)
    told = client.run(f'hf.model_info("{name}")')
    assert told["error"] == "HfHubHTTPError"
    assert "you have reached your 'api' rate limit.\nRetry after 55 seconds" in told["message"]


def test_git_gives_the_same_names(tmp_path: Path) -> None:
    # Names that sort in another order as folders than as texts.
    files = {"a-b": b"1", "a/b/c": b"2", "a.txt": b"3", "a/d": b"", "z": b"4" * 5000}
    for path, data in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    who = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (
            ("NAME", "hub"),
            ("EMAIL", "hub@users.noreply.example"),
            ("DATE", moment.isoformat()),
        )
    }

    def git(*words: str, given: str = "") -> str:
        command = ["git", "-C", str(tmp_path), *words]
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **who}
        done = subprocess.run(
            command, env=environment, input=given, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", "--all")
    tree = git("write-tree")
    first = git("commit-tree", tree, given="One\n")
    second = git("commit-tree", tree, "-p", first, given="Two\n")
    blobs = {path: Content(data).blob_oid for path, data in files.items()}
    folders = folder_ids(blobs)
    assert folders[""] == tree
    assert folders["a/b"] == git("rev-parse", f"{tree}:a/b")
    assert commit_id(tree, None, moment, "One") == first
    assert commit_id(tree, first, moment, "Two") == second


def test_a_large_file_is_a_pointer_in_git(hub: Hub, client: Client) -> None:
    name, made = a_model(hub)
    program = f"""
api = hf.HfApi()
files_ = {{f.path: f.blob_id for f in api.list_repo_tree("{name}", recursive=True)
          if isinstance(f, hf.hf_api.RepoFile)}}
folder = next(f.tree_id for f in api.list_repo_tree("{name}") if f.path == "sub")
answer = [files_, folder]
"""
    blobs, folder = client.run(program)
    assert blobs["sub/config.json"] == _git("blob", b"{}")
    pointer = (
        "version https://git-lfs.github.com/spec/v1\n"
        f"oid sha256:{made['files']['model.safetensors']['sha256']}\nsize {WEIGHTS}\n"
    )
    assert blobs["model.safetensors"] == _git("blob", pointer.encode())
    entry = b"100644 config.json\0" + bytes.fromhex(blobs["sub/config.json"])
    assert folder == _git("tree", entry)


def _git(kind: str, body: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(body)}\0".encode() + body).hexdigest()


def test_a_killed_hub_comes_back_with_its_world(client: Client, tmp_path: Path) -> None:
    hub = Hub(tmp_path / "state")
    hub.make("hf/users", name="ada", token=SECRET)
    _, made = a_model(hub, private=True, readers=["ada"])
    hub.kill()
    journal = tmp_path / "state" / "journal.jsonl"
    with journal.open("a") as cut:
        cut.write(json.dumps({"at": 0, "method": "DELETE"})[:10])  # the power went in the middle
    again = Hub(tmp_path / "state")
    try:
        again.make("hf/refs", type="model", name=made["name"], tag="v1", at=made["commit"])
        program = f"""
api = hf.HfApi(endpoint="{again.url}")
answer = [api.model_info("{made["name"]}", revision="v1").sha]
"""
        assert client.run(program, HF_TOKEN=SECRET) == [made["commit"]]
        # What was cut is gone: what came after it is a line of its own.
        assert json.loads(journal.read_text().splitlines()[-1])["name"] == "hf/refs"
    finally:
        again.stop()
