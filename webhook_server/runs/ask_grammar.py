"""One line `/cynthus …` → what it asks for, by this grammar. Pure, never raises.

    ask       = "/cynthus" [ verb-line ]          the first word of a line that GitHub shows as text
    verb-line = "run"       { name | sha | key "=" value }     at most one sha
              | "plan"      { name | key "=" value }
              | "status"    [ target ]
              | "logs"      [ target ] [ "--last" lines ] [ "--grep" text ]
              | "why"       [ target ]
              | "cancel"    [ target ]
              | "retry"     [ target ] [ "--on-demand" ]
              | "extend"    duration [ target ]
              | "compare"   target [ target ]
              | "approve"   sha
              | "sweep"     [ name ] axis { axis }
              | "reproduce" target
              | "destroy"
              | "help"
    axis      = key "=" values { "," values }
    values    = value | whole ".." whole [ ".." step ]         both ends belong to it
    name      = the name of a spec, as in `cynthus.yaml`
    sha       = 7 to 40 hex digits: a word of these is never a name
    target    = a run's id | name | name "/" number | name "#" number | "cynthus/" name "/" number
    key       = letters, digits and `_ - . /`; which there are: `cynthus.overrides`
    duration  = as in `cynthus.yaml`: 90s, 2h, 1h30m
    option    = "--name value" or "--name=value", anywhere after the verb

Words are parted by spaces; what holds spaces stands in quotes, double or single. `/cynthus` alone
is `help`. The first ten lines of a comment count, and one of them may start runs.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from cynthus import grammar
from cynthus.grammar import Wrong
from cynthus.repository_policy import Verb
from webhook_server.runs import hostile
from webhook_server.runs.ask_axes import read_sweep
from webhook_server.runs.ask_parts import (
    A_TARGET,
    NoAsk,
    Rest,
    as_names,
    as_sha,
    as_target,
    is_sha,
    shown,
)
from webhook_server.runs.ask_words import Unbalanced, words_of
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
    AskWhy,
    Misread,
)

MARK = "/cynthus"
LONGEST_ASK = 2000  # characters: a run with two dozen overrides; more belongs into the file
MOST_LINES = 500  # of a log in a reply; all of it is one click away
LONGEST_GREP = 200
#: Other words of the field for ours.
_SYNONYMS = {
    "abort": Verb.CANCEL,
    "diff": Verb.COMPARE,
    "kill": Verb.CANCEL,
    "launch": Verb.RUN,
    "ok": Verb.APPROVE,
    "rerun": Verb.RETRY,
    "restart": Verb.RETRY,
    "start": Verb.RUN,
    "stop": Verb.CANCEL,
    "test": Verb.RUN,
    "tune": Verb.SWEEP,
}


def read_ask(line: str) -> Ask | Misread:
    """Return what one line, `/cynthus` included, asks for. Never raises."""
    text = line.replace("\t", " ").strip(" ")
    complaint = _complaint(text)
    if complaint is not None:
        return Misread(text=complaint)
    try:
        words = words_of(text)[1:]
    except Unbalanced as sign:
        return Misread(text=f"A quote ({hostile.code(str(sign))}) is open. Close it.")
    if not words:
        return AskHelp()
    verb = next((verb for verb in Verb if verb.value == words[0].text), None)
    if verb is None:
        return Misread(text=_unknown_verb(words[0].text))
    try:
        return _READERS[verb](Rest(verb, words[1:]))
    except NoAsk as fault:
        return Misread(verb=verb, text=f"{fault} The form is {hostile.code(FORMS[verb])}.")


def _complaint(text: str) -> str | None:
    if len(text) > LONGEST_ASK:
        return f"The line is longer than {LONGEST_ASK} characters. Write it into `cynthus.yaml`."
    odd = next((sign for sign in text if not sign.isprintable()), None)
    if odd is not None:
        return f"The line holds the character U+{ord(odd):04X}, which cannot be seen. Remove it."
    return None


def _unknown_verb(text: str) -> str:
    verbs = [verb.value for verb in Verb]
    word = text.casefold()[:40]
    near = _SYNONYMS.get(word) or next(iter(difflib.get_close_matches(word, verbs, n=1)), None)
    found = f"{shown(text)} is nothing that can be asked for."
    if near is None:
        return f"{found} `{MARK} help` says what can."
    return f"{found} Did you mean `{MARK} {near}`?"


def _run(rest: Rest) -> Ask:
    plain, pairs = rest.parted()
    shas = [as_sha(word) for word in plain if is_sha(word)]
    if len(shas) > 1:
        raise NoAsk("Two words are commits; one can run.")
    names = as_names(word for word in plain if not is_sha(word))
    overrides = tuple((key, value.text) for key, value in pairs)
    return AskRun(names=names, overrides=overrides, sha=shas[0] if shas else None)


def _plan(rest: Rest) -> Ask:
    plain, pairs = rest.parted()
    sha = next(filter(is_sha, plain), None)
    if sha is not None:
        raise NoAsk(f"{shown(sha)} is a commit; a plan is always of the newest one.")
    overrides = tuple((key, value.text) for key, value in pairs)
    return AskPlan(names=as_names(plain), overrides=overrides)


def _status(rest: Rest) -> Ask:
    target = rest.target()
    rest.end()
    return AskStatus(target=target)


def _why(rest: Rest) -> Ask:
    target = rest.target()
    rest.end()
    return AskWhy(target=target)


def _cancel(rest: Rest) -> Ask:
    target = rest.target()
    rest.end()
    return AskCancel(target=target)


def _logs(rest: Rest) -> Ask:
    last = rest.option("--last", takes=True)
    grep = rest.option("--grep", takes=True)
    target = rest.target()
    rest.end()
    lines = AskLogs.last if last is None else grammar.whole_number(last)
    if lines is None or not 1 <= lines <= MOST_LINES:
        raise NoAsk(f"`--last` should be a whole number from 1 to {MOST_LINES}.")
    if grep is not None and not 1 <= len(grep) <= LONGEST_GREP:
        raise NoAsk(f"`--grep` should be a text of 1 to {LONGEST_GREP} characters.")
    return AskLogs(target=target, last=lines, grep=grep)


def _retry(rest: Rest) -> Ask:
    on_demand = rest.option("--on-demand", takes=False) is not None
    target = rest.target()
    rest.end()
    return AskRetry(target=target, on_demand=on_demand)


def _extend(rest: Rest) -> Ask:
    text = rest.need("a length of time such as `2h`")
    try:
        more = grammar.duration(text, grammar.LONGEST_DURATION)
    except Wrong as wrong:
        raise NoAsk(f"{shown(text)} should be {wrong.should}. {wrong.do}.") from wrong
    target = rest.target()
    rest.end()
    return AskExtend(more=more, target=target)


def _compare(rest: Rest) -> Ask:
    left, right = as_target(rest.need(A_TARGET)), rest.target()
    rest.end()
    return AskCompare(left=left, right=right)


def _approve(rest: Rest) -> Ask:
    sha = as_sha(rest.need("the commit that is approved"))
    rest.end()
    return AskApprove(sha=sha)


def _reproduce(rest: Rest) -> Ask:
    target = as_target(rest.need(A_TARGET))
    rest.end()
    return AskReproduce(target=target)


def _destroy(rest: Rest) -> Ask:
    rest.end()
    return AskDestroy()


def _help(rest: Rest) -> Ask:
    rest.end()
    return AskHelp()


_READERS: Mapping[Verb, Callable[[Rest], Ask]] = {
    Verb.RUN: _run,
    Verb.PLAN: _plan,
    Verb.STATUS: _status,
    Verb.LOGS: _logs,
    Verb.WHY: _why,
    Verb.CANCEL: _cancel,
    Verb.RETRY: _retry,
    Verb.EXTEND: _extend,
    Verb.COMPARE: _compare,
    Verb.APPROVE: _approve,
    Verb.SWEEP: read_sweep,
    Verb.REPRODUCE: _reproduce,
    Verb.DESTROY: _destroy,
    Verb.HELP: _help,
}
#: How each is written, for help and for what could not be read.
FORMS: Mapping[Verb, str] = {
    Verb.RUN: f"{MARK} run [name…] [sha] [key=value…]",
    Verb.PLAN: f"{MARK} plan [name…] [key=value…]",
    Verb.STATUS: f"{MARK} status [run]",
    Verb.LOGS: f"{MARK} logs [run] [--last N] [--grep TEXT]",
    Verb.WHY: f"{MARK} why [run]",
    Verb.CANCEL: f"{MARK} cancel [run]",
    Verb.RETRY: f"{MARK} retry [run] [--on-demand]",
    Verb.EXTEND: f"{MARK} extend DURATION [run]",
    Verb.COMPARE: f"{MARK} compare RUN [run]",
    Verb.APPROVE: f"{MARK} approve SHA",
    Verb.SWEEP: f"{MARK} sweep [name] key=a,b,c [key2=1..3]",
    Verb.REPRODUCE: f"{MARK} reproduce RUN",
    Verb.DESTROY: f"{MARK} destroy",
    Verb.HELP: f"{MARK} help",
}
