"""Where the time of a request goes: a process asks itself, and looks a thousand times a second where it is.

Takes a secret and its workspace; prints, as JSON, milliseconds a request by what was under way. The database's time
is in it, as time spent waiting; granian and the network are not.
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

# Whose frame, as the end of a file's path and its function, means what; the innermost that is known counts.
KNOWN = {
    ("apikeys/admission.py", "authenticate"): "key and quota",
    ("workspaces/task_pages.py", "task_page"): "tasks",
    ("apikeys/models.py", "record_use"): "when the key was last used",
    ("apikeys/authentication.py", "authenticate"): "authentication, the rest of it",
    ("core/formats.py", "render"): "JSON",
    ("django/urls/resolvers.py", "resolve"): "finding the view",
    ("django/dispatch/dispatcher.py", "send"): "Django's signals: a look at the connection",
    ("logging/__init__.py", "info"): "the request's line in the log",
}
PACKAGES = {"/rest_framework/": "DRF, the rest of it", "/django/": "Django, the rest of it"}
STATEMENT = ("core/db/statements.py", "fetch")


def stage(frame: FrameType | None) -> str:
    in_database, package = False, "ours, the rest of it"
    innermost = True
    while frame is not None:
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        place = ("/".join(path.split("/")[-2:]), name)
        place = ("/".join(path.split("/")[-3:]), name) if path.count("/django/") else place
        in_database = in_database or place == STATEMENT
        if place in KNOWN:
            return KNOWN[place] + (": its statement" if in_database else "")
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

    def ask() -> None:
        answer = application(environ | {"wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr}, start)
        b"".join(answer)
        answer.close()

    seen: Counter[str] = Counter()
    signal.signal(signal.SIGALRM, lambda _, frame: seen.update([stage(frame)]))
    spent, requests = 0.0, 0
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        while spent < SECONDS:
            connection.execute(SET_QUOTA, {"subject": workspace, "ages": USED})
            ask()
            began = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            for _ in range(BURST - 1):
                ask()
            signal.setitimer(signal.ITIMER_REAL, 0)
            spent += time.perf_counter() - began
            requests += BURST - 1
    each = spent / requests * 1000 / seen.total()
    print(json.dumps({label: round(count * each, 3) for label, count in seen.most_common()}))


if __name__ == "__main__":
    main()
