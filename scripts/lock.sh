#!/usr/bin/env bash
# Resolve the dependencies of pyproject.toml into lock files with hashes that name no index host.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() { .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links "$@"; }
for extra in age agent data server gcp otel dev; do
  compile --extra "$extra" pyproject.toml -o "requirements/$extra.lock"
done
# Beside the tests' own versions, since both run the same targets.
compile --extra fuzz pyproject.toml -c requirements/dev.lock -o requirements/fuzz.lock
compile requirements/audit.in -o requirements/audit.lock
compile requirements/action.in -o requirements/action.lock
compile requirements/installer.in -o requirements/installer.lock
compile requirements/resolver.in -o requirements/resolver.lock
# The frameworks of the runner images. PyTorch's CPU builds are not on the common index: their folder or
# page comes from the environment (uv does not read pip's variable), and only their lock may see it.
for wanted in runner_images/*/requirements.in; do compile "$wanted" -o "${wanted%.in}.lock"; done
export UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}
for wanted in runner_images/*/requirements.cpu.in; do compile "$wanted" -o "${wanted%.in}.lock"; done
