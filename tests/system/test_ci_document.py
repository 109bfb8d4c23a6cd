"""The jobs in docs/ci.md, run by the shells that GitHub Actions, GitLab CI and cron run them with.

They run with `set -x`, so that their output also has the arguments of each command.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from oauth2_provider.models import AccessToken, RefreshToken

from apikeys.models import ApiKey, StoredSecret
from onehorizon.documents import SITE
from tests.helpers import BY_TEST, Api, advance_quota_clock, commits
from tests.oauth.conftest import Browser
from tests.processes import ROOT, TIMEOUT, program
from workspaces import quota
from workspaces.models import AuditEvent, Task, Tier, User, Workspace

pytestmark = [commits, pytest.mark.one_database("documents and clients of the API")]

FENCES = [token for token in MarkdownIt().parse((ROOT / "docs/ci.md").read_text()) if token.type == "fence"]
EXPRESSION = re.compile(r"\$\{\{ *(.*?) *\}\}")


@dataclass(frozen=True)
class Run:
    returncode: int
    output: str


@dataclass
class Job(ABC):
    """A job of the document. `run` runs its steps one after the other until one fails."""

    directory: Path
    site: str

    @abstractmethod
    def store(self, secret: str) -> None:
        """Store the secret where the document says."""

    @abstractmethod
    def run(self, *steps: int) -> Run:
        """Run all steps, or those with these numbers."""

    def document(self, language: str, containing: str) -> str:
        """Return the block of the document with this text, with the URL of the test's server."""
        (text,) = [token.content for token in FENCES if token.info == language and containing in token.content]
        return text.replace(SITE, self.site)

    def shell(self, *arguments: str, stdin: str = "", **variables: str) -> Run:
        """Run a shell. Its output includes what it writes to standard error."""
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        result = subprocess.run(
            arguments,
            cwd=self.directory,
            env={"PATH": os.environ["PATH"], "HOME": str(home), **variables},
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        return Run(result.returncode, result.stdout)


class GitHub(Job):
    title = "Check run 12 of example/shop"
    workflow = "name: One Horizon\n"

    def store(self, secret: str) -> None:
        self.contexts = {"secrets": {"ONE_API_KEY": secret}}

    def run(self, *steps: int) -> Run:
        workflow = yaml.safe_load(self.document("yaml", self.workflow))
        (job,) = workflow["jobs"].values()
        assert job["defaults"]["run"]["shell"] == "bash"
        returncode, output = 0, ""
        for number, step in enumerate(job["steps"]):
            if (steps and number not in steps) or (returncode and step.get("if") != "always()"):
                continue
            script = self.directory / "step.sh"
            script.write_text(step["run"])
            variables = {"GITHUB_REPOSITORY": "example/shop", "GITHUB_RUN_NUMBER": "12", "GITHUB_RUN_ID": "9876543210"}
            variables |= job["env"] | step.get("env", {})
            evaluated = {name: EXPRESSION.sub(self.evaluate, value) for name, value in variables.items()}
            result = self.shell("bash", "--noprofile", "--norc", "-xeo", "pipefail", str(script), **evaluated)
            output += result.output
            returncode = returncode or result.returncode
        return Run(returncode, output)

    def evaluate(self, expression: re.Match[str]) -> str:
        context, _, name = expression[1].partition(".")
        return self.contexts[context][name]


class GitLab(Job):
    title = "Check pipeline 12 of example/shop"

    def store(self, secret: str) -> None:
        self.variables = {"ONE_API_KEY": secret}

    def run(self, *steps: int) -> Run:
        (job,) = yaml.safe_load(self.document("yaml", "image:")).values()
        lines = [line for number, line in enumerate(job["script"]) if not steps or number in steps]
        script = "\n".join(["set -xeo pipefail", "set +o noclobber", *lines])
        project = {"CI_PROJECT_PATH": "example/shop", "CI_PIPELINE_IID": "12"}
        return self.shell("bash", "-c", script, **project, **job["variables"], **self.variables)


class Cron(Job):
    title = "Check the backups"

    def store(self, secret: str) -> None:
        commands = self.document("sh", "read -rs key")
        stored = self.shell("bash", "-ec", commands, stdin=f"{secret}\n")
        assert stored.returncode == 0, stored.output
        (file,) = [path for path in self.directory.glob("home/.config/**/*") if path.is_file()]
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700

    def run(self, *steps: int) -> Run:
        assert not steps
        script = self.directory / "home/bin/check-backups"
        script.write_text(self.document("sh", "#!/bin/sh").replace("set -eu", "set -xeu"))
        script.chmod(0o755)
        schedule, _, command = self.document("crontab", "check-backups").rpartition(" * * 1 ")
        assert schedule == "0 7"
        result = self.shell("/bin/sh", "-c", command, PATH="/usr/bin:/bin")
        return Run(result.returncode, result.output + (self.directory / "home/check-backups.log").read_text())


@pytest.fixture(params=[GitHub, GitLab, Cron])
def job(request: pytest.FixtureRequest, tmp_path: Path, site: str, secret: str) -> Job:
    """A job whose key is stored."""
    program("curl", install="apt-get install curl")
    job: Job = request.param(tmp_path, site)
    job.store(secret)
    return job


@pytest.fixture
def bug(workspace: Workspace) -> Task:
    return Task.objects.create_task(workspace, title="CSV export drops the last row", kind="bug", status="open")


def created(workspace: Workspace) -> list[str]:
    return [task.title for task in workspace.tasks.filter(kind="task")]


def test_the_job_passes_when_copied(job: Any, workspace: Workspace, bug: Task, api_key: ApiKey, secret: str) -> None:
    result = job.run()

    assert result.returncode == 0, result.output
    assert bug.title in result.output
    assert created(workspace) == [job.title]
    assert secret not in result.output


def test_each_request_waits_for_the_quota(
    job: Any, workspace: Workspace, bug: Task, api_key: ApiKey, secret: str, log: Path
) -> None:
    """The quota admits one request, and none for some seconds after that."""
    for seconds in (2, 10, 30):  # longer if the machine was so slow that a request didn't have to wait
        Task.objects.filter(kind="task").delete()
        tier = Tier.objects.create(
            name=f"slow{seconds}", requests=50, seconds=900, burst_requests=1, burst_seconds=seconds
        )
        Workspace.objects.filter(pk=workspace.pk).update(tier=tier)
        advance_quota_clock(workspace.pk, 900)
        assert quota.admit(workspace.pk, tier).admitted
        before = log.read_text().count("status=429")

        result = job.run()

        assert result.returncode == 0, result.output
        assert bug.title in result.output
        assert created(workspace) == [job.title]
        assert secret not in result.output
        if log.read_text().count("status=429") - before >= 2:
            assert result.output.count(f"slow{seconds} rate limit exceeded, retry in") >= 2
            return
    raise AssertionError("a request didn't have to wait")


def revoke_key(job: Job, api_key: ApiKey) -> None:
    api_key.revoke(by=BY_TEST)


def remove_secret(job: Job, api_key: ApiKey) -> None:
    job.store("")


def stop_server(job: Job, api_key: ApiKey) -> None:
    job.site = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (revoke_key, "The API key or access token is not valid."),
        (remove_secret, "No API key was sent."),
        (stop_server, "Failed to connect to 127.0.0.1 port 9"),
    ],
)
def test_a_request_that_fails_fails_the_job(
    job: Any,
    workspace: Workspace,
    api_key: ApiKey,
    secret: str,
    fault: Callable[[Job, ApiKey], None],
    message: str,
) -> None:
    fault(job, api_key)

    results = [job.run()] if isinstance(job, Cron) else [job.run(0), job.run(1)]

    for result in results:
        assert result.returncode != 0
        assert message in result.output
        assert secret not in result.output
    assert created(workspace) == []


class Overloaded(BaseHTTPRequestHandler):
    """A proxy that answers 503 to the first request with each method, and then with success."""

    methods: list[str] = []

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200 if self.command in self.methods else 503)
        self.methods.append(self.command)
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET


def test_after_a_503_only_the_reading_request_is_retried(job: Any) -> None:
    """A request to create a task may have created it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Overloaded) as proxy:
        job.site = f"http://127.0.0.1:{proxy.server_port}"
        Overloaded.methods = []
        threading.Thread(target=proxy.serve_forever).start()
        result = job.run()
        proxy.shutdown()

    assert Overloaded.methods == ["GET", "GET", "POST"]
    assert result.returncode != 0


def test_the_key_is_rotated_without_a_failed_job(job: Any, workspace: Workspace, api_key: ApiKey, secret: str) -> None:
    new_secret = api_key.rotate(overlap=timedelta(hours=1), by=BY_TEST)
    results = [job.run()]  # with the old secret
    job.store(new_secret)

    results.append(job.run())
    api_key.refresh_from_db()
    assert api_key.current_secret.last_used_at is not None
    api_key.end_previous_secret(by=BY_TEST)
    results.append(job.run())

    assert [result.returncode for result in results] == [0, 0, 0], results
    assert all(value not in result.output for result in results for value in (secret, new_secret))
    assert created(workspace) == [job.title] * 3


# ---- the workflow that rotates the key ----

GH = """#!/bin/sh
# Stores a secret of the repository in a file, but fails as often as `failures` has lines.
test "$GH_TOKEN" = github_pat_1 || exit 4
case "$*" in
  "secret list --repo example/shop") ;;
  "secret set ONE_API_KEY --repo example/shop")
    secret=$(cat)
    if test -s "$HOME/failures"; then sed -i 1d "$HOME/failures"; echo "HTTP 502" >&2; exit 1; fi
    printf %s "$secret" > "$HOME/stored" ;;
  *) echo "unknown arguments: $*" >&2; exit 1 ;;
esac
"""
RUNNER_SLEEP = """#!/bin/sh
case "$1" in 10) exec /bin/sleep 6;; esac  # the interval of the device flow is 5 s
"""


class Rotation(GitHub):
    """The workflow that rotates the key. The owner allows the request for access as soon as its URL is in the log."""

    workflow = "name: Rotate the One Horizon key\n"

    def __init__(self, directory: Path, site: str, api_key: ApiKey, browser: Browser) -> None:
        super().__init__(directory, site)
        self.browser = browser
        self.contexts = {
            "secrets": {"SECRETS_TOKEN": "github_pat_1"},
            "vars": {"ONE_API_KEY_ID": api_key.pk},
            "github": {"repository": "example/shop"},
        }
        self.home = directory / "home"
        (directory / "bin").mkdir()
        self.home.mkdir()
        for name, script in {"gh": GH, "sleep": RUNNER_SLEEP}.items():
            (directory / f"bin/{name}").write_text(script)
            (directory / f"bin/{name}").chmod(0o755)

    def shell(self, *arguments: str, stdin: str = "", **variables: str) -> Run:
        """Run a step, as a runner does: hide what `::add-mask::` names."""
        path = f"{self.directory / 'bin'}{os.pathsep}{os.environ['PATH']}"
        process = subprocess.Popen(
            arguments,
            cwd=self.directory,
            env={"PATH": path, "HOME": str(self.home), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines, masks = [], []
        with process:
            assert process.stdout
            for line in process.stdout:
                if line.startswith("::add-mask::"):
                    masks.append(line.removeprefix("::add-mask::").strip())
                    continue
                lines.append(line)
                if match := re.match(r"Open this and allow it: \S*user_code=(\S+)", line):
                    self.browser.decide_device(match[1], allow="yes")
        self.masked = [*getattr(self, "masked", []), *masks]
        output = "".join(lines)
        for mask in masks:
            output = output.replace(mask, "***")
        return Run(process.returncode, output)

    @property
    def stored(self) -> str | None:
        """The secret in the repository."""
        file = self.home / "stored"
        return file.read_text() if file.exists() else None


@pytest.fixture
def rotation(tmp_path: Path, site: str, api_key: ApiKey, owner: User) -> Iterator[Rotation]:
    program("jq", install="apt-get install jq")
    browser = Browser(site, owner)
    with browser.session:
        yield Rotation(tmp_path, site, api_key, browser)


def test_the_workflow_rotates_the_key_and_stores_the_new_secret(
    rotation: Rotation, api_key: ApiKey, workspace: Workspace, secret: str
) -> None:
    (rotation.home / "failures").write_text("1\n2\n")

    result = rotation.run()

    assert result.returncode == 0, result.output
    assert result.output.count("HTTP 502") == 2
    new_secret = rotation.stored
    assert new_secret is not None
    api_key.refresh_from_db()
    assert StoredSecret.objects.find_by_secret(new_secret) == api_key.current_secret != api_key.previous_secret
    assert [Api(text).get("/me").status_code for text in (secret, new_secret)] == [200, 200]
    assert "The old secret works until 2" in result.output
    assert new_secret in rotation.masked
    assert all(value not in result.output for value in (secret, *rotation.masked))
    event = AuditEvent.objects.get(action="api_key.rotated")
    assert (event.subject, event.via, str(event.actor)) == (api_key.pk, "api", "owner@example.com")
    assert not AccessToken.objects.exists()
    assert not RefreshToken.objects.filter(revoked=None).exists()


def test_the_workflow_rotates_nothing_while_an_old_secret_works(
    rotation: Rotation, api_key: ApiKey, secret: str, owner: User, admin: User
) -> None:
    """Otherwise another attempt would end the old secret while the new one is stored nowhere.

    The `Idempotency-Key` doesn't prevent this, because it is scoped to the person who allows the attempt.
    """
    (rotation.home / "failures").write_text("1\n" * 5)  # as many as the first attempt stores the secret

    attempts = [rotation.run()]
    for person in (admin, owner):
        rotation.browser = Browser(rotation.site, person)
        with rotation.browser.session:
            attempts.append(rotation.run())

    assert all(attempt.returncode != 0 for attempt in attempts)
    assert all("because a rotation is under way" in attempt.output for attempt in attempts[1:])
    assert rotation.stored is None
    assert api_key.secrets.count() == 2
    assert Api(secret).get("/me").status_code == 200
    assert all(value not in attempt.output for attempt in attempts for value in rotation.masked)


def test_the_workflow_stores_nothing_if_the_response_has_no_secret(rotation: Rotation, api_key: ApiKey) -> None:
    """As after `curl` has repeated a request whose response was lost."""
    assert rotation.run(0, 1, 2).returncode == 0
    stored = rotation.stored
    api_key.end_previous_secret(by=BY_TEST)

    repeated = rotation.run(2)

    assert repeated.returncode != 0
    assert "An earlier request with this Idempotency-Key rotated the key" in repeated.output
    assert rotation.stored == stored
    assert api_key.secrets.count() == 2


def test_the_workflow_rotates_nothing_if_it_cannot_access_the_secrets(rotation: Rotation, api_key: ApiKey) -> None:
    rotation.contexts["secrets"]["SECRETS_TOKEN"] = "expired"

    assert rotation.run().returncode == 4
    assert api_key.secrets.count() == 1
