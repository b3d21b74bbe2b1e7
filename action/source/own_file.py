"""Read a file of the repository: a plain one, of bounded size, that is not a link out of it.

What a file holds is quoted in messages, which a job's log shows to everyone. A link to files of the
builder's own (`/proc/self/environ` has a job's secrets) must therefore not be followed.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read(root: Path, shown: str, limit_bytes: int) -> bytes:
    """Return at most `limit_bytes` of a file, named by its path from the repository's root.

    Waits for nobody, as reading a named pipe would. Safe to repeat.
    Raises: OSError, whose `strerror` says what was found instead: also a link out of the
    repository, or something that is no file.
    """
    path = os.path.realpath(root / shown, strict=True)
    if not Path(path).is_relative_to(root.resolve()):
        raise OSError(errno.EXDEV, "a link out of the repository", str(root / shown))
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "no plain file", str(root / shown))
        return file.read(limit_bytes)
