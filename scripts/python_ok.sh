#!/usr/bin/env bash
# Say plainly when Python is absent or too old.
set -euo pipefail
command -v "$1" >/dev/null || { echo "Python: should be on PATH as '$1', found nothing. Install Python 3.11 or newer, or call make PYTHON=/path/to/python3." >&2; exit 2; }
"$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python: should be 3.11 or newer, found $("$1" -V). Call make PYTHON=/path/to/python3." >&2; exit 2; }
"$1" -c 'import venv, ensurepip' 2>/dev/null || { echo "Python: should come with venv and pip, found neither. On Debian: apt-get install python3-venv." >&2; exit 2; }
