"""A spec file's tree → a Spec, noting every fault on the way.

Each reader returns the value, or None once it has noted what is wrong: one fault never hides
another. Sections and their keys are listed in `KEYS`, which the schema must agree with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import TypeVar

from cynthus import grammar
from cynthus.grammar import Wrong
from cynthus.nodes import Broken, Group, Node, Place, Scalar, Sequence, shown
from cynthus.spec import (
    DATA_FOLDER,
    DEFAULT_ATTEMPTS,
    DEFAULT_MAX_DURATION,
    VERSION,
    WORKSPACE,
    Checkpoint,
    DataSource,
    Gate,
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
)

T = TypeVar("T")
Reader = Callable[[Place], T | None]
Fields = dict[str, Place]

# Looking for near names costs 0.1 ms a key, and nobody reads the hundredth guess: a file of nothing
# but unknown keys would take a second.
GUESSED = 100

KEYS: dict[str, tuple[str, ...]] = {
    "": (
        *("version", "name", "run", "src", "image", "resources", "data", "env", "secrets"),
        *("outputs", "checkpoint", "gate", "retry", "triggers", "keep_warm", "labels"),
    ),
    "image": ("base", "python", "requirements", "packages", "system", "dockerfile"),
    "resources": (
        *("gpu", "cpu", "memory", "disk", "nodes", "spot", "provider", "places"),
        *("max_duration", "max_cost"),
    ),
    "gpu": ("type", "count"),
    "data": ("name", "source", "mount", "sha256"),
    "outputs": ("path",),
    "checkpoint": ("path",),
    "retry": ("attempts", "on_exit"),
    "triggers": ("push", "pull_request"),
    "push": ("branches", "paths"),
}

# The field's other words for ours, so that a newcomer is told the right one.
_SYNONYMS = {
    "command": "run",
    "commands": "run",
    "cmd": "run",
    "script": "run",
    "entrypoint": "run",
    "steps": "run",
    "source": "src",
    "workdir": "src",
    "docker_image": "image",
    "container": "image",
    "pip": "packages",
    "apt": "system",
    "gpus": "gpu",
    "accelerator": "gpu",
    "accelerators": "gpu",
    "cpus": "cpu",
    "ram": "memory",
    "mem": "memory",
    "disk_size": "disk",
    "num_nodes": "nodes",
    "preemptible": "spot",
    "backend": "provider",
    "cloud": "provider",
    "region": "places",
    "regions": "places",
    "zone": "places",
    "zones": "places",
    "timeout": "max_duration",
    "budget": "max_cost",
    "max_price": "max_cost",
    "dataset": "data",
    "datasets": "data",
    "environment": "env",
    "envs": "env",
    "artifacts": "outputs",
    "output": "outputs",
    "results": "outputs",
    "checkpoints": "checkpoint",
    "gates": "gate",
    "thresholds": "gate",
    "retries": "retry",
    "on": "triggers",
    "trigger": "triggers",
    "tags": "labels",
}

# spec.md, "Limits"; those it does not name are set where no honest spec comes near.
MOST_ENV, LARGEST_ENV_VALUE = 64, 32 * 1024
MOST_SECRETS = 32
MOST_DATA = 32
MOST_OUTPUTS = 100
MOST_GATES = 20
LARGEST_RUN = 32 * 1024
MOST_LABELS = 32
MOST_PACKAGES = 256
MOST_PLACES = 32
MOST_GPU_CHOICES = 8
MOST_PATTERNS = 64
MOST_NODES = 256
MOST_CPUS = 1024  # the largest machines on the market have fewer
MOST_ATTEMPTS = 10
MOST_EXIT_CODES = 255
MOST_ARGUMENTS = 1024


def read_spec(root: Place) -> Spec | None:
    """Return the Spec of a whole file; faults are noted in `root.faults`."""
    fields = _group(root, KEYS[""], required=("version", "name", "run"), what="a spec")
    if fields is None:
        return None
    _read(fields, "version", _version, VERSION)
    no_command: str | tuple[str, ...] = ""
    spec = Spec(
        name=_read(fields, "name", _words(grammar.run_name), ""),
        run=_read(fields, "run", _run, no_command),
        src=_read(fields, "src", _words(grammar.exact_path), "."),
        image=_read(fields, "image", _image, ImageSpec()),
        resources=_read(fields, "resources", _resources, Resources()),
        data=_read(fields, "data", _data, ()),
        env=_read(fields, "env", _env, ()),
        secrets=_read(fields, "secrets", _secrets, ()),
        outputs=_read(fields, "outputs", _outputs, ()),
        checkpoint=_read(fields, "checkpoint", _checkpoint, None),
        gate=_read(fields, "gate", _gates, ()),
        retry=_read(fields, "retry", _retry, Retry()),
        triggers=_read(fields, "triggers", _triggers, Triggers()),
        keep_warm=_read(fields, "keep_warm", _keep_warm, timedelta(0)),
        labels=_read(fields, "labels", _labels, ()),
    )
    _check_across(fields, spec)
    return spec


# --- reading by kind -----------------------------------------------------------------------


def _read(fields: Fields, key: str, reader: Reader[T], default: T) -> T:
    if key not in fields:
        return default
    value = reader(fields[key])
    return default if value is None else value


def _group(
    place: Place, keys: tuple[str, ...], required: tuple[str, ...] = (), what: str = "a group"
) -> Fields | None:
    """Return the places of a group's known keys; note unknown, repeated and missing ones."""
    node = place.node
    if not isinstance(node, Group):
        names = ", ".join(f"`{key}`" for key in keys)
        place.fault(
            f"{what} with keys such as {names}"[:200], f"Write `{(required or keys)[0]}:` under it"
        )
        return None
    fields: Fields = {}
    for name, key, value in _pairs(place, node):
        if name in keys:
            fields[name] = place.value(name, value)
        else:
            _unknown_key(place, key, name, keys)
    if node.complete:
        _check_missing(place, fields, required)
    return fields


def _pairs(place: Place, node: Group) -> Iterator[tuple[str, Node, Node]]:
    """Yield names, keys and values; repeated keys and keys that are no text are noted."""
    lines: dict[str, int] = {}
    for number, (key, value) in enumerate(node.pairs, start=1):
        key_place = Place(node=key, where=place.where, faults=place.faults, hidden=place.hidden)
        name = _key_name(key_place, value)
        if name is None:
            continue
        if name in lines:
            found = f"key number {number} again" if place.hidden else f"{shown(name)} again"
            key_place.fault(
                "a key of its own", f"Remove it: it stands on line {lines[name]} already", found
            )
            continue
        lines[name] = key.mark.line
        yield name, key, value


def _key_name(place: Place, value: Node) -> str | None:
    node = place.node
    if isinstance(node, Broken):
        return None
    if not isinstance(node, Scalar):
        place.fault("a key that is plain text", "Write `key: value`")
        return None
    if node.plain and node.text == "<<":
        if not isinstance(value, Broken):  # an alias was reported already
            place.fault(
                "a key", "Merge keys are not read; write the keys out", "a merge key (`<<`)"
            )
        return None
    if not node.reading.is_text:
        place.fault("a key that is text", "Put the key in quotes")
        return None
    return node.text


def _unknown_key(place: Place, key: Node, name: str, keys: tuple[str, ...]) -> None:
    key_place = Place(node=key, where=place.where, faults=place.faults)
    guess = len(place.faults.found) < GUESSED
    key_place.fault("a known key", _key_remedy(place.where, name, keys, guess=guess))


def _key_remedy(where: str, name: str, keys: tuple[str, ...], *, guess: bool) -> str:
    import difflib

    word = name.lower().replace("-", "_")[:60]
    near = _SYNONYMS.get(word, word)
    if near not in keys and guess:
        near = next(iter(difflib.get_close_matches(near, keys, n=1)), near)
    if near in keys:
        return f"Did you mean `{near}`?"[:-1] + "? Write that, or remove the key"
    for section in ("", "image", "resources", "triggers"):
        if near in KEYS[section] and section != where:
            return f"Write `{near}` " + (f"under `{section}`" if section else "at the top level")
    return "Remove it, or write one of " + ", ".join(f"`{key}`" for key in keys)


def _check_missing(place: Place, fields: Fields, required: tuple[str, ...]) -> None:
    present = set(fields)
    for key in required:
        if key not in present:
            example = _EXAMPLES[(place.where.rstrip("/0123456789"), key)]
            at = place.value(key, place.node)
            at.fault("present", f"Write `{example}`", "nothing")


_EXAMPLES = {
    ("", "version"): "version: 1",
    ("", "name"): "name: digits",
    ("", "run"): "run: python train.py",
    ("data", "name"): "name: train",
    ("data", "source"): "source: hf://datasets/OWNER/NAME",
    ("outputs", "path"): "path: outputs/model",
    ("checkpoint", "path"): "path: checkpoints",
    ("resources/gpu", "type"): "type: l4",
}


def _text(place: Place) -> str | None:
    """Return text; a plain word that YAML reads as something else is refused."""
    node = place.node
    if not isinstance(node, Scalar):
        place.fault("text", "Write text here")
        return None
    if not node.reading.is_text:
        place.fault("text", _quote_remedy(place, node))
        return None
    return node.text


def _quote_remedy(place: Place, node: Scalar) -> str:
    if not node.text:
        return "Write a text after the colon" + (
            ', or `""`' if place.hidden else ", or remove the key"
        )
    if place.hidden or len(node.text) > 40:  # noqa: PLR2004 - a long word is not repeated
        return "Put it in quotes"
    return f"Put it in quotes: `{shown(node.text)}`"


def _words(read: Callable[[str], T]) -> Reader[T]:
    """Return a reader for text that a grammar must accept."""

    def reader(place: Place) -> T | None:
        text = _text(place)
        return None if text is None else _by_grammar(place, text, read)

    return reader


def _by_grammar(place: Place, text: str, read: Callable[[str], T]) -> T | None:
    try:
        return read(text)
    except Wrong as wrong:
        place.wrong(wrong)
        return None


def _number(low: int, high: int, example: str) -> Reader[int]:
    """Return a reader for a plain whole number."""

    def reader(place: Place) -> int | None:
        node = place.node
        number = None
        if isinstance(node, Scalar) and node.plain:
            number = grammar.whole_number(node.text)
        if number is None or not low <= number <= high:
            place.fault(f"a whole number from {low} to {high}", f"Write `{example}`")
            return None
        return number

    return reader


def _list(
    place: Place, reader: Reader[T], most: int, *, what: str, least: int = 0
) -> tuple[T, ...] | None:
    """Return a list's items; an item with a fault is left out."""
    if not isinstance(place.node, Sequence):
        place.fault(f"a list of {what}", "Write each on its own line after `- `")
        return None
    count = len(place.node.items)
    if not least <= count <= most:
        do = "Write fewer" if count else "Write one, or remove the key"
        place.fault(f"a list of {least} to {most} {what}", do, str(count))
        return None
    values = (reader(item) for item in place.items())
    return tuple(value for value in values if value is not None)


def _distinct(place: Place, values: tuple[T, ...] | None, what: str) -> tuple[T, ...] | None:
    """Refuse a value that is there twice; counts only when no item had a fault."""
    if values is None or len(values) != len(list(place.items())):
        return values
    seen: set[T] = set()
    for item, value in zip(place.items(), values, strict=True):
        if value in seen:
            item.fault(f"{what} of its own", "Remove it: it is in the list already")
        seen.add(value)
    return values


def _text_list(
    read: Callable[[str], T], most: int, what: str, least: int = 0
) -> Reader[tuple[T, ...]]:
    def reader(place: Place) -> tuple[T, ...] | None:
        values = _list(place, _words(read), most, what=what, least=least)
        return _distinct(place, values, "an entry")

    return reader


# --- sections ------------------------------------------------------------------------------


def _version(place: Place) -> int | None:
    node = place.node
    if not (isinstance(node, Scalar) and node.plain and node.text == str(VERSION)):
        place.fault(
            f"the number {VERSION}, the only version there is", f"Write `version: {VERSION}`"
        )
        return None
    return VERSION


def _run(place: Place) -> str | tuple[str, ...] | None:
    if isinstance(place.node, Sequence):
        return _arguments(place)
    text = _text(place)
    if text is None:
        return None
    size = len(text.encode())
    if not text.strip() or size > LARGEST_RUN:
        do = "Write `run: python train.py`; move a long command into a script"
        place.fault(f"a command of 1 to {LARGEST_RUN} bytes", do, f"{size} bytes" if size else None)
        return None
    return text


def _arguments(place: Place) -> tuple[str, ...] | None:
    values = _list(place, _text, MOST_ARGUMENTS, what="arguments", least=1)
    if not values:
        return values
    if not values[0].strip():
        next(place.items()).fault("a program", "Write one such as `python`")
    if sum(len(value.encode()) + 1 for value in values) > LARGEST_RUN:
        place.fault(f"a command of at most {LARGEST_RUN} bytes", "Move it into a script", "more")
    return values


def _image(place: Place) -> ImageSpec | None:
    fields = _group(place, KEYS["image"], what="a group")
    if fields is None:
        return None
    _check_dockerfile_alone(fields)
    return ImageSpec(
        base=_read(fields, "base", _words(grammar.image_reference), None),
        python=_read(fields, "python", _words(grammar.python_version), None),
        requirements=_read(fields, "requirements", _words(_file), None),
        packages=_read(
            fields, "packages", _text_list(grammar.package, MOST_PACKAGES, "packages"), ()
        ),
        system=_read(
            fields,
            "system",
            _text_list(grammar.debian_package, MOST_PACKAGES, "Debian packages"),
            (),
        ),
        dockerfile=_read(fields, "dockerfile", _words(_file), None),
    )


def _file(text: str) -> str:
    found = grammar.exact_path(text)
    if found == "." or text.endswith("/"):
        raise Wrong("a file in the repository", "Write one such as `requirements.txt`")
    return found


def _check_dockerfile_alone(fields: Fields) -> None:
    if "dockerfile" not in fields:
        return
    for key in ("base", "python", "requirements", "packages", "system"):
        if key in fields:
            fields[key].fault(
                "absent beside `dockerfile`", f"Remove `{key}`, or remove `dockerfile`", f"`{key}`"
            )


def _resources(place: Place) -> Resources | None:
    fields = _group(place, KEYS["resources"], what="a group")
    if fields is None:
        return None
    return Resources(
        gpu=_read(fields, "gpu", _gpu, ()),
        cpu=_read(fields, "cpu", _number(1, MOST_CPUS, "cpu: 4"), None),
        memory_bytes=_read(fields, "memory", _size, None),
        disk_bytes=_read(fields, "disk", _size, None),
        nodes=_read(fields, "nodes", _number(1, MOST_NODES, "nodes: 1"), 1),
        spot=_read(fields, "spot", _spot, Spot.NEVER),
        provider=_read(fields, "provider", _words(grammar.provider_name), None),
        places=_read(fields, "places", _text_list(grammar.place_name, MOST_PLACES, "places"), ()),
        max_duration=_read(fields, "max_duration", _max_duration, DEFAULT_MAX_DURATION),
        max_cost_usd=_read(fields, "max_cost", _money, None),
    )


def _gpu(place: Place) -> tuple[GpuNeed, ...] | None:
    if isinstance(place.node, Sequence):
        needs = _list(place, _one_gpu, MOST_GPU_CHOICES, what="GPUs", least=1)
        return _distinct(place, needs, "a GPU")
    need = _one_gpu(place)
    return None if need is None else (need,)


def _one_gpu(place: Place) -> GpuNeed | None:
    if isinstance(place.node, Scalar):
        return _gpu_word(place)
    fields = _group(place, KEYS["gpu"], required=("type",), what="a GPU such as `l4`, or a group")
    if fields is None:
        return None
    kind = _read(fields, "type", _words(grammar.gpu_type), "")
    count = _read(fields, "count", _number(1, grammar.MOST_GPUS, "count: 1"), 1)
    return GpuNeed(kind, count) if kind else None


def _gpu_word(place: Place) -> GpuNeed | None:
    node = place.node
    if isinstance(node, Scalar) and node.plain and not node.reading.is_text:
        do = "Write one such as `l4` or `l4:2`, or leave `gpu` out for a run without GPU"
        place.fault("a GPU type with an optional count", do)
        return None
    return _words(grammar.gpu)(place)


def _amount_text(place: Place, wanted: str, example: str) -> str | None:
    """Return an amount with a unit; a bare number is no text, and its message names the unit."""
    node = place.node
    if not isinstance(node, Scalar) or not node.text:
        place.fault(wanted, f"Write `{example}`")
        return None
    return node.text


def _size(place: Place) -> int | None:
    text = _amount_text(place, "a size with its unit", "16GB")
    return None if text is None else _by_grammar(place, text, grammar.size)


def _max_duration(place: Place) -> timedelta | None:
    text = _amount_text(place, "a length of time", "2h")
    if text is None:
        return None
    return _by_grammar(place, text, lambda word: grammar.duration(word, grammar.LONGEST_DURATION))


def _keep_warm(place: Place) -> timedelta | None:
    text = _amount_text(place, "a length of time", "10m")
    if text is None:
        return None
    if text == "0" and isinstance(place.node, Scalar) and place.node.plain:
        return timedelta(0)
    longest = grammar.LONGEST_KEEP_WARM
    return _by_grammar(
        place, text, lambda word: grammar.duration(word, longest, zero_is_meant=True)
    )


def _money(place: Place) -> Decimal | None:
    node = place.node
    if isinstance(node, Scalar) and node.plain:
        return _by_grammar(place, node.text, grammar.money)
    place.fault("US dollars as a plain number", "Write `max_cost: 5.00`, without quotes or sign")
    return None


_SPOT_WORDS = {"true": Spot.ALWAYS, "false": Spot.NEVER, "prefer": Spot.PREFER}


def _spot(place: Place) -> Spot | None:
    node = place.node
    word = node.text if isinstance(node, Scalar) else ""
    if (
        not isinstance(node, Scalar)
        or word not in _SPOT_WORDS
        or (not node.plain and word != "prefer")
    ):
        place.fault("`true`, `false` or `prefer`", "Write one of them, without quotes")
        return None
    return _SPOT_WORDS[word]


def _data(place: Place) -> tuple[DataSource, ...] | None:
    return _list(place, _one_source, MOST_DATA, what="data entries")


def _one_source(place: Place) -> DataSource | None:
    fields = _group(place, KEYS["data"], required=("name", "source"), what="a group")
    if fields is None:
        return None
    name = _read(fields, "name", _words(grammar.data_name), "")
    source = _read(fields, "source", _words(grammar.source), "")
    mount = _read(fields, "mount", _words(grammar.mount), "")
    digest = _read(fields, "sha256", _words(grammar.sha256), None)
    if "sha256" in fields and source and not source.startswith("https://"):
        do = "Remove it: other sources are pinned by their revision"
        fields["sha256"].fault("only beside an https source", do, "a digest")
    if "mount" not in fields and name:
        mount = f"{DATA_FOLDER}/{name}"
    return DataSource(name=name, source=source, mount=mount, sha256=digest)


def _hide(place: Place) -> Place:
    return Place(node=place.node, where=place.where, faults=place.faults, hidden=True)


def _env(place: Place) -> tuple[tuple[str, str], ...] | None:
    return _named_texts(_hide(place), grammar.env_name, _env_value, MOST_ENV)


def _env_value(place: Place) -> str | None:
    text = _text(place)
    if text is not None and len(text.encode()) > LARGEST_ENV_VALUE:
        place.fault(f"at most {LARGEST_ENV_VALUE} bytes", "Put it in a file", "more")
        return None
    return text


def _labels(place: Place) -> tuple[tuple[str, str], ...] | None:
    return _named_texts(place, grammar.label_key, _words(grammar.label_value), MOST_LABELS)


def _named_texts(
    place: Place, read_name: Callable[[str], str], read_value: Reader[str], most: int
) -> tuple[tuple[str, str], ...] | None:
    """Return a group whose keys are the user's own."""
    node = place.node
    if not isinstance(node, Group):
        place.fault("a group of names with text", 'Write `NAME: "text"` under it')
        return None
    if len(node.pairs) > most:
        place.fault(f"at most {most} entries", "Write fewer", f"{len(node.pairs)}")
        return None
    pairs: list[tuple[str, str]] = []
    for name, key, value in _pairs(place, node):
        key_place = Place(node=key, where=place.where, faults=place.faults, hidden=place.hidden)
        known = _by_grammar(key_place, name, read_name)
        # A name that is none may hold a value, so its place is not named after it.
        at = place.value(name, value) if known else key_place.value("…", value)
        text = read_value(at)
        if known is not None and text is not None:
            pairs.append((known, text))
    return tuple(pairs)


def _secrets(place: Place) -> tuple[str, ...] | None:
    hidden = _hide(place)
    names = _list(hidden, _words(grammar.env_name), MOST_SECRETS, what="names of secrets")
    return _distinct(hidden, names, "a name")


def _outputs(place: Place) -> tuple[Output, ...] | None:
    values = _list(place, _one_output, MOST_OUTPUTS, what="outputs")
    return _distinct(place, values, "an output")


def _one_output(place: Place) -> Output | None:
    path = _under_path(place, grammar.path)
    return None if path is None else Output(path)


def _checkpoint(place: Place) -> Checkpoint | None:
    path = _under_path(place, grammar.folder_below)
    return None if path is None else Checkpoint(path)


def _under_path(place: Place, read: Callable[[str], str]) -> str | None:
    fields = _group(place, KEYS["outputs"], required=("path",), what="a group")
    return None if fields is None else _read(fields, "path", _words(read), None)


def _gates(place: Place) -> tuple[Gate, ...] | None:
    values = _list(place, _words(grammar.gate), MOST_GATES, what="gates")
    return _distinct(place, values, "a gate")


def _retry(place: Place) -> Retry | None:
    fields = _group(place, KEYS["retry"], what="a group")
    if fields is None:
        return None
    attempts = _number(1, MOST_ATTEMPTS, "attempts: 3")
    return Retry(
        attempts=_read(fields, "attempts", attempts, DEFAULT_ATTEMPTS),
        on_exit=_read(fields, "on_exit", _exit_codes, ()),
    )


def _exit_codes(place: Place) -> tuple[int, ...] | None:
    code = _number(1, 255, "75")  # POSIX: an exit code is one byte, and 0 is success
    return _distinct(place, _list(place, code, MOST_EXIT_CODES, what="exit codes"), "a code")


def _triggers(place: Place) -> Triggers | None:
    fields = _group(place, KEYS["triggers"], what="a group")
    if fields is None:
        return None
    return Triggers(
        push=_read(fields, "push", _push, PushTrigger()),
        pull_request=_read(fields, "pull_request", _pull_request, PullRequestTrigger.COMMENT),
    )


def _push(place: Place) -> PushTrigger | None:
    fields = _group(place, KEYS["push"], what="a group")
    if fields is None:
        return None
    branches = _text_list(grammar.branch_pattern, MOST_PATTERNS, "branches", least=1)
    paths = _text_list(grammar.path_pattern, MOST_PATTERNS, "patterns", least=1)
    return PushTrigger(
        branches=_read(fields, "branches", branches, ()),
        paths=_read(fields, "paths", paths, PushTrigger().paths),
    )


def _pull_request(place: Place) -> PullRequestTrigger | None:
    node = place.node
    words = [word.value for word in PullRequestTrigger]
    if not isinstance(node, Scalar) or node.text not in words:
        place.fault("`comment` or `push`", "Write `pull_request: comment` for `/cynthus run` only")
        return None
    return PullRequestTrigger(node.text)


# --- across sections -----------------------------------------------------------------------


def _check_across(fields: Fields, spec: Spec) -> None:
    """Note what only two places together make wrong."""
    _check_shared_names(fields, spec)
    if "data" in fields:
        _check_data_names(fields["data"])
        _check_mounts(fields["data"], spec)


def _check_shared_names(fields: Fields, spec: Spec) -> None:
    if "secrets" not in fields:
        return
    set_by_env = {name for name, _ in spec.env}
    for item in _hide(fields["secrets"]).items():
        if isinstance(item.node, Scalar) and item.node.text in set_by_env:
            name = f"the name `{item.node.text}` again"  # a name that fits, and no value
            item.fault("a name that `env` does not set", "Remove it from one of them", name)


def _values_of(item: Place, key: str) -> Iterator[Place]:
    if isinstance(item.node, Group):
        for name, value in item.node.pairs:
            if isinstance(name, Scalar) and name.text == key:
                yield item.value(key, value)
                return


def _check_data_names(data: Place) -> None:
    seen: set[str] = set()
    for item in data.items():
        for place in _values_of(item, "name"):
            if not isinstance(place.node, Scalar):
                continue
            if place.node.text in seen:
                place.fault("a name of its own", "Write another name")
            seen.add(place.node.text)


def _check_mounts(data: Place, spec: Spec) -> None:
    taken = _taken_folders(spec)
    named: set[str] = set()
    for item in data.items():
        at, mount = _mount_of(item)
        by_name = at.where.endswith("/name")
        if not mount or (by_name and mount in named):  # a repeated name was reported as such
            continue
        if by_name:
            named.add(mount)
        clash = next((what for folder, what in taken if grammar.paths_overlap(mount, folder)), None)
        if clash:
            at.fault(f"a mount apart from {clash}", "Write another mount", shown(mount))
        taken.append((mount, f"the mount {shown(mount)}"))


def _mount_of(item: Place) -> tuple[Place, str]:
    """Return where an entry's mount is written and what it is; empty when it has a fault."""
    for place in _values_of(item, "mount"):
        return place, _fitting(place, grammar.mount)
    for place in _values_of(item, "name"):
        name = _fitting(place, grammar.data_name)
        return place, f"{DATA_FOLDER}/{name}" if name else ""
    return item, ""


def _fitting(place: Place, read: Callable[[str], str]) -> str:
    if not isinstance(place.node, Scalar) or not place.node.reading.is_text:
        return ""
    try:
        return read(place.node.text)
    except Wrong:
        return ""


def _taken_folders(spec: Spec) -> list[tuple[str, str]]:
    # $CYNTHUS_OUTPUTS is there whether the spec names it or not.
    taken = [(f"{WORKSPACE}/outputs", f"{WORKSPACE}/outputs")]
    taken += [
        (grammar.glob_root(output.path), f"the output {shown(output.path)}")
        for output in spec.outputs
    ]
    if spec.checkpoint:
        taken.append((f"{WORKSPACE}/{spec.checkpoint.path}", "the checkpoint folder"))
    return taken
