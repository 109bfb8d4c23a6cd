#!/usr/bin/env python
import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "onehorizon.settings")
    try:
        import onehorizon.settings  # noqa: F401, a bad value in the environment is told before any command runs
    except ImproperlyConfigured as error:
        sys.exit(f"onehorizon: {error}")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
