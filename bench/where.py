"""A sampling profile of a request: the process sends itself requests and samples its own stack 1,000 times a second.

Takes a secret and its workspace as arguments. Prints the milliseconds per request, by activity, as JSON. They include
the time spent waiting for the database, but not granian and the network.
"""

import io
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import psycopg

from bench.contenders import BURST, OURS, SET_QUOTA, USED
from bench.load import HOST

SECONDS = 15

# The activity by frame: the end of the file's path, and the function. The innermost frame in this table counts.
ACTIVITIES = {
    ("apikeys/admission.py", "authenticate"): "key and quota",
    ("workspaces/task_pages.py", "task_page"): "tasks",
    ("apikeys/models/stored_secrets.py", "record_use"): "last use of the key",
    ("apikeys/authentication.py", "authenticate"): "authentication, the rest",
    ("core/formats.py", "render"): "JSON",
    ("django/urls/resolvers.py", "resolve"): "URL resolver",
    ("django/dispatch/dispatcher.py", "send"): "Django's signals: connection check",
    ("logging/__init__.py", "log"): "access log",
}
PACKAGES = {"/rest_framework/": "DRF, the rest", "/django/": "Django, the rest"}
STATEMENTS = "/core/db/statements.py"  # its `fetch` runs the statements


def activity(frame: FrameType | None) -> str:
    """Return the activity of a stack: by its innermost frame in `ACTIVITIES`, or else by its innermost package."""
    in_database, package = False, "ours, the rest"
    innermost = True
    while frame is not None:
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        depth = 3 if "/django/" in path else 2
        function = ("/".join(path.split("/")[-depth:]), name)
        in_database = in_database or (name == "fetch" and path.endswith(STATEMENTS))
        if function in ACTIVITIES:
            return ACTIVITIES[function] + (": statement" if in_database else "")
        if innermost:
            for part, label in PACKAGES.items():
                if part in path:
                    package, innermost = label, False
            innermost = innermost and "site-packages" not in path
        frame = frame.f_back
    return package


def main() -> None:
    secret, workspace = sys.argv[1:]
    os.environ["DJANGO_SETTINGS_MODULE"] = "onehorizon.settings"
    from onehorizon.wsgi import application

    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": OURS,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": HOST,
        "HTTP_X_FORWARDED_FOR": "192.0.2.7",
        "HTTP_X_FORWARDED_PROTO": "https",
        "HTTP_ACCEPT": "*/*",
        "HTTP_AUTHORIZATION": f"Bearer {secret}",
        "wsgi.url_scheme": "http",
    }

    def start(*_: Any) -> Callable[[bytes], object]:
        return lambda _: None

    def send_request() -> None:
        response = application(environ | {"wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr}, start)
        b"".join(response)
        response.close()

    samples: Counter[str] = Counter()
    signal.signal(signal.SIGALRM, lambda _, frame: samples.update([activity(frame)]))
    spent, requests = 0.0, 0
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        while spent < SECONDS:
            connection.execute(SET_QUOTA, {"subject": workspace, "ages": USED})
            send_request()
            start_time = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            for _ in range(BURST - 1):
                send_request()
            signal.setitimer(signal.ITIMER_REAL, 0)
            spent += time.perf_counter() - start_time
            requests += BURST - 1
    per_sample = spent / requests * 1000 / samples.total()  # milliseconds
    print(json.dumps({label: round(count * per_sample, 3) for label, count in samples.most_common()}))


if __name__ == "__main__":
    main()
