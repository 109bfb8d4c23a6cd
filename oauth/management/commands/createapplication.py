from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from oauth.models import GRANT_TYPES, SECRET_MIN_LENGTH, Application, default_scopes
from workspaces.management.operators import OperatorCommand
from workspaces.models import Action, Actor, AuditEvent


class Command(OperatorCommand):
    """Replaces the toolkit's command, which exits with 0 if it fails, sets no scopes and writes no audit event."""

    help = "Creates an OAuth application. Prints its client id and, once, the client secret of a confidential client."
    permissions = ("oauth.add_application",)

    def add_arguments(self, parser: CommandParser) -> None:
        types = ", ".join(value for value, _ in Application.CLIENT_TYPES)
        parser.add_argument("client_type", metavar="CLIENT_TYPE", help=f"one of: {types}")
        parser.add_argument(
            "authorization_grant_type", metavar="GRANT_TYPE", help=f"one of: {', '.join(map(str, GRANT_TYPES))}"
        )
        parser.add_argument("--name", help="shown to users on the consent page")
        parser.add_argument("--redirect-uris", metavar="URIS", help="separated by spaces")
        parser.add_argument(
            "--scopes",
            help=f"the scopes that it may request, separated by spaces; default: {' '.join(default_scopes())}",
        )
        parser.add_argument("--client-id", metavar="ID", help="default: generated")
        parser.add_argument("--client-secret", metavar="SECRET", help="of a confidential client; default: generated")

    def handle(self, **options: Any) -> None:
        by = self.actor(options)
        try:
            self._create(options, by)
        except UnicodeEncodeError:
            raise CommandError("The arguments must be UTF-8.") from None

    def _create(self, options: dict[str, Any], by: Actor) -> None:
        secret = options["client_secret"]
        if secret is not None and len(secret) < SECRET_MIN_LENGTH:
            raise CommandError(f"client secret: Use at least {SECRET_MIN_LENGTH} characters.")
        if secret is not None and options["client_type"] == Application.CLIENT_PUBLIC:
            raise CommandError("client secret: A public client has none.")
        names = ("client_type", "authorization_grant_type", "name", "redirect_uris", "client_id", "client_secret")
        application = Application(**{name: options[name] for name in names if options[name] is not None})
        if options["scopes"] is not None:
            application.scopes = options["scopes"].split()
        application.full_clean()
        secret = application.client_secret  # saving replaces it by its hash
        is_confidential = application.client_type == Application.CLIENT_CONFIDENTIAL
        with transaction.atomic():  # if the secret can't be printed, such as on a full disk, nothing is created
            by.require_operator()
            application.save()
            AuditEvent.objects.record(Action.APPLICATION_CREATED, by, subject=str(application.pk))
            self.stdout.write(f"client_id: {application.client_id}")
            if is_confidential:
                self.stdout.write(f"client_secret: {secret}")
            self.stdout.flush()
        if is_confidential:
            self.stderr.write("The client secret can't be shown again.")
