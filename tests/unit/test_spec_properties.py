"""What must hold of every spec and of every text, tried on many by chance."""

# ruff: noqa: E501 - lists of cases read better on one line

from __future__ import annotations

import json
import string
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st

from cynthus import grammar
from cynthus.errors import UserError
from cynthus.schema import check
from cynthus.spec import (
    Checkpoint,
    DataSource,
    GpuNeed,
    ImageSpec,
    Output,
    PullRequestTrigger,
    PushTrigger,
    Resources,
    Retry,
    Spec,
    Spot,
    Triggers,
    spec_digest,
    spec_from_json,
    spec_to_json,
)
from cynthus.specfile import parse
from tests.examples import examples
from tests.fixtures.bad_specs import CASES, MARKER, RIGHT, WHOLE

# No deadline: machines are shared. The same examples every time: a failure must repeat.
steady = settings(
    deadline=None,
    derandomize=True,
    max_examples=examples(100),
    # No shrinking: a spec has too many parts, and minutes pass.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)

TEXTS = [RIGHT + case[0].replace(MARKER, "") for case in CASES] + [
    case[0].replace(MARKER, "") for case in WHOLE
]


def outcome(text: bytes) -> Spec | UserError:
    """Parse; anything raised but a UserError fails the test."""
    try:
        return parse(text, "cynthus.yaml")
    except UserError as error:
        return error


def is_no_command(line: str) -> bool:
    return not line.lstrip().startswith("::") and "##[" not in line and line.isprintable()


@steady
@given(st.binary(max_size=300))
@example(b"\xef\xbb\xbf\xef\xbb\xbfa: b")
@example(b'"\\U00110000"')
@example(b"%YAML 99999999999.1\n---\n")
@example(b"? ? ? ?")
@example(b"- - -\n -")
def test_any_bytes_are_a_spec_or_a_user_error(text):
    outcome(text)


@steady
@given(st.text(alphabet="abn:-?[]{},&*!|>'\"%@`#~<=\\ \t\n\r\x00.0128_/éa\ufeff", max_size=120))
def test_any_text_of_yaml_signs_is_a_spec_or_a_user_error(text):
    outcome(text.encode())


@steady
@given(st.sampled_from(TEXTS), st.data())
def test_a_wrong_spec_with_one_more_slip_is_still_a_user_error(text, data):
    text = text[:3000]
    cut = data.draw(st.integers(0, len(text)))
    slip = data.draw(
        st.sampled_from(
            ["", "\n", ": ", "- ", '"', "'", "\x00", "{", "]", "\\", "é", "*", "&a ", "!!x ", "\t"]
        )
    )
    outcome(
        (text[:cut] + slip + text[cut + data.draw(st.integers(0, 3)) :]).encode(
            "utf-8", "surrogatepass"
        )
    )


@steady
@given(
    st.sampled_from(
        [
            "env: {A: %s}",
            "env:\n  %s",
            "env: {%s: x}",
            "secrets: [%s]",
            "secrets: %s",
            "env: [%s]",
            "env: %s",
            "secrets: {A: %s}",
            "env: {A: [%s]}",
            "env: {A: &%s x}",
            "env: {A: *%s}",
            "env: {A: !%s x}",
            "env: {A: !%s!b x}",
            'env: {A: "%s\\0"}',
            "env: {A: '%s",
            "env: {A: x, A: %s}",
            "data: [{name: a, source: 'https://u:%s@x.org/a'}]",
            "image: {packages: ['https://u:%s@x.org/a']}",
            "env: {A: {%s: {%s: 1}}}",
            "secrets: [A, A=%s]",
            "env:\n A: 1\n B=%s",
        ]
    ),
    st.sampled_from(["", "%", "@", "`", "1_", "*", "-", "é", "=", "\x01", "\\"]),
)
def test_no_message_holds_a_value_from_env_or_secrets(line, sign):
    value = f"{sign}hunter2{sign}"
    result = outcome((RIGHT + line.replace("%s", value) + "\n").encode())
    if isinstance(result, UserError):
        assert "hunter2" not in str(result)


@pytest.mark.parametrize(
    "hostile",
    [
        "::error::x", "a\\n::error::x", "##[error]x", "x\\r\\n##[add-mask]y", "\\e[31m::stop-commands::x", " ::group::x",
        "\\u2028::error::x", "${{ secrets.X }}", "a" * 5000, "\\u202egnp.exe", "%0A::error::x", "<script>", "@everyone",
    ],
)  # fmt: skip
@pytest.mark.parametrize("line", ['"%s": x', 'name: "%s"', 'src: "/%s"', 'image: {base: "%s"}', 'labels: {"%s": "%s"}',
                                  'run: "%s"\n"%s": x', 'image: {"%s": x}', 'data: [{name: "%s", source: "%s"}]',
                                  'triggers: {pull_request: "%s"}', 'resources: {gpu: "%s", memory: "%s"}'])  # fmt: skip
def test_no_message_is_a_workflow_command_or_more_than_a_line(hostile, line):
    result = outcome((RIGHT + line.replace("%s", hostile) + "\n").encode())
    assert isinstance(result, UserError)
    for fault in result.faults:
        assert is_no_command(str(fault)), str(fault)
        assert is_no_command(fault.message)
        assert len(fault.message) < 600
    assert str(result).splitlines() == [str(fault) for fault in result.faults]


@pytest.mark.parametrize("path", ["::error::x", "a\n::error::x", "##[error]", "\x1b[31m"])
def test_a_hostile_file_name_is_no_workflow_command(path):
    with pytest.raises(UserError) as caught:
        parse(b"", path)
    assert all(is_no_command(line) for line in str(caught.value).split("\n"))


def test_every_message_of_the_table_says_what_it_should_be_what_was_found_and_what_to_do():
    for text in TEXTS:
        result = outcome(text.encode("utf-8", "surrogatepass"))
        assert isinstance(result, UserError)
        for fault in result.faults:
            assert fault.message.startswith("should "), fault
            assert ", found " in fault.message, fault
            assert fault.message.endswith("."), fault
            assert fault.message.count(". ") >= 1, fault


# --- specs by chance -----------------------------------------------------------------------

names = st.from_regex(r"\A[a-z]([a-z0-9-]{0,10}[a-z0-9])?\Z")
plain_text = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cf", "Zl", "Zp", "Cn"]),
    max_size=30,
)
parts = st.from_regex(r"\A[a-z0-9_][a-z0-9_.]{0,6}[a-z0-9]\Z").filter(
    lambda part: ".." not in part and part != ".git"
)
paths = st.lists(parts, min_size=1, max_size=3).map("/".join)
gpus = st.builds(GpuNeed, names, st.integers(1, 16))
sources = st.sampled_from(
    ["hf://datasets/a/b@main", "hf://models/bert", "kaggle://datasets/a/b@4", "kaggle://competitions/c",
     "kaggle://models/a/b/c/d@2", "gs://bucket/x/", "https://x.org/a?b=c", "https://x.org/a.tgz"]
)  # fmt: skip
patterns = st.lists(paths, max_size=2, unique=True).map(tuple)
env_names = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,8}\Z").filter(
    lambda name: name != "PATH" and not name.startswith(("LD_", "GITHUB_", "CYNTHUS_"))
)


@st.composite
def entries(draw):
    name, source = draw(names), draw(sources)
    kind = source.partition(":")[0]
    many = kind != "https"
    subset = draw(st.sampled_from([None, "en"])) if source.startswith("hf://datasets") else None
    return DataSource(
        name=name,
        source=source,
        mount=f"/data/{name}",
        sha256=None if many else "0" * 64,
        include=draw(patterns) if many and subset is None else (),
        exclude=draw(patterns) if many else (),
        subset=subset,
        unpack=draw(st.booleans()) if kind == "kaggle" or source.endswith(".tgz") else False,
    )


images = st.one_of(
    st.builds(ImageSpec, dockerfile=paths),
    st.builds(
        ImageSpec,
        base=st.sampled_from([None, "pytorch", "ghcr.io/a/b:1", "a@sha256:" + "0" * 64]),
        python=st.sampled_from([None, "3.11", "3.12.4"]),
        requirements=st.none() | paths,
        packages=st.lists(
            st.sampled_from(["torch>=2", "a[b]==1.*", "x; os_name == 'nt'"]), unique=True
        ).map(tuple),
        system=st.lists(st.sampled_from(["ffmpeg", "g++"]), unique=True).map(tuple),
    ),
)
resources = st.builds(
    Resources,
    gpu=st.lists(gpus, max_size=4, unique=True).map(tuple),
    cpu=st.none() | st.integers(1, 1024),
    memory_bytes=st.none() | st.integers(1, 10**6).map(lambda n: n * 10**6),
    disk_bytes=st.none() | st.integers(1, 1000).map(lambda n: n * 2**30),
    nodes=st.integers(1, 256),
    spot=st.sampled_from(Spot),
    provider=st.none() | names,
    places=st.lists(names, max_size=3, unique=True).map(tuple),
    max_duration=st.integers(1, 120 * 86400).map(lambda s: timedelta(seconds=s)),
    max_cost_usd=st.none() | st.decimals("0.01", "1000000", places=2).map(Decimal),
)
gates = st.builds(
    grammar.gate,
    st.from_regex(
        r"\A[a-z_]{1,5} ?(>=|<=|==|>|<) ?(-?[1-9][0-9]?(\.[0-9]{1,3})?(e-?[1-9])?"
        r"|baseline(\.[a-z][a-z/-]{0,5}[a-z])?( [-+*] [1-9]\.[0-9])?)\Z"
    ),
)
specs = st.builds(
    Spec,
    name=names,
    run=plain_text.filter(str.strip)
    | st.lists(plain_text, min_size=1, max_size=3).filter(lambda w: bool(w[0].strip())).map(tuple),
    src=paths,
    image=images,
    resources=resources,
    data=st.lists(entries(), max_size=3, unique_by=lambda entry: entry.name).map(tuple),
    env=st.dictionaries(env_names, plain_text, max_size=3).map(lambda env: tuple(env.items())),
    secrets=st.just(()) | st.just(("SECRET_0",)),
    outputs=st.lists(paths.map(Output), max_size=3, unique=True).map(tuple),
    checkpoint=st.none()
    | st.builds(Checkpoint, paths, st.integers(10, 86400).map(lambda s: timedelta(seconds=s))),
    gate=st.lists(gates, max_size=3, unique=True).map(tuple),
    retry=st.builds(
        Retry, st.integers(1, 10), st.lists(st.integers(1, 255), max_size=3, unique=True).map(tuple)
    ),
    triggers=st.builds(
        Triggers,
        push=st.builds(
            PushTrigger,
            branches=st.lists(paths, max_size=2, unique=True).map(tuple),
            paths=st.lists(paths, min_size=1, max_size=2, unique=True).map(tuple),
        ),
        pull_request=st.sampled_from(PullRequestTrigger),
    ),
    keep_warm=st.integers(0, 7 * 86400).map(lambda s: timedelta(seconds=s)),
    labels=st.dictionaries(
        st.from_regex(r"\A[a-bd-f][a-z0-9_-]{0,5}\Z"),
        st.from_regex(r"\A[a-z0-9_-]{0,5}\Z"),
        max_size=3,
    ).map(lambda labels: tuple(labels.items())),
)


@steady
@given(specs)
def test_a_spec_comes_back_from_its_normal_form(spec):
    normal = spec_to_json(spec)
    assert spec_from_json(json.loads(json.dumps(normal))) == spec


def _without_empty(value: object) -> object:
    if isinstance(value, dict):
        kept = {key: _without_empty(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if inner not in (None, [], {})}
    return [_without_empty(item) for item in value] if isinstance(value, list) else value


def _written(spec: Spec) -> dict[str, object]:
    """Return the file that means a spec: the normal form in the file's own units."""
    file = spec_to_json(spec)
    needs = file["resources"]
    needs["memory"] = _size(needs.pop("memory_bytes"))
    needs["disk"] = _size(needs.pop("disk_bytes"))
    needs["max_duration"] = f"{needs.pop('max_duration_s')}s"
    cost = needs.pop("max_cost_usd")
    needs["max_cost"] = Decimal(cost) if cost else None
    needs["spot"] = {"never": False, "always": True, "prefer": "prefer"}[needs["spot"]]
    file["gate"] = [gate.text for gate in spec.gate]
    if file["checkpoint"]:
        file["checkpoint"]["every"] = f"{file['checkpoint'].pop('every_s')}s"
    file["keep_warm"] = f"{file.pop('keep_warm_s')}s"
    kept = _without_empty(file)
    assert isinstance(kept, dict)
    if spec.env:
        kept["env"] = dict(spec.env)  # an empty text is a value here
    return kept


def _size(count: int | None) -> str | None:
    if count is None:
        return None
    return f"{count // 2**30}GiB" if count % 2**30 == 0 else f"{count // 10**6}MB"


@steady
@given(specs)
def test_a_written_spec_is_read_back_the_same_and_the_schema_takes_it(spec):
    file = _written(spec)
    if isinstance(spec.run, tuple):
        file["run"] = list(spec.run)
    text = json.dumps(file, default=str)
    cost = file.get("resources", {}).get("max_cost")  # type: ignore[attr-defined]
    if cost is not None:  # an exact number, which json.dumps cannot write
        text = text.replace(f'"max_cost": "{cost}"', f'"max_cost": {cost}')
    assert parse(text.encode(), "f") == spec
    assert check("cynthus", json.loads(text)) == []


@steady
@given(st.integers(0, 119), st.integers(0, 500), st.integers(0, 500), st.integers(0, 5000))
def test_durations_add_up(days, hours, minutes, seconds):
    length = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    assume(timedelta(0) < length <= grammar.LONGEST_DURATION)
    text = f"{days}d{hours}h{minutes}m{seconds}s"
    assert grammar.duration(text, grammar.LONGEST_DURATION) == length


@steady
@given(st.text(max_size=40))
def test_whatever_a_path_is_it_stays_inside(text):
    try:
        found = grammar.path(text)
    except grammar.Wrong:
        return
    assert not found.startswith(("/", "-", "~"))
    assert ".." not in found.split("/")
    assert ".git" not in found.lower().split("/")
    assert grammar.path(found) == found


def test_a_digest_is_of_the_exact_bytes():
    assert spec_digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert spec_digest(b"a: b\n") != spec_digest(b"a: b\r\n")


def _broken_normal_forms():
    whole = spec_to_json(parse(RIGHT.encode(), "f"))
    for key in whole:
        yield f"without {key}", {k: v for k, v in whole.items() if k != key}
        for wrong in (None, 3.5, True, {"x": 1}, [1], -1, 2**70):
            if whole[key] is None and wrong is None:
                continue
            yield f"{key} is {wrong}", {**whole, key: wrong}
    for cost in ("NaN", "Infinity", "-1", "0", "x", 5):
        yield f"cost {cost}", {**whole, "resources": {**whole["resources"], "max_cost_usd": cost}}
    for seconds in (2**53, 10**12, -1, "3", 1.0):
        yield f"seconds {seconds}", {**whole, "keep_warm_s": seconds}
    yield "spot", {**whole, "resources": {**whole["resources"], "spot": "maybe"}}
    yield "list", [whole]


@pytest.mark.parametrize(
    "value", [pytest.param(value, id=name) for name, value in _broken_normal_forms()]
)
def test_what_is_no_normal_form_is_a_user_error(value):
    with pytest.raises(UserError, match="should be"):
        spec_from_json(value)


def test_letters_of_names_are_ascii():
    for char in map(chr, range(0x80, 0x3000)):
        for read in (
            grammar.run_name,
            grammar.data_name,
            grammar.env_name,
            grammar.label_key,
            grammar.gpu,
        ):
            with pytest.raises(grammar.Wrong):
                read("a" + char)
    assert grammar.run_name(string.ascii_lowercase)
