import logging
import os
import sys

import django
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "onehorizon.settings")

# How long PostgreSQL works or waits for a request, in milliseconds. Commands, such as migrate, may take their time.
PATIENCE = 12.0  # seconds; where PostgreSQL itself stands still, and keeps no limit
LIMITS = "-c statement_timeout=10000 -c lock_timeout=3000 -c idle_in_transaction_session_timeout=15000"
os.environ["PGOPTIONS"] = f"{os.environ.get('PGOPTIONS', '')} {LIMITS}"

try:
    django.setup(set_prefix=False)
except ImproperlyConfigured as error:
    sys.exit(f"onehorizon: {error}")

from core import metrics  # noqa: E402, it reads the settings
from core.db.postgresql.base import Connection  # noqa: E402
from core.requests import Handler  # noqa: E402
from onehorizon import checks  # noqa: E402

application = Handler()
Connection.patience = PATIENCE

for found in run_checks(tags=[checks.PRODUCTION], include_deployment_checks=True):
    logging.getLogger("onehorizon").warning("%s %s", found.msg, found.hint)
metrics.serve()
