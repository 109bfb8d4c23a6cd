from typing import Any

from django.core.management.base import CommandError, CommandParser

from workspaces.audit_export import export_events
from workspaces.management.arguments import get_day, get_workspace
from workspaces.management.operators import OperatorCommand
from workspaces.models import Action, AuditEvent


class Command(OperatorCommand):
    help = "Prints audit events as JSON Lines, oldest first, and records the export as an audit event."
    permissions = ("workspaces.view_auditevent",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--workspace", metavar="WORKSPACE", help="id or slug")
        parser.add_argument("--from", dest="first", type=get_day, metavar="DATE", help="the first day, in UTC")
        parser.add_argument("--to", dest="last", type=get_day, metavar="DATE", help="the last day, in UTC")
        parser.add_argument(
            "--action",
            dest="actions",
            action="append",
            choices=Action.values,
            metavar="ACTION",
            help="such as api_key.revoked; repeat it for several",
        )

    def handle(self, **options: Any) -> None:
        by = self.actor(options)
        first, last, actions = options["first"], options["last"], options["actions"]
        if first and last and first > last:
            raise CommandError("--from must not be later than --to.")
        events = AuditEvent.objects.on_days(first, last)
        filters = {}
        if options["workspace"] is not None:
            workspace = get_workspace(options["workspace"])
            events = events.filter(workspace=workspace)
            filters["workspace"] = workspace.pk
        if actions:
            events = events.filter(action__in=actions)
            filters["action"] = ", ".join(actions)
        filters |= {name: str(day) for name, day in (("from", first), ("to", last)) if day}
        for line in export_events(events, filters, by=by):
            self.stdout.write(line, ending="")
