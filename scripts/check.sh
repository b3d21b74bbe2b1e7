#!/usr/bin/env bash
# The inner loop; every step runs even if an earlier one failed, and the end says which did.
set -uo pipefail
cd "$(dirname "$0")/.."
failed=()
step() {
  local name=$1 log
  shift
  log=$(mktemp)
  local begin=$SECONDS
  if "$@" >"$log" 2>&1; then
    printf '  ok      %-10s %3d s\n' "$name" $((SECONDS - begin))
  else
    printf '  FAILED  %-10s %3d s\n' "$name" $((SECONDS - begin))
    cat "$log"
    failed+=("$name")
  fi
  rm -f "$log"
}
# One processor's work for half a minute: beside all the others.
types=$(mktemp)
.venv/bin/mypy >"$types" 2>&1 &
typing=$!
types() {
  local ended=0
  wait "$typing" || ended=$?
  cat "$types"
  rm -f "$types"
  return "$ended"
}
step format .venv/bin/ruff format --check .
step lint .venv/bin/ruff check .
step imports .venv/bin/lint-imports
step actions .venv/bin/zizmor --offline --persona auditor --no-progress --quiet .github action.yml
step dependabot .venv/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
step compose .venv/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
step schemas .venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml examples/*/.github/workflows/*.yml
step action .venv/bin/check-jsonschema --builtin-schema vendor.github-actions action.yml
step unit .venv/bin/python -m pytest -q -n 2 tests/unit
step types types
[ ${#failed[@]} -eq 0 ] && exit 0
echo "failed: ${failed[*]}" >&2
exit 1
