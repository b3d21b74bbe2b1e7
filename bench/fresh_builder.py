"""Make a changed source pullable on builders that have nothing, ours and others.

`unshare --net python -m bench.fresh_builder OUT SEED`

It runs in a network of its own (only loopback), so that a Docker engine with an empty disk can be
started beside the machine's, and every byte that moves between builder and registry is counted by
the kernel. Each builder's disk is a file system of its own: what it uses is read off, not guessed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from demo.processes import Programs, clean_environment, wait_until
from demo.services import docker_client, registry

MIB = 1 << 20
LAYERS = 5  # a PyTorch base has five large ones
LAYER_BYTES = 680 * MIB  # of which BLOCK's random part does not shrink: 1.5 GB compressed in all
RANDOM, REPEATED = 64 * 1024, 84 * 1024  # 2.3 : 1, as a base with CUDA and PyTorch compresses
DISK = "16G"  # sparse: what a builder pulls, unpacks and builds at once
SMALL, LARGE = 1, 100  # MiB of source
SMALL_ROUNDS = 3
LOOK_S = 0.05
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
WORDS = 2000  # different words in generated sources: about 3 : 1, as Python code compresses


@dataclass(frozen=True, kw_only=True)
class Made:
    """One way from a changed source to a pullable image."""

    way: str
    source_mib: int
    seconds: float
    moved_bytes: int  # between builder and registry, both directions, headers included
    disk_bytes: int  # the most that the builder's disk held more than before
    layer_bytes: int = 0  # the compressed source, where the way tells it


class Ground:
    """A registry with a large base image, and builders that are empty each time."""

    def __init__(self, folder: Path, programs: Programs) -> None:
        """Start the registry; `prepare` fills it."""
        self._folder, self._programs = folder, programs
        self._docker = str(docker_client())
        self.registry = registry(programs, folder / "registry").address
        self.base = f"{self.registry}/bench/base:large"
        self._count = 0

    def prepare(self, seed: Path) -> None:
        """Push the large base, made on the image that `seed` holds (`docker save`)."""
        context = self._folder / "base"
        context.mkdir()
        for number in range(LAYERS):
            _fill(context / f"weights-{number}", LAYER_BYTES, seed=number)
        copies = "".join(f"COPY weights-{n} /opt/weights/{n}\n" for n in range(LAYERS))
        with self.builder() as builder:
            loaded = builder.docker("load", "--quiet", "--input", str(seed)).strip()
            name = loaded.rpartition("Loaded image: ")[2].rpartition("Loaded image ID: ")[2]
            builder.docker("tag", name, "bench-seed:here")  # a bare id would be asked of a registry
            (context / "Dockerfile").write_text(f"FROM bench-seed:here\n{copies}")
            builder.docker("build", "--quiet", "--tag", self.base, str(context))
            builder.docker("push", "--quiet", self.base)
        shutil.rmtree(context)

    @contextlib.contextmanager
    def builder(self) -> Iterator[Builder]:
        """Give a builder with an empty disk of its own and a Docker engine on it."""
        self._count += 1
        with _disk(self._folder / f"disk-{self._count}") as place:
            builder = Builder(self._docker, place)
            program = self._programs.start(f"dockerd-{self._count}", builder.engine_words())
            try:
                wait_until(builder.answers, "the builder's Docker engine", program)
                yield builder
            finally:
                program.stop()


class Builder:
    """A Docker engine with a disk of its own."""

    def __init__(self, client: str, place: Path) -> None:
        self._client, self.place = client, place
        self._socket = place / "docker.sock"

    def engine_words(self) -> list[str]:
        """Return the engine's command line: no bridge, no packet filter, nothing outside."""
        place = self.place
        words = ["/usr/sbin/dockerd", "--data-root", f"{place}/data", "--exec-root", f"{place}/run"]
        words += ["--pidfile", f"{place}/docker.pid", "--host", f"unix://{self._socket}"]
        return [*words, "--bridge", "none", "--iptables=false", "--ip-forward=false"]

    def answers(self) -> bool:
        """Say whether the engine answers."""
        words = [self._client, "--host", f"unix://{self._socket}", "version"]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    def docker(self, *words: str) -> str:
        """Call the engine; raises with what it printed."""
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        command = [self._client, "--host", f"unix://{self._socket}", *words]
        return _run(command, environment)


def _run(words: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words[:6])}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


# ── the ways ────────────────────────────────────────────────────────────────────────────────────


def by_docker(ground: Ground, source: Path, name: str, *, cache: str | None) -> Made:
    """`docker build` and `docker push` on a fresh builder; `cache`: an image built before."""
    tag = f"{ground.registry}/bench/docker:{name}"
    _dockerfile(source, ground.base)
    more = ["--cache-from", cache] if cache else ["--no-cache"]
    build = ["build", "--quiet", "--build-arg", "BUILDKIT_INLINE_CACHE=1", *more, "--tag", tag]
    with ground.builder() as builder:

        def work() -> None:
            builder.docker(*build, str(source))
            builder.docker("push", "--quiet", tag)

        way = "docker build --cache-from + push" if cache else "docker build + push"
        return _measured(way, source, builder.place, work)


def by_buildah(ground: Ground, source: Path, name: str) -> Made:
    """`buildah build` and `buildah push` with an empty store."""
    tag = f"{ground.registry}/bench/buildah:{name}"
    _dockerfile(source, ground.base)
    with ground.builder() as builder:  # for its disk; the engine on it stays idle
        store = ["--root", f"{builder.place}/store", "--runroot", f"{builder.place}/runroot"]
        # overlay on its own file system, as on a runner; no container is started by COPY alone.
        store += ["--storage-driver", "overlay"]
        environment = {**os.environ, "TMPDIR": str(builder.place)}

        def work() -> None:
            build = ["buildah", *store, "build", "--isolation", "chroot", "--tls-verify=false"]
            _run([*build, "--quiet", "--tag", tag, str(source)], environment)
            _run(["buildah", *store, "push", "--tls-verify=false", "--quiet", tag], environment)

        return _measured("buildah build + push", source, builder.place, work)


def by_us(ground: Ground, source: Path, name: str) -> Made:
    """The Action's own builder as a command, its caches empty."""
    tag = f"{ground.registry}/bench/ours:{name}"
    (source / "Dockerfile").unlink(missing_ok=True)
    (source / "cynthus.yaml").write_text("version: 1\nname: bench\nrun: python3 main.py\n")
    words = [sys.executable, "-m", "action", "build", "--folder", str(source), "--push", tag]
    words += ["--base-image", ground.base, "--json"]
    with _disk(ground._folder / f"disk-ours-{name}") as place:  # noqa: SLF001 - the same folder
        environment = {
            **clean_environment(),
            "HOME": str(place),
            "TMPDIR": str(place),
            "PATH": "/nowhere",  # no Docker, no git: the registry alone
            "PYTHONPATH": os.getcwd(),
        }
        made = _measured("ours", source, place, lambda: _run(words, environment))
    layer_bytes = _last_layer_bytes(f"http://{ground.registry}/v2/bench/ours/manifests/{name}")
    return Made(**{**asdict(made), "layer_bytes": layer_bytes})


def _last_layer_bytes(manifest: str) -> int:
    """Ask the registry, not ourselves, how large the compressed source is."""
    request = urllib.request.Request(manifest, headers={"Accept": ", ".join(MANIFESTS)})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return int(json.load(answer)["layers"][-1]["size"])


def _dockerfile(source: Path, base: str) -> None:
    (source / "Dockerfile").write_text(f"FROM {base}\nCOPY . /workspace/\nUSER 1000:1000\n")


# ── measuring ───────────────────────────────────────────────────────────────────────────────────


def _measured(way: str, source: Path, place: Path, work: Callable[[], object]) -> Made:
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    before, moved = shutil.disk_usage(place).used, _moved_bytes()
    most = before
    ended = threading.Event()

    def look() -> None:
        nonlocal most
        while not ended.wait(LOOK_S):
            most = max(most, shutil.disk_usage(place).used)

    watcher = threading.Thread(target=look, name="disk")
    watcher.start()
    begin = time.monotonic()
    try:
        work()
        seconds = time.monotonic() - begin
    finally:
        ended.set()
        watcher.join()
    return Made(
        way=way,
        source_mib=round(size / MIB),
        seconds=round(seconds, 3),
        moved_bytes=_moved_bytes() - moved,
        disk_bytes=most - before,
    )


def _moved_bytes() -> int:
    """Return what passed loopback so far; nothing else uses this network."""
    for line in Path("/proc/net/dev").read_text("ascii").splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[0])
    raise RuntimeError("this network has no loopback")


@contextlib.contextmanager
def _disk(at: Path) -> Iterator[Path]:
    """Give an empty ext4 file system, gone afterwards."""
    image, place = at.with_suffix(".img"), at
    place.mkdir()
    _run(["truncate", "--size", DISK, str(image)])
    _run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", str(image)])
    _run(["mount", "--options", "loop", str(image), str(place)])
    try:
        yield place
    finally:
        _run(["umount", "--lazy", str(place)])
        image.unlink()


def _fill(path: Path, size: int, *, seed: int) -> None:
    chance = random.Random(seed)
    with path.open("wb") as file:
        for _ in range(size // (RANDOM + REPEATED)):
            file.write(chance.randbytes(RANDOM))
            file.write(b"weights and other things that repeat themselves " * (REPEATED // 48))


def make_source(folder: Path, mib: int, *, seed: int) -> Path:
    """Write a source of 32 files that compresses like code, another one for each seed."""
    chance = random.Random(seed)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz_", k=8)) for _ in range(WORDS)]
    folder.mkdir(parents=True)
    for number in range(32):
        text = "\n".join(
            " ".join(chance.choices(words, k=10)) for _ in range(mib * MIB // 32 // 90)
        )
        (folder / f"module_{number}.py").write_text(text)
    return folder


# ── all of it ───────────────────────────────────────────────────────────────────────────────────


def measure(folder: Path, seed: Path) -> Iterator[Made]:
    """Yield every way, the ways in turn so that a busy minute hits all of them."""
    programs = Programs(folder / "log")
    try:
        ground = Ground(folder, programs)
        ground.prepare(seed)
        for n in range(SMALL_ROUNDS):
            source = make_source(folder / f"small-{n}", SMALL, seed=n)
            yield by_us(ground, source, f"small-{n}")
            yield by_docker(ground, source, f"small-{n}", cache=None)
        earlier = f"{ground.registry}/bench/docker:small-0"
        for mib, seeds in ((SMALL, 100), (LARGE, 200)):
            source = make_source(folder / f"more-{mib}", mib, seed=seeds)
            yield by_us(ground, source, f"more-{mib}")
            if mib == LARGE:
                yield by_docker(ground, source, f"more-{mib}", cache=None)
            yield by_docker(ground, source, f"cached-{mib}", cache=earlier)
            if shutil.which("buildah"):
                yield by_buildah(ground, source, f"more-{mib}")
    finally:
        programs.stop()


def main(words: list[str]) -> int:
    """Write what was measured as JSON lines to the first word; the second is the seed image."""
    out, seed = Path(words[0]), Path(words[1])
    _run(["ip", "link", "set", "lo", "up"])
    with (
        tempfile.TemporaryDirectory(prefix="cynthus-bench-images-") as folder,
        out.open("w", buffering=1) as file,
    ):
        for made in measure(Path(folder), seed):
            file.write(json.dumps(asdict(made)) + "\n")
            print(made, file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
