# make demo    set up, run the embedded study, write its report
# make test    set up, check style and types, run the tests without the long tier
# make test-all  the same, and the long tier: full simulations, real models, whole studies
# make drills  damage files and kill 3 × 20 runs, and print what was said (half an hour)
# make lint    style, types, workflow lint
# make bench   compare the engine with lm-evaluation-harness (options: BENCH="--rows memotrap")
# make lock    resolve the dependencies of pyproject.toml into envs/cpu.txt
# make outputs  write docs/outputs.md from the outputs that the rule files register
# make reference  write docs/reference/ from the schemas and the help of the commands
# make images  draw the reference images of figures again, in tests/samples/figures/
# make site    build the pages as a site in site/, which opens from a disk
# make clean   remove results and logs of all studies (weights, tasks and the cell store stay)

PYTHON ?= python3
CORES ?= all
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: demo test test-long test-all drills lint bench lock outputs reference images site clean

demo: $(VENV)/.installed
	snakemake --cores $(CORES)
	snakemake --report results/ladder/report.zip --quiet all

test: $(VENV)/.installed-test lint
	pytest -n 2 --dist loadgroup --durations 30 -m "not long"

test-long: $(VENV)/.installed-test
	pytest -n 2 --dist loadgroup --durations 30 -m long

test-all: test test-long

drills: $(VENV)/.installed-test
	DRILL_KILLS=20 pytest -n 2 -s -m long tests/drills

lint: $(VENV)/.installed-test
	ruff check . && ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	python tests/helpers/workflow_lint.py

$(VENV)/.installed: pyproject.toml envs/cpu.txt | $(VENV)/bin/python
	pip install --quiet --disable-pip-version-check -c envs/cpu.txt -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml envs/cpu.txt | $(VENV)/bin/python
	pip install --quiet --disable-pip-version-check -c envs/cpu.txt -e ".[test,slurm,cluster]"
	touch $@ $(VENV)/.installed

bench: $(VENV)/.installed-test
	python benchmarks/scoring.py $(BENCH)

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Ebbtide needs Python 3.11 or newer: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(VENV)

lock:
	rm -rf $(VENV)/lock && $(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 -e ".[test,slurm,cluster]"
	$(VENV)/lock/bin/python envs/lock.py > envs/cpu.txt
	rm -rf $(VENV)/lock

outputs: $(VENV)/.installed
	snakemake outputs_page --forcerun outputs_page --cores 1 --quiet all

reference: $(VENV)/.installed
	PYTHONPATH=workflow python docs/make_reference.py

images: $(VENV)/.installed-test
	PYTHONPATH=workflow python tests/helpers/reference_images.py

site: $(VENV)/.installed-test
	mkdocs build --quiet

clean:
	rm -rf results logs
