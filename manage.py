#!/usr/bin/env python
import errno
import logging
import os
import sys
from io import TextIOWrapper

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import DatabaseError

CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "onehorizon.settings")
    if sys.stdout is None:
        sys.exit("onehorizon: Standard output is closed.")
    tolerate_other_encodings()
    try:
        import onehorizon.settings  # noqa: F401, a bad value in the environment is reported before any command runs
    except ImproperlyConfigured as error:
        sys.exit(f"onehorizon: {error}")
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # its warnings repeat the reason that is printed below
    try:
        execute_from_command_line(sys.argv)
        sys.stdout.flush()
    except DatabaseError as error:
        from onehorizon.command_errors import database_problem  # needs Django's setup

        problem = None if "--traceback" in sys.argv else database_problem(error, command=sys.argv[1])
        if problem is None:
            raise
        sys.exit(f"onehorizon: {problem}")
    except BrokenPipeError:
        sys.exit(1)  # the reader has closed the pipe, as with `| head -1`
    except OSError as error:
        if error.errno not in CANNOT_WRITE or "--traceback" in sys.argv:
            raise
        sys.exit(f"onehorizon: {error.filename or 'The output'} can't be written: {error.strerror}.")
    finally:
        discard_unwritten_output()


def tolerate_other_encodings() -> None:
    """Print characters that the terminal can't display as escapes, as standard error does, and read any bytes."""
    for stream, errors in ((sys.stdout, "backslashreplace"), (sys.stdin, "surrogateescape")):
        if isinstance(stream, TextIOWrapper):  # None if it is closed
            stream.reconfigure(errors=errors)


def discard_unwritten_output() -> None:
    """Discard output that can't be written. Python would try again when it exits, and print a traceback."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    main()
