"""How two runs differ."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from cynthus.spec import DataSource, GpuNeed, Resources
from tests.builders import NOON, a_kept, a_run, a_spec, an_attempt, an_offer
from webhook_server.runs.compare import METRICS, Side, comparison, difference, packages, took
from webhook_server.runs.model import Origin, Outcome, Run, State


def a_side(number: int = 1, **changes: object) -> Side:
    metrics = changes.pop("metrics", {})
    lock = changes.pop("lock", None)
    given: dict[str, object] = {
        "number": number,
        "outcome": Outcome.SUCCEEDED,
        "cost_usd": Decimal("0.40"),
        "attempts": (an_attempt(started_at=NOON, ended_at=NOON + timedelta(minutes=10)),),
    }
    run = a_run(State.FINISHED, **(given | changes))
    return Side(run=run, metrics=metrics, lock=lock)  # type: ignore[arg-type]


def rows(text: str) -> dict[str, list[str]]:
    found = (line.strip("| ").split(" | ") for line in text.splitlines() if line[:1] == "|")
    return {cells[0]: cells[1:] for cells in found}


def test_results_come_first_with_what_changed_and_by_how_much() -> None:
    left = a_side(3, metrics={"accuracy": 0.9, "loss": 0.5, "old": 1.0})
    right = a_side(
        4,
        metrics={"accuracy": 0.91, "loss": 0.5, "new": 2.0},
        cost_usd=Decimal("0.30"),
        attempts=(
            an_attempt(1, lost=True, started_at=NOON, ended_at=NOON + timedelta(minutes=2)),
            an_attempt(2, started_at=NOON, ended_at=NOON + timedelta(minutes=6)),
        ),
    )
    text = comparison(left, right)
    assert text.startswith("| | digits \\#3 | digits \\#4 | difference |")
    found = rows(text)
    assert found["accuracy"] == ["0.9", "0.91", "+0.01 (+1.11 %)"]
    assert found["loss"] == ["0.5", "0.5", "="]
    assert found["old"][:2] == ["1", "—"]
    assert found["time"] == ["10m00s", "8m00s", "-2m00s (-20 %)"]
    assert found["cost"] == ["$0.40", "$0.30", "-$0.10 (-25 %)"]
    assert found["attempts"] == ["1", "2", "+1"]
    assert found["outcome"] == ["succeeded", "succeeded", "="]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (0.3, 0.1, "-0.2 (-66.7 %)"),
        (0.0, 0.1, "+0.1"),
        (-2.0, -1.0, "+1 (+50 %)"),
        (1.0, 1.0, "="),
        (None, 1.0, ""),
        (1.0, float("nan"), ""),
        (float("inf"), 1.0, ""),
        (1e-308, 1e308, "+1e+308 (…)"),
    ],
)
def test_a_difference_is_told_in_digits_and_percent(
    before: float | None, after: float, said: str
) -> None:
    assert difference(before, after) == said


def test_what_the_runs_were_made_of_is_folded_and_holds_differences_only() -> None:
    left = a_side(
        1,
        spec=a_spec(
            resources=Resources(gpu=(GpuNeed("l4"),)),
            env=(("LR", "1e-3"), ("SEED", "1")),
            data=(DataSource(name="train", source="hf://datasets/a/b@main", mount="/data/train"),),
        ),
        environment=a_kept(python="3.11"),
        lock="torch==2.7.0 \\\n    --hash=sha256:00\nnumpy==2.0\n",
        attempts=(an_attempt(offer=an_offer(driver="580.1", place="us-central1-a")),),
    )
    right = a_side(
        2,
        spec=a_spec(
            resources=Resources(gpu=(GpuNeed("a100"),)),
            env=(("LR", "1e-4"), ("SEED", "1")),
            data=(DataSource(name="train", source="hf://datasets/a/b@v2", mount="/data/train"),),
        ),
        origin=Origin(overrides=(("resources.gpu", "a100"),)),
        environment=a_kept(python="3.12"),
        lock="torch==2.7.1 --hash=sha256:00\nnumpy==2.0\nsafetensors==0.5\n",
        attempts=(an_attempt(offer=an_offer(driver="580.2", place="us-central1-a")),),
    )
    found = rows(comparison(left, right))
    assert found["resources/gpu"] == ["l4 1", "a100 1"]
    assert found["override resources.gpu"] == ["—", "a100"]
    assert found["env/LR"] == ["set", "set otherwise"]
    assert found["train"][1].startswith("hf:")
    assert found["python"] == ["3.11", "3.12"]
    assert found["torch"] == ["2.7.0", "2.7.1"]
    assert found["safetensors"] == ["—", "0.5"]
    assert found["driver"] == ["580.1", "580.2"]
    assert not {"numpy", "env/SEED", "place", "image"} & found.keys()


def test_values_of_variables_are_never_shown() -> None:
    left = a_side(1, spec=a_spec(env=(("TOKEN", "hunter2"),)))
    right = a_side(2, spec=a_spec(env=(("TOKEN", "hunter3"),)))
    assert "hunter" not in comparison(left, right)


def test_equal_runs_have_no_folded_part() -> None:
    assert "<details>" not in comparison(a_side(1), a_side(2))


def test_of_packages_that_are_not_known_nothing_is_said() -> None:
    text = comparison(a_side(1, lock="numpy==1.0\n"), a_side(2, lock=None))
    assert "Packages" not in text


def test_a_lock_is_read_as_pip_and_uv_write_it() -> None:
    lock = (
        "# made by uv\n--index-url https://pypi.org/simple\n"
        "Ruamel.YAML==0.18 \\\n    --hash=sha256:aa\n"
        'numpy==1.26 ; python_version < "3.10" \\\nnumpy==2.0 ; python_version >= "3.10" \\\n'
        "torch[extra]==2.7.0+cu128 --hash=sha256:bb\n"
        "own @ https://host.test/own-1.whl --hash=sha256:cc\n"
    )
    assert packages(lock) == {
        "ruamel-yaml": "0.18",
        "numpy": "1.26, 2.0",
        "torch": "2.7.0+cu128",
        "own": "https://host.test/own-1.whl",
    }


def test_names_from_outside_do_nothing() -> None:
    evil = "a|b\n/cynthus run @ada <img src=x> [x](http://evil.test)"
    left = a_side(1, metrics={evil: 1.0}, release_url="javascript:alert(1)")
    right = a_side(2, metrics={evil: 2.0}, release_url="https://x.test/a)b")
    text = comparison(left, right)
    assert not [line for line in text.splitlines() if line.lstrip().startswith("/cynthus")]
    assert "\\<img" in text
    assert "javascript" not in text
    assert "](https" not in text
    assert "@ada" not in text


def test_the_length_has_a_bound() -> None:
    metrics = {f"m{n:05}" + "|" * 200: float(n) for n in range(5_000)}
    lock = "".join(f"package-{n}==1.{n}\n" for n in range(5_000))
    text = comparison(a_side(1, metrics=metrics, lock=lock), a_side(2, metrics={}, lock="x==1\n"))
    assert f"… {5_000 - METRICS} more metrics." in text
    assert len(text) < 30_000


def test_the_time_is_that_of_attempts_that_ran() -> None:
    run: Run = replace(a_side().run, attempts=(an_attempt(ended_at=NOON),))
    assert took(run) is None


def test_a_lock_that_pins_one_package_a_thousand_times_is_read_at_once() -> None:
    lock = "".join(f"torch==2.{number}\n" for number in range(50_000))
    began_s = time.process_time()
    found = packages(f"{lock}Torch == 2.0\n".replace(" == ", "=="))
    assert time.process_time() - began_s < 5
    assert found["torch"].endswith(", 2.49999, 2.0")
