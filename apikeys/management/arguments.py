import sys

from django.core.management.base import CommandError

from apikeys.models import StoredSecret

KEY_HELP = "id, key id, masked key or secret; - reads it from standard input (not kept in shell history)"


def get_stored_secret(text: str) -> StoredSecret:
    """Return the secret that an argument names, or the current one of the key with this id. Raise `CommandError`."""
    try:
        return StoredSecret.objects.look_up(sys.stdin.readline() if text == "-" else text)
    except StoredSecret.DoesNotExist:
        raise CommandError("No API key matches.") from None
