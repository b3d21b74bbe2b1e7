#!/usr/bin/env bash
# Install a wheel into empty environments and use it: what a user of `pipx install cynthus` gets,
# first with the file checks alone, then with all that `cynthus run` needs.
set -euo pipefail
wheel=$(realpath "$1")
there=$(mktemp -d)
trap 'rm -rf "$there"' EXIT
mkdir "$there/work"  # the environments are not part of what is built
cd "$there/work"
printf 'version: 1\nname: smoke\nrun: mkdir -p outputs && echo hello | tee outputs/hello.txt\noutputs: [{path: outputs}]\n' > cynthus.yaml

python3 -m venv ../small
../small/bin/pip install --quiet "$wheel"
../small/bin/cynthus validate cynthus.yaml
../small/bin/cynthus show --json cynthus.yaml | ../small/bin/python -c 'import json, sys; assert json.load(sys.stdin)["name"] == "smoke"'
code=0
../small/bin/cynthus run > told.txt 2>&1 || code=$?
test "$code" = 2
grep -q "pip install 'cynthus\[cli,server,agent\]'" told.txt

python3 -m venv ../whole
../whole/bin/pip install --quiet "$wheel[cli,server,agent]"
../whole/bin/cynthus run --process
grep -qx hello cynthus-outputs/*/outputs/hello.txt
if docker version > /dev/null 2>&1; then
  rm -r cynthus-outputs
  ../whole/bin/cynthus run
  grep -qx hello cynthus-outputs/*/outputs/hello.txt
fi
echo "the wheel works"
