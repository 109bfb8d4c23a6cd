import re
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from workspaces.management.arguments import refusal
from workspaces.models import Action, Actor, AuditEvent, Tier, Via

LIMITS = ("requests", "seconds", "burst_requests", "burst_seconds")


class Command(BaseCommand):
    help = "Makes a tier: so many requests per seconds, and so many per a shorter time, the burst."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("main", metavar="REQUESTS/SECONDS", help="such as 200/900")
        parser.add_argument("burst", metavar="REQUESTS/SECONDS", help="such as 40/60")

    def handle(self, **options: Any) -> None:
        requests, seconds = _limit(options["main"])
        burst_requests, burst_seconds = _limit(options["burst"])
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
            raise refusal(error) from None
        made = {name: [None, getattr(tier, name)] for name in LIMITS}
        with transaction.atomic():
            tier.save(force_insert=True)
            AuditEvent.objects.record(Action.TIER_CREATED, Actor(Via.COMMAND), subject=tier.name, changes=made)
        self.stdout.write(f"Made {tier}.")


def _limit(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None:
        raise CommandError(f"A limit is REQUESTS/SECONDS, such as 200/900, not {text!r}.")
    return int(match[1]), int(match[2])
