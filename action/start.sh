#!/usr/bin/env bash
# Start the Action on a runner: find a Python, give it the locked packages, run `python -m action`.
# Everything the user said comes by environment variables; nothing of it is part of this script.
set -euo pipefail

# The first Python from 3.11 on: on PATH, or among those GitHub's images keep beside it.
find_python() {
  local candidate
  for candidate in python3 python3.13 python3.12 python3.11 python \
    "${RUNNER_TOOL_CACHE:-/opt/hostedtoolcache}"/Python/3.1[1-9]*/*/bin/python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo '::error title=Cynthus::python: should be 3.11 or newer, found none. Add actions/setup-python before this step.' >&2
  return 1
}

python=$(find_python)
home=${RUNNER_TEMP:-${TMPDIR:-/tmp}}/cynthus-action
lock=$GITHUB_ACTION_PATH/requirements/action.lock

# Another lock, another environment; a second use of the Action in one job finds it ready.
venv=$home/venv-$(sha256sum "$lock" | cut -c1-16)
if [ ! -e "$venv/ready" ]; then
  echo '::group::Set up'
  rm -rf "$venv"
  "$python" -m venv --without-pip "$venv"
  "$python" -m pip --python "$venv/bin/python" install --quiet --disable-pip-version-check \
    --no-input --only-binary=:all: --require-hashes -r "$lock"
  touch "$venv/ready"
  echo '::endgroup::'
fi

# -P: the user's repository is the working folder, and nothing in it shall be imported as ours.
exec env PYTHONPATH="$GITHUB_ACTION_PATH" PYTHONUNBUFFERED=1 "$venv/bin/python" -P -m action
