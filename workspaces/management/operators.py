"""The base class of commands that operators run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models.signals import post_save

from workspaces.management.arguments import command_error
from workspaces.models import COMMAND_ACTOR, Action, Actor, AuditEvent, NotAllowed, User, Via


class OperatorCommand(BaseCommand):
    """A command whose audit events record the operator that `--as EMAIL` names.

    The operator needs the `permissions` that the admin requires for the same change. Without `--as`, the events name
    nobody. `NotAllowed` and `ValidationError` become a `CommandError` of one line.
    """

    permissions: tuple[str, ...]

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.add_argument(
            "--as",
            dest="operator",
            metavar="EMAIL",
            help=f"the operator whom audit events record, who needs: {', '.join(self.permissions)}",
        )
        return parser

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except NotAllowed as error:
            raise CommandError(str(error)) from None
        except ValidationError as error:
            raise command_error(error) from None

    def actor(self, options: dict[str, Any]) -> Actor:
        """Return who runs the command. Raise `CommandError` unless it is an active operator with the permissions."""
        email = options["operator"]
        if email is None:
            return COMMAND_ACTOR
        try:
            user = User.objects.filter(email=email, is_active=True, is_staff=True).first()
        except UnicodeEncodeError:  # arguments may contain bytes that are not UTF-8
            user = None
        if user is None:
            raise CommandError(f"--as: {email!r} is not the email of an active user who may use the admin.")
        if not user.has_perms(self.permissions):
            raise CommandError(f"--as: {user} doesn't have the permissions for this: {', '.join(self.permissions)}.")
        return Actor(Via.COMMAND, user)


@contextmanager
def recorded(action: Action, by: Actor, *new_fields: str) -> Iterator[None]:
    """Write an audit event for each user that is saved in the block, in the transaction of `User.save`.

    For Django's own commands. The event has the values of `new_fields`.
    """

    def record(instance: User, **_: Any) -> None:
        by.require_operator()
        details: dict[str, Any] = {}
        if new_fields:
            details["changes"] = {name: [None, getattr(instance, name)] for name in new_fields}
        AuditEvent.objects.record(action, by, subject=instance.pk, **details)

    post_save.connect(record, User)
    try:
        yield
    finally:
        post_save.disconnect(record, User)
