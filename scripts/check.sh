#!/usr/bin/env bash
# The inner loop: all steps at once, told in order; every step runs even if another failed, and the end says which did.
set -uo pipefail
cd "$(dirname "$0")/.."
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
steps=()
begin() {
  local name=$1
  shift
  steps+=("$name")
  {
    local begun=$SECONDS code=0
    "$@" >"$logs/$name" 2>&1 || code=$?
    echo "$code $((SECONDS - begun))" >"$logs/$name.ended"
  } &
}
begin format .venv/bin/ruff format --check .
begin lint .venv/bin/ruff check .
begin types .venv/bin/mypy
begin imports .venv/bin/lint-imports
begin actions .venv/bin/zizmor --offline --persona auditor --no-progress --quiet .github action.yml
begin dependabot .venv/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
begin compose .venv/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
begin schemas .venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml examples/*/.github/workflows/*.yml
begin action .venv/bin/check-jsonschema --builtin-schema vendor.github-actions action.yml
# Two halves rather than two workers: a worker of xdist imports every test before it runs its share of them.
# Each with temporary files of its own: two pytests that end at once trip over the other's `pytest-current`.
begin unit-1 .venv/bin/python -m pytest -q --basetemp="$logs/1" tests/unit/[a-z]*/ tests/unit/test_[a-g]*.py
begin unit-2 .venv/bin/python -m pytest -q --basetemp="$logs/2" tests/unit/test_[h-z]*.py
wait
failed=()
for name in "${steps[@]}"; do
  code=1 took=0
  read -r code took <"$logs/$name.ended"
  if [ "$code" -eq 0 ]; then
    printf '  ok      %-10s %3d s\n' "$name" "$took"
  else
    printf '  FAILED  %-10s %3d s\n' "$name" "$took"
    cat "$logs/$name"
    failed+=("$name")
  fi
done
[ ${#failed[@]} -eq 0 ] && exit 0
echo "failed: ${failed[*]}" >&2
exit 1
