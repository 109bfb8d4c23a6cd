"""A process of `bench.cold_start`: creates keys, or authenticates all of them once. Reads JSON and prints JSON."""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "onehorizon.settings"
django.setup()

from argon2 import PasswordHasher  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from apikeys.models import ApiKey, StoredSecret  # noqa: E402
from workspaces.models import COMMAND_ACTOR, User, Workspace  # noqa: E402


def create(number: int) -> list[str]:
    """Create a workspace with this number of keys, and return their secrets."""
    call_command("migrate", verbosity=0)
    owner = User.objects.create_user("owner@bench.example", "Owner")
    workspace = Workspace.objects.create_with_owner(owner, name="Bench", slug="bench", by=COMMAND_ACTOR)
    return [ApiKey.objects.create_key(workspace, description=f"Key {n}", by=COMMAND_ACTOR)[1] for n in range(number)]


def authenticate(secrets: list[str]) -> dict[str, float]:
    """Authenticate each key once, and return the Argon2 runs, their processor seconds, and those of all work."""
    runs: list[float] = []
    verify = PasswordHasher.verify

    def timed(*arguments: Any) -> Any:
        began = time.thread_time()
        try:
            return verify(*arguments)
        finally:
            runs.append(time.thread_time() - began)

    PasswordHasher.verify = timed  # type: ignore[method-assign, assignment]  # to measure it
    connection.ensure_connection()
    began = time.process_time()
    assert all(map(StoredSecret.objects.authenticate, secrets))
    return {"runs": len(runs), "argon2_seconds": sum(runs), "seconds": time.process_time() - began}


print("ready", flush=True)
task: Callable[[Any], Any] = create if sys.argv[1] == "create" else authenticate
print(json.dumps(task(json.load(sys.stdin))))
