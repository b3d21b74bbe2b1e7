"""The command line's outermost guard: errors become exit codes.

0 done · 1 the run failed · 2 the user's input is wrong · 3 our fault · 130 Ctrl-C
"""

from __future__ import annotations

import sys
from io import TextIOWrapper

from cynthus import cli
from cynthus.errors import CynthusError, UserError

DONE, RUN_FAILED, WRONG_INPUT, OUR_FAULT, INTERRUPTED = 0, 1, 2, 3, 130
ISSUES_URL = "https://github.com/cynthus/cynthus/issues"


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand and return the exit code."""
    words = sys.argv[1:] if argv is None else argv
    _print_anything()
    try:
        return cli.run(words)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_left()
    except UserError as error:
        return _say(str(error), WRONG_INPUT)
    except CynthusError as error:
        return _say(str(error), OUR_FAULT)
    except Exception as error:
        if "--debug" in words:
            raise
        # One line: a traceback would hide what the user can do.
        kind = type(error).__name__
        return _say(
            f"cynthus: this is our fault ({kind}). "
            f"Run it again with --debug and report what it prints: {ISSUES_URL}",
            OUR_FAULT,
        )


def _print_anything() -> None:
    """Escape what the terminal's encoding lacks, instead of failing on it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)  # noqa: T201 - the command line's own door
    return code


def _reader_left() -> int:
    """End quietly when `cynthus … | head` has seen enough, and keep Python from flushing again."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE


if __name__ == "__main__":
    sys.exit(main())
