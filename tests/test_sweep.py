"""That the sweep for secrets, which looks after every test, finds one wherever it is planted."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client

from apikeys.models import ApiKey
from oauth.models import DeviceGrant
from tests.helpers import PATIENCE, ROOT, Api, environment, make_key, make_token, make_user
from tests.oauth.conftest import make_application
from tests.sweep import Leak, sweep
from workspaces.models import User, Workspace

pytestmark = [pytest.mark.django_db, pytest.mark.plants_secrets]


def found() -> list[Leak]:
    return sweep.leaks(database=True)


def secret_of_a_key(workspace: Workspace) -> str:
    return make_key(workspace)[1]


def token(workspace: Workspace) -> str:
    return make_token(make_user("somebody"))


def device_code(workspace: Workspace) -> str:
    return DeviceGrant.start("terminal", "openid").device_code


def user_code(workspace: Workspace) -> str:
    return DeviceGrant.start("terminal", "openid").user_code


def client_secret(workspace: Workspace) -> str:
    make_application("Server", client_type="confidential", client_secret="made by a client")
    return "made by a client"


def password(workspace: Workspace) -> str:
    make_user("somebody")
    return "somebody-password"


def session_key(workspace: Workspace) -> str:
    client = Client()
    client.force_login(make_user("somebody"))
    return client.cookies["sessionid"].value


def digest_of_a_key(workspace: Workspace) -> str:
    return make_key(workspace)[0].hash.rsplit("$", 1)[1]


def digest_of_a_password(workspace: Workspace) -> str:
    return make_user("somebody").password.rsplit("$", 1)[1]


MAKERS: dict[str, tuple[Callable[[Workspace], str], str]] = {
    "API key": (secret_of_a_key, "API key"),
    "token": (token, "token"),
    "device code": (device_code, "device code"),
    "user code": (user_code, "user code"),
    "client secret": (client_secret, "client secret"),
    "password": (password, "password"),
    "session key": (session_key, "session key"),
    "hash of a key": (digest_of_a_key, "Argon2 digest"),
    "hash of a password": (digest_of_a_password, "Argon2 digest"),
}


@pytest.mark.parametrize(("make", "kind"), MAKERS.values(), ids=MAKERS)
def test_whatever_is_made_is_found_where_it_is_planted(
    make: Callable[[Workspace], str], kind: str, workspace: Workspace, owner: User
) -> None:
    secret = make(workspace)
    assert found() == []

    User.objects.filter(pk=owner.pk).update(name=secret)
    answer(secret)
    logging.getLogger("tests.planted").warning("made %s", secret.replace("one_", ""))

    places = ["GET /planted body", "logs", "workspaces_user"]
    assert found() == [Leak(kind, place) for place in places]


def answer(body: str) -> None:
    request = HttpRequest()
    request.method, request.path = "GET", "/planted"
    sweep.answered(request, HttpResponse(body))


@pytest.mark.parametrize("part", ["Location", "Set-Cookie", "head"])
def test_no_part_of_an_answer_is_left_out(part: str, secret: str) -> None:
    request, response = HttpRequest(), HttpResponse()
    request.method, request.path = "GET", "/planted"
    if part == "Set-Cookie":
        response.set_cookie("messages", secret)
    else:
        response["Location" if part == "Location" else "X-Message"] = f"/?key={secret}"
    sweep.answered(request, response)

    assert found() == [Leak("API key", f"GET /planted {part}")]


def test_a_message_in_a_session_is_found(client: Client, owner: User, secret: str) -> None:
    client.force_login(owner)
    session: Any = client.session
    session["message"] = secret
    session.save()

    assert Leak("API key", "sessions, decoded") in found()


def test_the_inside_of_a_key_is_enough(secret: str, owner: User) -> None:
    User.objects.filter(pk=owner.pk).update(name=secret[17:])

    assert found() == [Leak("API key", "workspaces_user")]


def test_a_traceback_is_searched(secret: str) -> None:
    try:
        raise ValueError(secret[17:])
    except ValueError:
        logging.getLogger("tests.planted").exception("a failure")

    assert found() == [Leak("API key", "logs")]


def test_a_key_of_another_process_is_known_by_its_form(owner: User, secret: str) -> None:
    stored = ApiKey.objects.get().hash
    sweep.begin()
    User.objects.filter(pk=owner.pk).update(name=secret)
    logging.getLogger("tests.planted").warning("%s", stored)  # logs take hashes out

    assert found() == [Leak("API key", "workspaces_user")]


def test_the_answer_that_shows_a_key_may_and_no_second_one(owner: User, workspace: Workspace) -> None:
    made = Api(make_token(owner)).post("/workspaces/current/api-keys", {"description": "CI"}).json()
    assert made["secret"]
    assert found() == []

    answer(made["secret"])

    assert found() == [Leak("API key", "GET /planted body"), Leak("API key", "GET /planted body, a second time")]


def test_what_a_server_of_its_own_writes_is_searched(secret: str, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    sweep.watch(log)
    log.write_text("before\n")
    assert found() == []

    with log.open("a") as file:
        file.write(f"Authorization: Bearer {secret}\n")

    assert found() == [Leak("API key", "logs")]


def test_a_test_that_leaks_fails(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/leaky.py", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env=environment(DATABASE_URL=f"sqlite:///{tmp_path / 'leaky'}"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert "1 passed, 1 error" in run.stdout, run.stdout + run.stderr
    assert "API key in workspaces_user" in run.stdout
