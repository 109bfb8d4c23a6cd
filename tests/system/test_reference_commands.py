"""The command that /api/docs shows for each operation works in a shell."""

from __future__ import annotations

import re
import subprocess
from html import unescape
from typing import Any

import pytest
from django.utils.html import strip_tags

from onehorizon.openapi import schema
from tests.helpers import commits, lift_quota, make_key, make_token
from tests.processes import TIMEOUT, fetch, program
from workspaces.models import Task, User, Workspace

pytestmark = [commits, pytest.mark.one_database("examples that the page shows")]


def successes(operation: dict[str, Any]) -> set[int]:
    return {int(status) for status, response in operation["responses"].items() if "$ref" not in response}


OPERATIONS = {
    operation["operationId"]: successes(operation)
    for methods in schema()["paths"].values()
    for operation in methods.values()
}


@pytest.fixture(scope="module")
def commands(site: str) -> dict[str, str]:
    """The commands of the page, by the id of their operation."""
    _, _, body = fetch(f"{site}/api/docs")
    examples = re.findall(r'<pre [^>]*id="curl-(\w+)"[^>]*>(.*?)</pre>', body.decode(), re.DOTALL)
    return {operation: unescape(strip_tags(example)) for operation, example in examples}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_example_of_a_request_works_in_a_shell(
    commands: dict[str, str], owner: User, workspace: Workspace, secret: str, operation: str
) -> None:
    lift_quota(workspace)
    program("curl", install="apt-get install curl")
    variables = {
        "ONE_API_KEY": secret,
        "ACCESS_TOKEN": make_token(owner, "api-keys:manage"),
        "TASK_ID": Task.objects.create_task(workspace, title="Water the plants").pk,
        "API_KEY_ID": make_key(workspace)[0].pk,
    }

    result = subprocess.run(
        ["bash", "-euc", f'{commands[operation]} -o /dev/null -w "%{{http_code}}"'],
        env=variables | {"PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )

    assert int(result.stdout) in OPERATIONS[operation]
