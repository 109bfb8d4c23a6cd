"""The JavaScript SDK that the site serves, against a server."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from apikeys.models import ApiKey
from sdk.generate import PACKAGE
from tests.helpers import commits, exhaust_quota, make_token, run_over_quota
from tests.processes import ROOT
from tests.system.sdk.conftest import Run
from workspaces.models import Task, User, Workspace

pytestmark = [commits, pytest.mark.one_database("the SDK, a client of the API")]

# As on the page about API keys on which this project is based.
SNIPPET = """import { Configuration, TasksApi } from '@onehorizon/sdk-js'

const config = new Configuration({ accessToken: process.env.ONE_API_KEY })
const tasks = new TasksApi(config)
"""
TSC = str(PACKAGE / "node_modules/.bin/tsc")
STRICT = ["--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--skipLibCheck", "false"]
NODE_TYPES = ["--types", "node", "--typeRoots", str(PACKAGE / "node_modules/@types")]
# Sends requests for the SDK's default host to the site under test.
REDIRECT = """const send = globalThis.fetch
globalThis.fetch = (url, init) => send(url.replace('https://onehorizon.ai/', process.env.SITE + '/'), init)
"""


def test_the_snippet_runs_unchanged(run: Run, project: Path, workspace: Workspace, secret: str) -> None:
    Task.objects.create_task(workspace, title="Ship")
    (project / "here.mjs").write_text(REDIRECT)
    (project / "snippet.mjs").write_text(
        f"{SNIPPET}\nconsole.log(JSON.stringify(await tasks.listTasks({{ workspaceId: 'current' }})))"
    )

    printed = json.loads(run("node", "--import", "./here.mjs", "snippet.mjs", ONE_API_KEY=secret))

    assert [task["title"] for task in printed["tasks"]] == ["Ship"]
    assert printed["nextCursor"] is None


def test_the_guide_contains_the_snippet_unchanged() -> None:
    assert f"```js\n{SNIPPET}```" in (ROOT / "docs/api-keys.md").read_text()


def readme_blocks(language: str) -> list[str]:
    fences = (token for token in MarkdownIt().parse((PACKAGE / "README.md").read_text()) if token.type == "fence")
    return [token.content for token in fences if token.info == language]


# What the example of each section prints.
PRINTED = {
    "First call": r"tsk_\w+ completed Ship the billing page\ntsk_\w+ open Ship\n",
    "Lists": r"tsk_\w+ open Ship\n",
    "Errors": r"400 Invalid fields: title\.\ntitle This field may not be blank\.\n",
    "Retries": r"1 tasks\n",
    "Aborting": r"Ship\n",
    "Configuration": r"200 https://onehorizon\.ai/api/v1/me \"standard\";r=199;.*\n\{.*name: 'Acme'.*\}\n",
    "Creating and rotating API keys": r"one_\w+_… works until \d{4}-\d\d-\d\dT[\d:.]+Z\n",
}


@pytest.mark.parametrize(
    ("example", "printed"), list(zip(readme_blocks("js"), PRINTED.values(), strict=True)), ids=PRINTED
)
def test_every_example_in_the_readme_runs_as_pasted(
    example: str, printed: str, run: Run, project: Path, workspace: Workspace, api_key: ApiKey, secret: str, owner: User
) -> None:
    variables = {"ONE_API_KEY": secret, "ACCESS_TOKEN": make_token(owner), "API_KEY_ID": api_key.pk}
    Task.objects.create_task(workspace, title="Ship")
    (project / "here.mjs").write_text(f"{REDIRECT}console.error = console.log\n")
    (project / "readme.mjs").write_text(example)

    output = run("node", "--import", "./here.mjs", "readme.mjs", **variables)

    assert re.fullmatch(printed, output, re.DOTALL), output


def test_the_typescript_example_in_the_readme_compiles_and_runs(
    run: Run, project: Path, workspace: Workspace, secret: str
) -> None:
    (example,) = readme_blocks("ts")
    Task.objects.create_task(workspace, title="Ship", status="completed")
    (project / "here.mjs").write_text(REDIRECT)
    (project / "readme.mts").write_text(example)

    run(TSC, "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022", *NODE_TYPES, "readme.mts")

    assert run("node", "--import", "./here.mjs", "readme.mjs", ONE_API_KEY=secret) == "2 completed tasks\n"


@pytest.mark.parametrize(
    "file", ["tasks.test.js", "lists.test.js", "errors.test.js", "configuration.test.js", "waiting.test.js"]
)
def test_the_tests_of_the_sdk_pass(file: str, run: Run, owner: User, secret: str) -> None:
    run("node", "--test", file, ONE_API_KEY=secret, ACCESS_TOKEN=make_token(owner))


def test_calls_over_the_quota_wait_and_succeed(run: Run, workspace: Workspace, secret: str, log: Path) -> None:
    def import_tasks() -> None:
        workspace.tasks.all().delete()
        run("node", "--test", "--test-name-pattern=45 calls", "quota.test.js", ONE_API_KEY=secret)

    run_over_quota(workspace, log, import_tasks)

    assert workspace.tasks.count() == 45


def test_calls_over_the_quota_fail_without_waiting(run: Run, workspace: Workspace, secret: str) -> None:
    exhaust_quota(workspace, 600)

    run("node", "--test", "--test-name-pattern=without waiting", "quota.test.js", ONE_API_KEY=secret)


@pytest.mark.parametrize(
    ("options", "types"),
    [
        pytest.param("nodenext --lib es2022 console.d.ts process.d.ts types.mts types.cts", [], id="neither"),
        pytest.param(
            "esnext --moduleResolution bundler --lib es2022,dom process.d.ts types.mts fetch-types.mts", [], id="DOM"
        ),
        pytest.param("nodenext --lib es2022 types.mts types.cts fetch-types.mts", NODE_TYPES, id="Node.js"),
        pytest.param(
            "commonjs --moduleResolution node10 --skipLibCheck --lib es2022,dom types.cts", NODE_TYPES, id="both"
        ),
    ],
)
def test_the_types_compile_with_or_without_those_of_the_dom_and_nodejs(
    options: str, types: list[str], run: Run
) -> None:
    run(TSC, "--noEmit", "--target", "es2022", *STRICT, *types, "--module", *options.split())
