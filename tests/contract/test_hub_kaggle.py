"""The simulated Kaggle judged by its own unmodified client, in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub_fixture import Client, Hub, kaggle, kaggle_once

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


@pytest.fixture(scope="module")
def client(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    client = kaggle(hub, tmp_path_factory.mktemp("client"))
    yield client
    client.stop()


@pytest.fixture(autouse=True)
def fresh(hub: Hub) -> None:
    hub.forget()


def calls(hub: Hub) -> list[tuple[str, int, str]]:
    return [(line["path"].rpartition("/")[2], line["status"], line["auth"]) for line in hub.seen()]


def run(client: Client, program: str, **login: str) -> Any:
    login = login or LOGIN
    return client.run(f"api = KaggleApi()\napi.authenticate()\n{program}", **login)


def test_a_dataset_is_downloaded_at_a_version_and_at_its_newest(hub: Hub, client: Client) -> None:
    program = """
api.dataset_download_files("ada/digits/1", path="first", unzip=True)
api.dataset_download_files("ada/digits", path="newest", unzip=True)
api.dataset_download_file("ada/digits/1", "a.csv", path="one")
listed = api.dataset_list_files("ada/digits/1")
answer = [files("first"), files("newest"), files("one"),
          {f.name: f.total_bytes for f in listed.files}]
"""
    first = {"a.csv": 4, "sub/b.bin": NOISE["size"]}
    assert run(client, program) == [first, {"a.csv": 8}, {"a.csv": 4}, first]
    # Kaggle sees the login, the storage it sends the client on to does not.
    assert calls(hub)[:2] == [("DownloadDataset", 302, "Basic"), ("archive.zip", 200, "")]


def test_the_command_line_works_as_well(hub: Hub, client: Client) -> None:
    program = """
from kaggle.cli import main
def command(*words):
    sys.argv = ["kaggle", *words]
    try:
        main()
    except SystemExit as end:
        return end.code
    return 0
answer = [command("datasets", "download", "ada/digits", "-p", "cli", "--unzip", "--quiet"),
          command("datasets", "files", "ada/digits"),
          command("competitions", "download", "closed", "-p", "cli"),
          files("cli"), "License(s): CC0-1.0" in said.getvalue()]
"""
    hub.make("kaggle/competitions", name="closed", files={"train.csv": "x,y\n"})
    assert run(client, program) == [0, 0, 1, {"a.csv": 8}, True]


def test_a_download_that_was_cut_goes_on_in_the_next_process(
    hub: Hub, client: Client, tmp_path: Path
) -> None:
    # The first process ends at the cut, as one does that is killed: the client's own next try would
    # only come after two seconds.
    program = """
import time
time.sleep = lambda seconds: os._exit(7)
api.dataset_download_files("ada/digits/1", path="out", quiet=True)
"""
    hub.fault("cut", host="storage", after=2_000_000)
    assert kaggle_once(hub, tmp_path, program, **LOGIN).returncode == 7
    program = f"""
import hashlib
def fetched(folder):
    api.dataset_download_files("ada/digits/1", path=folder)
    return hashlib.sha256(pathlib.Path(folder, "digits.zip").read_bytes()).hexdigest()
answer = [fetched({str(tmp_path / "out")!r}), fetched("whole")]
"""
    resumed, whole = run(client, program)
    assert resumed == whole
    # Its next process asks Kaggle anew and gets all offered, then asks for the rest of it.
    fetches = [(line["status"], line["range"]) for line in hub.seen("GET")]
    rest = (206, "bytes=1048576-")  # it writes a mebibyte at a time
    assert fetches == [(200, ""), (200, ""), rest, (200, "")]


def test_a_token_is_looked_at_first_and_an_ended_one_ends_the_client(
    hub: Hub, client: Client, tmp_path: Path
) -> None:
    program = 'answer = api.dataset_status("ada/digits")'
    assert run(client, program, **TOKEN) == "ready"
    introspect = ("IntrospectToken", 200, "Bearer")
    assert calls(hub) == [introspect, ("GetDatasetStatus", 200, "Bearer")]
    hub.forget()
    ended = kaggle_once(hub, tmp_path, "print('never')", KAGGLE_API_TOKEN="KGAT_of_nobody")
    assert ended.returncode == 1
    assert "never" not in ended.stdout
    assert "generate an API token at" in ended.stdout
    # Importing the client looks at the token, and `authenticate` does it again.
    assert calls(hub) == [introspect, introspect]


def test_what_is_missing_private_or_needs_consent_is_told_apart(hub: Hub, client: Client) -> None:
    hub.make("kaggle/datasets", name="bob/own", private=True, files={"a": "a"})
    hub.make("kaggle/models", name="bob/llm/jax/tiny", gated=True, files={"a": "a"})
    hub.make("kaggle/competitions", name="open", files={"train.csv": "x,y\n"})
    program = """
get = lambda name: lambda: api.dataset_download_files(name, path="out")
answer = {
    "missing": why(get("ada/none")),
    "version": why(get("ada/digits/9")),
    "private": why(get("bob/own")),
    "rules": why(lambda: api.competition_download_files("open", path="out")),
    "consent": why(lambda: api.model_instance_version_download("bob/llm/jax/tiny/1", path="out")),
}
"""
    told = run(client, program)
    assert told["missing"] == told["version"] == ["HTTPError", 404, "", "Not found"]
    assert told["private"] == ["HTTPError", 403, "", "Permission 'datasets.get' was denied"]
    rules = "You must accept this competition's rules before you'll be able to download files."
    assert told["rules"] == ["HTTPError", 403, "", rules]
    assert "https://www.kaggle.com/models/bob/llm" in told["consent"][3]
    status = 'answer = why(lambda: api.dataset_status("ada/digits"))'
    wrong = LOGIN | {"KAGGLE_KEY": "wrong"}
    assert run(client, status, **wrong) == ["HTTPError", 401, "", "Unauthenticated"]


def test_who_asks_too_often_is_told_so(hub: Hub, client: Client) -> None:
    hub.fault("rate_limit", path="GetDatasetStatus", reset_s=30)
    program = """
try:
    api.dataset_status("ada/digits")
except Exception as error:
    answer = [error.response.status_code, error.response.headers["Retry-After"]]
"""
    assert run(client, program) == [429, "30"]


def test_a_competition_and_a_model_are_downloaded(hub: Hub, client: Client) -> None:
    hub.make("kaggle/accept", kind="competitions", name="titanic", user="ada")
    program = """
api.competition_download_files("titanic", path="c")
api.competition_download_file("titanic", "train.csv", path="c", quiet=True)
api.model_instance_version_download("ada/net/pyTorch/small/1", path="m", untar=True)
instance = api.model_instance_get("ada/net/pyTorch/small")
versions = api.model_instance_versions_list("ada/net/pyTorch/small").version_list.versions
listed = api.model_instance_version_files("ada/net/pyTorch/small/1").files
answer = [
    sorted(files("c")), files("m"), instance.version_number,
    [v.version_number for v in versions], {f.name: f.size for f in listed},
    [f.name for f in api.competition_list_files("titanic").files],
    api.model_get("ada/net").instances[0].framework.name,
]
"""
    assert run(client, program) == [
        ["titanic.zip", "train.csv"],
        {"c.json": 2, "w.bin": NOISE["size"]},
        1,
        [1],
        {"c.json": 2, "w.bin": NOISE["size"]},
        ["train.csv"],
        "MODEL_FRAMEWORK_PY_TORCH",
    ]


def test_a_long_list_of_files_comes_in_pages(hub: Hub, client: Client) -> None:
    hub.make("kaggle/datasets", name="ada/many", many={"count": 450, "size": 5})
    program = """
names, token = [], None
while True:
    page = api.dataset_list_files("ada/many", page_token=token, page_size=1000)
    names += [file.name for file in page.files]
    token = page.next_page_token
    if not token:
        break
answer = [len(names), len(set(names))]
"""
    assert run(client, program) == [450, 450]
    assert len(hub.seen()) == 3
