"""A spec file's tree → a Spec, noting every fault on the way.

Each reader returns the value, or None once it has noted what is wrong: one fault never hides
another. Sections and their keys are listed in `KEYS`, which the schema must agree with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

from cynthus import datareader, grammar
from cynthus.filereader import (
    Fields,
    Reader,
    Vocabulary,
    by_grammar,
    checkpoint_interval,
    distinct,
    duration,
    duration_or_zero,
    group,
    list_of,
    money,
    pairs_of,
    read_key,
    size,
    text_list,
    text_of,
    whole,
    words,
)
from cynthus.grammar import Wrong
from cynthus.nodes import Group, Place, Scalar, Sequence, shown
from cynthus.spec import (
    DATA_FOLDER,
    DEFAULT_ATTEMPTS,
    DEFAULT_CHECKPOINT_EVERY,
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

KEYS: dict[str, tuple[str, ...]] = {
    "": (
        *("version", "name", "run", "src", "image", "resources", "data", "env", "secrets"),
        *("outputs", "checkpoint", "gate", "retry", "triggers", "keep_warm"),
        *("encrypt_to", "labels"),
    ),
    "image": ("base", "python", "requirements", "packages", "system", "dockerfile"),
    "resources": (
        *("gpu", "cpu", "memory", "disk", "nodes", "spot", "provider", "places"),
        *("max_duration", "max_cost"),
    ),
    "gpu": ("type", "count"),
    "data": datareader.KEYS,
    "outputs": ("path",),
    "checkpoint": ("path", "every"),
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


_VOCABULARY = Vocabulary(
    sections={section: KEYS[section] for section in ("", "image", "resources", "triggers")},
    synonyms=_SYNONYMS,
    examples=_EXAMPLES,
)


def _group(
    place: Place, keys: tuple[str, ...], required: tuple[str, ...] = (), what: str = "a group"
) -> Fields | None:
    return group(_VOCABULARY, place, keys, required, what)


def read_spec(root: Place) -> Spec | None:
    """Return the Spec of a whole file; faults are noted in `root.faults`."""
    fields = _group(root, KEYS[""], required=("version", "name", "run"), what="a spec")
    if fields is None:
        return None
    read_key(fields, "version", _version, VERSION)
    no_command: str | tuple[str, ...] = ""
    spec = Spec(
        name=read_key(fields, "name", words(grammar.run_name), ""),
        run=read_key(fields, "run", _run, no_command),
        src=read_key(fields, "src", words(grammar.exact_path), "."),
        image=read_key(fields, "image", _image, ImageSpec()),
        resources=read_key(fields, "resources", _resources, Resources()),
        data=read_key(fields, "data", _data, ()),
        env=read_key(fields, "env", _env, ()),
        secrets=read_key(fields, "secrets", _secrets, ()),
        outputs=read_key(fields, "outputs", _outputs, ()),
        checkpoint=read_key(fields, "checkpoint", _checkpoint, None),
        gate=read_key(fields, "gate", _gates, ()),
        retry=read_key(fields, "retry", _retry, Retry()),
        triggers=read_key(fields, "triggers", _triggers, Triggers()),
        keep_warm=read_key(fields, "keep_warm", duration_or_zero, timedelta(0)),
        labels=read_key(fields, "labels", _labels, ()),
        encrypt_to=read_key(fields, "encrypt_to", words(grammar.age_recipient), None),
    )
    _check_across(fields, spec)
    return spec


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
    text = text_of(place)
    if text is None:
        return None
    size = len(text.encode())
    if not text.strip() or size > LARGEST_RUN:
        do = "Write `run: python train.py`; move a long command into a script"
        place.fault(f"a command of 1 to {LARGEST_RUN} bytes", do, f"{size} bytes" if size else None)
        return None
    return text


def _arguments(place: Place) -> tuple[str, ...] | None:
    values = list_of(place, text_of, MOST_ARGUMENTS, what="arguments", least=1)
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
        base=read_key(fields, "base", words(grammar.image_reference), None),
        python=read_key(fields, "python", words(grammar.python_version), None),
        requirements=read_key(fields, "requirements", words(_file), None),
        packages=read_key(
            fields, "packages", text_list(grammar.package, MOST_PACKAGES, "packages"), ()
        ),
        system=read_key(
            fields,
            "system",
            text_list(grammar.debian_package, MOST_PACKAGES, "Debian packages"),
            (),
        ),
        dockerfile=read_key(fields, "dockerfile", words(_file), None),
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
        gpu=read_key(fields, "gpu", _gpu, ()),
        cpu=read_key(fields, "cpu", whole(1, MOST_CPUS, "cpu: 4"), None),
        memory_bytes=read_key(fields, "memory", size, None),
        disk_bytes=read_key(fields, "disk", size, None),
        nodes=read_key(fields, "nodes", whole(1, MOST_NODES, "nodes: 1"), 1),
        spot=read_key(fields, "spot", _spot, Spot.NEVER),
        provider=read_key(fields, "provider", words(grammar.provider_name), None),
        places=read_key(fields, "places", text_list(grammar.place_name, MOST_PLACES, "places"), ()),
        max_duration=read_key(fields, "max_duration", duration, DEFAULT_MAX_DURATION),
        max_cost_usd=read_key(fields, "max_cost", money("max_cost: 5.00"), None),
    )


def _gpu(place: Place) -> tuple[GpuNeed, ...] | None:
    if isinstance(place.node, Sequence):
        needs = list_of(place, _one_gpu, MOST_GPU_CHOICES, what="GPUs", least=1)
        return distinct(place, needs, "a GPU")
    need = _one_gpu(place)
    return None if need is None else (need,)


def _one_gpu(place: Place) -> GpuNeed | None:
    if isinstance(place.node, Scalar):
        return _gpu_word(place)
    fields = _group(place, KEYS["gpu"], required=("type",), what="a GPU such as `l4`, or a group")
    if fields is None:
        return None
    kind = read_key(fields, "type", words(grammar.gpu_type), "")
    count = read_key(fields, "count", whole(1, grammar.MOST_GPUS, "count: 1"), 1)
    return GpuNeed(kind, count) if kind else None


def _gpu_word(place: Place) -> GpuNeed | None:
    node = place.node
    if isinstance(node, Scalar) and node.plain and not node.reading.is_text:
        do = "Write one such as `l4` or `l4:2`, or leave `gpu` out for a run without GPU"
        place.fault("a GPU type with an optional count", do)
        return None
    return words(grammar.gpu)(place)


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
    return list_of(place, _one_source, MOST_DATA, what="data entries")


def _one_source(place: Place) -> DataSource | None:
    fields = _group(place, KEYS["data"], required=("name", "source"), what="a group")
    return None if fields is None else datareader.read_entry(fields)


def _hide(place: Place) -> Place:
    return Place(node=place.node, where=place.where, faults=place.faults, hidden=True)


def _env(place: Place) -> tuple[tuple[str, str], ...] | None:
    return _named_texts(_hide(place), grammar.env_name, _env_value, MOST_ENV)


def _env_value(place: Place) -> str | None:
    text = text_of(place)
    if text is not None and len(text.encode()) > LARGEST_ENV_VALUE:
        place.fault(f"at most {LARGEST_ENV_VALUE} bytes", "Put it in a file", "more")
        return None
    return text


def _labels(place: Place) -> tuple[tuple[str, str], ...] | None:
    return _named_texts(place, grammar.label_key, words(grammar.label_value), MOST_LABELS)


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
    for name, key, value in pairs_of(place, node):
        key_place = Place(node=key, where=place.where, faults=place.faults, hidden=place.hidden)
        known = by_grammar(key_place, name, read_name)
        # A name that is none may hold a value, so its place is not named after it.
        at = place.value(name, value) if known else key_place.value("…", value)
        text = read_value(at)
        if known is not None and text is not None:
            pairs.append((known, text))
    return tuple(pairs)


def _secrets(place: Place) -> tuple[str, ...] | None:
    hidden = _hide(place)
    names = list_of(hidden, words(grammar.env_name), MOST_SECRETS, what="names of secrets")
    return distinct(hidden, names, "a name")


def _outputs(place: Place) -> tuple[Output, ...] | None:
    values = list_of(place, _one_output, MOST_OUTPUTS, what="outputs")
    return distinct(place, values, "an output")


def _one_output(place: Place) -> Output | None:
    path = _under_path(place, grammar.path)
    return None if path is None else Output(path)


def _checkpoint(place: Place) -> Checkpoint | None:
    fields = _group(place, KEYS["checkpoint"], required=("path",), what="a group")
    if fields is None:
        return None
    path = read_key(fields, "path", words(grammar.folder_below), None)
    every = read_key(fields, "every", checkpoint_interval, DEFAULT_CHECKPOINT_EVERY)
    return None if path is None else Checkpoint(path, every)


def _under_path(place: Place, read: Callable[[str], str]) -> str | None:
    fields = _group(place, KEYS["outputs"], required=("path",), what="a group")
    return None if fields is None else read_key(fields, "path", words(read), None)


def _gates(place: Place) -> tuple[Gate, ...] | None:
    values = list_of(place, words(grammar.gate), MOST_GATES, what="gates")
    return distinct(place, values, "a gate")


def _retry(place: Place) -> Retry | None:
    fields = _group(place, KEYS["retry"], what="a group")
    if fields is None:
        return None
    attempts = whole(1, MOST_ATTEMPTS, "attempts: 3")
    return Retry(
        attempts=read_key(fields, "attempts", attempts, DEFAULT_ATTEMPTS),
        on_exit=read_key(fields, "on_exit", _exit_codes, ()),
    )


def _exit_codes(place: Place) -> tuple[int, ...] | None:
    code = whole(1, 255, "75")  # POSIX: an exit code is one byte, and 0 is success
    return distinct(place, list_of(place, code, MOST_EXIT_CODES, what="exit codes"), "a code")


def _triggers(place: Place) -> Triggers | None:
    fields = _group(place, KEYS["triggers"], what="a group")
    if fields is None:
        return None
    return Triggers(
        push=read_key(fields, "push", _push, PushTrigger()),
        pull_request=read_key(fields, "pull_request", _pull_request, PullRequestTrigger.COMMENT),
    )


def _push(place: Place) -> PushTrigger | None:
    fields = _group(place, KEYS["push"], what="a group")
    if fields is None:
        return None
    branches = text_list(grammar.branch_pattern, MOST_PATTERNS, "branches", least=1)
    paths = text_list(grammar.path_pattern, MOST_PATTERNS, "patterns", least=1)
    return PushTrigger(
        branches=read_key(fields, "branches", branches, ()),
        paths=read_key(fields, "paths", paths, PushTrigger().paths),
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
