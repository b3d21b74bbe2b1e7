"""Judge what stands on GitHub, and who made us do it: pure, over both sides' records.

Each oracle returns sentences, one a violation. The numbers are those of docs/threat_model.md;
what the words on GitHub mean is written down here once more, not taken from the code they judge.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from html.parser import HTMLParser
from typing import Any

from markdown_it import MarkdownIt

from tests.simulation.github import CheckRow, Shown
from tests.simulation.github_history import GithubHistory, RunSeen

Oracle = Callable[[GithubHistory], Iterable[str]]
MARKER = "cynthusadv"  # in every text of an attacker's: where it shows up, it must be quoted
#: https://docs.github.com/rest/checks/runs#create-a-check-run, by a run's outcome
CONCLUSIONS = {
    "succeeded": "success",
    "failed": "failure",
    "infrastructure": "failure",
    "cancelled": "cancelled",
    "timed_out": "timed_out",
    "over_budget": "action_required",
}
_HELD = "action_required"  # what a check run of a run that waits for a person is completed with
_MAY_RUN = frozenset({"write", "maintain", "admin"})
#: A role that GitHub told so long ago is not the role at the time of handling: a pass has a
#: handful of requests of 15 s, and may be paused for 90 s.
_FRESH = timedelta(minutes=10)
_BY_EVENT = frozenset({"push", "pull_request"})


# ── I3: the check run equals the run ────────────────────────────────────────────────────────────


def checks_equal_runs(history: GithubHistory) -> Iterator[str]:
    """Every check run of a run ends with the run's conclusion; none is left open (I3)."""
    if not history.healed:
        return
    refused = {
        p.subject for p in history.published if p.kind == "check_run" and p.state == "refused"
    }
    for run in history.runs:
        rows = [row for _, row in history.check_runs if row.external_id == run.id]
        if run.state != "finished" or run.id in refused:
            continue
        if not rows:
            yield f"I3: run {run.id} ended and has no check run"
            continue
        yield from _unlike(run, rows)


def _unlike(run: RunSeen, rows: list[CheckRow]) -> Iterator[str]:
    wanted = CONCLUSIONS[run.outcome or "failed"]
    for row in rows:
        if row.status != "completed":
            yield f"I3: check run {row.id} of run {run.id} is left {row.status}"
    newest = max(rows, key=lambda row: row.id)
    told = {row.conclusion for row in rows if row.status == "completed"}
    if newest.status == "completed" and newest.conclusion != wanted:
        yield f"I3: run {run.id} is {run.outcome}, its check run says {newest.conclusion}"
    if not told <= {wanted, _HELD}:
        yield f"I3: check runs of run {run.id} contradict one another: {sorted(map(str, told))}"


def nothing_waits(history: GithubHistory) -> Iterator[str]:
    """Once healed, whatever is to be shown of ended runs is shown or refused (I8)."""
    if not history.healed:
        return
    ended = {run.id for run in history.runs if run.state == "finished"}
    for one in history.published:
        if one.subject in ended and one.due:
            yield f"I8: {one.kind} of run {one.subject} is still to be shown"


# ── I4, I5: what was acknowledged takes effect once ─────────────────────────────────────────────


def acked_is_durable(history: GithubHistory) -> Iterator[str]:
    """Each delivery that was answered 2xx is stored; once healed it has a decision (I4)."""
    for sent in history.deliveries:
        state = history.stored.get(sent.guid)
        if sent.acked and state is None:
            yield f"I4: delivery {sent.guid} ({sent.event}) was acknowledged and is not stored"
        elif sent.acked and history.healed and state in {"pending", "parked"}:
            yield f"I4: delivery {sent.guid} ({sent.event}) is {state} long after all is well"


def once_by_meaning(history: GithubHistory) -> Iterator[str]:
    """One ask starts one run, however often it is delivered (I5)."""
    asked = Counter((run.repository_id, _meaning(run)) for run in history.runs)
    for (repository_id, meaning), count in asked.items():
        if count > 1:
            yield f"I5: {meaning} in repository {repository_id} started {count} runs"
    yield from _unasked_comments(history)


def _meaning(run: RunSeen) -> str:
    """Name what a run was asked by: a comment's line and a button have one run, at one commit."""
    if run.trigger.startswith(("comment/", "button/", "rerun/")):
        return f"{run.trigger} {run.path}"
    return f"{run.trigger} {run.path} {run.sha}"


def _unasked_comments(history: GithubHistory) -> Iterator[str]:
    """Name runs whose comment has no such line: a comment starts no more than it asks for."""
    bodies = {one.id: str(one.detail["body"]) for one in history.shown("comment.created")}
    counts: Counter[int] = Counter()
    for run in history.runs:
        kind, _, rest = run.trigger.partition("/")
        number = rest.partition("/")[0]
        if kind == "comment" and number.isdigit():
            counts[int(number)] += 1
    for comment_id, count in counts.items():
        asks = bodies.get(comment_id, "").count("/cynthus")
        if count > asks:
            yield f"I5: comment {comment_id} has {asks} asks and started {count} runs"


def one_comment_a_pull(history: GithubHistory) -> Iterator[str]:
    """Nobody is answered in two sticky comments at one pull request for long (I5)."""
    if not history.healed:
        return
    gone = {one.id for one in history.shown("comment.deleted")}
    made = Counter(
        (one.repository_id, one.detail["number"])
        for one in history.shown("comment.created")
        if one.detail["ours"] and one.id not in gone
    )
    for (repository_id, number), count in made.items():
        if count > 1:
            yield f"I5: pull request {number} of {repository_id} has {count} comments of ours"


# ── I9, I13: nobody acts for somebody else ──────────────────────────────────────────────────────


def beats_are_their_own(history: GithubHistory) -> Iterator[str]:
    """A heartbeat that was taken came from that instance's agent, before its end (I9)."""
    for beat in history.beats:
        if beat.token_of != beat.instance:
            yield f"I9: {beat.instance} was kept alive by the token of {beat.token_of}"
        if beat.closed:
            yield f"I9: a heartbeat of {beat.instance} was taken after it was closed"


def tenants_are_strangers(history: GithubHistory) -> Iterator[str]:
    """What is shown in a repository is of its own runs (I13)."""
    owner = {run.id: run.repository_id for run in history.runs}
    for one in history.log:
        named = str(one.detail.get("external_id", ""))
        if (
            one.what.startswith("check_run.")
            and owner.get(named, one.repository_id) != one.repository_id
        ):
            yield f"I13: run {named} of {owner[named]} is shown in repository {one.repository_id}"
        if _is_ours(one):
            yield from _foreign(one, owner)
    for run in history.runs:
        for other in filter(None, (run.retries, run.reproduces)):
            if owner.get(other, run.repository_id) != run.repository_id:
                yield f"I13: run {run.id} was made from run {other} of another repository"


def _is_ours(one: Shown) -> bool:
    return one.what.startswith("release.") or (
        one.what.startswith("comment.") and bool(one.detail.get("ours"))
    )


def _foreign(one: Shown, owner: dict[str, int]) -> Iterator[str]:
    text = str(one.detail.get("body", ""))
    for run_id in re.findall(r"/runs/([a-z0-9]+)", text):
        if owner.get(run_id, one.repository_id) != one.repository_id:
            yield f"I13: {one.what} in repository {one.repository_id} tells of run {run_id}"


# ── I14: every run's start has a proof ──────────────────────────────────────────────────────────


def starts_are_authorised(history: GithubHistory) -> Iterator[str]:
    """Each run was begun by somebody who might, at a commit that they meant (I14)."""
    for run in history.runs:
        if run.asked_by is not None:
            yield from _asked(history, run)
        else:
            yield from _by_event(history, run)
        yield from _executed(history, run)


def _asked(history: GithubHistory, run: RunSeen) -> Iterator[str]:
    if not _told_role(history, run.repository_id, run.asked_by or "", run.created_at):
        yield f"I14: run {run.id} was begun for {run.asked_by}, who GitHub never said may run"
    elif run.fork and run.ordered_at is not None and run.approved_sha != run.sha:
        yield f"I14: run {run.id} is of a fork's commit that nobody approved"
    elif run.fork and run.sha not in _words(history, run):
        yield f"I14: run {run.id} is of a fork's commit that its approval does not name"


def _words(history: GithubHistory, run: RunSeen) -> str:
    """Return the comment that a run was begun by."""
    number = run.trigger.split("/")[1] if run.trigger.startswith("comment/") else ""
    said = (one for one in history.shown("comment.created") if str(one.id) == number)
    return " ".join(str(one.detail["body"]) for one in said)


def _told_role(history: GithubHistory, repository_id: int, login: str, until: datetime) -> bool:
    """Say whether GitHub told us, just then, that this person may run."""
    return any(
        one.repository_id == repository_id
        and one.detail["login"] == login
        and one.detail["role"] in _MAY_RUN
        and until - _FRESH <= one.at <= until
        for one in history.shown("role.told")
    )


def _by_event(history: GithubHistory, run: RunSeen) -> Iterator[str]:
    key = (run.repository_id, run.sha)
    pushed = {(one.repository_id, one.detail["sha"]) for one in history.shown("pushed")}
    heads = {
        (one.repository_id, one.detail["sha"])
        for one in history.shown("pull.headed")
        if not one.detail["fork"]
    }
    submitted = {(one.repository_id, one.sha) for one in history.submitted}
    if key not in pushed | heads | submitted:
        yield f"I14: run {run.id} is of commit {run.sha[:7]}, which nobody with the right brought"


def _executed(history: GithubHistory, run: RunSeen) -> Iterator[str]:
    files = history.commits.get((run.repository_id, run.sha))
    if files is None:
        yield f"I14: run {run.id} is of commit {run.sha[:7]}, which its repository has not"
    elif run.spec_text and files.get(run.path) != run.spec_text.encode():
        yield f"I14: run {run.id} executes a spec that its commit has not"
    if run.image and image_of(run.repository_id, run.sha) != run.image:
        yield f"I14: run {run.id} executes the image of another commit: {run.image}"


def ends_are_authorised(history: GithubHistory) -> Iterator[str]:
    """Whoever ended a run by a comment or a button was somebody who might (I14)."""
    for run in history.runs:
        login = (run.cancelled_by or "").removesuffix(" on GitHub")
        if not run.cancelled_by or login == run.cancelled_by:
            continue  # the policy's doing, or the operator's
        told = history.shown("role.told")
        if not any(
            one.repository_id == run.repository_id
            and one.detail["login"] == login
            and one.detail["role"] in _MAY_RUN
            for one in told
        ):
            yield f"I14: run {run.id} was ended by {login}, who may not"


def image_of(repository_id: int, sha: str) -> str:
    """Return the image that is built from a commit: it has the commit in its name."""
    return f"registry.test/r{repository_id}/digits@sha256:{sha}{'0' * 24}"


# ── I17: what attackers write is quoted ─────────────────────────────────────────────────────────

_MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
_LIVE_MENTION = re.compile(r"(?<![A-Za-z0-9])@[A-Za-z0-9]")
_QUOTED = frozenset({"code_inline", "fence", "code_block"})


def attackers_are_quoted(history: GithubHistory) -> Iterator[str]:
    """No attacker's text does anything where we show it: it links and calls nobody (I17)."""
    for one in history.log:
        if not (_is_ours(one) or one.what.startswith("check_run.")):
            continue
        output = one.detail.get("output", {})
        texts = (one.detail.get("body", ""), output.get("summary", ""), output.get("text", ""))
        for text in texts:
            if MARKER in str(text):
                yield from (f"I17: {one.what} {one.id}: {fault}" for fault in live(str(text)))


def live(text: str) -> Iterator[str]:
    """Yield what of an attacker's text is alive in Markdown."""
    for token in _flat(_MARKDOWN.parse(text)):
        if token.type in _QUOTED:
            continue
        if token.type in {"html_inline", "html_block"}:
            yield from _Html.faults_of(token.content)
        if token.type in {"link_open", "image"}:
            address = str(token.attrs.get("href") or token.attrs.get("src") or "")
            if MARKER in address:
                yield f"a link: {address[:60]!r}"
        if token.type == "text" and MARKER in token.content:
            if _LIVE_MENTION.search(token.content):
                yield f"a mention: {token.content[:60]!r}"
            if token.content.lstrip().startswith(("/cynthus", "::")):
                yield f"an order: {token.content[:60]!r}"


class _Html(HTMLParser):
    """Reads HTML of ours: attackers' text may stand between its tags, and nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    @classmethod
    def faults_of(cls, text: str) -> list[str]:
        """Return what of it is alive."""
        found = cls()
        found.feed(text)
        found.close()
        return found.faults

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Tell of a tag that is not ours."""
        if tag == "img" or any(MARKER in (value or "") for _, value in attrs):
            self.faults.append(f"HTML: <{tag} {attrs}>")

    def handle_data(self, data: str) -> None:
        """Tell of a mention."""
        if MARKER in data and _LIVE_MENTION.search(data):
            self.faults.append(f"a mention: {data[:60]!r}")


def _flat(tokens: Iterable[Any]) -> Iterator[Any]:
    for token in tokens:
        yield token
        yield from _flat(token.children or ())


# ── invariant 8: releases are whole ─────────────────────────────────────────────────────────────


def releases_are_whole(history: GithubHistory) -> Iterator[str]:
    """A published release has its manifest, which lists every file as it is (invariant 8)."""
    for one in history.shown("release.published"):
        files: dict[str, tuple[int, str]] = dict(one.detail["files"])
        manifest = history.manifests.get(one.id)
        if manifest is None:
            yield f"8: release {one.detail['tag']} was published without a manifest"
            continue
        yield from (
            f"8: release {one.detail['tag']}: {fault}" for fault in _missing(manifest, files)
        )
        run = history.run(str(manifest["run"]["id"]))
        listed = {(f["path"], f["size_bytes"], f["sha256"]) for f in manifest["files"]}
        if run is None or listed != set(run.outputs):
            yield f"8: release {one.detail['tag']} does not list what its run has made"
    for one in history.shown("release.changed"):
        yield f"8: release {one.detail['tag']} was changed after it was published"
    tags = Counter(
        (one.repository_id, one.detail["tag"]) for one in history.shown("release.published")
    )
    yield from (f"8: tag {tag} was published {n} times" for (_, tag), n in tags.items() if n > 1)


def _missing(manifest: Any, files: dict[str, tuple[int, str]]) -> Iterator[str]:
    for own in manifest["own_files"]:
        if files.get(own["name"]) != (own["size_bytes"], own["sha256"]):
            yield f"{own['name']} is not as the manifest says"
    for listed in manifest["files"]:
        if listed["size_bytes"] and (listed["size_bytes"], listed["sha256"]) not in files.values():
            yield f"{listed['path']} is not among its files"


ORACLES: tuple[Oracle, ...] = (
    checks_equal_runs,
    nothing_waits,
    acked_is_durable,
    once_by_meaning,
    one_comment_a_pull,
    beats_are_their_own,
    tenants_are_strangers,
    starts_are_authorised,
    ends_are_authorised,
    attackers_are_quoted,
    releases_are_whole,
)


def judge(history: GithubHistory) -> list[str]:
    """Return every violation."""
    return [found for oracle in ORACLES for found in oracle(history)]
