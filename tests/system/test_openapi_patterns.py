"""The patterns of the OpenAPI document mean the same in JavaScript as in Python."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from onehorizon.openapi import schema
from tests.onehorizon.test_openapi_values import CHARACTERS, TEXTS
from tests.processes import TIMEOUT, program
from workspaces.ids import new_id

pytestmark = pytest.mark.one_database("uses no database")

SCRIPT = """
const { patterns, texts } = JSON.parse(require('node:fs').readFileSync(0, 'utf8'))
const search = (flags) => patterns.map((pattern) => texts.map((text) => new RegExp(pattern, flags).test(text)))
console.log(JSON.stringify([search('u'), search('')]))
"""


def patterns(part: Any) -> Iterator[str]:
    """Yield each pattern in this part of the document."""
    if isinstance(part, dict):
        if isinstance(part.get("pattern"), str):
            yield part["pattern"]
        part = list(part.values())
    if isinstance(part, list):
        for item in part:
            yield from patterns(item)


def without_not(part: Any) -> Any:
    """Return this part of the document without the schemas that a value must not match."""
    if isinstance(part, dict):
        return {name: without_not(value) for name, value in part.items() if name != "not"}
    return [without_not(item) for item in part] if isinstance(part, list) else part


def test_patterns_that_generators_copy_are_ascii() -> None:
    """They copy those that a value must match. Ruby can't load `\\x80`, PHP can't load `\\u2028`."""
    found = set(patterns(without_not(schema())))

    assert found
    assert [pattern for pattern in found if re.search(r"\\u|\\x[^0-7]|[^\x20-\x7E]", pattern)] == []


def test_javascript_reads_the_patterns_like_python() -> None:
    """With and without the flag `u`, which some generators omit."""
    node = program("node", install="apt-get install nodejs (or your system's equivalent)")
    distinct = sorted(set(patterns(schema())))
    texts = [text for text in TEXTS if isinstance(text, str)]
    texts += [*CHARACTERS, *(f"x{character}y" for character in CHARACTERS), *map(new_id, ("w", "u", "tsk", "key"))]

    result = subprocess.run(
        [node, "-e", SCRIPT],
        input=json.dumps({"patterns": distinct, "texts": texts}),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )

    matches = [[bool(re.search(pattern, text)) for text in texts] for pattern in distinct]
    assert json.loads(result.stdout) == [matches, matches]
    assert len(distinct) > 8
