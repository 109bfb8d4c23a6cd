# Everything here works from a fresh clone: it needs Python 3.11 or newer, make and git.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin

.PHONY: run test lint coverage check format install lock
.DEFAULT_GOAL := run

run: .venv/.installed
	@$(BIN)/python manage.py quickstart --port $(PORT)

test: .venv/.installed-dev
	@$(BIN)/pytest $(ARGS)

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/python manage.py makemigrations --check --dry-run
	DEBUG=off SECRET_KEY=$$($(BIN)/python -c "import secrets; print(secrets.token_urlsafe(50))") \
		ALLOWED_HOSTS=onehorizon.example $(BIN)/python manage.py check --deploy --fail-level WARNING

coverage: .venv/.installed-dev
	$(BIN)/coverage report
	$(BIN)/coverage report --include='apikeys/*' --fail-under=100

check: lint
	$(BIN)/pytest --cov --cov-report=
	@$(MAKE) --no-print-directory coverage

format: .venv/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: .venv/.installed

# The locks hold for every platform and Python that pyproject.toml allows.
lock: .venv/.installed-dev
	$(BIN)/uv pip compile pyproject.toml $(UV_COMPILE) -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --group dev $(UV_COMPILE) -o requirements-dev.lock
UV_COMPILE := --universal --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' --quiet --upgrade

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "One Horizon needs Python 3.11 or newer; this is %s. Name another with: make PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv .venv

.venv/.installed: requirements.lock | .venv/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

.venv/.installed-dev: requirements-dev.lock | .venv/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@ .venv/.installed
