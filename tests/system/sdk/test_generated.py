"""The committed SDK is the output of `make sdk` for the current API."""

from __future__ import annotations

import json
import posixpath
import re
import sys
import tarfile
from pathlib import Path

import pytest

from onehorizon.openapi import schema
from sdk.generate import DOCUMENTS, GENERATED, PACKAGE, PACKAGE_FILE, SERVED, VERSION, generate, pack
from tests.processes import ROOT, program

pytestmark = pytest.mark.one_database("uses no database")

TOOLS = "make tools (with Java, Node.js and npm)"


def contents(directory: Path) -> dict[str, str]:
    return {str(file.relative_to(directory)): file.read_text() for file in directory.rglob("*") if file.is_file()}


def packed(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as tar:
        return {member.name: opened.read() for member in tar if (opened := tar.extractfile(member))}


def test_the_generated_client_matches_the_api(tmp_path: Path) -> None:
    program("java", install="apt-get install default-jre-headless (or your system's equivalent)")
    program(str(Path(sys.executable).with_name("openapi-generator-cli")), install=TOOLS)

    generate(schema(), tmp_path / "generated")

    assert contents(tmp_path / "generated") == contents(GENERATED), "make sdk"


def test_generated_files_start_with_a_notice() -> None:
    assert all(text.startswith("// Generated from the API's OpenAPI document") for text in contents(GENERATED).values())


def test_the_served_package_is_built_from_this_source(tmp_path: Path) -> None:
    program("npm", install="apt-get install nodejs npm (or your system's equivalent)")
    program(str(PACKAGE / "node_modules/.bin/tsc"), install=TOOLS)
    (served,) = SERVED.glob("*.tgz")

    archive = pack(PACKAGE, tmp_path)

    assert archive.name == served.name
    assert packed(archive) == packed(served), "make sdk"
    assert packed(served)["package/LICENSE"] == (ROOT / "LICENSE").read_bytes()


def test_the_source_maps_of_the_package_lead_to_sources_in_it() -> None:
    (served,) = SERVED.glob("*.tgz")
    files = packed(served)
    built = {name for name in files if "/dist/" in name and name.endswith((".js", ".d.ts"))}
    missing = set()
    for name in built:
        match = re.search(rb"//# sourceMappingURL=(\S+)$", files[name])
        assert match is not None, name
        directory = posixpath.dirname(name)
        source_map = json.loads(files[posixpath.join(directory, match[1].decode())])
        paths = (posixpath.join(directory, source_map["sourceRoot"], source) for source in source_map["sources"])
        missing |= {path for path in map(posixpath.normpath, paths) if path not in files}

    assert len(built) > 100
    assert missing == set()


def test_the_package_names_its_licence_and_origin_and_exports_its_description() -> None:
    package = json.loads((PACKAGE / "package.json").read_text())

    assert package["license"] == "MIT"
    assert package["homepage"] == package["repository"] == "https://onehorizon.ai"
    assert package["exports"]["./package.json"] == "./package.json"


def test_every_version_is_the_one_in_pyproject() -> None:
    package, lock = (json.loads((PACKAGE / name).read_text()) for name in ("package.json", "package-lock.json"))
    named = {
        "package.json": [package["version"]],
        "package-lock.json": [lock["version"], lock["packages"][""]["version"]],
        "static/sdk": [file.name.removeprefix("onehorizon-sdk-js-").removesuffix(".tgz") for file in SERVED.iterdir()],
    } | {str(document.relative_to(ROOT)): PACKAGE_FILE.findall(document.read_text()) for document in DOCUMENTS}

    assert {name: set(versions) for name, versions in named.items() if set(versions) - {VERSION}} == {}, "make sdk"
    assert VERSION in named["README.md"]


def test_the_package_has_no_dependencies_and_its_lock_names_no_registry() -> None:
    package, lock = (json.loads((PACKAGE / name).read_text()) for name in ("package.json", "package-lock.json"))

    assert not {"dependencies", "peerDependencies", "optionalDependencies"} & package.keys()
    assert all("resolved" not in package for package in lock["packages"].values())
