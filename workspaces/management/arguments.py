from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.management.base import CommandError
from django.db.models import Q

from workspaces.models import Workspace


def get_workspace(id_or_slug: str) -> Workspace:
    """Return the workspace with this id or slug. Raise `CommandError` if there is none."""
    try:
        return Workspace.objects.get(Q(pk=id_or_slug) | Q(slug=id_or_slug))
    except (Workspace.DoesNotExist, UnicodeEncodeError):  # arguments may contain bytes that are not UTF-8
        raise CommandError(f"There is no workspace with the id or slug {id_or_slug!r}.") from None


def command_error(error: ValidationError) -> CommandError:
    """Return a `CommandError` with all messages of a validation error, by field, on one line."""
    sentences = []
    for field, messages in error.message_dict.items():
        name = "" if field == NON_FIELD_ERRORS else f"{field.replace('_', ' ')}: "
        sentences.append(name + " ".join(messages))
    return CommandError(" ".join(sentences))
