"""Fills a database: `few`, 20 keys of one workspace, or `many`, 1,000,000 keys of 100,000 workspaces.

Prints the usable secrets and their workspaces as JSON. Every workspace with such a secret has the same tasks. Among the
many keys, every 50th has a usable secret, and the others have random hashes. `last_used_at` is an hour ahead, so that
no request updates it: that is not what is measured here.
"""

import json
import os
import sys

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "onehorizon.settings"
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from apikeys import keys  # noqa: E402
from apikeys.hashing import fingerprint, hash_secret  # noqa: E402
from apikeys.models import ApiKey  # noqa: E402
from workspaces.models import COMMAND_ACTOR, Role, Task, TaskContributionType, User, Workspace  # noqa: E402

TASKS = 20
KEYS = 1_000_000
WORKSPACES = 100_000
EVERY = 50  # every 50th key has a usable secret

MANY_WORKSPACES = """
    INSERT INTO workspaces_workspace (id, name, slug, tier_id, created_at, suspend_reason)
    SELECT 'w_' || lpad(i::text, 26, '0'), 'Workspace ' || i, 'workspace-' || i, 'standard', now(), ''
    FROM generate_series(0, %(workspaces)s - 1) AS i
"""
MANY_KEYS = """
    INSERT INTO apikeys_apikey
        (id, workspace_id, description, created_at, revoke_reason, request_digest)
    SELECT 'key_' || lpad(i::text, 26, '0'), 'w_' || lpad((i %% %(workspaces)s)::text, 26, '0'), 'Key ' || i, now(),
           '', ''
    FROM generate_series(0, %(keys)s - 1) AS i
"""
MANY_SECRETS = """
    INSERT INTO apikeys_storedsecret
        (key_id, workspace_id, api_key_id, hash, fingerprint, created_at, last_used_at, request_digest)
    SELECT coalesce(real.key_id, left(translate(encode(sha256(i::text::bytea), 'base64'), '+/', 'xy'), 12)),
           'w_' || lpad((i %% %(workspaces)s)::text, 26, '0'), 'key_' || lpad(i::text, 26, '0'),
           coalesce(real.hash, '$argon2id$v=19$m=8,t=1,p=1$' || repeat(md5(i::text), 2)),
           coalesce(real.fingerprint, decode(left(md5(i::text), 16), 'hex')),
           now(), now() + interval '1 hour', ''
    FROM generate_series(0, %(keys)s - 1) AS i LEFT JOIN real ON real.number = i
"""
# The same admissions as `contenders.USED`, for every workspace.
MANY_QUOTAS = """
    INSERT INTO workspaces_quota (subject, admissions)
    SELECT id, ARRAY(SELECT (extract(epoch FROM now()) * 1000000)::bigint - 61000000 - 5000000 * n
                     FROM generate_series(0, 159) AS n)
    FROM workspaces_workspace
"""
MANY_TASKS = """
    INSERT INTO workspaces_task (id, workspace_id, title, description, status, kind, scope, visibility, user_id,
                                 created_at, updated_at, completed_at)
    SELECT overlay(task.id PLACING lpad(i::text, 6, '0') FROM 18), 'w_' || lpad(i::text, 26, '0'), title, description,
           status, kind, task.scope, visibility, user_id, created_at, updated_at, completed_at
    FROM workspaces_task AS task, generate_series(0, %(workspaces)s - 1, %(every)s) AS i
    WHERE task.workspace_id = %(bench)s
"""
MANY_CONTRIBUTORS = """
    INSERT INTO workspaces_taskcontributor (task_id, user_id, type)
    SELECT overlay(task_id PLACING lpad(i::text, 6, '0') FROM 18), user_id, type
    FROM workspaces_taskcontributor, generate_series(0, %(workspaces)s - 1, %(every)s) AS i
"""


def one_workspace() -> Workspace:
    owner = User.objects.create_user("owner@bench.example", "Owner")
    member = User.objects.create_user("member@bench.example", "Member")
    workspace = Workspace.objects.create_with_owner(owner, name="Bench", slug="bench", by=COMMAND_ACTOR)
    workspace.add_member(member, Role.MEMBER, by=COMMAND_ACTOR)
    for number in range(TASKS):
        Task.objects.create_task(
            workspace,
            title=f"Webhook retries stop after redirect {number}",
            description="A redirect ends the attempt, and the event is never sent again. " * 2,
            status="completed" if number % 5 == 0 else "in_progress",
            kind="bug" if number % 3 == 0 else "task",
            user=member,
            contributors=[(member.pk, TaskContributionType.ASSIGNEE)] if number % 2 else [],
        )
    return workspace


def few(workspace: Workspace) -> dict[str, list[str]]:
    secrets = [ApiKey.objects.create_key(workspace, description=f"Key {n}", by=COMMAND_ACTOR)[1] for n in range(20)]
    return {"secrets": secrets, "workspaces": [workspace.pk]}


def many(workspace: Workspace) -> dict[str, list[str]]:
    usable = {number: keys.generate() for number in range(0, KEYS, EVERY)}
    params: dict[str, int | str] = {"workspaces": WORKSPACES, "keys": KEYS, "every": EVERY, "bench": workspace.pk}
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE real (number int PRIMARY KEY, key_id text, hash text, fingerprint bytea)")
        cursor.executemany(
            "INSERT INTO real VALUES (%s, %s, %s, %s)",
            [(number, key.key_id, hash_secret(key.secret), fingerprint(key.secret)) for number, key in usable.items()],
        )
        for statement in (MANY_WORKSPACES, MANY_TASKS, MANY_CONTRIBUTORS, MANY_KEYS, MANY_SECRETS):
            cursor.execute(statement, params)
        cursor.execute(MANY_QUOTAS)
    workspaces = {f"w_{number % WORKSPACES:026}" for number in usable}
    return {"secrets": [key.secret for key in usable.values()], "workspaces": sorted(workspaces)}


call_command("migrate", verbosity=0)
print(json.dumps({"few": few, "many": many}[sys.argv[1]](one_workspace())))
with connection.cursor() as cursor:
    cursor.execute("VACUUM ANALYZE")
    cursor.execute("CHECKPOINT")
