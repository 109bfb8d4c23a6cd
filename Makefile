# Everything here works from a fresh clone. Requirements: Python 3.11 or newer, make and git.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin

.PHONY: run test lint coverage check format install lock upgrade fixture audit tools bench capacity fuzz sdk cluster faults screenshots
.DEFAULT_GOAL := run

run: .venv/.installed
	@$(BIN)/python manage.py quickstart --port $(PORT)

test: .venv/.installed-dev
	@$(BIN)/pytest $(ARGS)

# The settings have no default for DEBUG once DATABASE_URL names a PostgreSQL database.
lint sdk: export DEBUG ?= on

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint deploy/container/Containerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec deploy/container/compose.yaml
	$(BIN)/python manage.py makemigrations --check --dry-run
	DEBUG=off SECRET_KEY=$$($(BIN)/python -c "import secrets; print(secrets.token_urlsafe(50))") \
		ALLOWED_HOSTS=onehorizon.example CACHE_URL=redis://cache.example $(BIN)/python manage.py check --deploy --fail-level WARNING

# Benchmarks against other packages. Starts its own PostgreSQL and Redis, and takes ten minutes: make bench > table.md
bench: .venv/.installed-bench
	@$(BIN)/python -m bench $(ARGS)

# Measures the capacity of a worker, a host and a primary: see docs/scale.md. It starts its own PostgreSQL and Redis.
capacity: .venv/.installed-dev
	@$(BIN)/python -m bench.capacity $(ARGS)

# The tests in tests/system/fuzz with many more cases, different ones each time; FUZZ_SEED=… repeats a run.
fuzz: .venv/.installed-dev .venv/.installed-fuzz
	@FUZZ=long $(BIN)/pytest tests/system/fuzz -o python_files='test_*.py guided.py' $(ARGS)

# Two web hosts behind nginx, and PostgreSQL with a hot standby, in processes on this machine. Takes a minute.
cluster: .venv/.installed-dev
	@$(BIN)/pytest tests/system/cluster -rP $(ARGS)

# Breaks such an installation on purpose, and prints the fault table of docs/operations.md. Takes some minutes.
faults: export DEBUG ?= on
faults: .venv/.installed-dev
	@DJANGO_SETTINGS_MODULE=onehorizon.settings $(BIN)/python -m tests.system.cluster.faults

# Screenshots of every state of the pages, at 390 and 1280 pixels, light and dark. Takes two minutes.
screenshots: export SCREENSHOTS ?= var/screenshots
screenshots: .venv/.installed-dev
	@$(BIN)/pytest tests/system/browser/test_craft.py -k every_width $(ARGS)
	@echo "The screenshots are in $(SCREENSHOTS)."

# The report of the --cov runs before it, on both databases: some of the code is for one of them alone.
coverage: .venv/.installed-dev
	$(BIN)/coverage report --include='apikeys/*' --precision=2 --fail-under=99

check: lint test

format: .venv/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: .venv/.installed

# The locks are valid for every platform and Python version that pyproject.toml allows. `make lock` follows a change of
# pyproject.toml and keeps every version that still fits; `make upgrade` takes the newest versions.
COMPILE = $(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	--custom-compile-command 'make lock' --quiet
lock: .venv/.installed-dev
	$(COMPILE) pyproject.toml -o requirements/production.lock
	$(COMPILE) pyproject.toml --group dev -o requirements/dev.lock
	$(COMPILE) pyproject.toml --group dev --group bench -o requirements/bench.lock
	$(COMPILE) --group sdk -o requirements/sdk.lock
	$(COMPILE) --group fuzz -o requirements/fuzz.lock
upgrade: COMPILE += --upgrade
upgrade: lock

# Regenerates the JavaScript SDK after a change of the API or of sdk/js. It needs Java, Node.js and npm.
sdk: tools
	$(BIN)/python -m sdk.generate

# npm packages that some tests run, and the generator of the SDK. Without them these tests are skipped.
tools: tests/tools/node_modules/.package-lock.json sdk/js/node_modules/.package-lock.json .venv/.installed-sdk

%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci --silent --no-audit --no-fund
	@touch $@

# Checks the locked packages for known vulnerabilities. It needs the network, so neither `make check` nor .ci/run does it.
audit: .venv/.installed-dev
	$(BIN)/uv tool run pip-audit@2.10.1 --strict --disable-pip --require-hashes $(addprefix -r ,$(wildcard requirements/*.lock))

# Stores the database of this release, with keys in use, for the upgrade tests of every later one.
fixture: RELEASE ?= $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)
fixture: .venv/.installed-dev
	$(BIN)/python -m tests.system.upgrades.keep $(RELEASE)

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "One Horizon needs Python 3.11 or newer; this is %s. Name another with: make PYTHON=python3.12" % sys.version.split()[0])'
	@echo "Creating the virtual environment in .venv"
	@$(PYTHON) -m venv .venv

# A lock names every package to install, hence --no-deps: pip before 23.3 would look up the newest release of a
# requirement that has an extra, and then reject it because it has no hash.
INSTALL_LOCK = echo "Installing the packages of $< in .venv, which can take a minute" && \
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<

.venv/.installed: requirements/production.lock | .venv/bin/pip
	@$(INSTALL_LOCK)
	@touch $@

.venv/.installed-dev: requirements/dev.lock | .venv/bin/pip
	@$(INSTALL_LOCK)
	@touch $@ .venv/.installed

.venv/.installed-bench: requirements/bench.lock | .venv/bin/pip
	@$(INSTALL_LOCK)
	@touch $@ .venv/.installed .venv/.installed-dev

.venv/.installed-sdk: requirements/sdk.lock | .venv/.installed-dev
	@$(INSTALL_LOCK)
	@touch $@

.venv/.installed-fuzz: requirements/fuzz.lock | .venv/.installed-dev
	@$(INSTALL_LOCK)
	@touch $@
