import logging
import os
import sys

import django
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "onehorizon.settings")

# How long PostgreSQL works or waits for a request, in milliseconds. Commands, such as migrate, may take their time.
LIMITS = {"statement_timeout": 10_000, "lock_timeout": 3_000, "idle_in_transaction_session_timeout": 15_000}
PATIENCE = 12.0  # seconds; where PostgreSQL itself stands still, and keeps no limit

try:
    from core.db.postgresql.base import Connection, DatabaseWrapper

    DatabaseWrapper.limits, Connection.patience = LIMITS, PATIENCE
    if isinstance(database := connections[DEFAULT_DB_ALIAS], DatabaseWrapper):
        database.check_start()  # before all else: granian ends when a worker that it restarts fails within 5 seconds
    django.setup(set_prefix=False)
except ImproperlyConfigured as error:
    sys.exit(f"onehorizon: {error}")

from core import metrics  # noqa: E402, it reads the settings
from core.requests import Handler  # noqa: E402
from onehorizon import checks  # noqa: E402

application = Handler()

for found in run_checks(tags=[checks.PRODUCTION], include_deployment_checks=True):
    logging.getLogger("onehorizon").warning("%s %s", found.msg, found.hint)
metrics.serve()
