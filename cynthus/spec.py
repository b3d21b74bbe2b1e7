"""The spec as frozen data: what a `cynthus.yaml` means once it has been read.

Stdlib only and pure, since the agent and the deciding code carry it: no files, no clock, no YAML.
Text that comes from outside goes through `cynthus.specfile.parse`; `spec_from_json` reads back
only what `spec_to_json` wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, NoReturn, TypeVar, cast

from cynthus.errors import UserError

VERSION = 1
DEFAULT_MAX_DURATION = timedelta(hours=24)  # spec.md: "default 24h"
# What a lost instance costs at most beside its boot: about what the boot of the next one takes.
DEFAULT_CHECKPOINT_EVERY = timedelta(minutes=5)
DEFAULT_ATTEMPTS = 3  # spec.md: "infrastructure causes only; default 3"
WORKSPACE = "/workspace"
DATA_FOLDER = "/data"


class Spot(StrEnum):
    """Whether the instance may be one that its owner can take back."""

    NEVER = "never"
    ALWAYS = "always"
    PREFER = "prefer"  # spot first, then on demand


class PullRequestTrigger(StrEnum):
    """What starts a run of a pull request."""

    COMMENT = "comment"  # only `/cynthus run`
    PUSH = "push"  # every push to the pull request


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """The environment the command runs in; None means "found out from the folder"."""

    base: str | None = None
    python: str | None = None
    requirements: str | None = None
    packages: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    dockerfile: str | None = None


@dataclass(frozen=True)
class GpuNeed:
    """One acceptable kind of GPU, with how many of it each instance must have."""

    type: str
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What each instance must have at least, with the run's hard limits."""

    gpu: tuple[GpuNeed, ...] = ()  # in order of preference; empty: no GPU
    cpu: int | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    nodes: int = 1
    spot: Spot = Spot.NEVER
    provider: str | None = None  # None: the server's default
    places: tuple[str, ...] = ()  # in order; empty: the server's list
    max_duration: timedelta = DEFAULT_MAX_DURATION
    max_cost_usd: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """A dataset or model staged before the command starts, read-only at `mount`."""

    name: str
    source: str
    mount: str
    sha256: str | None = None
    include: tuple[str, ...] = ()  # patterns; none: all files
    exclude: tuple[str, ...] = ()
    subset: str | None = None  # a configuration that a dataset's card names
    unpack: bool = False  # an archive: its content is staged instead

    @property
    def kind(self) -> str:
        """Return the scheme of the source: hf, kaggle, gs or https."""
        return self.source.partition("://")[0]


@dataclass(frozen=True)
class Output:
    """A file, folder or glob below /workspace that becomes release assets."""

    path: str


@dataclass(frozen=True)
class Checkpoint:
    """A folder below /workspace, saved while running and put back on the next attempt."""

    path: str
    every: timedelta = DEFAULT_CHECKPOINT_EVERY


@dataclass(frozen=True)
class Retry:
    """How often an attempt is made; `on_exit` names exit codes that also mean "try again"."""

    attempts: int = DEFAULT_ATTEMPTS
    on_exit: tuple[int, ...] = ()


@dataclass(frozen=True)
class PushTrigger:
    """Pushes that start a run; no branches means the repository's default branch."""

    branches: tuple[str, ...] = ()
    paths: tuple[str, ...] = ("**",)


@dataclass(frozen=True)
class Triggers:
    """What starts a run by itself."""

    push: PushTrigger = field(default_factory=PushTrigger)
    pull_request: PullRequestTrigger = PullRequestTrigger.COMMENT


class Relation(StrEnum):
    """How a metric must stand to what is wanted of it."""

    AT_LEAST = ">="
    AT_MOST = "<="
    ABOVE = ">"
    BELOW = "<"
    EQUAL = "=="


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a metric must reach: a number, or one made from the baseline's metric.

    Wanted is `factor` x the baseline's metric + `offset`; without a baseline `offset` alone.
    """

    metric: str
    relation: Relation
    baseline: str | None = None  # the baseline's metric; None: the number counts
    factor: Decimal = Decimal(1)
    offset: Decimal = Decimal(0)

    @property
    def text(self) -> str:
        """Return it as people write it."""
        return f"{self.metric} {self.relation} {self._wanted()}"

    def _wanted(self) -> str:
        if self.baseline is None:
            return str(self.offset)
        whose = "baseline" if self.baseline == self.metric else f"baseline.{self.baseline}"
        if self.factor != 1:
            return f"{whose} * {self.factor}"
        if self.offset:
            return f"{whose} {'-' if self.offset < 0 else '+'} {abs(self.offset)}"
        return whose


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One `cynthus.yaml`, with its defaults filled in."""

    version: int = VERSION
    name: str
    run: str | tuple[str, ...]  # shell text, or arguments without a shell
    src: str = "."
    image: ImageSpec = field(default_factory=ImageSpec)
    resources: Resources = field(default_factory=Resources)
    data: tuple[DataSource, ...] = ()
    env: tuple[tuple[str, str], ...] = ()  # in the file's order; `dict(spec.env)` to look up
    secrets: tuple[str, ...] = ()
    outputs: tuple[Output, ...] = ()
    checkpoint: Checkpoint | None = None
    gate: tuple[Gate, ...] = ()
    retry: Retry = field(default_factory=Retry)
    triggers: Triggers = field(default_factory=Triggers)
    keep_warm: timedelta = timedelta(0)
    labels: tuple[tuple[str, str], ...] = ()
    encrypt_to: str | None = None  # an age recipient: outputs leave the instance for it alone


def spec_digest(text: bytes) -> str:
    """Return the SHA-256 of the file's exact bytes, in hex."""
    import hashlib

    return hashlib.sha256(text).hexdigest()


def spec_to_json(spec: Spec) -> dict[str, Any]:
    """Return the normal form: every default filled in, durations in seconds, sizes in bytes."""
    return {
        "version": spec.version,
        "name": spec.name,
        "run": spec.run if isinstance(spec.run, str) else list(spec.run),
        "src": spec.src,
        "image": _image_to_json(spec.image),
        "resources": _resources_to_json(spec.resources),
        "data": [_data_to_json(source) for source in spec.data],
        "env": dict(spec.env),
        "secrets": list(spec.secrets),
        "outputs": [{"path": output.path} for output in spec.outputs],
        "checkpoint": _checkpoint_to_json(spec.checkpoint),
        "gate": [_gate_to_json(gate) for gate in spec.gate],
        "retry": {"attempts": spec.retry.attempts, "on_exit": list(spec.retry.on_exit)},
        "triggers": {
            "push": {
                "branches": list(spec.triggers.push.branches),
                "paths": list(spec.triggers.push.paths),
            },
            "pull_request": spec.triggers.pull_request.value,
        },
        "keep_warm_s": _whole_seconds(spec.keep_warm),
        "labels": dict(spec.labels),
        # Only where it is set: the form of every other spec stays what it was.
        **({"encrypt_to": spec.encrypt_to} if spec.encrypt_to is not None else {}),
    }


def _image_to_json(image: ImageSpec) -> dict[str, Any]:
    return {
        "base": image.base,
        "python": image.python,
        "requirements": image.requirements,
        "packages": list(image.packages),
        "system": list(image.system),
        "dockerfile": image.dockerfile,
    }


def _resources_to_json(resources: Resources) -> dict[str, Any]:
    cost = resources.max_cost_usd
    return {
        "gpu": [{"type": need.type, "count": need.count} for need in resources.gpu],
        "cpu": resources.cpu,
        "memory_bytes": resources.memory_bytes,
        "disk_bytes": resources.disk_bytes,
        "nodes": resources.nodes,
        "spot": resources.spot.value,
        "provider": resources.provider,
        "places": list(resources.places),
        "max_duration_s": _whole_seconds(resources.max_duration),
        "max_cost_usd": None if cost is None else str(cost),  # text: exact in every language
    }


def _data_to_json(source: DataSource) -> dict[str, Any]:
    return {
        "name": source.name,
        "source": source.source,
        "mount": source.mount,
        "sha256": source.sha256,
        "include": list(source.include),
        "exclude": list(source.exclude),
        "subset": source.subset,
        "unpack": source.unpack,
    }


def _gate_to_json(gate: Gate) -> dict[str, Any]:
    return {
        "metric": gate.metric,
        "relation": gate.relation.value,
        "baseline": gate.baseline,
        "factor": str(gate.factor),  # text: exact in every language
        "offset": str(gate.offset),
    }


def _checkpoint_to_json(checkpoint: Checkpoint | None) -> dict[str, Any] | None:
    if checkpoint is None:
        return None
    return {"path": checkpoint.path, "every_s": _whole_seconds(checkpoint.every)}


def _whole_seconds(duration: timedelta) -> int:
    return duration // timedelta(seconds=1)


def spec_from_json(value: Mapping[str, Any]) -> Spec:
    """Return the Spec whose normal form this is.

    Raises: UserError, naming the place, when it is not a normal form of this version.
    """
    top = _Fields(value, "spec")
    version = top.whole("version")
    if version != VERSION:
        raise UserError(
            f"spec/version: should be {VERSION}, found {version}. Use a Cynthus that reads it."
        )
    return Spec(
        version=version,
        name=top.text("name"),
        run=_run_from_json(top),
        src=top.text("src"),
        image=_image_from_json(top.group("image")),
        resources=_resources_from_json(top.group("resources")),
        data=tuple(_data_from_json(item) for item in top.groups("data")),
        env=top.pairs("env"),
        secrets=top.texts("secrets"),
        outputs=tuple(Output(item.text("path")) for item in top.groups("outputs")),
        checkpoint=_checkpoint_from_json(top),
        gate=tuple(_gate_from_json(item) for item in top.groups("gate")),
        retry=_retry_from_json(top.group("retry")),
        triggers=_triggers_from_json(top.group("triggers")),
        keep_warm=top.duration("keep_warm_s"),
        labels=top.pairs("labels"),
        encrypt_to=top.maybe_text("encrypt_to") if "encrypt_to" in value else None,
    )


def _run_from_json(top: _Fields) -> str | tuple[str, ...]:
    if isinstance(top.get("run"), str):
        return top.text("run")
    return top.texts("run")


def _image_from_json(image: _Fields) -> ImageSpec:
    return ImageSpec(
        base=image.maybe_text("base"),
        python=image.maybe_text("python"),
        requirements=image.maybe_text("requirements"),
        packages=image.texts("packages"),
        system=image.texts("system"),
        dockerfile=image.maybe_text("dockerfile"),
    )


def _resources_from_json(resources: _Fields) -> Resources:
    return Resources(
        gpu=tuple(
            GpuNeed(item.text("type"), item.whole("count")) for item in resources.groups("gpu")
        ),
        cpu=resources.maybe_whole("cpu"),
        memory_bytes=resources.maybe_whole("memory_bytes"),
        disk_bytes=resources.maybe_whole("disk_bytes"),
        nodes=resources.whole("nodes"),
        spot=resources.choice("spot", Spot),
        provider=resources.maybe_text("provider"),
        places=resources.texts("places"),
        max_duration=resources.duration("max_duration_s"),
        max_cost_usd=resources.maybe_amount("max_cost_usd"),
    )


def _data_from_json(item: _Fields) -> DataSource:
    return DataSource(
        name=item.text("name"),
        source=item.text("source"),
        mount=item.text("mount"),
        sha256=item.maybe_text("sha256"),
        include=item.texts("include"),
        exclude=item.texts("exclude"),
        subset=item.maybe_text("subset"),
        unpack=item.yes_no("unpack"),
    )


def _gate_from_json(item: _Fields) -> Gate:
    return Gate(
        metric=item.text("metric"),
        relation=item.choice("relation", Relation),
        baseline=item.maybe_text("baseline"),
        factor=item.number("factor"),
        offset=item.number("offset"),
    )


def _checkpoint_from_json(top: _Fields) -> Checkpoint | None:
    if top.get("checkpoint") is None:
        return None
    fields = top.group("checkpoint")
    if fields.get("every_s") is None:  # as records before it had one
        return Checkpoint(fields.text("path"))
    return Checkpoint(fields.text("path"), fields.duration("every_s"))


def _retry_from_json(retry: _Fields) -> Retry:
    return Retry(retry.whole("attempts"), retry.wholes("on_exit"))


def _triggers_from_json(triggers: _Fields) -> Triggers:
    push = triggers.group("push")
    return Triggers(
        push=PushTrigger(push.texts("branches"), push.texts("paths")),
        pull_request=triggers.choice("pull_request", PullRequestTrigger),
    )


_Word = TypeVar("_Word", bound=StrEnum)

_LARGEST_WHOLE = 2**53  # what every JSON reader keeps exact: RFC 8259, section 6
_LONGEST_S = 10 * 365 * 86400  # ten years: far above any limit of ours, far below timedelta's


class _Fields:
    """Typed reading of one JSON object; what does not fit is refused with its place."""

    def __init__(self, value: object, where: str) -> None:
        self._where = where
        if not isinstance(value, Mapping):
            self._refuse(where, "an object")
        self._value = cast("Mapping[str, object]", value)

    def _refuse(self, where: str, wanted: str) -> NoReturn:
        raise UserError(
            f"{where}: should be {wanted}. Make it with `cynthus show --json`, not by hand."
        )

    def get(self, key: str) -> object:
        if key not in self._value:
            self._refuse(f"{self._where}/{key}", "present")
        return self._value[key]

    def text(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str):
            self._refuse(f"{self._where}/{key}", "text")
        return value

    def maybe_text(self, key: str) -> str | None:
        return None if self.get(key) is None else self.text(key)

    def whole(self, key: str) -> int:
        return self._as_whole(self.get(key), f"{self._where}/{key}")

    def _as_whole(self, value: object, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            self._refuse(where, "a whole number")
        if not 0 <= value <= _LARGEST_WHOLE:
            self._refuse(where, "a whole number from 0 to 2^53")
        return value

    def maybe_whole(self, key: str) -> int | None:
        return None if self.get(key) is None else self.whole(key)

    def yes_no(self, key: str) -> bool:
        value = self.get(key)
        if not isinstance(value, bool):
            self._refuse(f"{self._where}/{key}", "true or false")
        return value

    def duration(self, key: str) -> timedelta:
        seconds = self.whole(key)
        if seconds > _LONGEST_S:
            self._refuse(f"{self._where}/{key}", f"at most {_LONGEST_S}")
        return timedelta(seconds=seconds)

    def number(self, key: str) -> Decimal:
        try:
            number = Decimal(self.text(key))
        except InvalidOperation:
            self._refuse(f"{self._where}/{key}", "a number as text")
        if not number.is_finite():
            self._refuse(f"{self._where}/{key}", "a finite number")
        return number

    def maybe_amount(self, key: str) -> Decimal | None:
        if self.get(key) is None:
            return None
        amount = self.number(key)
        if amount <= 0:
            self._refuse(f"{self._where}/{key}", "an amount above zero")
        return amount

    def choice(self, key: str, words: type[_Word]) -> _Word:
        try:
            return words(self.text(key))
        except ValueError:
            self._refuse(f"{self._where}/{key}", "one of " + ", ".join(words))

    def group(self, key: str) -> _Fields:
        return _Fields(self.get(key), f"{self._where}/{key}")

    def _list(self, key: str) -> list[object]:
        value = self.get(key)
        if not isinstance(value, list):
            self._refuse(f"{self._where}/{key}", "a list")
        return cast("list[object]", value)

    def groups(self, key: str) -> list[_Fields]:
        where = f"{self._where}/{key}"
        return [_Fields(item, f"{where}/{n}") for n, item in enumerate(self._list(key))]

    def texts(self, key: str) -> tuple[str, ...]:
        items = self._list(key)
        if not all(isinstance(item, str) for item in items):
            self._refuse(f"{self._where}/{key}", "a list of text")
        return tuple(cast("list[str]", items))

    def wholes(self, key: str) -> tuple[int, ...]:
        where = f"{self._where}/{key}"
        return tuple(self._as_whole(item, where) for item in self._list(key))

    def pairs(self, key: str) -> tuple[tuple[str, str], ...]:
        value = self.group(key)._value  # noqa: SLF001 - its own class
        if not all(isinstance(text, str) for text in value.values()):
            self._refuse(f"{self._where}/{key}", "names with text")
        return tuple((name, cast("str", text)) for name, text in value.items())
