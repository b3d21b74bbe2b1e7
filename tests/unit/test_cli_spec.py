"""The command line's validate, show and init, as their users meet them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cynthus.cli import SUBCOMMANDS
from cynthus.cli_init import TEMPLATES, answers_for
from cynthus.example import SHOWN, WORKFLOW, Answers, commented
from cynthus.folder import look_at
from cynthus.schema import check
from cynthus.spec import spec_from_json, spec_to_json
from cynthus.specfile import parse
from docs.generate import SPEC_PAGE, spec_page

ROOT = Path(__file__).parent.parent.parent
GOOD = "version: 1\nname: digits\nrun: python train.py\n"
BAD = "version: 1\nname: Digits\nrun: x\nenv: {A: hunter2, B: 1}\ngpu: l4\n"


def cynthus(
    *words: str, cwd: Path, stdin: bytes = b"", **env: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "cynthus", *words],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        check=False,
        timeout=60,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    return tmp_path


def test_a_good_file_ends_with_0_and_a_bad_one_with_2(folder):
    assert cynthus("validate", "good.yaml", cwd=folder).returncode == 0
    done = cynthus("validate", "good.yaml", "bad.yaml", cwd=folder)
    assert done.returncode == 2
    assert [line.split(": ")[0] for line in done.stderr.splitlines()[:-1]] == [
        "bad.yaml:2:7",
        "bad.yaml:4:22",
        "bad.yaml:5:1",
    ]
    assert done.stderr.endswith("3 faults found.\n")
    assert "hunter2" not in done.stderr + done.stdout


def test_standard_input_is_a_file_too(folder):
    assert cynthus("validate", "-", cwd=folder, stdin=GOOD.encode()).returncode == 0
    done = cynthus("validate", "-", cwd=folder, stdin=b"version: 1\n")
    assert done.returncode == 2
    assert done.stderr.startswith("standard input:1:1: name: should be present")


def test_annotations_are_escaped_as_github_reads_them(tmp_path):
    (tmp_path / "a,b%:c.yaml").write_text('version: 1\nname: "100%\\n::x"\nrun: x\n')
    done = cynthus("validate", "--format", "github", "a,b%:c.yaml", cwd=tmp_path)
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("::error file=a%2Cb%25%3Ac.yaml,line=2,col=7,title=cynthus::name: ")
    assert '"100%25\\n::x"' in lines[0]


def test_faults_come_as_json_for_programs(folder):
    done = cynthus("validate", "--format", "json", "bad.yaml", cwd=folder)
    rows = json.loads(done.stdout)
    assert [row["line"] for row in rows] == [2, 4, 5]
    assert set(rows[0]) == {"path", "line", "column", "where", "message"}
    assert json.loads(cynthus("validate", "--format", "json", "good.yaml", cwd=folder).stdout) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [("gone.yaml", "no such file"), (".", "is a directory")],
)
def test_what_cannot_be_read_is_the_users_input(folder, name, words):
    done = cynthus("validate", name, cwd=folder)
    assert (done.returncode, words in done.stderr) == (2, True)


def test_show_prints_the_normal_form(folder):
    done = cynthus("show", "--json", "good.yaml", cwd=folder)
    assert done.returncode == 0
    assert spec_from_json(json.loads(done.stdout)) == parse(GOOD.encode(), "f")
    plain = cynthus("show", "good.yaml", cwd=folder)
    assert 'run = "python train.py"' in plain.stdout.splitlines()
    assert "resources/max_duration_s = 86400" in plain.stdout.splitlines()
    assert cynthus("show", "bad.yaml", cwd=folder).returncode == 2


def test_show_prints_no_workflow_command(tmp_path):
    text = GOOD + 'env: {A: "\\n::error::x ##[error]y"}\n'
    for words in (("show", "-"), ("show", "--json", "-")):
        out = cynthus(*words, cwd=tmp_path, stdin=text.encode()).stdout
        assert "##[" not in out
        assert not [line for line in out.splitlines() if line.lstrip().startswith("::")]
    assert json.loads(out)["env"] == {"A": "\n::error::x ##[error]y"}


def test_help_names_every_subcommand_and_wrong_words_end_with_2(tmp_path):
    done = cynthus("--help", cwd=tmp_path)
    assert done.returncode == 0
    for name, (_, line) in SUBCOMMANDS.items():
        assert re.search(rf"^\s+{name}\s", done.stdout, re.MULTILINE)
        assert line.split(",")[0][:30] in done.stdout
    assert cynthus("bogus", cwd=tmp_path).returncode == 2
    assert cynthus(cwd=tmp_path).returncode == 2
    assert cynthus("validate", cwd=tmp_path).returncode == 2
    assert cynthus("--version", cwd=tmp_path).stdout.startswith("cynthus ")


def test_a_narrow_encoding_does_not_stop_the_messages(tmp_path):
    done = cynthus(
        "validate", "-", cwd=tmp_path, stdin="name: 'é'\n".encode(), PYTHONIOENCODING="ascii"
    )
    assert done.returncode == 2
    assert "\\xe9" in done.stderr


def test_our_own_failure_is_one_line_with_where_to_report_and_a_traceback_on_debug(tmp_path):
    code = (
        "import sys; from cynthus import cli; from cynthus.__main__ import main;"
        "cli.SUBCOMMANDS['status'] = ('cynthus.not_there', 'x'); sys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", code, "status"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "--debug" in done.stderr
    assert "/issues" in done.stderr
    done = subprocess.run(
        [*words, "--debug"], capture_output=True, text=True, env=env, cwd=tmp_path, check=False
    )
    assert "Traceback" in done.stderr


def test_validate_loads_nothing_heavy(folder):
    code = "import sys; from cynthus.__main__ import main; main(sys.argv[1:]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "validate", "good.yaml"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    loaded = set(done.stdout.split())
    assert not loaded & {
        "jsonschema",
        "referencing",
        "ipaddress",
        "asyncio",
        "ssl",
        "http.client",
        "difflib",
    }


# --- init ----------------------------------------------------------------------------------


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_init_writes_validates_for_every_template(template, tmp_path):
    text = commented(answers_for(look_at(tmp_path), template))
    parse(text.encode(), "f")
    assert check("cynthus", yaml.safe_load(text)) == []


@pytest.mark.parametrize(
    "name", ["123", "My Project!", "no", "é", "-", "a" * 80, "yes", "C++", "x_y"]
)
def test_any_folder_name_becomes_a_name(name, tmp_path):
    (tmp_path / name).mkdir()
    parse(commented(answers_for(look_at(tmp_path / name), "plain")).encode(), "f")


def test_init_fits_the_folder(tmp_path):
    here = tmp_path / "Bert Tuning"
    (here / "src").mkdir(parents=True)
    (here / ".git").mkdir()
    (here / "results").mkdir()
    (here / "checkpoints").mkdir()
    (here / "src" / "model.py").write_text("from torch import nn\n")
    (here / "train.py").write_text("import sklearn, os\n")
    (here / "broken.py").write_text("def (")
    (here / "requirements.txt").write_text("torch\n")
    done = cynthus("init", cwd=here)
    assert done.returncode == 0, done.stderr
    spec = parse((here / "cynthus.yaml").read_bytes(), "f")
    assert spec.name == "bert-tuning"
    assert spec.run == "python train.py"
    assert spec.image.base == "pytorch"
    assert spec.image.requirements == "requirements.txt"
    assert spec.resources.gpu[0].type == "l4"
    assert spec.outputs[0].path == "results"
    assert spec.checkpoint is not None


def test_init_overwrites_only_when_told(tmp_path):
    (tmp_path / "cynthus.yaml").write_text("mine")
    done = cynthus("init", "--workflow", cwd=tmp_path)
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert (tmp_path / "cynthus.yaml").read_text() == "mine"
    assert not (tmp_path / ".github").exists()
    assert cynthus("init", "--force", "--template", "sklearn", cwd=tmp_path).returncode == 0
    assert parse((tmp_path / "cynthus.yaml").read_bytes(), "f").resources.gpu == ()


def test_init_writes_the_workflow_at_the_repositorys_root(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "sub").mkdir()
    done = cynthus("init", "--workflow", cwd=tmp_path / "sub")
    assert done.returncode == 0
    assert "working-directory" in done.stdout
    assert (tmp_path / ".github/workflows/cynthus.yml").read_text() == WORKFLOW


def test_the_examples_carry_the_same_workflow():
    found = sorted(ROOT.glob("examples/*/.github/workflows/cynthus.yml"))
    assert all(path.read_text() == WORKFLOW for path in found), found


def test_commented_values_are_quoted_where_yaml_needs_it():
    for word in ("no", "a: b", "#x", "3", "'", "a\nb", "- x", "ü", "", "*x", "~"):
        text = commented(Answers(name="a", command=word or "x", base="python"))
        assert parse(text.encode(), "f").run == (word or "x")


# --- docs ----------------------------------------------------------------------------------


def test_the_committed_reference_page_is_the_generated_one():
    assert SPEC_PAGE.read_text("utf-8") == spec_page(), "run `make docs`"


def test_the_example_of_the_docs_validates_and_uses_every_section_it_shows():
    spec = parse(commented(SHOWN).encode(), "f")
    assert spec_to_json(spec)["checkpoint"] == {"path": "checkpoints", "every_s": 300}


def test_what_the_example_leaves_as_comments_is_right_too():
    lines = commented(SHOWN).splitlines()
    text = "\n".join(
        re.sub(r"^( *)# (?=[a-z_]+:|  )", r"\1", line) for line in lines if "dockerfile" not in line
    )
    file = yaml.safe_load(text.replace("OWNER/NAME", "acme/demo"))
    assert {"data", "env", "secrets", "retry", "triggers", "keep_warm", "labels"} <= set(file)
    assert check("cynthus", file) == []


@pytest.mark.parametrize(
    "words", [(), ("r1", "--all"), ("r1", "--repository-id", "7"), ("--repository-id", "7")]
)
def test_cancel_ends_one_run_or_says_all(words: tuple[str, ...], tmp_path: Path) -> None:
    done = cynthus("cancel", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert "should name one run, or --all" in done.stderr
