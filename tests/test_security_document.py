"""SECURITY.md names a test for each promise, and the tests exist."""

import re

import pytest

from tests.processes import ROOT

DOCUMENT = (ROOT / "SECURITY.md").read_text()
PROMISES = [
    line for line in DOCUMENT.partition("## Figures")[0].splitlines() if line.startswith("|") and "---" not in line
][1:]
NAMED = sorted(set(re.findall(r"`(tests/[\w/.]+\.py)(?:::(test_\w+))?`", DOCUMENT)))


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.split("|")[1].strip()[:60])
def test_a_promise_names_a_test(promise: str) -> None:
    assert re.search(r"`tests/[\w/.]+\.py(::test_\w+)?`", promise.split("|")[3])


@pytest.mark.parametrize(("file", "name"), NAMED, ids="::".join)
def test_a_named_test_exists(file: str, name: str) -> None:
    assert re.search(rf"^def {name or 'test_'}", (ROOT / file).read_text(), re.MULTILINE)


def test_there_are_promises() -> None:
    assert len(PROMISES) > 10
