from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.management.base import CommandError
from django.db.models import Q

from workspaces.models import Workspace


def workspace_named(text: str) -> Workspace:
    """The workspace whose id or slug this is. Raises `CommandError`."""
    try:
        return Workspace.objects.get(Q(pk=text) | Q(slug=text))
    except (Workspace.DoesNotExist, UnicodeEncodeError):  # an argument needn't be UTF-8
        raise CommandError(f"There is no workspace with the id or slug {text!r}.") from None


def refusal(error: ValidationError) -> CommandError:
    """What a validation error says, on one line, each field named."""
    sentences = []
    for field, messages in error.message_dict.items():
        name = "" if field == NON_FIELD_ERRORS else f"{field.replace('_', ' ')}: "
        sentences.append(name + " ".join(messages))
    return CommandError(" ".join(sentences))
