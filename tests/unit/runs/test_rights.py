"""Who may ask for what."""

from __future__ import annotations

import pytest

from cynthus.repository_policy import DEFAULT_RIGHTS, Allowance, RepositoryPolicy, Role, Verb
from webhook_server.runs.rights import refusal, who_may

POLICY = RepositoryPolicy()
ASKING_ONLY = {Verb.HELP, Verb.STATUS, Verb.PLAN, Verb.WHY, Verb.COMPARE}


@pytest.mark.case("C1")
@pytest.mark.parametrize("verb", Verb)
def test_c1_who_may_by_default(verb: Verb) -> None:
    least = Role.READ if verb in ASKING_ONLY else Role.WRITE
    least = Role.MAINTAIN if verb is Verb.DESTROY else least
    allowed = [role for role in Role if refusal(POLICY, verb, "ada", role) is None]
    assert allowed == [role for role in Role if role.reaches(least)]


def test_a_named_person_may_whatever_the_role_and_the_case() -> None:
    approve = Allowance(role=Role.ADMIN, people=("Ada",))
    policy = RepositoryPolicy(rights=((Verb.APPROVE, approve),))
    assert refusal(policy, Verb.APPROVE, "aDA", Role.NONE) is None
    assert refusal(policy, Verb.APPROVE, "ada2", Role.MAINTAIN) == (
        "`/cynthus approve` is for admin; or Ada; ada2 has the role maintain in this repository."
    )
    assert refusal(policy, Verb.RUN, "ada", Role.READ) is not None


def test_a_refusal_notifies_and_formats_nobody() -> None:
    text = refusal(POLICY, Verb.RUN, "@ada_<b>", Role.NONE)
    assert text is not None
    assert "@ada" not in text
    assert "<b>" not in text
    assert text.endswith("has no role in this repository.")


@pytest.mark.parametrize(
    ("allowance", "words"),
    [
        (Allowance(role=Role.NONE), "everybody"),
        (Allowance(role=Role.WRITE), "write, maintain or admin"),
        (Allowance(role=Role.ADMIN), "admin"),
        (Allowance(role=Role.MAINTAIN, people=("ada", "bob")), "maintain or admin; or ada, bob"),
    ],
)
def test_who_may_is_told_in_words(allowance: Allowance, words: str) -> None:
    assert who_may(allowance) == words


def test_every_verb_has_a_right() -> None:
    assert set(DEFAULT_RIGHTS) == set(Verb)
