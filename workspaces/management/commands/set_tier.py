from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from apikeys.events import Actor, AuditEvent, Via
from workspaces.management.arguments import workspace_named
from workspaces.models import Tier


class Command(BaseCommand):
    help = "Moves a workspace to another tier, from its next request on."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("workspace", metavar="WORKSPACE", help="its id or slug")
        parser.add_argument("tier", metavar="NAME")

    def handle(self, **options: Any) -> None:
        workspace = workspace_named(options["workspace"])
        try:
            tier = Tier.objects.get(name=options["tier"])
        except Tier.DoesNotExist:
            known = ", ".join(Tier.objects.values_list("name", flat=True))
            raise CommandError(f"There is no tier {options['tier']!r}. There are: {known}.") from None
        before, workspace.tier = workspace.tier_id, tier
        if before != tier.name:
            changes = {"tier": [before, tier.name]}
            with transaction.atomic():
                workspace.save(update_fields=["tier"])
                AuditEvent.objects.record(
                    "workspace.changed",
                    Actor(via=Via.COMMAND),
                    workspace_id=workspace.pk,
                    details={"changes": changes},
                )
        self.stdout.write(f"{workspace.name} is on {tier}.")
