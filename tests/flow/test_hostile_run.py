"""A run that tries to spill its secrets everywhere, and one that floods its log, end to end."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import psutil
import pytest

from demo.__main__ import published_release, wait_for_check
from demo.stage import OWNER, ROOT, Stage
from tests.canaries import ArgumentWatch, Source, files, hits
from tests.flow.test_push_to_release import asset_bytes, light_repository, run_to_its_end
from tests.light_stage import light_stage

# What a shell, a template engine and YAML would each like to change.
TRICKY = """\
${{ secrets.TOKEN }} {{ x }} $(id) `id` ${HOME} %s %% !! ~ "double" 'single' \\n \\\\ #
\ttab; && || > /dev/null | tee * ? [a-z] é 名 🚀
EOT
::set-output name=a::b"""

SPILL = """\
import base64, gzip, json, os, sys, time, urllib.parse
from pathlib import Path
value = os.environ["TOKEN"]
raw = value.encode()
for text in (
    value,
    *(base64.b64encode(b"x" * n + raw).decode() for n in range(3)),
    base64.urlsafe_b64encode(raw).decode(),
    raw.hex(),
    raw.hex().upper(),
    json.dumps({"token": value}),
    urllib.parse.quote(value, safe=""),
):
    print("before", text, "after")
for part in (value[:7], value[7:]):
    sys.stdout.write(part)
    sys.stdout.flush()
    time.sleep(0.3)
print()
print("::notice file=a.py,line=1::" + value)
print("::phase::" + value)
print("::metric name=" + value.replace("=", "") + "::1")
print(os.environ["PEM"])
made = "made-" + raw.hex()[:6] + "-by-the-command"
print("::add-mask::" + made)
print("and", made)
Path(os.environ["CYNTHUS_SUMMARY"]).write_text("# " + value)
out = Path("outputs")
out.mkdir(exist_ok=True)
(out / "good.txt").write_text("good")
(out / "spilled.txt").write_text("in " + value)
(out / (raw.hex() + ".txt")).write_text("x")
raise SystemExit("the end of " + value)
"""


def set_secret(stage: Stage, repository_id: int, name: str, value: str) -> None:
    words = [sys.executable, "-m", "webhook_server", "secret", "set"]
    environment = {"PATH": os.environ["PATH"], "CYNTHUS_STATE_DIR": str(stage.server.state)}
    if key := stage.server.settings.get("CYNTHUS_SERVER_KEY"):  # else it is in the state folder
        environment["CYNTHUS_SERVER_KEY"] = key
    subprocess.run(
        [*words, "--repository-id", str(repository_id), name],
        input=value.encode(),
        cwd=ROOT,
        env=environment,
        check=True,
    )


def spilling_repository(folder: Path) -> Path:
    source = light_repository(folder, "spills", "true")
    run = f"cat <<'END'\n{TRICKY}\nEND\npython3 spill.py || exit 7"
    # With the line ends of Windows: YAML reads them as plain ones.
    spec = (
        "version: 1\nname: spills\nimage: {base: python}\nsecrets: [TOKEN, PEM]\n"
        "outputs:\n  - path: outputs\nrun: |\n" + textwrap.indent(run, "  ") + "\n"
    )
    (source / "cynthus.yaml").write_bytes(spec.replace("\n", "\r\n").encode())
    (source / "spill.py").write_text(SPILL, "utf-8")
    return source


@pytest.mark.case("S8", "A8")
def test_a8_s8_a_hostile_command_arrives_byte_for_byte_and_spills_nothing(
    stage: Stage, tmp_path: Path
) -> None:
    token = f'k9!{secrets.token_hex(9)}/+é"\\x'
    pem = f"-----BEGIN KEY-----\n{secrets.token_hex(24)}\n-----END KEY-----"
    made = f"made-{token.encode().hex()[:6]}-by-the-command"
    repository_id = stage.create_repository("spills")
    set_secret(stage, repository_id, "TOKEN", token)
    set_secret(stage, repository_id, "PEM", pem)
    with ArgumentWatch() as watch:
        commit = stage.push("spills", spilling_repository(tmp_path))
        view = run_to_its_end(stage, commit)
    check = wait_for_check(stage, "spills", commit)

    assert (view.outcome, view.cause) == ("failed", "exit"), view.reason
    log = b"".join(stage.client.log(view.id)).decode()
    assert log.startswith(TRICKY.rpartition("\n")[0] + "\n")
    assert log.count("***") >= 10
    assert check["conclusion"] == "failure"
    planted = [token, pem.splitlines()[1], made]
    sources = [*watch.sources(), *everything_written(stage), *told(stage, view.id, check)]
    assert hits(["before *** after"], sources), "the scan sees nothing"
    assert hits(planted, sources) == []
    stored = [output.path for output in view.outputs]
    assert stored == ["outputs/good.txt"]


def everything_written(stage: Stage) -> list[Source]:
    """Return what the server, the agents, GitHub, the runner and the registry have on disk."""
    # The base image's layers are as they were before any secret was there.
    images = files(stage.folder / "registry", largest=4 * MIB)
    return [*files(stage.folder, "work/", "registry/"), *images]


def told(stage: Stage, run_id: str, check: dict[str, Any]) -> list[Source]:
    """Return what the doors and GitHub tell whoever asks."""
    operator = {"Authorization": f"Bearer {stage.server.api_token}"}
    from urllib.request import Request, urlopen

    found = [("the check run", json.dumps(check).encode())]
    token = stage.installation_token()
    notes = f"repos/{OWNER}/spills/check-runs/{check['id']}/annotations"
    found.append(("annotations", json.dumps(stage.github.get(notes, token)).encode()))
    for path in ("", "/events", "/log", "/outputs"):
        url = f"{stage.server.url}/api/v1/runs/{run_id}{path}"
        with urlopen(Request(url, headers=operator), timeout=60) as answer:
            found.append((url, answer.read()))
    release = published_release(stage, "spills")
    assets = release["assets"] if release else []
    return [*found, *((a["name"], asset_bytes(stage, "spills", a)) for a in assets)]


MIB = 1 << 20


@pytest.mark.case("A7")
@pytest.mark.slow
def test_a7_a_flood_of_output_leaves_the_server_small_and_a_mark_where_it_was_cut(
    tmp_path: Path,
) -> None:
    with light_stage(tmp_path, CYNTHUS_LOG_LIMIT_BYTES=str(16 * MIB)) as stage:
        assert stage.server.program is not None
        server = psutil.Process(stage.server.program.process.pid)
        stage.end(stage.submit("echo warm"))
        before = server.memory_info().rss
        long_line = "head -c 100000000 /dev/zero | tr '\\0' x; echo"
        run_id = stage.submit(f"{long_line}; seq 1 1000000; printf '\\033[31m\\000\\377 end\\n'")
        peak = before
        for event in stage.client.follow(run_id):
            peak = max(peak, server.memory_info().rss)
            if event.kind == "state" and event.body.get("state") == "finished":
                break
        assert stage.client.get(run_id).outcome == "succeeded"
        assert peak - before < 96 * MIB, f"{before / MIB:.0f} → {peak / MIB:.0f} MiB"
        log = stage.log(run_id)
        assert len(log.encode()) < 17 * MIB
        notices = [e.body["text"] for e in stage.client.events(run_id) if e.kind == "notice"]
        assert any("log limit" in text and "left out" in text for text in notices), notices
