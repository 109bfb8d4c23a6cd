"""`make sdk`: generates the client in sdk/js from the API's OpenAPI document, and builds the package that is served.

The generator is OpenAPI Generator's typescript-fetch. It needs Java; building needs Node.js and npm.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "sdk/js"
GENERATED = PACKAGE / "src/generated"
SERVED = ROOT / "static/sdk"
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
# The documents that show how to install the package, and so name its file.
DOCUMENTS = (ROOT / "README.md", PACKAGE / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PACKAGE_FILE = re.compile(r"onehorizon-sdk-js-([0-9][0-9A-Za-z.-]*?)\.tgz")
MARK = "// Generated from the API's OpenAPI document: edit that, then `make sdk`.\n"


def for_the_generator(document: dict[str, Any]) -> dict[str, Any]:
    """The document without what typescript-fetch can't express.

    It takes one body for all answers of an operation: createApiKey's, when repeated, has no `secret` but a `notice`.
    """
    document = copy.deepcopy(document)
    schemas = document["components"]["schemas"]
    created, repeated = schemas["CreatedApiKey"], schemas.pop("RepeatedApiKey")
    created["properties"] |= repeated["properties"]
    created["required"] = [name for name in created["required"] if name in repeated["required"]]
    del document["paths"]["/api/v1/workspaces/{workspaceId}/api-keys"]["post"]["responses"]["200"]
    return document


def generate(document: dict[str, Any], directory: Path) -> None:
    """Writes the client for the document into the directory, in place of what is there."""
    with tempfile.TemporaryDirectory() as temporary:
        source, made = Path(temporary, "openapi.json"), Path(temporary, "made")
        source.write_text(json.dumps(for_the_generator(document)))
        options = ["generate", "-g", "typescript-fetch", "-i", str(source), "-o", str(made)]
        options += ["--additional-properties", "importFileExtension=.js"]
        # Access tokens are bearer tokens as keys are (RFC 6750), which the generator knows of keys alone.
        options += ["--openapi-normalizer", "SET_BEARER_AUTH_FOR_NAME=oauth2"]
        _run(str(Path(sys.executable).with_name("openapi-generator-cli")), *options, cwd=ROOT)
        shutil.rmtree(directory, ignore_errors=True)
        for file in sorted(made.rglob("*.ts")):
            target = directory / file.relative_to(made)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(MARK + file.read_text())


def write_version() -> None:
    """Writes the version of pyproject.toml to the package and to the documents that name its file."""
    _run("npm", "version", VERSION, "--no-git-tag-version", "--allow-same-version", cwd=PACKAGE)
    for document in DOCUMENTS:
        text = document.read_text()
        document.write_text(PACKAGE_FILE.sub(f"onehorizon-sdk-js-{VERSION}.tgz", text))


def pack(package: Path, directory: Path) -> Path:
    """Builds the package and packs it as npm would publish it. Its `node_modules` must be there (`make tools`)."""
    shutil.rmtree(package / "dist", ignore_errors=True)
    shutil.copy(ROOT / "LICENSE", package)
    _run("npm", "run", "--silent", "build", cwd=package)
    directory.mkdir(exist_ok=True)
    name = _run("npm", "pack", "--silent", "--pack-destination", str(directory), cwd=package).strip()
    return directory / name


def _run(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(arguments, cwd=cwd, env=os.environ, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        sys.exit(f"{arguments[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "onehorizon.settings")
    django.setup()
    from onehorizon.openapi import schema

    generate(schema(), GENERATED)
    write_version()
    for old in SERVED.glob("*.tgz"):
        old.unlink()
    sys.stdout.write(f"{pack(PACKAGE, SERVED).relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
