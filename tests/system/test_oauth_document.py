"""The commands and programs in docs/oauth.md, with applications that an operator registered as the page says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from itertools import pairwise
from pathlib import Path

import playwright.sync_api
import pytest
import requests
from django.test import Client
from oauth2_provider.models import AccessToken

from apikeys.models import ApiKey
from oauth.models import Application
from oauth.server import REFRESH_GRACE
from onehorizon.oauth_settings import OAUTH_SETTINGS, REFRESH_TOKEN_LIFETIME
from tests.admin.browser import Page
from tests.admin.pages import INDEX, add_url
from tests.helpers import Api, commits
from tests.oauth.conftest import Browser, code_in
from tests.processes import ROOT, TIMEOUT, free_port, manage, npm_packages, process, program, wait_until_listening
from tests.sweep import sweep
from tests.system.test_snippets import Reader, assert_matches_document, blocks
from workspaces.models import User, Workspace

pytestmark = pytest.mark.one_database("documents and clients of OAuth")

TEXT = (ROOT / "docs/oauth.md").read_text()
REDIRECT_URI = "http://127.0.0.1/callback"
OPENSSL = "apt-get install openssl (or your system's equivalent)"
PROGRAMS = {"js": "import { once }", "python": "import os\n"}  # language to the start of its program


def section(heading: str) -> str:
    return TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0]


@pytest.fixture
def client_id(admin_client: Client) -> str:
    """The client id that the admin showed when an operator registered an application for the page's programs."""
    form = Page.open(admin_client, add_url(Application)).form()
    form.send(
        admin_client,
        name="Reports",
        client_type="public",
        authorization_grant_type="authorization-code",
        redirect_uris=REDIRECT_URI,
        scopes=["profile", "api-keys:manage"],
    )
    return dict(form.fields)["client_id"]


@commits
def test_every_command_works_and_gets_the_response_shown(
    site: str, owner: User, workspace: Workspace, tmp_path: Path
) -> None:
    program("openssl", install=OPENSSL)
    browser = Browser(site, owner)
    reader = Reader(tmp_path, {"https://onehorizon.ai": site})
    programs = TEXT.partition("## Complete examples")[0].count("\n")
    with browser.session:
        for block in blocks("oauth"):
            if block.line > programs:
                break
            if "manage.py" in block.text:
                registered = manage(*shlex.split(block.text.replace("\\\n", ""))[2:])
                reader.replacements["<your-client-id>"] = registered.stdout.partition("client_id: ")[2].strip()
                continue
            output = reader.run(block)
            if "/app/auth/authorize" in block.text:
                location = browser.allow(output.strip())
                assert location.startswith(f"{REDIRECT_URI}?")
                reader.replacements["<the-code>"] = code_in(location)
            if block.output is not None:
                assert_matches_document(block, output)

    assert ApiKey.objects.get().description == "Reports, created by the app"
    me = requests.get(
        f"{site}/api/v1/me", headers={"Authorization": f"Bearer {reader.environment['ACCESS_TOKEN']}"}, timeout=TIMEOUT
    )
    assert me.status_code == 401  # the last command has revoked it


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, followed by its private key."""
    openssl = program("openssl", install=OPENSSL)
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=onehorizon"
    arguments = [openssl, "req", *options.split(), "-addext", "subjectAltName=IP:127.0.0.1"]
    arguments += ["-addext", "keyUsage=digitalSignature,keyCertSign", "-keyout", str(path), "-out", str(path)]
    subprocess.run(arguments, check=True, capture_output=True, timeout=TIMEOUT)
    return path


@pytest.fixture(scope="session")
def secure_site(django_db_setup: None, certificate: Path) -> Iterator[str]:
    """The URL of a server with TLS on the test database."""
    log, port = certificate.with_name("log"), free_port()
    sweep.watch(log)
    arguments = [str(Path(sys.executable).with_name("granian")), "--interface", "wsgi", "--port", str(port)]
    arguments += ["--ssl-certificate", str(certificate), "--ssl-keyfile", str(certificate)]
    url = f"https://127.0.0.1:{port}"
    with process([*arguments, "onehorizon.wsgi:application"], log, BASE_URL=url) as child:
        wait_until_listening(port, child, log)
        yield url


@contextmanager
def program_on_the_page(
    language: str, site: str, certificate: Path, directory: Path, client_id: str
) -> Iterator[subprocess.Popen[str]]:
    """Save a program as the page at `site` shows it, and run it with the command that follows it."""
    if language == "js":
        program("node", install="apt-get install nodejs (or your system's equivalent)")
        (directory / "node_modules").symlink_to(npm_packages("openid-client"))
    html = requests.get(f"{site}/docs/oauth/", verify=str(certificate), timeout=TIMEOUT).text
    codes = [unescape(code) for code in re.findall(r"<pre [^>]*><code>(.*?)</code></pre>", html, re.DOTALL)]
    ((text, command),) = [pair for pair in pairwise(codes) if pair[0].startswith(PROGRAMS[language])]
    (directory / command.split()[-1]).write_text(text)
    environment = os.environ | dict.fromkeys(["NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE"], str(certificate))
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["PYTHONWARNINGS"] = "error"
    with subprocess.Popen(
        ["bash", "-c", command.replace("<your-client-id>", client_id)],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def url_from(child: subprocess.Popen[str]) -> str:
    """Return the authorization URL that the program prints."""
    assert child.stdout
    assert child.stderr
    line: str = child.stdout.readline()
    assert line.startswith("Open this URL in your browser: "), child.stderr.read()
    return line.split()[-1]


def decide(person: playwright.sync_api.Page, url: str, button: str) -> None:
    """Sign in as the owner, decide, and wait for the page of the program."""
    person.goto(url)
    person.get_by_label("Email").fill("owner@example.com")
    person.get_by_label("Password").fill("owner-password")
    person.get_by_role("button", name="Sign in").click()
    person.get_by_role("button", name=button, exact=True).click()
    playwright.sync_api.expect(person.get_by_text("You can close this page.")).to_be_visible()


@pytest.fixture
def person(browser: playwright.sync_api.Browser) -> Iterator[playwright.sync_api.Page]:
    """A browser of a person who is not signed in."""
    with browser.new_context(ignore_https_errors=True) as context:
        yield context.new_page()


@commits
@pytest.mark.parametrize("language", PROGRAMS)
def test_a_program_signs_a_person_in_and_creates_a_key(
    language: str,
    person: playwright.sync_api.Page,
    secure_site: str,
    certificate: Path,
    workspace: Workspace,
    client_id: str,
    tmp_path: Path,
) -> None:
    with program_on_the_page(language, secure_site, certificate, tmp_path, client_id) as child:
        decide(person, url_from(child), "Allow")
        output, errors = child.communicate(timeout=TIMEOUT)

    assert (child.returncode, errors) == (0, "")
    created, stored = output.splitlines()
    key = ApiKey.objects.get()
    assert created == f"Owner created {key.masked} in Acme."
    me = Api(stored.partition(": ")[2]).get("/me").json()
    assert me["apiKeyId"] == key.pk
    assert not AccessToken.objects.exists()


@commits
@pytest.mark.parametrize("language", PROGRAMS)
def test_a_program_reports_that_access_was_denied(
    language: str,
    person: playwright.sync_api.Page,
    site: str,
    certificate: Path,
    workspace: Workspace,
    client_id: str,
    tmp_path: Path,
) -> None:
    """This one uses an installation without TLS, as `make run` starts it."""
    with program_on_the_page(language, site, certificate, tmp_path, client_id) as child:
        decide(person, url_from(child), "Deny")
        _, errors = child.communicate(timeout=TIMEOUT)

    assert child.returncode == 1
    assert "access_denied" in errors
    assert not ApiKey.objects.exists()


@pytest.mark.django_db
def test_an_operator_finds_everything_that_the_page_names(admin_client: Client) -> None:
    text = section("Registering an application").partition("### Redirect URIs")[0]
    pages = "".join(admin_client.get(url).content.decode() for url in (INDEX, add_url(Application)))

    names = set(re.findall(r"\*\*(.+?)\*\*", text)) | {"Confidential", "Public", "Authorization code", "Device code"}
    assert {"Name", "Client secret", "Save"} <= names
    assert [name for name in names if name not in pages] == []


def test_the_lifetimes_are_those_of_the_settings() -> None:
    seconds = {"second": 1, "hour": 3600, "day": 24 * 3600}
    values = re.findall(r"\| (\d+) (second|hour|day)s?\b", section("Tokens and refresh"))

    assert [int(number) * seconds[unit] for number, unit in values] == [
        OAUTH_SETTINGS["AUTHORIZATION_CODE_EXPIRE_SECONDS"],
        OAUTH_SETTINGS["ACCESS_TOKEN_EXPIRE_SECONDS"],
        OAUTH_SETTINGS["REFRESH_TOKEN_EXPIRE_SECONDS"],
        REFRESH_TOKEN_LIFETIME.total_seconds(),
    ]
    grace = f"For {REFRESH_GRACE.seconds} seconds after that, the same application can repeat the request"
    assert grace in section("Tokens and refresh")


def test_the_page_names_every_scope() -> None:
    assert re.findall(r"^\| `([a-z:-]+)` \|", section("Scopes"), re.MULTILINE) == list(OAUTH_SETTINGS["SCOPES"])
