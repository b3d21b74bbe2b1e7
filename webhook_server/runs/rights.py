"""Say who may ask for what at a pull request: pure.

The role is GitHub's word at the moment of handling, never what a delivery claims of somebody:
https://docs.github.com/rest/collaborators/collaborators#get-repository-permissions-for-a-user
"""

from __future__ import annotations

from cynthus.repository_policy import Allowance, RepositoryPolicy, Role, Verb
from webhook_server.runs.hostile import inline

_LONGEST_LOGIN = 100  # GitHub's own are at most 39; those of bots end in `[bot]`


def refusal(policy: RepositoryPolicy, verb: Verb, login: str, role: Role) -> str | None:
    """Return why somebody may not ask for this, as Markdown, or None when they may."""
    allowance = policy.allowance(verb)
    if role.reaches(allowance.role) or _is_named(login, allowance):
        return None
    has = "has no role" if role is Role.NONE else f"has the role {role}"
    who = inline(login, _LONGEST_LOGIN)
    return f"`/cynthus {verb}` is for {who_may(allowance)}; {who} {has} in this repository."


def who_may(allowance: Allowance) -> str:
    """Say who may, as Markdown: "maintain or admin; or ada, bob"."""
    if allowance.role is Role.NONE:
        return "everybody"
    roles = [role.value for role in Role if role.reaches(allowance.role)]
    enough = " or ".join(filter(None, [", ".join(roles[:-1]), roles[-1]]))
    people = ", ".join(inline(login, _LONGEST_LOGIN) for login in allowance.people)
    return f"{enough}; or {people}" if people else enough


def _is_named(login: str, allowance: Allowance) -> bool:
    # GitHub takes logins in any case: https://docs.github.com/rest/users/users#get-a-user
    return login.casefold() in {name.casefold() for name in allowance.people}
