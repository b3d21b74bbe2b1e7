# Every target sets up what it needs; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
BIN := .venv/bin
LOCK := requirements/dev.lock
STAMP := .venv/.installed-$(shell cat $(LOCK) pyproject.toml | sha256sum | cut -c1-16)
EXAMPLE ?= digits
ONLY ?=
TARGET ?= comment
SECONDS ?= 60
LONG ?=
# What Python has compiled is kept: programs that start a hundred times read it back.
unexport PYTHONDONTWRITEBYTECODE
# Five for two processors: the tests wait for programs half of the time. Whole files are handed out, since
# a file's services are started once, in the order of tests/conftest.py: the long ones first.
WORKERS ?= 5

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): $(LOCK) pyproject.toml
	@scripts/python_ok.sh "$(PYTHON)"
	@echo "installing the locked Python packages into .venv"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/installer.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r $(LOCK)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@rm -f .venv/.installed-* && touch $@

.PHONY: install
install: $(STAMP) ## make .venv with the locked packages and `cynthus`

.PHONY: system
system: ## install Docker, a registry, PostgreSQL, Chromium, npm (Debian, as root)
	@scripts/system_packages.sh

.PHONY: demo
demo: install system ## one push becomes a finished run (EXAMPLE=digits-pytorch, STAY=1, PROCESS=1)
	@$(BIN)/python -m demo --example "$(EXAMPLE)" $(if $(STAY),--stay) $(if $(PROCESS),--process)

.PHONY: check
check: install ## the inner loop: format, lint, types, import contracts, docs, unit tests
	@scripts/check.sh

.PHONY: test
test: install system ## everything: contracts, flows, browser, both examples to their release (LONG=1: the long ones too)
	@$(BIN)/python -m demo.with_engine $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(if $(LONG),-m "long or not long") tests

.PHONY: bench
bench: install system ## measure (ONLY=name for one); writes bench/out/results.json
	@$(BIN)/python -m demo.with_engine $(BIN)/python -m bench $(if $(ONLY),--only "$(ONLY)")

.PHONY: fuzz
fuzz: ## follow the coverage of one reader (TARGET=comment, SECONDS=60); needs CPython 3.11 on Linux
	@test -x .venv-fuzz/bin/python || "$(PYTHON)" -m venv .venv-fuzz
	@.venv-fuzz/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/fuzz.lock
	@.venv-fuzz/bin/python -m tests.fuzz "$(TARGET)" "$(SECONDS)"

.PHONY: images
images: install system ## build the runner images here, offline and for the CPU, and try each (about 3 min, 3 GB)
	@$(BIN)/python -m demo.with_engine $(BIN)/python -m scripts.images here

.PHONY: docs
docs: install ## write the generated pages: docs/spec.md, policy.md, settings.md, catalogue.md, screens.md
	@$(BIN)/python -m docs.generate

.PHONY: lock
lock: install ## resolve dependencies again into requirements/*.lock
	@scripts/lock.sh

.PHONY: simulate
simulate: install ## live through SEEDS simulated histories (FROM=first seed, or the one at which a batch was cut short, MODE=safety|liveness, SEED=one with its log); MUTATIONS=1: with each known mistake (SHARE=histories of each); CALLS=1: with each call failing once; GITHUB=1: with GitHub
ifdef MUTATIONS
	@$(BIN)/python -m tests.simulation.gate --share "$(or $(SHARE),0)" --hub-share "$(or $(SHARE),0)"
else ifdef CALLS
	@$(BIN)/python -m tests.simulation.every_call
else ifdef GITHUB
	@$(BIN)/python -m tests.simulation --world github $(if $(SEED),--seed "$(SEED)",--seeds "$(or $(SEEDS),100)" --from "$(or $(FROM),0)")
else
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed "$(SEED)",--seeds "$(or $(SEEDS),1000)" --from "$(or $(FROM),0)") $(if $(MODE),--mode "$(MODE)")
endif
