import json
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from apikeys.models import ActiveKeyLimitReached, ApiKey
from apikeys.serializers import ApiKeySerializer
from workspaces.management.arguments import refusal, workspace_named
from workspaces.models import Actor, Via, WorkspaceSuspended


class Command(BaseCommand):
    help = "Makes an API key. The secret is all that goes to standard output, once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("workspace", metavar="WORKSPACE", help="its id or slug")
        parser.add_argument("--description", required=True, help="the service and the environment it is for")
        parser.add_argument("--json", action="store_true", help="print one JSON object, the secret in it")
        parser.add_argument("--expires-at", metavar="TIME", help="ISO 8601; UTC unless it says otherwise")

    def handle(self, **options: Any) -> None:
        workspace = workspace_named(options["workspace"])
        try:
            api_key, secret = ApiKey.objects.create_key(
                workspace,
                description=options["description"],
                expires_at=_time(options["expires_at"]),
                by=Actor(via=Via.COMMAND),
            )
        except (ActiveKeyLimitReached, WorkspaceSuspended) as error:
            raise CommandError(str(error)) from None
        except ValidationError as error:
            raise refusal(error) from None
        self.stdout.write(
            json.dumps({**ApiKeySerializer(api_key).data, "secret": secret}) if options["json"] else secret
        )
        self.stderr.write(f"{api_key.pk} in {workspace.name}. The secret is not shown again.")


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        day = parse_date(text)
        time = datetime(day.year, day.month, day.day) if day else parse_datetime(text)  # noqa: DTZ001, made aware below
    except ValueError:
        time = None
    if time is None:
        raise CommandError(f"--expires-at takes a time such as 2027-01-31T12:00:00Z, not {text!r}.")
    return time if timezone.is_aware(time) else timezone.make_aware(time)
