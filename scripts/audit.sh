#!/usr/bin/env bash
# Ask what is known of the locked versions: every lock file, as it is installed, by name and hash.
# Needs the network; `scripts/audit.sh --dry-run` reads the locks and asks nobody.
set -euo pipefail
cd "$(dirname "$0")/.."
there=$(mktemp -d)
trap 'rm -rf "$there"' EXIT
"${PYTHON:-python3}" -m venv "$there/venv"
"$there/venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/audit.lock
failed=()
for lock in requirements/*.lock runner_images/*/*.lock; do
  echo "$lock"
  # --disable-pip: nothing is resolved or downloaded; a line without a hash is refused.
  "$there/venv/bin/pip-audit" --require-hashes --disable-pip --progress-spinner off "$@" -r "$lock" || failed+=("$lock")
done
[ ${#failed[@]} -eq 0 ] && exit 0
echo "something is known of: ${failed[*]}" >&2
exit 1
