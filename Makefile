# Every target installs what it needs into .venv; nothing but Python 3.11 to 3.13 and make is required.
PYTHON ?= python3
PY := .venv/bin/python
INSTALLED := .venv/.installed
# What `make figures` runs and draws: SCALE=quick, to see all of it drawn, or SCALE=full.
SCALE ?= quick
EXPERIMENTS ?= $(filter-out claims,$(basename $(notdir $(wildcard experiments/*.yaml))))

.PHONY: help install demo test lint format figures report bench kills test-chaos test-slurm test-ray test-app clean

help:            ## list the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

install: $(INSTALLED)  ## create .venv and install the project into it

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	@touch $@

demo: $(INSTALLED)  ## train five small autoencoders on embedded data, draw what they learned
	$(PY) -m ae_lab.train -m model=mlp latent=2,5,10,32,64 data=mnist5k epochs=20 batch_size=32
	$(PY) -m ae_lab.report

test: $(INSTALLED)  ## lint and all tests
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	.venv/bin/lint-imports --no-logo
	$(PY) -m pytest -n auto --dist worksteal

lint: $(INSTALLED)  ## lint only
	$(PY) -m ruff check .

format: $(INSTALLED)  ## format the code in place
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

figures: $(INSTALLED)  ## run what is missing of each of EXPERIMENTS at SCALE, draw its figures
	failed=0; for name in $(EXPERIMENTS); do \
	    $(PY) -m ae_lab.train experiment=$$name scale=$(SCALE) || failed=1; \
	    $(PY) -m ae_lab.report $$name || failed=1; \
	done; exit $$failed

report: $(INSTALLED)  ## the page of all experiments and claims: outputs/report/index.html
	$(PY) -m ae_lab.report --all

bench: $(INSTALLED)  ## samples per second against a hand-written loop and the usual script
	$(PY) -m tests.benchmarks.training_speed

kills: $(INSTALLED)  ## SIGKILL in each phase of 24 settings, of every family, and 30 at seeded moments: bitwise as undisturbed
	$(PY) -m tests.steps
	$(PY) -m tests.benchmarks.kills

test-chaos: $(INSTALLED)  ## a sweep of processes that are killed, on a disk that fills: bitwise as undisturbed
	$(PY) -m tests.chaos
	$(PY) -m tests.out_of_memory

test-slurm: $(INSTALLED)  ## a sweep on a Slurm cluster of one node (Debian, as root)
	apt-get install --yes --quiet slurm-wlm munge
	$(PY) -m tests.slurm

test-ray: $(INSTALLED)  ## a sweep on a local Ray, one worker killed; Ray lies in an environment of its own
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip install --quiet -e '.[ray]' pytest
	.venv-ray/bin/python -m tests.ray_sweep

test-app: $(INSTALLED)  ## the app in headless Chromium (Debian, as root): sliders, a photo, screenshots
	apt-get install --yes --quiet chromium
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt playwright
	$(PY) -m tests.app_browser

clean:           ## remove .venv (runs in outputs/ stay)
	rm -rf .venv .venv-ray
