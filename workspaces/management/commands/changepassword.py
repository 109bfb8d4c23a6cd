from typing import Any

from django.contrib.auth.management.commands import changepassword

from workspaces.management.operators import OperatorCommand, recorded
from workspaces.models import Action, User


class Command(OperatorCommand, changepassword.Command):
    """Django's command, which also writes an audit event. Saving the password ends sessions and revokes tokens."""

    permissions = ("workspaces.change_user",)

    def handle(self, *args: Any, **options: Any) -> str | None:
        by = self.actor(options)
        if by.user and (user := User.objects.filter(email=options["username"]).first()):
            user.require_editor(by)
        with recorded(Action.USER_PASSWORD_SET, by):
            return super().handle(*args, **options)
