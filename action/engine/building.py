"""Build images of environments with BuildKit: Debian packages, wheels, a user's Dockerfile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from action import plan
from action.amounts import Watch, size
from action.engine import buildkit
from action.engine.build_secrets import Mounted
from action.engine.engine import Engine
from action.programs import Answer
from action.resolving.wheelhouse import Wheels
from action.source import context, ignore
from action.workflow import Console

# A layer of its own for large wheels: a change among the small ones then moves no gigabytes. A
# wheel of 50 MB is a second's upload; PyTorch's with CUDA are half a gigabyte and more.
LARGE_BYTES = 50_000_000


@dataclass(frozen=True)
class Workshop:
    """Where images are built."""

    docker: Engine
    console: Console
    folder: Path  # our own, gone afterwards

    def build(self, dockerfile: str, target: Target, *, context: Path | None = None) -> Answer:
        """Build one of our own Dockerfiles."""
        path = self.folder / "Dockerfile.generated"
        path.write_text(dockerfile)
        if context is None:
            context = self.folder / "empty"
            context.mkdir(exist_ok=True)
        return self.build_file(path, target, context)

    def build_file(self, dockerfile: Path, target: Target, context: Path) -> Answer:
        """Build any Dockerfile."""
        words = plan.build_words(
            dockerfile=str(dockerfile),
            context=str(context),
            tag=target.tag,
            network=target.network,
            more=(*target.cache_words, *target.more),
        )
        return self.docker.build(self.console, words)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a build is to make, and how."""

    tag: str
    network: str = "none"
    # Earlier images whose steps may be taken over. The image that is made carries the record of its
    # own steps, so that the next build can: https://docs.docker.com/build/cache/backends/inline/
    cache_from: tuple[str, ...] | None = None  # None: the image is not pushed, nobody will ask it
    more: tuple[str, ...] = ()

    @property
    def cache_words(self) -> tuple[str, ...]:
        """Return docker's words for the cache."""
        if self.cache_from is None:
            return ()
        found = (word for name in self.cache_from for word in ("--cache-from", name))
        return ("--build-arg", "BUILDKIT_INLINE_CACHE=1", *found)


def system(base: str, packages: Sequence[str], target: Target, shop: Workshop) -> None:
    """Add Debian packages to an image. Raises: BuildFailed."""
    with shop.console.phase(f"Debian packages: {', '.join(packages)}"):
        watch = Watch()
        done = shop.build(plan.system_dockerfile(base, packages), target)
        buildkit.expect_system(done, " ".join(packages))
        shop.console.say(f"installed ({watch})")


def packages(base: str, wheels: Wheels | None, target: Target, shop: Workshop) -> None:
    """Add Python packages, exactly these wheels, without a network. Raises: BuildFailed."""
    folder = shop.folder / "environment"
    folder.mkdir()
    folders = _spread(wheels, folder) if wheels else ()
    with shop.console.phase("Environment image (no network)"):
        watch = Watch()
        done = shop.build(plan.environment_dockerfile(base, wheels=folders), target, context=folder)
        buildkit.expect(done, "the environment image could not be built")
        told = size(shop.docker.size_bytes(target.tag))
        shop.console.say(f"environment {target.tag.rpartition(':')[2][:12]}: {told}, {watch}")


def _spread(wheels: Wheels, folder: Path) -> tuple[str, ...]:
    """Put the wheels into the context, large and small apart; return the folders' names."""
    context.stage(wheels.folder, folder / "wheels", ignore.Ignore(), link=True)
    large = [path for path in (folder / "wheels").glob("*.whl") if _is_large(path)]
    if not large:
        return ("wheels",)
    (folder / "large").mkdir()
    for path in large:
        path.rename(folder / "large" / path.name)
    rest = any((folder / "wheels").glob("*.whl"))
    return ("large", "wheels") if rest else ("large",)


def _is_large(path: Path) -> bool:
    return path.stat().st_size >= LARGE_BYTES


@dataclass(frozen=True, kw_only=True)
class Own:
    """A user's own Dockerfile, with what it may take."""

    name: str  # within the repository
    path: Path
    context: Path
    secrets: tuple[Mounted, ...] = ()
    pull: bool = False  # its images come from their registries, whatever the engine has of them


def own(given: Own, target: Target, shop: Workshop) -> None:
    """Build a user's own Dockerfile, with the network that such files expect.

    Raises: BuildFailed at the line of the Dockerfile that failed.
    """
    with shop.console.phase(f"Environment image from {given.name} (with network)"):
        watch = Watch()
        secrets = tuple(word for one in given.secrets for word in ("--secret", one.words))
        with_secrets = Target(
            tag=target.tag,
            network="default",
            cache_from=target.cache_from,
            more=(*target.more, *(("--pull",) if given.pull else ()), *secrets),
        )
        done = shop.build_file(given.path, with_secrets, given.context)
        text = given.path.read_bytes().decode("utf-8", "replace")
        buildkit.expect_own(done, given.name, text)
        shop.console.say(f"built: {size(shop.docker.size_bytes(target.tag))}, {watch}")
