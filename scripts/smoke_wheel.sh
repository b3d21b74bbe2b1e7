#!/usr/bin/env bash
# Install a wheel into an empty environment and use it: what a user of `pipx install cynthus` gets.
set -euo pipefail
wheel=$(realpath "$1")
there=$(mktemp -d)
trap 'rm -rf "$there"' EXIT
python3 -m venv "$there/venv"
"$there/venv/bin/pip" install --quiet "$wheel"
cd "$there"
printf 'version: 1\nname: smoke\nrun: echo hello\n' > cynthus.yaml
venv/bin/cynthus validate cynthus.yaml
venv/bin/cynthus show --json cynthus.yaml | "$there/venv/bin/python" -c 'import json, sys; assert json.load(sys.stdin)["name"] == "smoke"'
echo "the wheel works"
