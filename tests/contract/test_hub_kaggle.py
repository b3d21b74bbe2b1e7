"""The simulated Kaggle judged by its own unmodified client, each time in a process of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_fixture import Hub, kaggle

LOGIN = {"KAGGLE_USERNAME": "ada", "KAGGLE_KEY": "a-legacy-key-of-ada"}
TOKEN = {"KAGGLE_API_TOKEN": "KGAT_a_token_of_ada"}
NOISE = {"size": 3_000_000, "seed": "noise"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    tokens = [TOKEN["KAGGLE_API_TOKEN"]]
    hub.make("kaggle/users", name="ada", key=LOGIN["KAGGLE_KEY"], tokens=tokens)
    digits = {"name": "ada/digits", "licenses": ["CC0-1.0"]}
    hub.make("kaggle/datasets", **digits, files={"a.csv": "1,2\n", "sub/b.bin": NOISE})
    hub.make("kaggle/datasets", **digits, files={"a.csv": "1,2\n3,4\n"})
    hub.make("kaggle/competitions", name="titanic", files={"train.csv": "x,y\n"})
    hub.make("kaggle/models", name="ada/net/pyTorch/small", files={"w.bin": NOISE, "c.json": "{}"})
    yield hub
    hub.stop()


@pytest.fixture(autouse=True)
def fresh(hub: Hub) -> None:
    hub.forget()


def calls(hub: Hub) -> list[tuple[str, int, str]]:
    return [(line["path"].rpartition("/")[2], line["status"], line["auth"]) for line in hub.seen()]


def test_a_dataset_is_downloaded_at_a_version_and_at_its_newest(hub: Hub, tmp_path: Path) -> None:
    program = """
def found(folder):
    root = pathlib.Path(folder)
    return {str(p.relative_to(root)): p.stat().st_size for p in root.rglob("*") if p.is_file()}
api.dataset_download_files("ada/digits/1", path="first", unzip=True)
api.dataset_download_files("ada/digits", path="newest", unzip=True)
api.dataset_download_file("ada/digits/1", "a.csv", path="one")
listed = api.dataset_list_files("ada/digits/1")
print(json.dumps([found("first"), found("newest"), found("one"),
                  {f.name: f.total_bytes for f in listed.files}]))
"""
    done = kaggle(hub, tmp_path, program, **LOGIN)
    assert done.returncode == 0, done.stderr
    first = {"a.csv": 4, "sub/b.bin": NOISE["size"]}
    assert json.loads(done.stdout.splitlines()[-1]) == [first, {"a.csv": 8}, {"a.csv": 4}, first]
    # Kaggle sees the login, the storage it sends the client on to does not.
    assert calls(hub)[:2] == [("DownloadDataset", 302, "Basic"), ("archive.zip", 200, "")]


def test_a_download_that_was_cut_goes_on_in_the_next_process(hub: Hub, tmp_path: Path) -> None:
    # The first process ends at the cut, as one does that is killed: the client's own next try would
    # only come after two seconds.
    program = """
import time
time.sleep = lambda seconds: os._exit(7)
api.dataset_download_files("ada/digits/1", path="out", quiet=True)
"""
    hub.fault("cut", host="storage", after=2_000_000)
    assert kaggle(hub, tmp_path, program, **LOGIN).returncode == 7
    assert kaggle(hub, tmp_path, program, **LOGIN).returncode == 0
    first, *again = hub.seen("GET")
    # Its next process asks Kaggle anew and gets all offered, then asks for the rest of it.
    assert [line["status"] for line in (first, *again)] == [200, 200, 206]
    assert again[-1]["range"] == "bytes=1048576-"  # it writes a mebibyte at a time
    whole = kaggle(
        hub, tmp_path, 'api.dataset_download_files("ada/digits/1", path="whole")', **LOGIN
    )
    assert whole.returncode == 0, whole.stderr
    digests = {
        hashlib.sha256((tmp_path / folder / "digits.zip").read_bytes()).hexdigest()
        for folder in ("out", "whole")
    }
    assert len(digests) == 1


def test_a_token_is_looked_at_first_and_an_ended_one_ends_the_client(
    hub: Hub, tmp_path: Path
) -> None:
    done = kaggle(hub, tmp_path, 'print(api.dataset_status("ada/digits"))', **TOKEN)
    assert (done.returncode, done.stdout.strip()) == (0, "ready")
    # Importing the client looks at the token, and `authenticate` does it again.
    introspect = ("IntrospectToken", 200, "Bearer")
    assert calls(hub) == [introspect, introspect, ("GetDatasetStatus", 200, "Bearer")]
    ended = kaggle(hub, tmp_path, "print('never')", KAGGLE_API_TOKEN="KGAT_of_nobody")
    assert ended.returncode == 1
    assert "never" not in ended.stdout
    assert "generate an API token at" in ended.stdout


WHY = """
def why(call):
    try:
        call()
    except Exception as error:
        return [type(error).__name__, error.response.status_code, str(error)]
    return "no error"
"""


def test_what_is_missing_private_or_needs_consent_is_told_apart(hub: Hub, tmp_path: Path) -> None:
    hub.make("kaggle/datasets", name="bob/own", private=True, files={"a": "a"})
    hub.make("kaggle/models", name="bob/llm/jax/tiny", gated=True, files={"a": "a"})
    program = f"""{WHY}
get = lambda name: lambda: api.dataset_download_files(name, path="out")
told = {{
    "missing": why(get("ada/none")),
    "version": why(get("ada/digits/9")),
    "private": why(get("bob/own")),
    "rules": why(lambda: api.competition_download_files("titanic", path="out")),
    "consent": why(lambda: api.model_instance_version_download("bob/llm/jax/tiny/1", path="out")),
}}
print(json.dumps(told))
"""
    done = kaggle(hub, tmp_path, program, **LOGIN)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["missing"] == told["version"] == ["HTTPError", 404, "Not found"]
    assert told["private"] == ["HTTPError", 403, "Permission 'datasets.get' was denied"]
    assert told["rules"] == [
        "HTTPError",
        403,
        "You must accept this competition's rules before you'll be able to download files.",
    ]
    assert "https://www.kaggle.com/models/bob/llm" in told["consent"][2]
    wrong = kaggle(
        hub,
        tmp_path,
        f'{WHY}\nprint(why(lambda: api.dataset_status("ada/digits")))',
        KAGGLE_USERNAME="ada",
        KAGGLE_KEY="wrong",
    )
    assert wrong.stdout.strip() == "['HTTPError', 401, 'Unauthenticated']"


def test_a_competition_and_a_model_are_downloaded(hub: Hub, tmp_path: Path) -> None:
    hub.make("kaggle/accept", kind="competitions", name="titanic", user="ada")
    program = """
api.competition_download_files("titanic", path="c")
api.competition_download_file("titanic", "train.csv", path="c", quiet=True)
api.model_instance_version_download("ada/net/pyTorch/small/1", path="m", untar=True)
instance = api.model_instance_get("ada/net/pyTorch/small")
versions = api.model_instance_versions_list("ada/net/pyTorch/small").version_list.versions
files = api.model_instance_version_files("ada/net/pyTorch/small/1").files
print(json.dumps([
    sorted(os.listdir("c")), sorted(os.listdir("m")), instance.version_number,
    [v.version_number for v in versions], {f.name: f.size for f in files},
    [f.name for f in api.competition_list_files("titanic").files],
    api.model_get("ada/net").instances[0].framework.name,
]))
"""
    done = kaggle(hub, tmp_path, program, **LOGIN)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [
        ["titanic.zip", "train.csv"],
        ["c.json", "w.bin"],
        1,
        [1],
        {"c.json": 2, "w.bin": NOISE["size"]},
        ["train.csv"],
        "MODEL_FRAMEWORK_PY_TORCH",
    ]


def test_a_long_list_of_files_comes_in_pages(hub: Hub, tmp_path: Path) -> None:
    hub.make("kaggle/datasets", name="ada/many", many={"count": 450, "size": 5})
    program = """
names, token = [], None
while True:
    page = api.dataset_list_files("ada/many", page_token=token, page_size=1000)
    names += [file.name for file in page.files]
    token = page.next_page_token
    if not token:
        break
print(len(names), len(set(names)))
"""
    done = kaggle(hub, tmp_path, program, **LOGIN)
    assert done.stdout.strip() == "450 450", done.stderr
    assert len(hub.seen()) == 3
