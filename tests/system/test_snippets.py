"""Every command and script in docs/ runs, and every response shown there matches the real one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from apikeys.models import ApiKey, ApiKeyUsage, StoredSecret
from onehorizon.documents import SITE
from tests.helpers import advance_quota_clock, commits, make_token, run_over_quota
from tests.processes import ROOT, TIMEOUT, program
from workspaces import quota
from workspaces.models import Task, User, Workspace

pytestmark = [commits, pytest.mark.one_database("documents and clients of the API")]

HTTP_DATE = re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
ID = re.compile(r"(w|u|tsk|key)_[0-9a-z]{26}")
GENERATORS = "Generating a client"  # the section whose blocks test_generators.py runs


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int
    output: Block | None  # as the document shows it
    section: str = ""  # its heading of the second level

    @property
    def needs_node(self) -> bool:
        return self.language == "js" or self.text.startswith("npm ")

    @property
    def waits(self) -> bool:
        """Whether the script waits when it is over the quota."""
        return self.language != "sh" and "Imported task" in self.text


def blocks(name: str) -> list[Block]:
    """Return the commands and scripts of a document, each with the output that follows it, if any."""
    fences, heading = [], ""
    for previous, token in pairwise(MarkdownIt().parse((ROOT / f"docs/{name}.md").read_text())):
        if previous.type == "heading_open" and previous.tag == "h2":
            heading = token.content
        elif token.type == "fence":
            fences.append((heading, token))
    runnable: list[Block] = []
    following: Block | None = None
    for section, token in reversed(fences):
        block = Block(token.info, token.content, (token.map or [0])[0] + 1, following, section)
        following = block if token.info in ("json", "http") else None
        if following is None:
            runnable.insert(0, block)
    return runnable


class Reader:
    """Runs one block after another. Shell variables carry over, as for a reader who copies all into one shell."""

    def __init__(self, directory: Path, replacements: dict[str, str], **variables: str) -> None:
        self.directory = directory
        self.replacements = replacements
        bin_directory = Path(sys.executable).parent
        self.environment = {
            "PATH": f"{bin_directory}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(directory),
            "PIP_NO_INDEX": "1",  # the packages are installed already
            "npm_config_registry": "http://127.0.0.1:9/",  # unreachable: the SDK comes from the site
            **variables,
        }

    def fill_in(self, text: str) -> str:
        """Return the text with the reader's site, key and ids instead of the placeholders."""
        for placeholder, value in self.replacements.items():
            text = text.replace(placeholder, value)
        return text

    def run(self, block: Block) -> str:
        text = self.fill_in(block.text)
        variables = self.directory / "variables"
        arguments = {
            "sh": ["bash", "-euo", "pipefail", "-c", f"set -a\n{text}\nenv -0 > {variables}"],
            "python": ["python3", "-W", "error", "-c", text],
            "js": ["node", "--input-type=module", "-e", text],
        }[block.language]
        result = subprocess.run(
            arguments,
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert result.returncode == 0, f"line {block.line}: {result.stderr}"
        if block.language == "sh":
            pairs = variables.read_text().split("\0")
            self.environment = dict(pair.split("=", 1) for pair in pairs if pair)
        return result.stdout


def without_values(text: str) -> str:
    """Return the text without dates, numbers and hosts."""
    return re.sub(r"\d+", "0", re.sub(r"https?://[^/]+", "", HTTP_DATE.sub("a date", text)))


def parse(language: str, text: str) -> Any:
    """Return the value of a JSON body, or the status line, headers and body of an HTTP response.

    Headers are compared without numbers, dates and hosts, which differ.
    """
    if language == "json":
        return json.loads(text)
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    status, *headers = head.splitlines()
    pairs = (line.split(": ", 1) for line in headers)
    fields = {name.lower(): without_values(value) for name, value in pairs}
    return status, fields, json.loads(body) if body.strip() else None


def shape(value: Any, name: str = "") -> Any:
    """Replace each value by its type, or by the kind of id or time that it is.

    Messages keep their words without the numbers, and `errors` stay as they are.
    """
    match value:
        case dict():
            return {key: item if key == "errors" else shape(item, key) for key, item in value.items()}
        case list():
            return [shape(item, name) for item in value]
        case str() if TIME.fullmatch(value):
            return "a time"
        case str() if match := ID.fullmatch(value):
            return match[1]
        case str() if name == "message":
            return without_values(value)
    return type(value)


def assert_same_shape(expected: Any, actual: Any) -> None:
    """Assert that the shapes match. A null matches anything; a list is compared up to the length of the shorter one."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        assert expected.keys() == actual.keys()
        for name in expected:
            assert_same_shape(expected[name], actual[name])
    elif isinstance(expected, list) and isinstance(actual, list):
        for expected_item, item in zip(expected, actual, strict=False):
            assert_same_shape(expected_item, item)
    elif type(None) not in (expected, actual):
        assert expected == actual


def assert_matches_document(block: Block, output: str) -> None:
    assert block.output is not None
    expected, actual = (parse(block.output.language, text) for text in (block.output.text, output))
    if block.output.language == "http":
        assert actual[0] == expected[0]
        assert {name: actual[1].get(name) for name in expected[1]} == expected[1]
        expected, actual = expected[2], actual[2]
    assert_same_shape(shape(expected), shape(actual))


@pytest.fixture
def reader(
    tmp_path: Path, site: str, workspace: Workspace, owner: User, member: User, api_key: ApiKey, secret: str
) -> Reader:
    ApiKey.objects.filter(pk=api_key.pk).update(created_by=owner)
    task = Task.objects.create_task(workspace, title="Rotate the signing certificate")
    Task.objects.create_task(workspace, title="CSV export drops the last row", kind="bug", user=member)
    for number in range(2):
        Task.objects.create_task(
            workspace,
            title=f"Task {number}",
            kind="bug",
            status="completed",
            user=member,
            contributors=[(member.pk, "assignee")],
        )
    hour = int(datetime(2026, 11, 23, 3, tzinfo=UTC).timestamp())
    ApiKeyUsage.objects.add({(api_key.pk, hour): (32, 3, 1, 0)})
    return Reader(
        tmp_path,
        {
            SITE: site,
            "<your-api-key>": secret,
            "<its-api-key-id>": api_key.pk,
            "<its-task-id>": task.pk,
        },
        ONE_API_KEY=secret,
        ACCESS_TOKEN=make_token(owner),
    )


@pytest.mark.parametrize("name", ["api-keys", "api"])
def test_every_block_of_the_document_runs_and_gets_the_response_shown(
    name: str, reader: Reader, workspace: Workspace, log: Path
) -> None:
    installation = [block for block in blocks("api-keys") if block.text.startswith("npm install")]
    has_npm = shutil.which("npm") is not None
    for block in installation + blocks(name):
        if block.section == GENERATORS:
            continue
        if block.needs_node and not has_npm:
            continue
        if block.output is not None and "429 Too Many" in block.output.text:
            while quota.admit(workspace.pk, workspace.tier).admitted:
                pass
        if block.waits:
            run_over_quota(workspace, log, partial(run_import, reader, block, workspace))
        else:
            output = reader.run(block)
            if block.output is not None:
                assert_matches_document(block, output)
        Workspace.objects.filter(pk=workspace.pk).update(tier="standard")
        advance_quota_clock(workspace.pk, 900)
    program("npm", install="apt-get install nodejs npm (or your system's equivalent)")


def test_the_programs_that_rotate_a_key_store_its_new_secret(
    reader: Reader, api_key: ApiKey, workspace: Workspace, tmp_path: Path
) -> None:
    program("npm", install="apt-get install nodejs npm (or your system's equivalent)")
    all_blocks = blocks("api-keys")
    (installation,) = (block for block in all_blocks if block.text.startswith("npm install"))
    rotating = [block for block in all_blocks if block.section == "Rotating a key" and block.language != "sh"]
    reader.environment["API_KEY_ID"] = api_key.pk
    reader.run(installation)

    for block in rotating:
        before = api_key.secrets.count()
        reader.run(block)
        api_key.refresh_from_db()
        if "endPreviousSecret" in block.text:
            assert api_key.previous_secret is None
        else:
            file = tmp_path / "one-api-key"
            assert StoredSecret.objects.find_by_secret(file.read_text()) == api_key.current_secret
            assert file.stat().st_mode & 0o777 == 0o600
            assert api_key.secrets.count() == before + 1
            assert api_key.previous_secret is not None
    assert [block.language for block in rotating] == ["python", "js", "js"]


def test_the_programs_that_rotate_a_key_keep_the_file_if_the_response_has_no_secret(
    reader: Reader, api_key: ApiKey, tmp_path: Path
) -> None:
    program("npm", install="apt-get install nodejs npm (or your system's equivalent)")
    all_blocks = blocks("api-keys")
    (installation,) = (block for block in all_blocks if block.text.startswith("npm install"))
    rotating = [block for block in all_blocks if block.language != "sh" and "overlapSeconds" in block.text]
    reader.environment["API_KEY_ID"] = api_key.pk
    reader.replacements |= {"uuid.uuid4()": '"1"', "randomUUID()": '"1"'}  # all requests are repetitions of the first
    reader.run(installation)
    reader.run(rotating[0])
    file = tmp_path / "one-api-key"
    secret = file.read_text()

    for block in rotating:
        with pytest.raises(AssertionError, match="An earlier request with this Idempotency-Key rotated the key"):
            reader.run(block)
        assert file.read_text() == secret
    assert [block.language for block in rotating] == ["python", "js"]


def run_import(reader: Reader, block: Block, workspace: Workspace) -> None:
    assert block.output is None
    reader.run(block)
    imported = workspace.tasks.filter(title__startswith="Imported task")
    assert imported.count() == 45
    imported.delete()


def test_the_document_has_blocks_in_each_language() -> None:
    assert {block.language for block in blocks("api-keys")} == {"sh", "python", "js"}


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ('{"title": "Ship"}', '{"name": "Ship"}'),
        ('{"taskId": "tsk_01m83r0e42nd03a51x3ajy7v5y"}', '{"taskId": "key_01m83r0e42nd03a51x3ajy7v5y"}'),
        ('{"createdAt": "2026-11-23T08:22:53.315077Z"}', '{"createdAt": "2026-11-23 08:22:53"}'),
        ('{"message": "standard rate limit exceeded"}', '{"message": "rate limit exceeded"}'),
        ('{"errors": {"title": ["This may not be blank."]}}', '{"errors": {"title": ["This is blank."]}}'),
        ('{"tasks": [{"a": 1}]}', '{"tasks": [{"b": 1}]}'),
        ('{"activeCount": 1}', '{"activeCount": "1"}'),
    ],
)
def test_a_wrong_response_in_a_document_is_detected(expected: str, actual: str) -> None:
    block = Block("sh", "", 1, Block("json", expected, 1, None))

    assert_matches_document(block, expected)
    with pytest.raises(AssertionError):
        assert_matches_document(block, actual)
