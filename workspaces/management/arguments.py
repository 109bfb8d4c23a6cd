from argparse import ArgumentTypeError
from datetime import date

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.management.base import CommandError
from django.db.models import Q

from workspaces.models import User, Workspace


def get_workspace(id_or_slug: str) -> Workspace:
    """Return the workspace with this id or slug. Raise `CommandError` if there is none."""
    try:
        return Workspace.objects.get(Q(pk=id_or_slug) | Q(slug=id_or_slug))
    except (Workspace.DoesNotExist, UnicodeEncodeError):  # arguments may contain bytes that are not UTF-8
        raise CommandError(f"There is no workspace with the id or slug {id_or_slug!r}.") from None


def get_quota_holder(text: str) -> Workspace | User:
    """Return the person with this email, or the workspace with this id or slug. Raise `CommandError`."""
    if "@" not in text:
        return get_workspace(text)
    try:
        return User.objects.get(email=text)
    except (User.DoesNotExist, UnicodeEncodeError):
        raise CommandError(f"There is no user with the email {text!r}.") from None


def get_day(text: str) -> date:
    """Return a date such as 2027-01-31, for `type` of an argument. Raise `ArgumentTypeError`."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a date such as 2027-01-31") from None


def command_error(error: ValidationError) -> CommandError:
    """Return a `CommandError` with all messages of a validation error, by field, on one line."""
    sentences = []
    for field, messages in error.message_dict.items():
        name = "" if field == NON_FIELD_ERRORS else f"{field.replace('_', ' ')}: "
        sentences.append(name + " ".join(messages))
    return CommandError(" ".join(sentences))
