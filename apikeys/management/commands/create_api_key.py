import json
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from apikeys.models import ApiKey, KeyNotCreated
from apikeys.serializers import ApiKeySerializer
from apikeys.validators import end_of_day
from workspaces.management.arguments import get_workspace
from workspaces.management.operators import OperatorCommand


class Command(OperatorCommand):
    help = "Creates an API key. Prints only its secret to standard output. The secret is shown once."
    permissions = ("apikeys.change_apikey",)  # the admin has no form for new keys, and no group may add them

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("workspace", metavar="WORKSPACE", help="id or slug")
        parser.add_argument("--description", required=True, help="the service and the environment that use the key")
        parser.add_argument("--json", action="store_true", help="print one JSON object that includes the secret")
        parser.add_argument(
            "--expires-at", metavar="TIME", help="ISO 8601, in UTC unless it has an offset; a date: the end of that day"
        )

    def handle(self, **options: Any) -> None:
        by = self.actor(options)
        workspace = get_workspace(options["workspace"])
        expires_at = _time(options["expires_at"])
        try:
            api_key, secret = ApiKey.objects.create_key(
                workspace, description=options["description"], expires_at=expires_at, by=by
            )
        except KeyNotCreated as error:
            raise CommandError(str(error)) from None
        output = {**ApiKeySerializer(api_key).data, "secret": secret}
        try:
            self.stdout.write(json.dumps(output) if options["json"] else secret)
            self.stdout.flush()
        except OSError as error:
            api_key.revoke(by=by, reason="Its secret could not be printed")
            problem = f"The secret could not be written to standard output ({error.strerror})"
            raise CommandError(f"{problem}, so {api_key.pk} is revoked. Run the command again.") from None
        self.stderr.write(f"Created {api_key.pk} in {workspace.name}. The secret can't be shown again.")


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        day = parse_date(text)
        time = end_of_day(day) if day else parse_datetime(text)
    except ValueError:
        time = None
    if time is None:
        raise CommandError(f"Invalid --expires-at {text!r}: use a time such as 2027-01-31T12:00:00Z.")
    return time if timezone.is_aware(time) else timezone.make_aware(time)
