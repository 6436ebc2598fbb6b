# Two commands do all the set-up: `make demo` and `make test`. Both make the virtual environment that they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH ?= 2.13.0
# Processes that run tests side by side, a file of tests each.
JOBS ?= 2

.PHONY: demo test agents bench speed faults lint docs site clean

demo: $(VENV)/.installed
	$(BIN)/unstuck demo --run runs/demo

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

bench: $(VENV)/.installed-dev
	$(BIN)/unstuck bench benchmarks/suites/paper.toml && $(BIN)/unstuck bench benchmarks/suites/paper.toml --page docs/results.md

# Half an hour on two cores that do nothing else; writes docs/speed.md. One section, in at most ten minutes:
# `make speed SECTION=training`.
speed: $(VENV)/.installed-dev
	$(BIN)/python -W ignore -m benchmarks.speed $(if $(SECTION),--only $(SECTION))

# Hours on one core; killed, it goes on. `python scripts/make_agents.py NAME` makes one.
agents: $(VENV)/.installed-dev
	$(BIN)/python scripts/make_agents.py
	$(BIN)/python scripts/make_pixel_agent.py

# Faults of a language model's service (minutes; into docs/llm.md), then kills, damages and environments that misbehave
# (an hour or more on two cores; docs/faults.md). One part of these: `python -m benchmarks.faults --only kills --count 20`.
faults: $(VENV)/.installed-dev
	$(BIN)/python -W ignore scripts/make_faults_page.py
	$(BIN)/python -W ignore -m benchmarks.faults

# torch comes first and by itself: any other package that asks for it would bring its CUDA build.
$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet torch==$(TORCH)
	touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

docs: $(VENV)/.installed-dev
	$(BIN)/python scripts/make_cli_docs.py

# The documentation as a site, in site/; needs no network once its packages are there.
site: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

$(VENV)/.installed-docs: $(VENV)/.torch pyproject.toml constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) runs
