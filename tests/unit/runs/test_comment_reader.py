"""What the lines of a comment ask for."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cynthus import grammar
from cynthus.repository_policy import Verb
from tests.examples import examples
from tests.stopwatch import least_processor_s
from webhook_server.runs.ask_axes import MOST_VALUES
from webhook_server.runs.ask_grammar import FORMS, LONGEST_ASK, read_ask
from webhook_server.runs.asks import (
    Ask,
    AskApprove,
    AskCancel,
    AskCompare,
    AskDestroy,
    AskExtend,
    AskHelp,
    AskLogs,
    AskPlan,
    AskReproduce,
    AskRetry,
    AskRun,
    AskStatus,
    AskSweep,
    AskWhy,
    Misread,
)
from webhook_server.runs.comment_reader import LONGEST_KEPT, MOST_ASKS, asks_of, written

SHA = "6dcb09b5b57875f334f61aebed695e2e4193db5e"
steady = settings(
    deadline=None,
    derandomize=True,
    max_examples=examples(300),
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)

READ: list[tuple[str, Ask]] = [
    ("", AskHelp()),
    ("help", AskHelp()),
    ("destroy", AskDestroy()),
    ("run", AskRun()),
    ("run digits", AskRun(names=("digits",))),
    (
        "run digits 6DCB09B gpu=l4",
        AskRun(names=("digits",), sha="6dcb09b", overrides=(("gpu", "l4"),)),
    ),
    (
        'run max_cost=5 env.LR=1e-3 NOTE="two words"',
        AskRun(overrides=(("max_cost", "5"), ("env.LR", "1e-3"), ("NOTE", "two words"))),
    ),
    ("run a=b=c resources/gpu=l4:2", AskRun(overrides=(("a", "b=c"), ("resources/gpu", "l4:2")))),
    ("run A= B=''", AskRun(overrides=(("A", ""), ("B", "")))),
    ('run A="it\'s"\' "so"\'', AskRun(overrides=(("A", 'it\'s "so"'),))),
    ("plan digits gpu=t4", AskPlan(names=("digits",), overrides=(("gpu", "t4"),))),
    ("status", AskStatus()),
    ("status rabc123", AskStatus(target="rabc123")),
    ("why digits#3", AskWhy(target="digits#3")),
    ("cancel cynthus/digits/3", AskCancel(target="cynthus/digits/3")),
    ("logs", AskLogs()),
    ("logs digits --last 20", AskLogs(target="digits", last=20)),
    ("logs --last=20 --grep 'CUDA out' digits", AskLogs(target="digits", last=20, grep="CUDA out")),
    ('logs --grep "--last"', AskLogs(grep="--last")),
    ("logs --grep=a=b", AskLogs(grep="a=b")),
    ("retry", AskRetry()),
    ("retry --on-demand digits/2", AskRetry(target="digits/2", on_demand=True)),
    ("extend 1h30m", AskExtend(more=timedelta(minutes=90))),
    ("extend 2h digits", AskExtend(more=timedelta(hours=2), target="digits")),
    ("compare digits/1", AskCompare(left="digits/1")),
    ("compare digits/1 digits/2", AskCompare(left="digits/1", right="digits/2")),
    (f"approve {SHA}", AskApprove(sha=SHA)),
    ("reproduce digits/1", AskReproduce(target="digits/1")),
    ("sweep lr=0.1,0.01", AskSweep(axes=(("lr", ("0.1", "0.01")),))),
    (
        "sweep digits lr=1..3,10 seed=0..10..5 gpu=l4",
        AskSweep(
            name="digits",
            axes=(("lr", ("1", "2", "3", "10")), ("seed", ("0", "5", "10")), ("gpu", ("l4",))),
        ),
    ),
    ("sweep x=-2..0", AskSweep(axes=(("x", ("-2", "-1", "0")),))),
    ("sweep x='a,b',c", AskSweep(axes=(("x", ("a,b", "c")),))),
    ('sweep x="1..3",../data', AskSweep(axes=(("x", ("1..3", "../data")),))),
]


@pytest.mark.parametrize(("text", "ask"), READ, ids=[text for text, _ in READ])
def test_an_ask_is_read(text: str, ask: Ask) -> None:
    assert read_ask(f"/cynthus {text}") == ask


MISREAD: list[tuple[str, Verb | None, str]] = [
    ("ran", None, "Did you mean `/cynthus run`?"),
    ("stop", None, "Did you mean `/cynthus cancel`?"),
    ("Run", None, "Did you mean `/cynthus run`?"),
    ("frobnicate", None, "`/cynthus help` says what can."),
    ('""', None, "An empty word is nothing that can be asked for."),
    ("run --force", Verb.RUN, "` --force ` is no option of `run`."),
    ("run -rf", Verb.RUN, "is no option"),
    ("run $(rm)", Verb.RUN, "should be a spec's name"),
    ("run digits; reboot", Verb.RUN, "should be a spec's name"),
    ("run digits digits", Verb.RUN, "stands there twice"),
    ("run gpu=l4 gpu=t4", Verb.RUN, "stands there twice"),
    ("run 6dcb09b 6dcb09c", Verb.RUN, "Two words are commits"),
    ("run =l4", Verb.RUN, "An empty word should be a key"),
    ("run $x=l4", Verb.RUN, "should be a key"),
    ('run NOTE="open', None, "is open. Close it."),
    ("run NOTE=it's", None, "is open. Close it."),
    ("plan 6dcb09b", Verb.PLAN, "a plan is always of the newest one"),
    ("logs --lst 3", Verb.LOGS, "Did you mean `--last`?"),
    ("logs --last", Verb.LOGS, "`--last` takes a value"),
    ("logs --last 0", Verb.LOGS, "a whole number from 1"),
    ("logs --last 3 --last 4", Verb.LOGS, "stands there twice"),
    ("logs --last 99999", Verb.LOGS, "a whole number from 1"),
    ("logs --grep ''", Verb.LOGS, "1 to 200 characters"),
    ("retry --on-demand=yes", Verb.RETRY, "takes no value"),
    ("retry --on_demand", Verb.RETRY, "Did you mean `--on-demand`?"),
    ("status a b", Verb.STATUS, "is too much"),
    ("status ../x", Verb.STATUS, "should be a run"),
    ("cancel name=x", Verb.CANCEL, "should be a run"),
    ("cancel digits/0", Verb.CANCEL, "should be a run"),
    ("extend", Verb.EXTEND, "is missing"),
    ("extend soon", Verb.EXTEND, "a length of time"),
    ("extend 90", Verb.EXTEND, "Write `90m` for minutes"),
    ("extend 1000d", Verb.EXTEND, "at most 120d"),
    ("compare", Verb.COMPARE, "is missing"),
    ("approve", Verb.APPROVE, "The commit that is approved is missing."),
    ("approve main", Verb.APPROVE, "7 to 40 hex digits"),
    ("approve 123456", Verb.APPROVE, "7 to 40 hex digits"),
    (f"approve {SHA}0", Verb.APPROVE, "7 to 40 hex digits"),
    ("reproduce", Verb.REPRODUCE, "is missing"),
    ("destroy everything", Verb.DESTROY, "is too much"),
    ("help me", Verb.HELP, "is too much"),
    ("sweep", Verb.SWEEP, "What to sweep over is missing"),
    ("sweep digits", Verb.SWEEP, "What to sweep over is missing"),
    ("sweep a b lr=1", Verb.SWEEP, "of one spec"),
    ("sweep lr=", Verb.SWEEP, "A value is missing"),
    ("sweep lr=1,,2", Verb.SWEEP, "A value is missing"),
    ("sweep lr=1,1", Verb.SWEEP, "stands there twice"),
    ("sweep lr=0.1..0.5", Verb.SWEEP, "a range of whole numbers"),
    ("sweep lr=1..x", Verb.SWEEP, "a range of whole numbers"),
    ("sweep lr=1..5..0", Verb.SWEEP, "a range of whole numbers"),
    ("sweep lr=5..1", Verb.SWEEP, "1 to 256 numbers, found 0"),
    ("sweep lr=1..999999999", Verb.SWEEP, "found 999999999"),
    ("sweep a=1..200,201..400", Verb.SWEEP, "more than 256 values"),
    ("sweep a=1..20 b=1..20", Verb.SWEEP, "These are 400 runs"),
    ("run\u200b", None, "U+200B"),
    ("run A=\u00a0", None, "U+00A0"),
    ("run A=\u202e", None, "U+202E"),
    ("run A=\x1b[31m", None, "U+001B"),
    ("run A=" + "x" * LONGEST_ASK, None, f"longer than {LONGEST_ASK} characters"),
]


@pytest.mark.case("C9")
@pytest.mark.parametrize(("text", "verb", "words"), MISREAD, ids=[m[0][:40] for m in MISREAD])
def test_c9_what_is_no_ask_is_told_with_what_to_write(
    text: str, verb: Verb | None, words: str
) -> None:
    found = read_ask(f"/cynthus {text}")
    assert isinstance(found, Misread)
    assert words in found.text
    assert found.verb is verb


def test_what_strangers_wrote_is_harmless_where_it_is_told() -> None:
    found = read_ask("/cynthus <!--@ada`x`")
    assert isinstance(found, Misread)
    assert "`` <!--@ada`x` ``" in found.text
    assert asks_of(found.text) == ()


def test_every_verb_has_a_form_that_names_it() -> None:
    assert list(FORMS) == list(Verb)
    assert all(form.startswith(f"/cynthus {verb}") for verb, form in FORMS.items())


def test_the_lines_of_a_comment_keep_their_order_and_their_words() -> None:
    lines = asks_of("Please:\n  /cynthus cancel digits  \n```\n/cynthus run\n```\n/cynthus stat\n")
    assert [(line.number, line.written) for line in lines] == [
        (0, "/cynthus cancel digits"),
        (1, "/cynthus stat"),
    ]
    assert lines[0].ask == AskCancel(target="digits")
    assert isinstance(lines[1].ask, Misread)


@pytest.mark.case("C8")
def test_c8_of_200_lines_ten_count_and_one_may_start_runs() -> None:
    lines = asks_of("/cynthus run\n" * 100 + "/cynthus sweep lr=1,2\n" * 100)
    assert len(lines) == MOST_ASKS + 1
    assert isinstance(lines[-1].ask, Misread)
    assert "Only the first 10 lines" in lines[-1].ask.text
    assert lines[0].ask == AskRun()
    assert all(isinstance(line.ask, Misread) for line in lines[1:])


def test_ten_lines_are_not_too_many() -> None:
    assert [line.ask for line in asks_of("/cynthus why\n" * 10)] == [AskWhy()] * 10


def test_what_starts_nothing_goes_along_with_what_does() -> None:
    asked = [f"approve {SHA}", "run --oops", "run", "status", "retry"]
    body = "".join(f"/cynthus {text}\n" for text in asked)
    kinds = [type(line.ask) for line in asks_of(body)]
    assert kinds == [AskApprove, Misread, AskRun, AskStatus, Misread]


def test_of_a_long_line_enough_is_kept_to_recognise_it() -> None:
    (line,) = asks_of("/cynthus run A=" + "x" * 60_000)
    assert len(line.written) == LONGEST_KEPT


def test_what_cannot_be_seen_or_stored_is_not_kept() -> None:
    (line,) = asks_of("/cynthus\trun A=\x00\ud800\u202e")
    assert line.written == "/cynthus run A=\ufffd\ufffd\ufffd"
    assert isinstance(line.ask, Misread)


# ── what holds of every ask ─────────────────────────────────────────────────────────────────────

VISIBLE = st.text(st.characters(codec="utf-8").filter(lambda sign: sign.isprintable()), max_size=12)
NAMES = st.from_regex(r"[g-z][a-z0-9]{0,6}", fullmatch=True)
SHAS = st.from_regex(r"[0-9a-f]{7,40}", fullmatch=True)
TARGETS = st.from_regex(r"(cynthus/)?[a-z][a-z0-9]{0,8}([/#][1-9][0-9]{0,3})?", fullmatch=True)
MAYBE = st.none() | TARGETS
KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_./-]{0,8}", fullmatch=True)
OVERRIDES = st.dictionaries(KEYS, VISIBLE, max_size=4).map(lambda found: tuple(found.items()))
NAMED = st.lists(NAMES, unique=True, max_size=3).map(tuple)
VALUES = VISIBLE | st.sampled_from(["1..3", "a,b", "", "it's", '"', "-1", "1..3'\"", "0.1"])
AXES = st.dictionaries(
    KEYS, st.lists(VALUES, unique=True, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3
).map(lambda found: tuple(found.items()))
DURATIONS = st.integers(1, int(grammar.LONGEST_DURATION.total_seconds())).map(
    lambda seconds: timedelta(seconds=seconds)
)
ASKS: st.SearchStrategy[Ask] = st.one_of(
    st.builds(AskRun, names=NAMED, overrides=OVERRIDES, sha=st.none() | SHAS),
    st.builds(AskPlan, names=NAMED, overrides=OVERRIDES),
    st.builds(AskStatus, target=MAYBE),
    st.builds(
        AskLogs,
        target=MAYBE,
        last=st.integers(1, 500),
        grep=st.none() | VISIBLE.filter(bool) | st.just("--last=3"),
    ),
    st.builds(AskWhy, target=MAYBE),
    st.builds(AskCancel, target=MAYBE),
    st.builds(AskRetry, target=MAYBE, on_demand=st.booleans()),
    st.builds(AskExtend, more=DURATIONS, target=MAYBE),
    st.builds(AskCompare, left=TARGETS, right=MAYBE),
    st.builds(AskApprove, sha=SHAS),
    st.builds(AskSweep, axes=AXES, name=st.none() | NAMES),
    st.builds(AskReproduce, target=TARGETS),
    st.just(AskDestroy()),
    st.just(AskHelp()),
)


@steady
@given(ASKS)
def test_an_ask_that_is_written_is_read_as_itself(ask: Ask) -> None:
    assert read_ask(written(ask)) == ask
    assert [line.ask for line in asks_of(written(ask))] == [ask]


@steady
@given(st.text(max_size=80))
def test_nothing_makes_the_reader_raise(text: str) -> None:
    asks_of(text)
    assert read_ask(f"/cynthus {text}") == read_ask(f"/cynthus {text}")


WORDS = st.sampled_from(
    [*Verb, "digits", "gpu=l4", "a=1..3", "'", '"', "=", "--last", "5", ",", "..", "6dcb09b", "2h"]
)


@steady
@given(st.lists(WORDS, max_size=6))
def test_what_is_read_can_be_written_again(words: list[str]) -> None:
    ask = read_ask("/cynthus " + " ".join(words))
    if isinstance(ask, Misread):
        assert ask.text.endswith((".", "?"))
    else:
        assert read_ask(written(ask)) == ask


HEAVY = {
    "words": "/cynthus run " + "a " * 32_000,
    "keys": "/cynthus run " + "a=b " * 400,
    "values": "/cynthus sweep a=" + ",".join(map(str, range(500))),
    "ranges": "/cynthus sweep a=" + ",".join(["1..256"] * 200),
    "quotes": "/cynthus run " + "\"'" * 900,
    "digits": "/cynthus sweep a=" + "1" * 1_900 + "..",
    "dots": "/cynthus sweep a=1" + "." * 1_900,
    "asks": "/cynthus sweep a=1..256\n" * 2_700,
}


@pytest.mark.parametrize("body", HEAVY.values(), ids=HEAVY.keys())
def test_c8_lines_of_any_kind_are_read_in_less_than_50_ms(body: str) -> None:
    assert least_processor_s(lambda: asks_of(body)) < 0.05


def test_the_bounds_of_a_sweep_are_those_of_its_message() -> None:
    assert read_ask(f"/cynthus sweep a=1..{MOST_VALUES}") == AskSweep(
        axes=(("a", tuple(str(n) for n in range(1, MOST_VALUES + 1))),)
    )
