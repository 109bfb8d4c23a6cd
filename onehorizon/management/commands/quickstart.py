import errno
import os
import socket
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, connections
from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server import Server

from apikeys.models import KeyNotCreated
from onehorizon import demo
from onehorizon.health import is_migrated
from workspaces.models import Workspace

HOST = "127.0.0.1"

WELCOME = """
  One Horizon   {url}/

  Sign in       {email}   {password}
  API key       {key}
{first_request}
  Press Ctrl-C to stop the server. The data stays in {database}.
"""
OTHER_SIGN_IN = """with an unknown password: it was changed, or SECRET_KEY was. To set another one:
                .venv/bin/python manage.py changepassword {email}"""
FIRST_REQUEST = """
  {introduction}

  export ONE_API_KEY={key}
  curl {url}/api/v1/workspaces/current/tasks -H "Authorization: Bearer $ONE_API_KEY"
"""
NEW_KEY = "We can't show this key again. Try it:"
EXISTING_KEY = "The key was shown when it was created, and we can't show it again. Use it, or create another one:"
CREATE_KEY = '$(.venv/bin/python manage.py create_api_key {workspace.slug} --description "Local development")'


class Command(BaseCommand):
    help = "Migrates, seeds the demo workspace, prints its URL, sign-in and API key, and serves it on this machine."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, **options: Any) -> None:
        demo.require_debug()
        port = options["port"]
        _require_free_port(port)
        if not is_migrated():
            self._print(f"Preparing the database {_database()}")
        call_command("migrate", verbosity=0)
        if not demo.is_seeded():
            self._print("Adding the demo workspace")
        welcome = _welcome(demo.seed(), f"http://{HOST}:{port}")
        connections.close_all()
        self._print("Starting the server")
        self._print(welcome)
        Server(
            "onehorizon.wsgi:application",
            address=HOST,
            port=port,
            interface=Interfaces.WSGI,
            workers=1,
            blocking_threads=max(os.cpu_count() or 1, 2),
            websockets=False,
            log_level=LogLevels.warning,
        ).serve()

    def _print(self, text: str) -> None:
        """Print the text at once, also to a pipe, where output would otherwise wait in a buffer."""
        self.stdout.write(text)
        self.stdout.flush()


def _welcome(demo_data: demo.Demo, url: str) -> str:
    owner = demo_data.users[0]
    password = owner["password"] or OTHER_SIGN_IN.format(**owner)
    key, first_request = _key(demo_data.workspace, url)
    return WELCOME.format(
        url=url, email=owner["email"], password=password, key=key, first_request=first_request, database=_database()
    )


def _key(workspace: Workspace, url: str) -> tuple[str, str]:
    """Return the demo key and a first request with it. Create the key unless there is one.

    An existing key is masked, because its secret is not stored. A workspace that can't have another key, such as one
    that is suspended, must not prevent the start: the site is where to change that.
    """
    api_key = demo.latest_key(workspace)
    if api_key is not None:
        command = CREATE_KEY.format(workspace=workspace)
        return api_key.masked, FIRST_REQUEST.format(introduction=EXISTING_KEY, key=command, url=url)
    try:
        secret = demo.create_key(workspace)
    except KeyNotCreated as error:
        return f"none. {error}", ""
    return secret, FIRST_REQUEST.format(introduction=NEW_KEY, key=secret, url=url)


def _database() -> str:
    """Return the database's name, which for SQLite is a path."""
    name = Path(connection.settings_dict["NAME"])
    return str(name.relative_to(settings.BASE_DIR) if name.is_relative_to(settings.BASE_DIR) else name)


def _require_free_port(port: int) -> None:
    """Raise `CommandError` if the port can't be bound, before the command prints the URL."""
    if not 0 < port < 65536:
        raise CommandError(f"Invalid port {port}: use a number from 1 to 65535.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            problem = "is already in use" if error.errno == errno.EADDRINUSE else f"can't be bound ({error.strerror})"
            raise CommandError(f"Port {port} {problem}. Use another: make run PORT={port % 65535 + 1}") from None
