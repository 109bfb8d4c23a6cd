from typing import Any

from django.contrib.auth.management.commands import createsuperuser
from django.core.management.base import CommandError

from workspaces.management.operators import OperatorCommand, recorded
from workspaces.models import Action


class Command(OperatorCommand, createsuperuser.Command):
    """Django's command, which also writes an audit event. Only superusers may run it with `--as`."""

    permissions = ("workspaces.add_user",)

    def handle(self, *args: Any, **options: Any) -> None:
        by = self.actor(options)
        if by.user and not by.user.is_superuser:
            raise CommandError(f"--as: {by.user} is not a superuser.")
        with recorded(Action.USER_CREATED, by, "email", "name", "is_superuser"):
            super().handle(*args, **options)
