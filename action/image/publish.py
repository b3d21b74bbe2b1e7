"""Put a run image into its registry: the environment's blobs, one layer, a config, a manifest.

Round trips where the environment lies in the same registry and was used before, which is what
nearly every commit meets: the tag (is this very image there already?) beside the environment's
manifest and config; then, beside each other, one HEAD for each blob of the environment and two
requests for each of the two new blobs; last the manifest. No byte of the environment moves.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from action.amounts import size
from action.failures import BlobsMissing, BuildFailed, RegistryRefused
from action.image import append
from action.image.append import Appended, Below, Change, Descriptor, Top
from action.image.compress import Compression
from action.image.layer import Layer
from action.registry.client import Blob, Manifest, Registry
from action.registry.reference import Reference
from action.workflow import Console

CONNECTIONS = 8  # at once: Docker sends five layers and fetches three, on slower machines
DEEPEST_INDEX = 2  # an index may list indexes, but not for ever
CONFIG_LIMIT_BYTES = 8 << 20  # twice the largest manifest; with BuildKit's cache it is 100 kB
# A new layer is there only when the same source went up before with another commit. Half a round
# trip of a runner's link (1 Gbit/s, 60 ms to the registry) sends this much.
ASKED_FROM_BYTES = 4 << 20
TOLD_FROM_BYTES = 50_000_000  # less is over before a second line could be read
TOLD_PARTS = 10  # lines for a long copy: a progress bar as a log has it

_Any = TypeVar("_Any", Descriptor, Blob)
Registries = Callable[[str], Registry]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A run image that shall be pullable."""

    target: Reference  # with the tag
    below: Reference  # the environment, or any other image, by digest
    change: Change
    pack: Callable[[Compression], Layer]  # the source as a layer, by gzip or zstd
    platform: str = append.PLATFORM


@dataclass(frozen=True, kw_only=True)
class Published:
    """A run image that is pullable."""

    reference: Reference  # by digest
    layer: Layer
    size_bytes: int  # of all layers, as the registry keeps them
    was_there: bool = False  # the very same image, from an earlier job
    moved_bytes: int = 0  # that went to the registry
    there: int = 0  # blobs of the environment that this repository had
    mounted: int = 0  # blobs that the registry itself put into this repository
    copied: int = 0  # blobs that came from another registry, or from one that does not mount
    copied_bytes: int = 0


def publish(wanted: Wanted, registries: Registries, console: Console) -> Published:
    """Make the image pullable under its tag and return it by digest. Safe to repeat.

    Raises: BuildFailed, of which RegistryRefused and RegistryAway are kinds; what `pack` raises.
    """
    progress = _Progress(console)
    with _crew(progress) as crew:
        move = _Move(wanted=wanted, registries=registries, crew=crew, progress=progress)
        there = crew.submit(_look, move.target, wanted.target)
        found = read_below(registries(wanted.below.host), wanted.below, wanted.platform)
        old = _distinct(found.layers)
        work = move.start(move.bring, old)
        layer = wanted.pack(append.compression(found))
        made = append.append(found, _top(layer), wanted.change)
        whole = sum(part.size_bytes for part in found.layers) + layer.size_bytes
        reference = wanted.target.at(digest=made.digest)
        earlier = there.result()
        if earlier is not None and earlier.digest == made.digest:
            progress.stop()
            return Published(reference=reference, layer=layer, size_bytes=whole, was_there=True)
        new = _new_blobs(layer, made)
        moved = _results(work + move.start(move.send, new))
        try:
            moved.append(move.put(made))
        except BlobsMissing:
            # The registry's clean-up took one since we looked. Twice it would be something else.
            moved += _results(move.start(move.bring, old) + move.start(move.send, new))
            moved.append(move.put(made))
    return Published(
        reference=reference,
        layer=layer,
        size_bytes=whole,
        moved_bytes=sum(one.size_bytes for one in moved),
        there=sum(one.how == "there" for one in moved),
        mounted=sum(one.how == "mounted" for one in moved),
        copied=sum(one.how == "copied" for one in moved),
        copied_bytes=sum(one.size_bytes for one in moved if one.how == "copied"),
    )


def _look(registry: Registry, reference: Reference) -> Manifest | None:
    """Return what stands under the tag; a repository to come may be refused instead of empty.

    GHCR denies the reading of a package that does not exist. The upload tells whether we may write.
    """
    try:
        return registry.manifest(reference.repository, reference.which)
    except RegistryRefused:
        return None


# ── what is below ───────────────────────────────────────────────────────────────────────────────


def read_below(registry: Registry, reference: Reference, platform: str) -> Below:
    """Read the image that the source is put on; two requests, three where it is an index.

    Raises: BuildFailed when it is not there or can carry no layer.
    """
    name = str(reference)
    manifest = _manifest(registry, reference)
    for _ in range(DEEPEST_INDEX):
        if not append.is_index(manifest.media_type):
            break
        digest = append.child(name, _json(name, manifest.body), platform)
        manifest = _manifest(registry, reference.at(digest=digest))
    text = _json(name, manifest.body)
    digest = append.config_digest(name, manifest.media_type, text)
    config = _json(name, registry.content(reference.repository, digest, CONFIG_LIMIT_BYTES))
    return append.below(name, manifest.media_type, text, config, platform)


def _manifest(registry: Registry, reference: Reference) -> Manifest:
    found = registry.manifest(reference.repository, reference.which)
    if found is None:
        raise BuildFailed(
            f"image/base: should be an image in {reference.host}, but there is no {reference}. "
            f"Check the name and the login."
        )
    return found


def _json(name: str, text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BuildFailed(
            f"image/base: {name} has a manifest or config that is not JSON. Push it anew."
        ) from None


def _distinct(layers: Sequence[Descriptor]) -> list[Descriptor]:
    """Return each blob once, the large ones first: what takes longest shall start first."""
    found = {layer.digest: layer for layer in layers}
    return sorted(found.values(), key=lambda layer: -layer.size_bytes)


# ── what is new ─────────────────────────────────────────────────────────────────────────────────


def _top(layer: Layer) -> Top:
    return Top(
        digest=layer.digest,
        diff_id=layer.diff_id,
        size_bytes=layer.size_bytes,
        compression=layer.compression,
    )


def _new_blobs(layer: Layer, made: Appended) -> tuple[Blob, Blob]:
    return (
        Blob(digest=layer.digest, size_bytes=layer.size_bytes, open=lambda: layer.path.open("rb")),
        Blob(
            digest=made.config_digest,
            size_bytes=len(made.config),
            open=lambda: io.BytesIO(made.config),
        ),
    )


# ── moving ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class _Moved:
    how: str  # there, mounted, copied, sent
    size_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class _Move:
    """Bring blobs into the run image's repository, some at once."""

    wanted: Wanted
    registries: Registries
    crew: ThreadPoolExecutor
    progress: _Progress

    @property
    def target(self) -> Registry:
        return self.registries(self.wanted.target.host)

    def start(self, carry: Callable[[_Any], _Moved], what: Iterable[_Any]) -> list[Future[_Moved]]:
        """Begin to carry each."""
        return [self.crew.submit(carry, one) for one in what]

    def bring(self, layer: Descriptor) -> _Moved:
        """Have a blob of the environment, moving as little as the registry lets us."""
        repository, below = self.wanted.target.repository, self.wanted.below
        if self.target.has(repository, layer.digest):
            return _Moved(how="there")
        if below.host == self.wanted.target.host and self.target.mount(
            repository, layer.digest, source=below.repository
        ):
            return _Moved(how="mounted")
        source = self.registries(below.host)
        blob = source.blob(below.repository, layer.digest, layer.size_bytes)
        return self._carry(blob, "copied", ask=False)  # it has just said that it has it not

    def send(self, blob: Blob) -> _Moved:
        """Have a new blob, asked for only where sending it in vain would cost more."""
        return self._carry(blob, "sent", ask=blob.size_bytes > ASKED_FROM_BYTES)

    def _carry(self, blob: Blob, how: str, *, ask: bool) -> _Moved:
        told = self.progress.of(blob)
        sent = self.target.upload(self.wanted.target.repository, blob, told, ask=ask)
        return _Moved(how=how, size_bytes=blob.size_bytes if sent else 0)

    def put(self, made: Appended) -> _Moved:
        """Name the image: from here on it is pullable.

        Where a tag may not be moved (Artifact Registry can be told so, and ECR) an image that
        differs from the one under it goes by its digest alone, which is what a run asks for.
        https://cloud.google.com/artifact-registry/docs/repositories/update-repo-settings
        """
        repository, tag = self.wanted.target.repository, self.wanted.target.which
        moved = _Moved(how="sent", size_bytes=len(made.manifest))
        try:
            self.target.put_manifest(repository, tag, made.manifest, made.media_type)
        except BlobsMissing:
            raise
        except RegistryRefused as refused:
            self.target.put_manifest(repository, made.digest, made.manifest, made.media_type)
            self.progress.console.notice(f"{refused} The image is there, by its digest alone.")
        return moved


def _results(work: Sequence[Future[_Moved]]) -> list[_Moved]:
    """Wait for all, or for the first that fails."""
    wait(work, return_when=FIRST_EXCEPTION)
    failed = [one for one in work if one.done() and one.exception() is not None]
    return [one.result() for one in (failed or work)]


class _Stopped(Exception):  # noqa: N818 - what happened to a thread's work
    """Another part failed, or the job is cancelled."""


class _Progress:
    """Tell of much that moves in a few lines, from whichever thread has moved enough."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._lock = threading.Lock()
        self._moved: dict[str, int] = {}
        self._whole: dict[str, int] = {}  # of blobs that have begun
        self._parts = 0
        self._stopped = False

    def of(self, blob: Blob) -> Callable[[int], None]:
        """Return who hears how many bytes of one blob are sent."""
        return lambda sent_bytes: self._hear(blob, sent_bytes)

    def _hear(self, blob: Blob, sent_bytes: int) -> None:
        """Tell of another part moved; ends the thread's work when all shall stop."""
        if self._stopped:
            raise _Stopped
        with self._lock:
            self._moved[blob.digest], self._whole[blob.digest] = sent_bytes, blob.size_bytes
            moved, whole = sum(self._moved.values()), sum(self._whole.values())
            part = TOLD_PARTS * moved // max(whole, 1)
            if whole >= TOLD_FROM_BYTES and part > self._parts:
                self._parts = part
                self.console.say(f"sent {size(moved)} of {size(whole)}")

    def stop(self) -> None:
        """End what still moves at its next piece."""
        self._stopped = True


@contextmanager
def _crew(progress: _Progress) -> Iterator[ThreadPoolExecutor]:
    """Yield threads that end with the block, whatever they are at when it fails."""
    crew = ThreadPoolExecutor(CONNECTIONS, "registry")
    try:
        yield crew
    except BaseException:
        progress.stop()
        raise
    finally:
        crew.shutdown(cancel_futures=True)
