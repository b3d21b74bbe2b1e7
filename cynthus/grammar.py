"""The small languages inside a spec: each function reads one text or says what is wrong with it.

Every pattern matches whole strings and ASCII digits, and none can backtrack more than linearly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from cynthus.hosts import host_complaint
from cynthus.spec import WORKSPACE, Gate, GpuNeed, Relation


class Wrong(ValueError):  # noqa: N818 - read as "raise Wrong(...)"
    """A text that does not fit: what it should be, and what to write instead.

    `found` replaces the text in the message where the text itself should not be shown.
    """

    def __init__(self, should: str, do: str, *, found: str | None = None) -> None:
        super().__init__(f"should be {should}. {do}")
        self.should = should
        self.do = do
        self.found = found


# --- names ---------------------------------------------------------------------------------

# X25519 public keys in Bech32, https://age-encryption.org/v1: no 1, b, i or o after `age1`.
_AGE_RECIPIENT = re.compile(r"age1[ac-hj-np-z02-9]{58}", re.ASCII)
_RUN_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")
_DATA_NAME = re.compile(r"[a-z](?:[a-z0-9_-]{0,38}[a-z0-9])?")
_PLACE_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_GPU_TYPE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_DEBIAN_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{1,99}")  # Debian policy 5.6.1
# https://cloud.google.com/compute/docs/labeling-resources#requirements
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_PYTHON = re.compile(r"3\.(?:[89]|1[0-9])(?:\.(?:0|[1-9][0-9]?))?")
_LOGIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9])?")
_BOT_LOGIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9])?\[bot\]")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def run_name(text: str) -> str:
    """Return the name of the spec."""
    if not _RUN_NAME.fullmatch(text):
        raise Wrong(
            "1 to 40 lower-case letters, digits and dashes, a letter first, no dash last",
            "Write a name such as `digits`",
        )
    return text


def age_recipient(text: str) -> str:
    """Return a public key of age; its check sum is left to age itself."""
    if not _AGE_RECIPIENT.fullmatch(text):
        raise Wrong(
            "an age recipient: `age1` and 58 letters and digits",
            "Make a key with `age-keygen -o key.txt` and write the public key that it prints",
        )
    return text


def data_name(text: str) -> str:
    """Return the name of a data entry."""
    if not _DATA_NAME.fullmatch(text):
        raise Wrong(
            "1 to 40 lower-case letters, digits, dashes and underscores, a letter first",
            "Write a name such as `train`",
        )
    return text


def place_name(text: str) -> str:
    """Return a region or zone."""
    if not _PLACE_NAME.fullmatch(text):
        raise Wrong(
            "a region or zone in lower case", "Write one such as `us-central1` or `europe-west4-b`"
        )
    return text


def provider_name(text: str) -> str:
    """Return the name of a provider."""
    if not _PLACE_NAME.fullmatch(text):
        raise Wrong("a provider's name in lower case", "Write one such as `gcp`, or leave it out")
    return text


def python_version(text: str) -> str:
    """Return a Python version such as 3.11 or 3.11.7."""
    if not _PYTHON.fullmatch(text):
        raise Wrong("a Python version from 3.8 on", 'Write it in quotes, such as `"3.11"`')
    return text


def debian_package(text: str) -> str:
    """Return the name of a Debian package."""
    if not _DEBIAN_NAME.fullmatch(text):
        raise Wrong("the name of a Debian package, and nothing else", "Write one such as `ffmpeg`")
    return text


def login(text: str) -> str:
    """Return the name of a person's account on GitHub; managed ones end in `_` and a short code.

    https://docs.github.com/enterprise-cloud@latest/admin/managing-iam/iam-configuration-reference/username-considerations-for-external-authentication
    """
    if not _LOGIN.fullmatch(text):
        raise Wrong("the name of an account on GitHub, without `@`", "Write one such as `ada`")
    return text


def bot_login(text: str) -> str:
    """Return the name of a bot's account on GitHub."""
    if not _BOT_LOGIN.fullmatch(text):
        raise Wrong(
            "the name of a bot's account, which ends in `[bot]`",
            'Write one such as `"renovate[bot]"`',
        )
    return text


def sha256(text: str) -> str:
    """Return a SHA-256 digest."""
    if not _SHA256.fullmatch(text):
        raise Wrong(
            "64 lower-case hexadecimal digits", "Write what `sha256sum` prints for the file"
        )
    return text


# Cynthus and GitHub own these; PATH and LD_* would change what the command and its tools are.
_RESERVED_PREFIXES = ("LD_", "GITHUB_", "CYNTHUS_")


def env_name(text: str) -> str:
    """Return the name of an environment variable that a user may set."""
    if not _ENV_NAME.fullmatch(text):
        raise Wrong(
            "a name of ASCII letters, digits and underscores, no digit first, at most 128",
            "Write a name such as `EPOCHS`; a value never belongs here",
            found="something else",
        )
    reserved = next((start for start in _RESERVED_PREFIXES if text.startswith(start)), "")
    if text == "PATH" or reserved:
        raise Wrong(
            "a name other than PATH, LD_*, GITHUB_* and CYNTHUS_*",
            "Write another name, or set it inside `run`",
            found=f"one that begins with {reserved}" if reserved else "PATH",
        )
    return text


def label_key(text: str) -> str:
    """Return the key of a label."""
    if not _LABEL_KEY.fullmatch(text):
        raise Wrong(
            "1 to 63 lower-case letters, digits, dashes and underscores, a letter first",
            "Write a key such as `team`",
        )
    if text.startswith(("cynthus", "goog")):
        raise Wrong(
            "a key that does not begin with `cynthus` or `goog`",
            "Write another key: Cynthus and Google keep those for themselves",
        )
    return text


def label_value(text: str) -> str:
    """Return the value of a label."""
    if not _LABEL_VALUE.fullmatch(text):
        raise Wrong(
            "at most 63 lower-case letters, digits, dashes and underscores",
            "Write a value such as `vision`",
        )
    return text


# --- amounts -------------------------------------------------------------------------------

_WHOLE = re.compile(r"0|[1-9][0-9]{0,17}")
_MONEY = re.compile(r"(?:0|[1-9][0-9]{0,6})(?:\.[0-9]{1,2})?")
_SIZE = re.compile(r"([1-9][0-9]{0,8})([MGT]i?B)")
_DURATION = re.compile(r"(?:([0-9]{1,7})d)?(?:([0-9]{1,7})h)?(?:([0-9]{1,7})m)?(?:([0-9]{1,8})s)?")
_UNITS = {
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
LARGEST_SIZE = 10**15  # 1000 TB: more than any instance has, so it is a slip of the pen
LARGEST_COST = Decimal(1_000_000)  # USD; a run that may cost more should be several
# Google Compute Engine deletes an instance at most 120 days after its start:
# https://cloud.google.com/compute/docs/instances/limit-vm-runtime
LONGEST_DURATION = timedelta(days=120)
LONGEST_KEEP_WARM = timedelta(days=7)  # an instance nobody used for a week is forgotten


# A saving looks at every file of the folder and asks the server: more often serves nobody.
SHORTEST_CHECKPOINT_EVERY = timedelta(seconds=10)


def whole_number(text: str) -> int | None:
    """Return a plain whole number, or None: no sign, no leading zero, no other notation."""
    return int(text) if _WHOLE.fullmatch(text) else None


def money(text: str) -> Decimal:
    """Return an amount of US dollars above zero."""
    amount = Decimal(text) if _MONEY.fullmatch(text) else Decimal(0)
    if not 0 < amount <= LARGEST_COST:
        raise Wrong(
            f"US dollars above zero, at most {LARGEST_COST}, as a plain number",
            "Write an amount such as `5.00`",
        )
    return amount


def size(text: str) -> int:
    """Return bytes."""
    match = _SIZE.fullmatch(text)
    number = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < number <= LARGEST_SIZE:
        raise Wrong(
            "a whole number with MB, GB, TB (powers of ten) or MiB, GiB, TiB (powers of two), "
            "above zero and at most 1000TB",
            _size_remedy(text),
        )
    return number


def _size_remedy(text: str) -> str:
    near = re.fullmatch(r"([1-9][0-9]{0,8}) ?([mgt])(i?)b?", text, re.IGNORECASE | re.ASCII)
    if near:
        return f"Write `{near[1]}{near[2].upper()}{near[3].lower()}B`"
    return "Write a size such as `16GB` or `16GiB`"


def duration(text: str, longest: timedelta, *, zero_is_meant: bool = False) -> timedelta:
    """Return a length of time such as 90s, 2h or 1h30m."""
    match = _DURATION.fullmatch(text) if text else None
    days, hours, minutes, seconds = (
        (int(part or 0) for part in match.groups()) if match else [0] * 4
    )
    length = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if match and zero_is_meant and not length:
        return length
    if not match or not timedelta(0) < length <= longest:
        zero = ", or `0`" if zero_is_meant else ""
        raise Wrong(
            f"a length of time in d, h, m and s, in this order, above zero "
            f"and at most {longest.days}d",
            _duration_remedy(text) + zero,
        )
    return length


def checkpoint_interval(text: str) -> timedelta:
    """Return the time between two savings of a checkpoint, at least ten seconds."""
    length = duration(text, LONGEST_DURATION)
    if length < SHORTEST_CHECKPOINT_EVERY:
        least = f"{SHORTEST_CHECKPOINT_EVERY.total_seconds():.0f}s"
        raise Wrong(f"a length of time of at least {least}", "Write one such as `30s` or `5m`")
    return length


def _duration_remedy(text: str) -> str:
    if re.fullmatch(r"[1-9][0-9]{0,6}", text):
        return f"Write `{text}m` for minutes or `{text}s` for seconds"
    return "Write one such as `30m`, `2h` or `1h30m`"


MOST_GPUS = 16  # no instance on the market has more


def gpu(text: str) -> GpuNeed:
    """Return a GPU written as `l4` or `l4:2`."""
    kind, colon, count = text.partition(":")
    number = whole_number(count) if colon else 1
    if number is None or not 1 <= number <= MOST_GPUS:
        raise Wrong(f"a GPU with a count from 1 to {MOST_GPUS}", "Write one such as `l4` or `l4:2`")
    return GpuNeed(gpu_type(kind), number)


def gpu_type(text: str) -> str:
    """Return the type of a GPU."""
    if not _GPU_TYPE.fullmatch(text):
        near = text.lower().replace(" ", "-").replace("_", "-").removeprefix("nvidia-")
        example = near if _GPU_TYPE.fullmatch(near) else "l4"
        raise Wrong(
            "a GPU type in lower-case letters, digits and dashes", f"Write one such as `{example}`"
        )
    if text in ("none", "no-gpu", "cpu", "false", "0"):
        raise Wrong("a GPU type", "Leave `gpu` out for a run without GPU")
    return text


# --- gates ---------------------------------------------------------------------------------

_METRIC = r"[A-Za-z_][A-Za-z0-9_./-]{0,99}"  # what frameworks print: `val_acc`, `eval/loss`
_NUMBER = r"(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?(?:[eE][+-]?[0-9]{1,2})?"
# Names may hold dashes, so that arithmetic needs its spaces.
_GATE = re.compile(
    rf"({_METRIC}) *(>=|<=|==|>|<) *"
    rf"(?:(-?{_NUMBER})|baseline(?:\.({_METRIC}))?(?: +([-+*]) +({_NUMBER}))?)"
)


def gate(text: str) -> Gate:
    """Return what a metric must reach, written as `accuracy >= baseline - 0.01`."""
    match = _GATE.fullmatch(text)
    if match is None:
        raise Wrong(
            "NAME OP TERM, where OP is >=, <=, >, < or ==, and TERM a number or `baseline`, with"
            " ` + `, ` - ` or ` * ` and a number after it",
            'Write one such as `"accuracy >= 0.9"` or `"loss <= baseline * 1.02"`',
        )
    metric, relation, number, other, sign, amount = match.groups()
    if number is not None:
        return Gate(metric=metric, relation=Relation(relation), offset=Decimal(number))
    operand = Decimal(amount or 0)
    return Gate(
        metric=metric,
        relation=Relation(relation),
        baseline=other or metric,
        factor=operand if sign == "*" else Decimal(1),
        offset={"+": operand, "-": -operand}.get(sign, Decimal(0)),
    )


# --- paths ---------------------------------------------------------------------------------

LONGEST_PATH = 1024  # below every file system's limit once /workspace stands before it
_ESCAPED_SEPARATOR = re.compile(r"%(?:2e|2f|5c|00)", re.IGNORECASE)


def path(text: str) -> str:
    """Return a path inside the repository, without `./`, `//` and a last `/`."""
    complaint = _path_complaint(text)
    if complaint:
        raise Wrong(
            "a relative path inside the repository",
            f"{complaint}. Write one such as `outputs/model`",
        )
    parts = [part for part in text.split("/") if part not in ("", ".")]
    return "/".join(parts) or "."


def _path_complaint(text: str) -> str | None:
    if not text or len(text.encode()) > LONGEST_PATH:
        return f"It has 1 to {LONGEST_PATH} bytes"
    if text != text.strip():
        return "It may not begin or end with a space"
    if "\\" in text:
        return "Folders are separated by `/`"
    if "\n" in text or "\t" in text:
        return "It is one line without tabs"
    return _start_complaint(text) or _parts_complaint(text)


def _start_complaint(text: str) -> str | None:
    if text.startswith("/") or re.match(r"[A-Za-z]:", text):
        return "It starts at the repository's root, so it has no leading `/` or drive"
    if text.startswith("~"):
        return "`~` is not a folder here"
    if "://" in text:
        return "A URL is not a path"
    return None


def _parts_complaint(text: str) -> str | None:
    plain = _compatible(text)
    parts = [part for part in plain.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts or _ESCAPED_SEPARATOR.search(text):
        return "`..` is not allowed"
    if parts and parts[0].startswith("-"):
        return "It may not begin with a dash"
    # Windows and macOS take these spellings for the same folder.
    if any(part.casefold().rstrip(". ") in (".git", "git~1") for part in parts):
        return "`.git` is never part of it"
    if any(len(part.encode()) > 255 for part in parts):  # noqa: PLR2004 - NAME_MAX on Linux
        return "Each folder or file name has at most 255 bytes"
    return None


def _compatible(text: str) -> str:
    """Fold full-width dots and slashes, which some file systems take for the plain ones."""
    if text.isascii():
        return text
    import unicodedata

    return unicodedata.normalize("NFKC", text)


_GLOB_CHARACTERS = frozenset("*?[]")


def exact_path(text: str) -> str:
    """Return a path that is not a pattern."""
    found = path(text)
    if _GLOB_CHARACTERS & set(found):
        raise Wrong("one path, not a pattern", "Write it without `*`, `?` and brackets")
    return found


def folder_below(text: str) -> str:
    """Return a folder below the repository's root, not the root itself."""
    found = exact_path(text)
    if found == ".":
        raise Wrong("a folder below /workspace", "Write one such as `checkpoints`")
    return found


def glob_root(pattern: str) -> str:
    """Return the absolute folder or file below which everything a pattern finds lies."""
    fixed: list[str] = []
    for part in pattern.split("/"):
        if _GLOB_CHARACTERS & set(part):
            break
        fixed.append(part)
    inside = "/".join(part for part in fixed if part != ".")
    return f"{WORKSPACE}/{inside}" if inside else WORKSPACE


_MOUNT = re.compile(r"/(?:data|models|mnt|workspace)(?:/[A-Za-z0-9_.-]{1,255})+/?")


def mount(text: str) -> str:
    """Return an absolute folder where data may be staged."""
    parts = text.split("/")
    if len(text) > LONGEST_PATH or not _MOUNT.fullmatch(text) or "." in parts or ".." in parts:
        raise Wrong(
            "an absolute folder below /data, /models, /mnt or /workspace "
            "(letters, digits, `.`, `_`, `-`)",
            "Write one such as `/data/train`",
        )
    if any(part.casefold() == ".git" for part in parts):
        raise Wrong("a folder outside `.git`", "Write one such as `/data/train`")
    return text.removesuffix("/")


def paths_overlap(one: str, other: str) -> bool:
    """Return whether one absolute path is the other or lies below it."""
    return (one + "/").startswith(other + "/") or (other + "/").startswith(one + "/")


_BRANCH = re.compile(r"!?[A-Za-z0-9_.*?\[\]/@#+=,-]{1,255}")


def branch_pattern(text: str) -> str:
    """Return a branch name or a pattern for some."""
    name = text.removeprefix("!")
    if not _BRANCH.fullmatch(text) or ".." in name or name.startswith(("-", "/")):
        raise Wrong(
            "a branch name or a pattern such as `release/*`",
            'Write one such as `main` or `"release/**"`',
        )
    return text


def path_pattern(text: str) -> str:
    """Return a pattern for changed files; a leading `!` takes files out again."""
    negated, rest = ("!", text[1:]) if text.startswith("!") else ("", text)
    try:
        return negated + path(rest)
    except Wrong as wrong:
        raise Wrong(
            "a pattern for paths in the repository", 'Write one such as `"src/**"`'
        ) from wrong


# --- images and packages -------------------------------------------------------------------

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_REGISTRY = re.compile(r"([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
_IMAGE_REMEDY = "Write a name of the catalogue such as `pytorch`, or `ghcr.io/acme/base:1.2`"


def image_reference(text: str) -> str:
    """Return a catalogue name, or an image reference with a tag or a digest.

    The grammar is https://github.com/distribution/reference/blob/main/reference.go.
    """
    name, at, digest = text.partition("@")
    if at and not (digest.startswith("sha256:") and _SHA256.fullmatch(digest[7:])):
        raise Wrong("an image with a digest of 64 hex digits", "Write `@sha256:` and the digest")
    registry, repository = _split_registry(name)
    repository, colon, tag = repository.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise Wrong("an image with a tag of at most 128 letters, digits, `_.-`", _IMAGE_REMEDY)
    if len(name) > 255 or not _REPOSITORY.fullmatch(repository):  # noqa: PLR2004 - reference.go
        raise Wrong("a lower-case image reference", _IMAGE_REMEDY)
    if "/" in name and not at and not colon:
        raise Wrong("an image with a tag or a digest", f"Write `:` and a tag after it: {name}:1.2")
    _check_registry(registry)
    return text


def _split_registry(name: str) -> tuple[str, str]:
    """Split as Docker does: a first part with a dot, a colon or brackets is a registry."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return "", name


def _check_registry(registry: str) -> None:
    if not registry:
        return
    match = _REGISTRY.fullmatch(registry)
    complaint = host_complaint(match[1]) if match else "is not a host with an optional port"
    if match and match[2] and not 0 < int(match[2]) < 65536:  # noqa: PLR2004 - TCP ports
        complaint = "has a port that does not exist"
    if complaint:
        raise Wrong(
            f"an image on a public registry (this registry {complaint})",
            "Write a registry that the internet can reach, such as `ghcr.io`",
        )


# PEP 508 names, extras, versions and markers. Clauses are split by hand, so that no pattern
# repeats inside a repetition.
_PACKAGE = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?)[ \t]*(?:\[([^\]]*)\])?(.*)"
)
_EXTRA = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_CLAUSE = re.compile(
    r"(?:(?:==|!=)[ \t]*v?[0-9][A-Za-z0-9.!+_-]{0,62}(?:\.\*)?"
    r"|(?:~=|<=|>=|<|>|===)[ \t]*v?[0-9][A-Za-z0-9.!+_-]{0,62})"
)
_MARKER_NAME = (
    r"python_version|python_full_version|os_name|sys_platform|platform_release|platform_system|"
    r"platform_version|platform_machine|platform_python_implementation|implementation_name|"
    r"implementation_version|extra"
)
_MARKER_TOKEN = re.compile(
    rf"[ \t]*(?:(?P<open>\()|(?P<close>\))|(?P<join>(?:and|or)\b)"
    rf"|(?P<compare><=|>=|===|==|!=|~=|<|>|in\b|not[ \t]+in\b)"
    rf"|(?P<value>(?:{_MARKER_NAME})\b|\"[A-Za-z0-9 ._+*!-]*\"|'[A-Za-z0-9 ._+*!-]*'))[ \t]*"
)
LONGEST_PACKAGE = 500  # names, extras, versions and a marker fit well
_PACKAGE_REMEDY = "Write one such as `scikit-learn>=1.5`"


def package(text: str) -> str:
    """Return a pip requirement: name, extras, versions and a marker, and nothing else."""
    if text.startswith("-"):
        raise Wrong("a package, not an option of pip", _PACKAGE_REMEDY)
    if "://" in text or "@" in text:
        raise Wrong("a package by name, not a URL or a repository", _PACKAGE_REMEDY)
    requirement, semicolon, marker = text.partition(";")
    match = _PACKAGE.fullmatch(requirement.strip(" \t"))
    if len(text) > LONGEST_PACKAGE or not match:
        raise Wrong("a package name with versions and markers only", _PACKAGE_REMEDY)
    if not _extras_fit(match[2]) or not _versions_fit(match[3]):
        raise Wrong("a package name with versions and markers only", _PACKAGE_REMEDY)
    if semicolon and not _marker_fits(marker):
        raise Wrong(
            "a package with a marker as in PEP 508",
            'Write one such as `tomli>=2; python_version < "3.11"`',
        )
    return text


def _extras_fit(extras: str | None) -> bool:
    if extras is None or not extras.strip(" \t"):
        return True
    return all(_EXTRA.fullmatch(extra.strip(" \t")) for extra in extras.split(","))


def _versions_fit(versions: str) -> bool:
    clauses = versions.strip(" \t")
    if clauses.startswith("(") and clauses.endswith(")"):
        clauses = clauses[1:-1].strip(" \t")
    if not clauses:
        return True
    return all(_CLAUSE.fullmatch(clause.strip(" \t")) for clause in clauses.split(","))


def _marker_fits(marker: str) -> bool:
    """Check `value op value (and|or …)` with parentheses, one token after the other."""
    depth, wanted, position = 0, "value", 0
    while position < len(marker):
        token = _MARKER_TOKEN.match(marker, position)
        kind = token.lastgroup if token else None
        if token is None or kind is None:
            return False
        position = token.end()
        step = _MARKER_STEPS.get((wanted, kind))
        if step is None:
            return False
        wanted, change = step
        depth += change
        if depth < 0:
            return False
    return depth == 0 and wanted == "join"


_MARKER_STEPS = {
    ("value", "open"): ("value", 1),
    ("value", "value"): ("compare", 0),
    ("compare", "compare"): ("other", 0),
    ("other", "value"): ("join", 0),
    ("join", "join"): ("value", 0),
    ("join", "close"): ("join", -1),
}


# --- what YAML 1.1 makes of a plain word ---------------------------------------------------

_NOTHING = frozenset(("", "~", "null", "Null", "NULL"))
_YES_NO = frozenset(
    form
    for word in ("y", "n", "yes", "no", "true", "false", "on", "off")
    for form in (word, word.capitalize(), word.upper())
)
_YAML_NUMBER = re.compile(
    r"[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+"
    r"|(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
    r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)
_YAML_SIXTIES = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_YAML_DATE = re.compile(
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9][0-9:.]*[ \t]*[0-9Z:+-]*)?"
)


@dataclass(frozen=True)
class Reading:
    """What some YAML reader takes a plain word for."""

    words: str  # "a number"
    is_text: bool = False


TEXT = Reading("text", is_text=True)
NOTHING = Reading("nothing")
NUMBER = Reading("a number")
YES_NO = Reading("yes or no")
SIXTIES = Reading("a number in base 60")
DATE = Reading("a date")
MERGE = Reading("a merge")


def yaml_reading(text: str) -> Reading:
    """Return what a plain word is to readers of YAML 1.1 or 1.2, the stranger reading first."""
    if text in _NOTHING:
        return NOTHING
    if text in _YES_NO:
        return YES_NO
    if text in ("<<", "="):
        return MERGE
    if _YAML_NUMBER.fullmatch(text):
        return NUMBER
    if _YAML_SIXTIES.fullmatch(text):
        return SIXTIES
    return DATE if _YAML_DATE.fullmatch(text) else TEXT
