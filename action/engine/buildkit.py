"""Read what BuildKit says when a build fails: which line, and why. Pure."""

from __future__ import annotations

import re

from action.failures import BuildFailed
from action.programs import Answer
from action.workflow import Place

_ERROR_LINE = re.compile(
    r"parse error (?:on )?line (\d+)|^(?:[\w.-]*Dockerfile[\w.-]*):(\d+)$", re.MULTILINE
)
# BuildKit without buildx names the step that failed, but no line: ` > [2/3] RUN exit 7:`
_ERROR_STEP = re.compile(r"^ > \[(?:[\w.-]+ )?\d+/\d+\] (.+?):?$", re.MULTILINE)
_WRAPPING = re.compile(r"^(?:ERROR: )?failed to solve(?: with frontend [\w.]+)?: ")
LONGEST_REASON = 500  # a sentence for a check run's title line, not a log


def expect(done: Answer, what: str) -> None:
    """Raise BuildFailed unless a build of ours succeeded."""
    if done.code != 0:
        raise BuildFailed(f"{what}: {reason(done.out)}")


def expect_own(done: Answer, name: str, text: str) -> None:
    """Raise BuildFailed at the line of the user's Dockerfile that failed."""
    if done.code != 0:
        place = Place(file=name, line=line_of_failure(done.out, text))
        raise BuildFailed(f"{name} could not be built: {reason(done.out)}", place)


def expect_system(done: Answer, packages: str) -> None:
    """Raise BuildFailed with apt's own complaint unless the Debian packages were installed."""
    if done.code == 0:
        return
    if complaint := _APT.findall(done.out):
        raise BuildFailed(
            f"image/system: should be packages that the base's distribution has, found "
            f"`{packages}`: {complaint[-1][:LONGEST_REASON]}. Correct the names, or take a base "
            f"of another release."
        )
    if "apt-get: not found" in done.out:
        raise BuildFailed(
            f"image/system: should be absent on a base without apt-get, found `{packages}`. Take a "
            f"base of Debian or Ubuntu, or write a Dockerfile."
        )
    raise BuildFailed(f"the Debian packages could not be installed: {reason(done.out)}")


_APT = re.compile(r"^(?:#\d+ [\d.]+ )?E: (.+?)\.?$", re.MULTILINE)


def line_of_failure(output: str, dockerfile: str) -> int:
    """Return the line of a Dockerfile that the output complains about, 1 when it names none."""
    if match := _ERROR_LINE.search(output):
        return next(int(number) for number in match.groups() if number)
    step = _ERROR_STEP.search(output)
    wanted = " ".join(step[1].split()).lower() if step else None
    for number, line in enumerate(dockerfile.splitlines(), 1):
        # A step longer than its line goes on after a backslash: its beginning is enough.
        words = " ".join(line.rstrip("\\").split()).lower()
        if wanted and words and wanted.startswith(words):
            return number
    return 1


def reason(output: str) -> str:
    """Return BuildKit's own summary, without the words it wraps round the cause."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    found = [line for line in lines if _WRAPPING.match(line)]
    line = (found or lines or ["no reason was given"])[-1]
    if _FULL.search(output):
        return (
            "the disk of the Docker engine is full (no space left on device). Free some, or take "
            "a larger runner"
        )
    return _WRAPPING.sub("", line)[:LONGEST_REASON]


_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
