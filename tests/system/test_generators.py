"""Clients that generators make from the URL of the OpenAPI document work: the section of docs/api.md about them.

Each client creates, changes, reads and deletes a task with an API key.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers import commits
from tests.processes import ROOT, program
from tests.system.test_snippets import GENERATORS, Block, Reader, blocks, reader  # noqa: F401, a fixture
from workspaces.models import Workspace

pytestmark = [commits, pytest.mark.one_database("clients of the API, which the tests of the API run on each database")]

TOOLS = ROOT / "tests/tools"
SECTION = [block for block in blocks("api") if block.section == GENERATORS]
NPM_INSTALL = re.compile(r"^npm install (?:--save-dev )?(.*)\n", re.MULTILINE)


def only(language: str, text: str = "") -> Block:
    """Return the section's only block in this language that contains the text."""
    (block,) = [block for block in SECTION if block.language == language and text in block.text]
    return block


def test_a_typescript_client_of_openapi_typescript_and_openapi_fetch(reader: Reader, workspace: Workspace) -> None:  # noqa: F811
    program(str(TOOLS / "node_modules/.bin/openapi-typescript"), install="make tools (with Node.js and npm)")
    tasks_before = workspace.tasks.count()
    (reader.directory / "node_modules").symlink_to(TOOLS / "node_modules")
    (reader.directory / "tasks.mts").write_text(reader.fill_in(only("ts").text))
    installation = only("sh", "openapi-typescript")

    reader.run(replace(installation, text=NPM_INSTALL.sub("", installation.text)))
    output = reader.run(only("sh", "tsc"))

    assert output == "Rotate the signing certificate completed\n"
    assert workspace.tasks.count() == tasks_before


def test_the_npm_packages_of_the_document_are_installed_for_this_test() -> None:
    names = " ".join(NPM_INSTALL.findall(only("sh", "openapi-typescript").text)).split()

    assert names
    assert set(names) <= json.loads((TOOLS / "package.json").read_text())["devDependencies"].keys()


def test_a_python_client_of_openapi_python_client(reader: Reader, workspace: Workspace) -> None:  # noqa: F811
    tasks_before = workspace.tasks.count()
    script = only("python")

    reader.run(only("sh", "openapi-python-client"))
    output = reader.run(script)

    assert output == "Rotate the signing certificate completed\n"
    assert workspace.tasks.count() == tasks_before
    (reader.directory / "tasks.py").write_text(script.text)
    # The package is not checked itself: its generator does not aim at mypy's strict mode.
    mypy = f"{sys.executable} -m mypy --strict --follow-imports=silent --config-file= tasks.py"
    reader.run(Block("sh", mypy, script.line, None))


def test_openapi_generator_finds_the_site_that_serves_the_document(reader: Reader, site: str) -> None:  # noqa: F811
    """The document's server `/` is relative to its URL. The SDK's tests run a client of OpenAPI Generator."""
    program("java", install="apt-get install default-jre-headless (or your system's equivalent)")
    program(str(Path(sys.executable).with_name("openapi-generator-cli")), install="make tools")

    reader.run(only("sh", "openapi-generator-cli"))

    assert f'URL: "{site}",' in (reader.directory / "onehorizon/configuration.go").read_text()
