#!/usr/bin/env bash
# Resolve the dependencies of pyproject.toml into lock files with hashes that name no index host.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() { .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links "$@"; }
for extra in agent server gcp dev; do
  compile --extra "$extra" pyproject.toml -o "requirements/$extra.lock"
done
compile requirements/action.in -o requirements/action.lock
compile requirements/installer.in -o requirements/installer.lock
compile requirements/resolver.in -o requirements/resolver.lock
