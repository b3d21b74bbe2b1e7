"""Whatever changes the environment changes the build plan's key, and nothing else does."""

from __future__ import annotations

import dataclasses

import pytest

from action import plan
from action.packages.requirements import Requirements
from action.plan import BaseFacts, BuildPlan, Interpreter, Origin
from cynthus.spec import ImageSpec, Spec

BOOKWORM = Interpreter(version="3.11", machine="x86_64", libc=(2, 36))
BASE = BaseFacts(
    reference="docker.io/library/python:3.11-slim", image_id="sha256:1", interpreter=BOOKWORM
)
PINNED = Requirements(lines=("six==1.16.0",), source="requirements.txt")
OPEN = Requirements(lines=("six>=1",), source="requirements.txt")


def a_spec(**image: object) -> Spec:
    return Spec(name="tiny", run="python main.py", image=ImageSpec(**image))  # type: ignore[arg-type]


def a_plan(
    spec: Spec | None = None,
    base: BaseFacts = BASE,
    requirements: Requirements = PINNED,
    as_of: str = "2026-01-31",
) -> BuildPlan:
    return plan.build_plan(spec or a_spec(), base, requirements, Origin(), as_of=as_of)


# ── the key ─────────────────────────────────────────────────────────────────────────────────────

OTHERS = [
    a_plan(base=dataclasses.replace(BASE, image_id="sha256:2")),
    a_plan(requirements=Requirements(lines=("six==1.17.0",))),
    a_plan(requirements=Requirements()),
    a_plan(a_spec(system=("ffmpeg",))),
]


@pytest.mark.parametrize("other", OTHERS)
def test_whatever_changes_the_environment_changes_its_key(other: BuildPlan) -> None:
    assert other.environment_key != a_plan().environment_key


def test_keys_differ_from_each_other() -> None:
    assert len({p.environment_key for p in OTHERS}) == len(OTHERS)


def test_what_only_the_run_knows_leaves_the_key_alone() -> None:
    spec = dataclasses.replace(a_spec(), name="other", run="true", src="sub")
    assert a_plan(spec).environment_key == a_plan().environment_key


@pytest.mark.parametrize(("requirements", "changes"), [(PINNED, False), (OPEN, True)])
def test_a_new_day_matters_only_to_packages_that_are_not_pinned(
    requirements: Requirements, changes: bool
) -> None:
    today = a_plan(requirements=requirements)
    tomorrow = a_plan(requirements=requirements, as_of="2026-02-01")
    assert (today.environment_key != tomorrow.environment_key) is changes


@pytest.mark.parametrize(
    ("line", "pinned"),
    [
        ("six==1.16.0", True),
        ("six===1.16.0", True),
        ("six == 1.16.0 ; python_version < '4'", True),
        ("six==1.16.0 --hash=sha256:" + "a" * 64, True),
        ("six", False),
        ("six>=1", False),
        ("six==1.*", False),
        ("six; python_version == '3.11'", False),
    ],
)
def test_a_line_is_pinned_when_it_names_one_version(line: str, pinned: bool) -> None:
    assert Requirements(lines=(line,)).pinned is pinned


# ── Dockerfiles ─────────────────────────────────────────────────────────────────────────────────


def test_no_dockerfile_of_ours_needs_more_than_plain_buildkit() -> None:
    made = a_plan(a_spec(system=("ffmpeg",)))
    for text in (made.system_dockerfile, made.environment_dockerfile, made.run_dockerfile):
        assert text is not None
        assert "<<" not in text
        assert "syntax=" not in text


def test_system_packages_come_first_in_an_image_of_their_own() -> None:
    made = a_plan(a_spec(system=("ffmpeg", "libgl1")))
    assert made.system_dockerfile is not None
    assert "apt-get install -y --no-install-recommends ffmpeg libgl1 &&" in made.system_dockerfile
    assert str(made.environment_dockerfile).startswith(f"FROM {made.system_tag}\n")


def test_a_base_that_has_the_system_packages_gets_no_second_helping() -> None:
    base = dataclasses.replace(BASE, system_done=True)
    assert a_plan(a_spec(system=("ffmpeg",)), base).system_dockerfile is None


def test_the_run_image_runs_nothing_and_ends_as_the_workload_user() -> None:
    lines = a_plan().run_dockerfile.splitlines()
    assert not [line for line in lines if line.startswith("RUN")]
    assert lines[-1] == "USER 1000:1000"
    assert "COPY --chown=1000:1000 . /workspace/" in lines


def test_labels_say_where_an_image_comes_from() -> None:
    origin = Origin(
        source_url="https://github.com/acme/train",
        commit_sha="a" * 40,
        spec_sha256="b" * 64,
    )
    base = dataclasses.replace(BASE, digest="sha256:3")
    made = plan.build_plan(a_spec(), base, PINNED, origin, as_of="")
    assert dict(made.labels) == {
        "org.opencontainers.image.source": "https://github.com/acme/train",
        "org.opencontainers.image.revision": "a" * 40,
        "org.opencontainers.image.base.name": BASE.reference,
        "org.opencontainers.image.base.digest": "sha256:3",
        "dev.cynthus.environment": made.environment_key,
        "dev.cynthus.spec.sha256": "b" * 64,
    }


def test_docker_gets_the_network_it_is_told_and_the_context_last() -> None:
    more = plan.label_words((("a", "b=c"),))
    words = plan.build_words(dockerfile="/d", context="/c", tag="t:1", network="none", more=more)
    assert words == (
        *("build", "--progress", "plain", "--network", "none", "--file", "/d"),
        *("--tag", "t:1", "--label", "a=b=c", "/c"),
    )


# ── wheels ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("builder", "image", "same"),
    [
        (("3.11", "x86_64", (2, 36)), ("3.11", "x86_64", (2, 36)), True),
        (("3.11", "x86_64", (2, 31)), ("3.11", "x86_64", (2, 36)), True),
        (("3.11", "x86_64", (2, 39)), ("3.11", "x86_64", (2, 36)), False),  # ubuntu-24.04's runner
        (("3.12", "x86_64", (2, 36)), ("3.11", "x86_64", (2, 36)), False),
        (("3.11", "aarch64", (2, 36)), ("3.11", "x86_64", (2, 36)), False),
        (("3.11", "x86_64", (2, 36)), ("3.11", "x86_64", None), False),  # Alpine
    ],
)
def test_only_a_builder_that_is_like_the_image_or_older_may_compile_for_it(
    builder: tuple[str, str, tuple[int, int]],
    image: tuple[str, str, tuple[int, int] | None],
    same: bool,
) -> None:
    one = Interpreter(version=builder[0], machine=builder[1], libc=builder[2])
    other = Interpreter(version=image[0], machine=image[1], libc=image[2])
    assert plan.same_wheels(one, other) is same
    words = plan.wheel_words(one, other, target="/w", wishes=("-r", "x"))
    assert words[0] == ("wheel" if same else "download")
    assert words[-2:] == ("-r", "x")
    never = plan.wheel_words(one, other, target="/w", wishes=("-r", "x"), sources=False)
    assert never[0] == "download"
    assert "--only-binary=:all:" in never


def test_wheels_for_another_python_are_binary_and_fit_the_image_and_not_the_builder() -> None:
    builder = Interpreter(version="3.12", machine="x86_64", libc=(2, 39))
    words = plan.wheel_words(builder, BOOKWORM, target="/w", wishes=())
    assert "--only-binary=:all:" in words
    assert words[words.index("--python-version") + 1] == "3.11"
    platforms = [words[at + 1] for at, word in enumerate(words) if word == "--platform"]
    assert platforms[0] == "manylinux_2_36_x86_64"
    assert "manylinux_2_39_x86_64" not in platforms
    assert "manylinux_2_28_x86_64" in platforms
    assert platforms[-2:] == ["manylinux2014_x86_64", "linux_x86_64"]


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (("pandas",), {"torch": "2.6.0+cu124", "my-pkg": "1"}),
        (("torch",), {"torch": "2.6.0+cu124", "my-pkg": "1"}),  # any version: the base's
        (("torch==2.6.0", "My.Pkg>=1; x"), {"torch": "2.6.0+cu124", "my-pkg": "1"}),  # the same
        (("torch==2.7.0", "My.Pkg>1"), {}),  # a version of the user's own replaces the base's
        (("torch[opt]>=2",), {"my-pkg": "1"}),
    ],
)
def test_packages_of_the_base_stay_unless_the_user_names_a_version(
    lines: tuple[str, ...], kept: dict[str, str]
) -> None:
    base = (("torch", "2.6.0+cu124"), ("My_Pkg", "1"), ("pip", "24.0"))
    assert plan.kept_versions(base, Requirements(lines=lines)) == kept
