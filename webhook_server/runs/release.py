"""Say what a run's release consists of, down to where each byte comes from: pure."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cynthus.frozen import replace
from cynthus.packing import END, OWN_FOLDER, PackedFile
from cynthus.wire import Output
from webhook_server.runs.limits import cost_of_work
from webhook_server.runs.model import Run
from webhook_server.runs.provenance import PROVENANCE

# https://docs.github.com/repositories/releasing-projects-on-github/about-releases#storage-and-bandwidth-quotas
PART_BYTES = 2_000_000_000  # "each file must be under 2 GiB"
MAX_ASSETS = 1000
_OWN_ASSETS = 10  # eight of ours at most; and room for what GitHub may add
_NAME_LIMIT = 180
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9._-]+")
MANIFEST, METRICS, LOG = "manifest.json", "metrics.json", "log.txt"
# CycloneDX names its files *.cdx.json: https://cyclonedx.org/specification/overview/
LOCK, SBOM = "requirements.lock", "sbom.cdx.json"
CARD = "model-card.md"


@dataclass(frozen=True, kw_only=True)
class Literal:
    """Bytes that we write ourselves."""

    data: bytes

    @property
    def size_bytes(self) -> int:
        """Return how many there are."""
        return len(self.data)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A stretch of a stored output."""

    path: str
    offset: int
    size_bytes: int


Segment = Literal | Stretch


@dataclass(frozen=True, kw_only=True)
class AssetPlan:
    """One asset: its name, and the segments that follow one another in it."""

    name: str
    segments: tuple[Segment, ...]
    sha256: str | None  # known when it is one whole output

    @property
    def size_bytes(self) -> int:
        """Return the asset's size."""
        return sum(segment.size_bytes for segment in self.segments)


@dataclass(frozen=True, kw_only=True)
class ReleasePlan:
    """The outputs' assets, and what the manifest says of every file."""

    assets: tuple[AssetPlan, ...]
    files: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class OwnFile:
    """A file of the release that we made."""

    name: str
    size_bytes: int
    sha256: str


def tag_of(run: Run, again: int = 1) -> str:
    """Return the tag; `again`: of the names for it, the how-manieth, once others are taken."""
    tag = f"cynthus/{run.spec.name if run.spec else 'run'}/{run.number}"
    return tag if again == 1 else f"{tag}-{again}"


def title_of(run: Run) -> str:
    """Return the release's title."""
    return f"{run.spec.name if run.spec else 'run'} #{run.number} ({run.key.commit_sha[:10]})"


def marker_of(run: Run) -> str:
    """Return the hidden line by which a draft of this run is found again."""
    return f"<!-- cynthus-run:{run.id} -->"


Indexes = Mapping[str, Sequence[PackedFile]]  # what lies in the agents' archives, by their paths
_NO_INDEXES: Indexes = {}


def as_told(run: Run) -> Run:
    """Return the run as its release tells it: the same at every try.

    Its cost grows until its machines are gone. A try whose publishing takes effect late would
    publish what the next one has begun to write anew.
    """
    return replace(run, cost_usd=cost_of_work(run))


def plan(run: Run, indexes: Indexes = _NO_INDEXES) -> ReleasePlan:
    """Return how the run's outputs become assets; archives without an index stay as they are."""
    outputs = [output for output in run.outputs or () if output.path not in indexes]
    packs = [output for output in run.outputs or () if output.path in indexes]
    merged = _merged(packs, indexes)
    stored = [output for output in outputs if output.left_out is None]
    pieces = sum(max(-(-output.size_bytes // PART_BYTES), 1) for output in stored)
    if pieces + len(merged.assets) + _OWN_ASSETS > MAX_ASSETS:
        loose = _bundled(run, outputs, stored)
    else:
        taken = (*_own_names(run), *(asset.name for asset in merged.assets))
        loose = _one_each(taken, outputs)
    return ReleasePlan(assets=loose.assets + merged.assets, files=loose.files + merged.files)


def is_readable_pack(output: Output) -> bool:
    """Say whether it is an archive of the agent's whose index the server can read."""
    return output.left_out is None and output.packed > 0 and output.plain_sha256 is None


def _merged(packs: Sequence[Output], indexes: Indexes) -> ReleasePlan:
    """Put archives one behind the other, as many as an asset holds: that is one archive again."""
    groups: list[list[Output]] = []
    for pack in packs:
        last = groups[-1] if groups else []
        room = PART_BYTES - len(END) - sum(one.size_bytes for one in last)
        if last and _rank_of(last[0]) == _rank_of(pack) and pack.size_bytes <= room:
            last.append(pack)
        else:
            groups.append([pack])
    assets: list[AssetPlan] = []
    files: list[Mapping[str, Any]] = []
    for number, group in enumerate(groups, 1):
        rank = _rank_of(group[0])
        name = f"{_asset_name(rank)}-packed-{number:03}.tar" if rank else f"packed-{number:03}.tar"
        whole = [Stretch(path=one.path, offset=0, size_bytes=one.size_bytes) for one in group]
        assets.append(AssetPlan(name=name, segments=(*whole, Literal(data=END)), sha256=None))
        files += [_packed_file(rank, one, name) for pack in group for one in indexes[pack.path]]
    return ReleasePlan(assets=tuple(assets), files=tuple(files))


def _rank_of(pack: Output) -> str:
    """Return the folder of the instance that made it: `rank-1/`, or nothing."""
    return pack.path.rpartition(f"{OWN_FOLDER}/")[0]


def _packed_file(rank: str, one: PackedFile, name: str) -> Mapping[str, Any]:
    return {
        "path": rank + one.path,
        "size_bytes": one.size_bytes,
        "sha256": one.sha256,
        "bundle": name,
        "asset": name,
        **({"member": one.path} if rank else {}),
    }


def _one_each(taken: Iterable[str], outputs: Iterable[Output]) -> ReleasePlan:
    names = _Names(taken)
    assets: list[AssetPlan] = []
    files: list[Mapping[str, Any]] = []
    for output in outputs:
        made = () if _is_left_out(output) else _assets_of(output, names)
        assets += made
        files.append(_file(output, made))
    return ReleasePlan(assets=tuple(assets), files=tuple(files))


def _is_left_out(output: Output) -> bool:
    # GitHub takes no empty asset; the manifest tells that the file exists.
    return output.left_out is not None or output.size_bytes == 0


def _assets_of(output: Output, names: _Names) -> tuple[AssetPlan, ...]:
    whole = Stretch(path=output.path, offset=0, size_bytes=output.size_bytes)
    name = names.take(output.path)
    parts = _split((whole,))
    if len(parts) == 1:
        return (AssetPlan(name=name, segments=(whole,), sha256=output.sha256),)
    return _numbered(name, parts)


def _numbered(name: str, parts: Sequence[tuple[Segment, ...]]) -> tuple[AssetPlan, ...]:
    return tuple(
        AssetPlan(name=f"{name}.part{number:03}", segments=part, sha256=None)
        for number, part in enumerate(parts, 1)
    )


def _bundled(run: Run, outputs: Sequence[Output], stored: Sequence[Output]) -> ReleasePlan:
    segments: list[Segment] = []
    for output in stored:
        segments += _tar_member(output, run)
    segments.append(Literal(data=bytes(2 * tarfile.BLOCKSIZE)))  # the end of an archive
    parts = _split(tuple(segments))
    name = "outputs.tar"
    assets = (
        (AssetPlan(name=name, segments=parts[0], sha256=None),)
        if len(parts) == 1
        else _numbered(name, parts)
    )
    packed = tuple(asset for asset in assets)
    files = tuple(
        _file(output, () if output.left_out is not None else packed, bundle=name)
        for output in outputs
    )
    return ReleasePlan(assets=assets, files=files)


def _tar_member(output: Output, run: Run) -> list[Segment]:
    member = tarfile.TarInfo(output.path)
    member.size = output.size_bytes
    member.mtime = int(run.created_at.timestamp())  # the same archive at every try
    head = member.tobuf(tarfile.PAX_FORMAT)
    padding = -output.size_bytes % tarfile.BLOCKSIZE
    found: list[Segment] = [Literal(data=head)]
    if output.size_bytes:
        found.append(Stretch(path=output.path, offset=0, size_bytes=output.size_bytes))
    if padding:
        found.append(Literal(data=bytes(padding)))
    return found


def _split(segments: tuple[Segment, ...]) -> list[tuple[Segment, ...]]:
    """Cut a long row of segments into parts of at most PART_BYTES."""
    parts: list[tuple[Segment, ...]] = []
    part: list[Segment] = []
    room = PART_BYTES
    for segment in segments:
        rest: Segment | None = segment
        while rest is not None:
            taken, rest = _take(rest, room)
            part.append(taken)
            room -= taken.size_bytes
            if room == 0:
                parts.append(tuple(part))
                part, room = [], PART_BYTES
    return [*parts, tuple(part)] if part else parts


def _take(segment: Segment, room: int) -> tuple[Segment, Segment | None]:
    if segment.size_bytes <= room:
        return segment, None
    if isinstance(segment, Literal):
        return Literal(data=segment.data[:room]), Literal(data=segment.data[room:])
    first = Stretch(path=segment.path, offset=segment.offset, size_bytes=room)
    rest = Stretch(
        path=segment.path, offset=segment.offset + room, size_bytes=segment.size_bytes - room
    )
    return first, rest


def _file(
    output: Output, assets: tuple[AssetPlan, ...], bundle: str | None = None
) -> Mapping[str, Any]:
    found: dict[str, Any] = {
        "path": output.path,
        "size_bytes": output.size_bytes,
        "sha256": output.sha256,
    }
    if output.packed:
        found["packed"] = output.packed
    if output.plain_sha256 is not None:
        found["plain_size_bytes"] = output.plain_size_bytes
        found["plain_sha256"] = output.plain_sha256
    if output.left_out is not None:
        return found | {"left_out": output.left_out}
    if not assets:
        return found | {"left_out": "the file is empty; GitHub takes no empty asset"}
    names = [asset.name for asset in assets]
    if bundle:
        found["bundle"] = bundle
    found["asset" if len(names) == 1 else "parts"] = names[0] if len(names) == 1 else names
    if len(names) > 1:
        target = bundle or output.path.rpartition("/")[2]
        found["join"] = f"cat {names[0][:-3]}* > {_asset_name(target)}"
    return found


class _Names:
    """Gives every file an asset name of its own."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = {name.lower() for name in taken}

    def take(self, path: str) -> str:
        """Return the path as an asset name, numbered when another file has it already."""
        wanted = name = _asset_name(path)
        number = 1
        while name.lower() in self._taken:  # people unpack on disks that ignore case
            number += 1
            stem, dot, end = wanted.rpartition(".")
            name = f"{stem}-{number}.{end}" if dot and stem else f"{wanted}-{number}"
        self._taken.add(name.lower())
        return name


def _asset_name(path: str) -> str:
    """Return what GitHub keeps unchanged: `model/best run.pt` → `model-best-run.pt`."""
    name = _NOT_ALLOWED.sub("-", path).strip(".-")
    if len(name) > _NAME_LIMIT:
        name = name[: _NAME_LIMIT // 2] + "--" + name[-_NAME_LIMIT // 2 :]
    return name or "file"


def spec_name(run: Run) -> str:
    """Return the name under which the spec is attached."""
    return _asset_name(run.key.spec_path.rpartition("/")[2])


def _own_names(run: Run) -> tuple[str, ...]:
    about = run.environment.about if run.environment else None
    lock = (LOCK,) if about and about.lock_sha256 else ()
    sbom = (SBOM,) if about and about.sbom_sha256 else ()
    return (MANIFEST, METRICS, LOG, CARD, PROVENANCE, spec_name(run), *lock, *sbom)
