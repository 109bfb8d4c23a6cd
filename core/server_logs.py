"""A JSON formatter for the log lines of granian's parent process, configured in deploy/granian-log.json.

Imports the standard library only. The parent's modules stay loaded in the workers that it forks, so after an upgrade
with `kill -HUP` they would be those of the old release.
"""

import json
import logging
import time


class JsonFormatter(logging.Formatter):
    """Formats a record with the same fields as `core.logs.JsonFormatter`. The parent process has no secrets to log."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "levelname": record.levelname,
            "name": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        return json.dumps(line)
