import logging
import os
import sys
import threading

import django
from django.conf import settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils.log import configure_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "onehorizon.settings")

# PostgreSQL's time limits for requests, in milliseconds. Commands, such as migrate, have none.
LIMITS = {"statement_timeout": 10_000, "lock_timeout": 1_000, "idle_in_transaction_session_timeout": 15_000}
SQLITE_LOCK_TIMEOUT = 3.0  # seconds; threads that wait for SQLite poll, so one may miss its turn several times
CLIENT_TIMEOUT = 12.0  # seconds; for a statement on a frozen host, where PostgreSQL's limits have no effect

try:
    from core.db.postgresql.base import Connection, DatabaseWrapper
    from core.db.sqlite.base import DatabaseWrapper as SQLiteWrapper

    configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)  # for the check, which comes before django.setup()
    logging.captureWarnings(True)  # Python's warnings are log lines too
    DatabaseWrapper.limits, Connection.client_timeout = LIMITS, CLIENT_TIMEOUT
    SQLiteWrapper.lock_timeout = SQLITE_LOCK_TIMEOUT
    if isinstance(database := connections[DEFAULT_DB_ALIAS], DatabaseWrapper):
        database.check_before_serving()  # first, to fail fast: granian stops if a restarted worker exits within 5 s
    django.setup(set_prefix=False)
    from onehorizon import checks  # needs django.setup()

    checks.require_static_files()
except ImproperlyConfigured as error:
    sys.exit(f"onehorizon: {error}")

from apikeys import usage  # noqa: E402, needs django.setup()
from core import metrics  # noqa: E402, reads the settings
from core.requests import Handler, remove_request_variables  # noqa: E402, needs django.setup()
from onehorizon.backup_metrics import BackupCollector  # noqa: E402, needs django.setup()
from onehorizon.housekeeping_metrics import HousekeepingCollector  # noqa: E402, needs django.setup()

application = Handler()
remove_request_variables(os.environ)  # granian copies the environment after this module is loaded

for message in run_checks(tags=[checks.PRODUCTION], include_deployment_checks=True):
    logging.getLogger("onehorizon").warning("%s %s", message.msg, message.hint)
metrics.serve(HousekeepingCollector, BackupCollector, usage.UsageCollector)
usage.start_writing(threading.main_thread())
