"""The locks in `requirements/` match pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.processes import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
GROUPS: dict[str, list[str]] = PROJECT["dependency-groups"]
PRODUCTION: list[str] = PROJECT["project"]["dependencies"]
LOCKS = {
    "production": PRODUCTION,
    "dev": [*PRODUCTION, *GROUPS["dev"]],
    "bench": [*PRODUCTION, *GROUPS["dev"], *GROUPS["bench"]],
    "sdk": GROUPS["sdk"],
    "fuzz": GROUPS["fuzz"],
}


def lock_text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.lock").read_text()


def entries(name: str) -> list[str]:
    """Return the lock's entries: each has a package, its version, its hashes, and what requires it."""
    return [entry for entry in re.split(r"\n(?=\w)", lock_text(name)) if not entry.startswith("#")]


def locked_versions(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", lock_text(name), re.MULTILINE))


def test_every_lock_has_a_list_of_requirements() -> None:
    assert {file.stem for file in (ROOT / "requirements").iterdir()} == LOCKS.keys()


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_exactly_the_requirements_of_pyproject(name: str) -> None:
    """Run `make lock` when this fails."""
    requirements = {canonicalize_name(item.name): item.specifier for item in map(Requirement, LOCKS[name])}
    direct = {entry.partition("==")[0] for entry in entries(name) if "onehorizon (pyproject.toml" in entry}
    versions = locked_versions(name)

    assert direct == requirements.keys()
    assert [package for package, allowed in requirements.items() if versions[package] not in allowed] == []


def test_production_has_the_same_versions_as_the_tests_and_the_benchmarks() -> None:
    for smaller, larger in pairwise(map(locked_versions, ("production", "dev", "bench"))):
        assert smaller.items() <= larger.items()


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_hashes_and_names_no_index(name: str) -> None:
    assert entries(name)
    assert all("--hash=sha256:" in entry for entry in entries(name))
    assert not re.search(r"://|--(index|extra-index|find-links)", lock_text(name))
