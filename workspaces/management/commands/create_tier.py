import re
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from workspaces.management.arguments import command_error
from workspaces.models import Action, Actor, AuditEvent, Tier, Via

FIELDS = ("requests", "seconds", "burst_requests", "burst_seconds")


class Command(BaseCommand):
    help = "Creates a tier: a limit of requests per window, and a burst limit for a shorter window."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("main", metavar="REQUESTS/SECONDS", help="the limit, such as 200/900")
        parser.add_argument("burst", metavar="REQUESTS/SECONDS", help="the burst limit, such as 40/60")

    def handle(self, **options: Any) -> None:
        requests, seconds = _parse_limit(options["main"])
        burst_requests, burst_seconds = _parse_limit(options["burst"])
        tier = Tier(
            name=options["name"],
            requests=requests,
            seconds=seconds,
            burst_requests=burst_requests,
            burst_seconds=burst_seconds,
        )
        try:
            tier.full_clean()
        except ValidationError as error:
            raise command_error(error) from None
        changes = {name: [None, getattr(tier, name)] for name in FIELDS}
        with transaction.atomic():
            tier.save(force_insert=True)
            AuditEvent.objects.record(Action.TIER_CREATED, Actor(Via.COMMAND), subject=tier.name, changes=changes)
        self.stdout.write(f"Created tier {tier}.")


def _parse_limit(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None:
        raise CommandError(f"Invalid limit {text!r}: use REQUESTS/SECONDS, such as 200/900.")
    return int(match[1]), int(match[2])
