"""Each fuzz target holds on its kept corpus, and on inputs made by chance from its words."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import CORPUS, TARGETS, Target

LARGEST_FILE_BYTES = 4096
MOST_FILES = 150  # of all targets: a corpus is read by people, too


def pieces(target: Target) -> st.SearchStrategy[bytes]:
    """Return inputs: any bytes, words of the language one after another, kept ones changed."""
    word = st.one_of(
        st.sampled_from(target.words), st.sampled_from(target.words), st.binary(max_size=4)
    )
    made = st.lists(word, max_size=16).map(b"".join)
    kept = st.sampled_from([path.read_bytes() for path in target.corpus()])
    cut = st.tuples(st.floats(0, 1), st.floats(0, 1))
    return st.one_of(made, st.builds(_changed, kept, cut, made), st.binary(max_size=200))


def _changed(kept: bytes, cut: tuple[float, float], put: bytes) -> bytes:
    """Replace a part of a kept input."""
    begin, end = sorted(int(place * len(kept)) for place in cut)
    return kept[:begin] + put + kept[end:]


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_corpus_breaks_nothing(target: Target) -> None:
    for path in target.corpus():
        target.run(path.read_bytes())


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_nothing_made_by_chance_breaks_it(target: Target) -> None:
    # No deadline: machines are shared. The same examples every time: a failure must repeat.
    steady = settings(
        deadline=None,
        derandomize=True,
        database=None,
        max_examples=target.examples,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )

    @steady
    @given(pieces(target))
    def holds(data: bytes) -> None:
        target.run(data)

    holds()


def test_the_corpus_stays_small_and_belongs_to_targets() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert 0 < len(files) < MOST_FILES
    assert [path for path in files if path.stat().st_size > LARGEST_FILE_BYTES] == []


def test_a_target_says_what_it_checks() -> None:
    assert [name for name, target in TARGETS.items() if not target.run.__doc__] == []


def test_the_generator_puts_words_of_the_language_together() -> None:
    target = TARGETS["references"]
    long_words = [word for word in target.words if len(word) > 3]
    most = 0

    @settings(deadline=None, derandomize=True, database=None, max_examples=200)
    @given(pieces(target))
    def counts(data: bytes) -> None:
        nonlocal most
        most = max(most, sum(word in data for word in long_words))

    counts()
    assert most > 2  # bytes by chance would hold none
