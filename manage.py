#!/usr/bin/env python
import logging
import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import DatabaseError


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "onehorizon.settings")
    try:
        import onehorizon.settings  # noqa: F401, a bad value in the environment is reported before any command runs
    except ImproperlyConfigured as error:
        sys.exit(f"onehorizon: {error}")
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # its warnings have the reason that is printed below
    try:
        execute_from_command_line(sys.argv)
    except DatabaseError as error:
        from onehorizon.command_errors import database_problem  # needs Django's setup

        problem = None if "--traceback" in sys.argv else database_problem(error)
        if problem is None:
            raise
        sys.exit(f"onehorizon: {problem}")


if __name__ == "__main__":
    main()
