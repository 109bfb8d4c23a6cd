import re
from typing import Any

from django.core.management.base import CommandError, CommandParser

from workspaces.management.operators import OperatorCommand
from workspaces.models import Tier


class Command(OperatorCommand):
    help = "Creates a tier: a limit of requests per window, and a burst limit for a shorter window."
    permissions = ("workspaces.add_tier",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("main", metavar="REQUESTS/SECONDS", help="the limit, such as 200/900")
        parser.add_argument("burst", metavar="REQUESTS/SECONDS", help="the burst limit, such as 40/60")

    def handle(self, **options: Any) -> None:
        requests, seconds = _parse_limit(options["main"])
        burst_requests, burst_seconds = _parse_limit(options["burst"])
        tier = Tier.objects.create_tier(
            name=options["name"],
            requests=requests,
            seconds=seconds,
            burst_requests=burst_requests,
            burst_seconds=burst_seconds,
            by=self.actor(options),
        )
        self.stdout.write(f"Created tier {tier}.")


def _parse_limit(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None:
        raise CommandError(f"Invalid limit {text!r}: use REQUESTS/SECONDS, such as 200/900.")
    return int(match[1]), int(match[2])
