#!/usr/bin/env bash
# Start the Action on a runner: find a Python, give it the locked packages, run `python -m action`.
# Everything the user said comes by environment variables; nothing of it is part of this script.
set -euo pipefail

# Prints whether a Python has the one package that is locked. Ubuntu's own has PyYAML 6.0, since
# cloud-init needs it (https://packages.ubuntu.com/noble/cloud-init), and that reads a spec as the
# locked one does: what follows 6.0 changed how it is built (https://github.com/yaml/pyyaml/blob/main/CHANGES).
# -I: what the machine has installed counts, not what lies in the user's repository.
probe='
import sys
if sys.version_info < (3, 11):
    sys.exit(1)
try:
    import yaml
    print("complete" if yaml.__version__.startswith("6.0") else "bare")
except ImportError:
    print("bare")
'

# The first Python from 3.11 on: on PATH, or among those GitHub's images keep beside it.
find_python() {
  local candidate has
  for candidate in python3 python3.13 python3.12 python3.11 python \
    "${RUNNER_TOOL_CACHE:-/opt/hostedtoolcache}"/Python/3.1[1-9]*/*/bin/python3; do
    if has=$("$candidate" -I -c "$probe" 2>/dev/null); then
      echo "$has $candidate"
      return
    fi
  done
  echo '::error title=Cynthus::python: should be 3.11 or newer, found none. Add actions/setup-python before this step.' >&2
  return 1
}

found=$(find_python)
python=${found#* }
path=$GITHUB_ACTION_PATH

# A folder of packages instead of an environment: one start of pip, which takes a second, not two.
if [ "${found%% *}" = bare ]; then
  lock=$GITHUB_ACTION_PATH/requirements/action.lock
  # Another lock, another folder; a second use of the Action in one job finds it ready.
  packages=${RUNNER_TEMP:-${TMPDIR:-/tmp}}/cynthus-action/$(sha256sum "$lock" | cut -c1-16)
  if [ ! -e "$packages/ready" ]; then
    echo '::group::Set up'
    rm -rf "$packages"
    "$python" -m pip install --quiet --disable-pip-version-check --no-input --no-compile \
      --only-binary=:all: --require-hashes --target "$packages" -r "$lock"
    touch "$packages/ready"
    echo '::endgroup::'
  fi
  path=$path:$packages
fi

# -P: the user's repository is the working folder, and nothing in it shall be imported as ours.
# -s: nor what lies in the home folder.
exec env PYTHONPATH="$path" PYTHONUNBUFFERED=1 "$python" -s -P -m action
