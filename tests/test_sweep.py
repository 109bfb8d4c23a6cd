"""The sweep finds a secret wherever it is planted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client

from apikeys.models import StoredSecret
from oauth.models import DeviceGrant
from tests.helpers import Api, make_key, make_token, make_user
from tests.oauth.conftest import make_application
from tests.sweep import Leak, sweep
from workspaces.models import User, Workspace

pytestmark = [pytest.mark.django_db, pytest.mark.plants_secrets]


def leaks() -> list[Leak]:
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
    return make_key(workspace)[0].current_secret.hash.rsplit("$", 1)[1]


def digest_of_a_password(workspace: Workspace) -> str:
    return make_user("somebody").password.rsplit("$", 1)[1]


# Functions that create a secret and return it, with the kind that the sweep must report.
SECRETS: dict[str, tuple[Callable[[Workspace], str], str]] = {
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


@pytest.mark.parametrize(("create", "kind"), SECRETS.values(), ids=SECRETS)
def test_every_kind_of_secret_is_found_in_every_location(
    create: Callable[[Workspace], str], kind: str, workspace: Workspace, owner: User, tmp_path: Path
) -> None:
    log = tmp_path / "server.log"
    sweep.watch(log)
    secret = create(workspace)
    assert leaks() == []

    User.objects.filter(pk=owner.pk).update(name=secret)
    plant_in_response(secret)
    log.write_text(secret)  # unredacted

    locations = ["GET /planted body", "logs", "workspaces_user"]
    assert leaks() == [Leak(kind, location) for location in locations]


def plant_in_response(body: str) -> None:
    request = HttpRequest()
    request.method, request.path = "GET", "/planted"
    sweep.record_response(request, HttpResponse(body))


@pytest.mark.parametrize("part", ["Location", "Set-Cookie", "head"])
def test_every_part_of_a_response_is_searched(part: str, secret: str) -> None:
    request, response = HttpRequest(), HttpResponse()
    request.method, request.path = "GET", "/planted"
    if part == "Set-Cookie":
        response.set_cookie("messages", secret)
    else:
        response["Location" if part == "Location" else "X-Message"] = f"/?key={secret}"
    sweep.record_response(request, response)

    assert leaks() == [Leak("API key", f"GET /planted {part}")]


def test_a_message_in_a_session_is_found(client: Client, owner: User, secret: str) -> None:
    client.force_login(owner)
    session: Any = client.session
    session["message"] = secret
    session.save()

    assert Leak("API key", "sessions, decoded") in leaks()


def test_the_secret_part_of_a_key_is_detected(secret: str, owner: User) -> None:
    User.objects.filter(pk=owner.pk).update(name=secret[17:])

    assert leaks() == [Leak("API key", "workspaces_user")]


def test_a_traceback_is_searched(workspace: Workspace) -> None:
    try:
        raise ValueError(password(workspace))  # the log formatters don't recognize passwords
    except ValueError:
        logging.getLogger("tests.planted").exception("a failure")

    assert leaks() == [Leak("password", "logs")]


def test_a_key_created_in_another_process_is_recognized_by_its_format(owner: User, secret: str) -> None:
    stored = StoredSecret.objects.get().hash
    sweep.begin()
    User.objects.filter(pk=owner.pk).update(name=secret)
    logging.getLogger("tests.planted").warning("%s", stored)  # the log formatters remove hashes

    assert leaks() == [Leak("API key", "workspaces_user")]


def test_a_key_may_appear_in_the_response_that_creates_it_and_in_no_other(owner: User, workspace: Workspace) -> None:
    created = Api(make_token(owner)).post("/workspaces/current/api-keys", {"description": "CI"}).json()
    assert created["secret"]
    assert leaks() == []

    plant_in_response(created["secret"])

    assert leaks() == [Leak("API key", "GET /planted body"), Leak("API key", "GET /planted body, a second time")]


def test_the_log_of_a_server_is_searched(secret: str, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    sweep.watch(log)
    log.write_text("before\n")
    assert leaks() == []

    with log.open("a") as file:
        file.write(f"Authorization: Bearer {secret}\n")

    assert leaks() == [Leak("API key", "logs")]
