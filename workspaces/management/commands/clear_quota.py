from typing import Any

from django.core.management.base import CommandParser

from workspaces import quota
from workspaces.management.arguments import get_quota_holder
from workspaces.management.operators import OperatorCommand
from workspaces.models import User


class Command(OperatorCommand):
    help = "Clears the quota of a workspace, or the one that a person's OAuth tokens use: the full quota is available."
    permissions = ("workspaces.change_workspace", "workspaces.change_user")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("holder", metavar="WORKSPACE_OR_EMAIL", help="a workspace's id or slug, or an email")

    def handle(self, **options: Any) -> None:
        by = self.actor(options)
        holder = get_quota_holder(options["holder"])
        if isinstance(holder, User):
            holder.require_editor(by)
        quota.clear(holder, by=by)
        self.stdout.write(f"The quota of {holder} is cleared.")
