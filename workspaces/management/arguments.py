from django.core.management.base import CommandError
from django.db.models import Q

from workspaces.models import Workspace


def workspace_named(text: str) -> Workspace:
    """The workspace whose id or slug this is. Raises `CommandError`."""
    try:
        return Workspace.objects.get(Q(pk=text) | Q(slug=text))
    except Workspace.DoesNotExist:
        raise CommandError(f"There is no workspace with the id or slug {text!r}.") from None
