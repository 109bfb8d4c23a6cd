import errno
import os
import socket
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections
from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server import Server

from apikeys.models import KeyNotCreated
from onehorizon import demo

HOST = "127.0.0.1"

WELCOME = """
  One Horizon   http://{host}:{port}/

  Sign in       {email}   {password}
  API key       {secret}

  Try it:

  export ONE_API_KEY={secret}
  curl http://{host}:{port}/api/v1/workspaces/current/tasks -H "Authorization: Bearer $ONE_API_KEY"

  Press Ctrl-C to stop the server. The data stays in var/.
"""


class Command(BaseCommand):
    help = "Migrates, seeds the demo workspace, prints its URL, sign-in and API key, and serves it on this machine."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, **options: Any) -> None:
        demo.require_debug()
        port = options["port"]
        _require_free_port(port)
        call_command("migrate", verbosity=0)
        try:
            demo_data = demo.seed()
        except KeyNotCreated as error:
            raise CommandError(str(error)) from None
        connections.close_all()
        owner = demo_data.users[0]
        self.stdout.write(WELCOME.format(host=HOST, port=port, secret=demo_data.secret, **owner))
        self.stdout.flush()
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
