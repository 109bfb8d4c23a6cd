"""`make sdk`: generate the client in sdk/js from the API's OpenAPI document, and build the package that is served.

The generator is OpenAPI Generator's typescript-fetch, which needs Java. The build needs Node.js and npm.
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
# The documents that show how to install the package, and so contain its file name.
DOCUMENTS = (ROOT / "README.md", PACKAGE / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PACKAGE_FILE = re.compile(r"onehorizon-sdk-js-([0-9][0-9A-Za-z.-]*?)\.tgz")
DEFAULT_HOST = "https://onehorizon.ai"  # of a client without a `basePath`
MARK = "// Generated from the API's OpenAPI document: edit that, then `make sdk`.\n"
# Types that only some projects declare. src/environment.ts finds them, or replaces them.
ENVIRONMENT = (
    "Blob",
    "FormData",
    "Headers",
    "RequestCredentials",
    "RequestInit",
    "Response",
    "URLSearchParams",
    "WindowOrWorkerGlobalScope",
)


def generator_input(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with the SDK's default host, in a form that typescript-fetch supports.

    That is one body for all responses of an operation. A repeated createApiKey has no `secret` but a `notice`, so both
    are optional in the client.
    """
    document = copy.deepcopy(document) | {"servers": [{"url": DEFAULT_HOST}]}
    del document["info"]["contact"]  # the generator would repeat it in each file
    schemas = document["components"]["schemas"]
    created, repeated = schemas["CreatedApiKey"], schemas.pop("RepeatedApiKey")
    created["properties"] |= repeated["properties"]
    created["required"] = [name for name in created["required"] if name in repeated["required"]]
    del document["paths"]["/api/v1/workspaces/{workspaceId}/api-keys"]["post"]["responses"]["200"]
    # The client sends keys and access tokens in the same way, and would call a function `accessToken` for each of them.
    for operation in (item for path in document["paths"].values() for item in path.values()):
        operation["security"] = [scheme for scheme in operation["security"] if "oauth2" in scheme]
    return document


def adapt(name: str, text: str) -> str:
    """Return the text of a generated file with the changes that the generator has no options for."""
    if name == "runtime.ts":
        return MARK + _environment("../environment.js") + text
    if name.endswith("Api.ts"):
        # src/client.ts exports what the runtime exports, with its own base class and responses.
        text = text.replace("from '../runtime.js'", "from '../../client.js'")
        text = _environment("../../environment.js") + text
    # Allow an explicit `undefined`, for projects with `exactOptionalPropertyTypes`.
    return MARK + re.sub(r"^(    (?:readonly )?\w+\?: .+);$", r"\1 | undefined;", text, flags=re.MULTILINE)


def _environment(module: str) -> str:
    """Return declarations of the types in `ENVIRONMENT`. They hide global types of the same name, but not values."""
    aliases = "".join(f"type {name} = environment.{name};\n" for name in ENVIRONMENT)
    return f"import type * as environment from '{module}';\n{aliases}"


def generate(document: dict[str, Any], directory: Path) -> None:
    """Generate the client for the document, and replace the directory with it."""
    with tempfile.TemporaryDirectory() as temporary:
        source, output = Path(temporary, "openapi.json"), Path(temporary, "output")
        source.write_text(json.dumps(generator_input(document)))
        options = ["generate", "-g", "typescript-fetch", "-i", str(source), "-o", str(output)]
        options += ["--additional-properties", "importFileExtension=.js"]
        # Access tokens are bearer tokens like keys (RFC 6750). Without this the generator recognizes only keys as such.
        options += ["--openapi-normalizer", "SET_BEARER_AUTH_FOR_NAME=oauth2"]
        _run(str(Path(sys.executable).with_name("openapi-generator-cli")), *options, cwd=ROOT)
        shutil.rmtree(directory, ignore_errors=True)
        for file in sorted(output.rglob("*.ts")):
            target = directory / file.relative_to(output)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(adapt(target.relative_to(directory).as_posix(), file.read_text()))
        (directory / "version.ts").write_text(f"{MARK}export const VERSION = '{VERSION}';\n")


def write_version() -> None:
    """Write the version of pyproject.toml to the package, and to the documents that contain its file name."""
    _run("npm", "version", VERSION, "--no-git-tag-version", "--allow-same-version", cwd=PACKAGE)
    for document in DOCUMENTS:
        text = document.read_text()
        document.write_text(PACKAGE_FILE.sub(f"onehorizon-sdk-js-{VERSION}.tgz", text))


def pack(package: Path, directory: Path) -> Path:
    """Build the package, pack it as npm would publish it, and return the path of the file in `directory`.

    The package's `node_modules` must exist (`make tools`).
    """
    shutil.rmtree(package / "dist", ignore_errors=True)
    shutil.copy(ROOT / "LICENSE", package)
    _run("npm", "run", "--silent", "build", cwd=package)
    directory.mkdir(exist_ok=True)
    name = _run("npm", "pack", "--silent", "--pack-destination", str(directory), cwd=package).strip()
    return directory / name


def _run(*arguments: str, cwd: Path) -> str:
    """Return the standard output of a command. Exit with all of its output if it fails."""
    process = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    if process.returncode:
        sys.exit(f"{arguments[0]} failed:\n{process.stdout}{process.stderr}")
    return process.stdout


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
