"""Authenticates keys and counts their requests: the first statement of each request, without HTTP.

The first line of standard input is a JSON list of secrets. Each further line is `[first, last, number]`: send this
number of requests with these secrets in turn. The answer to each line is `[seconds, admitted requests]`.
"""

import json
import os
import sys
import time
from itertools import cycle, islice

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "onehorizon.settings"
django.setup()

from apikeys import admission  # noqa: E402
from apikeys.models import StoredSecret  # noqa: E402

secrets = json.loads(sys.stdin.readline())
for secret in secrets:
    StoredSecret.objects.authenticate(secret)  # verifies the secret, and does not count
print("[0, 0]", flush=True)
for line in sys.stdin:
    first, last, number = json.loads(line)
    start, admitted = time.perf_counter(), 0
    for secret in islice(cycle(secrets[first:last]), number):
        principal = admission.authenticate(secret)
        assert principal, secret[:16]
        admitted += principal.count_request().admitted
    print(json.dumps([time.perf_counter() - start, admitted]), flush=True)
