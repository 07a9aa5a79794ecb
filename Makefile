# Each target is a line that a person could type. `make demo` and `make test` do all set-up themselves, once.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
CONF ?= demo
SOURCE ?=
SHIFTED ?=
BUNDLE ?=

.PHONY: help setup demo test test-long mutants check format bench results clean
help:            ## this list
	@sed -n 's/^\([a-z-]*\):.*##/  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: .venv/ready   ## everything installed in .venv, from constraints.txt
.venv/ready: setup.py constraints.txt
	@test -n "$(PYTHON)" || { \
	    echo "reviewrisk needs Python 3.11 or 3.12, and there is none: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || { \
	    echo "reviewrisk needs Python 3.11 or 3.12, and $(PYTHON) is $$($(PYTHON) -V 2>&1):" \
	        "call make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$(PYTHON) cannot make a virtual environment: apt-get install python3-venv" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo "installing into .venv (some minutes, about 4 GB) ..."
	$(BIN)/pip install --quiet --constraint constraints.txt --editable \
	    ".[all,dev$$(java -version 2>&1 | grep -qE 'version "(17|21)' || echo ,java)]"
	@touch $@

demo: .venv/ready   ## raw reviews to dissatisfaction report; SOURCE=path.tsv.gz for your own
	@mkdir -p build
	$(if $(SOURCE),REVIEWRISK_ROOT="$${REVIEWRISK_ROOT:-build/demo-$(notdir $(SOURCE))}" )\
	    $(BIN)/reviewrisk demo --conf $(CONF) $(if $(SOURCE),"$(SOURCE)")

test: .venv/ready   ## all tests but the long ones, with coverage
	$(BIN)/python -m pytest -m "not long" -n 2 --dist loadfile --cov --cov-report=term

test-long: .venv/ready   ## the tests that take minutes
	$(BIN)/python -m pytest -m long

mutants: .venv/ready   ## mutation tests over the modules named in pyproject.toml, and their survivors; takes hours
	$(BIN)/python benchmarks/mutants.py

check: .venv/ready   ## ruff, mypy, sqlfluff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --processes 1 sql dbt

bench: .venv/ready   ## scoring and ingest against peers; SOURCE=reviews.tsv.gz BUNDLE=root/models/VERSION
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python benchmarks/scoring_job.py $(if $(SOURCE),--source "$(SOURCE)") $(if $(BUNDLE),--bundle "$(BUNDLE)")
	$(BIN)/python benchmarks/scoring_growth.py
	$(BIN)/python benchmarks/ingest_speed.py $(if $(SOURCE),--source "$(SOURCE)")

results: .venv/ready   ## docs/results/generated/ from real reviews: SOURCE=reviews.tsv.gz SHIFTED=others.tsv.gz
	@test -n "$(SOURCE)" -a -n "$(SHIFTED)" || { \
	    echo "make results needs two raw files: SOURCE=reviews.tsv.gz SHIFTED=others.tsv.gz" >&2; exit 1; }
	benchmarks/results.sh "$(SOURCE)" "$(SHIFTED)"

format: .venv/ready   ## ruff's own formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:           ## what the demo built
	rm -rf build
