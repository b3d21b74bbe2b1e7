#!/usr/bin/env bash
# The inner loop, cheapest first; every step runs even if an earlier one failed, and the end says which did.
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
step format .venv/bin/ruff format --check .
step lint .venv/bin/ruff check .
step types .venv/bin/mypy
step imports .venv/bin/lint-imports
step actions .venv/bin/zizmor --offline --persona auditor --no-progress --quiet .github action.yml
step dependabot .venv/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
step compose .venv/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
step schemas .venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml examples/*/.github/workflows/*.yml
step action .venv/bin/check-jsonschema --builtin-schema vendor.github-actions action.yml
step unit .venv/bin/python -m pytest -q -n 2 tests/unit
[ ${#failed[@]} -eq 0 ] && exit 0
echo "failed: ${failed[*]}" >&2
exit 1
