import json
import re
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from apikeys.management.arguments import KEY_HELP, get_stored_secret
from apikeys.models import MAX_OVERLAP, KeyNotRotated, StoredSecret
from apikeys.serializers import ApiKeySerializer
from workspaces.management.operators import OperatorCommand

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Command(OperatorCommand):
    help = "Gives an API key a new secret. Prints only the secret to standard output. The secret is shown once."
    permissions = ("apikeys.change_apikey",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("key", metavar="KEY", help=KEY_HELP)
        parser.add_argument(
            "--overlap",
            default="24h",
            help="how long the old secret works: 0, or such as 90s, 30m, 24h or 7d, which is the maximum; default: 24h",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object that includes the secret")

    def handle(self, **options: Any) -> None:
        by = self.actor(options)
        overlap = _overlap(options["overlap"])
        replaced = get_stored_secret(options["key"])
        _require_current(replaced)
        api_key = replaced.api_key
        ended = api_key.previous_secret
        try:
            with transaction.atomic():  # if the secret can't be printed, such as on a full disk, nothing is changed
                secret = api_key.rotate(overlap=overlap, by=by, replacing=replaced.key_id)
                output = {**ApiKeySerializer(api_key).data, "secret": secret}
                self.stdout.write(json.dumps(output) if options["json"] else secret)
                self.stdout.flush()
        except KeyNotRotated as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            problem = f"The secret could not be written to standard output ({error.strerror})"
            raise CommandError(f"{problem}, so nothing was changed. Run the command again.") from None
        self.stderr.write(f"Rotated {api_key.pk} of {api_key.workspace.name}. The secret can't be shown again.")
        if ended is not None:
            self.stderr.write(f"The secret before the old one, {ended.masked}, ended.")
        previous = api_key.previous_secret
        end = f"works until {_second(previous)}" if previous else "ended"
        self.stderr.write(f"The old secret {replaced.masked} {end}.")


def _overlap(text: str) -> timedelta:
    match = re.fullmatch(r"0|([0-9]{1,6})([smhd])", text)
    if match is None:
        raise CommandError(f"Invalid --overlap {text!r}: use 0, or a time such as 90s, 30m, 24h or 7d.")
    overlap = timedelta(**{UNITS[match[2]]: int(match[1])}) if match[1] else timedelta()
    if overlap > MAX_OVERLAP:
        raise CommandError(f"Invalid --overlap {text!r}: the maximum is {MAX_OVERLAP.days}d.")
    return overlap


def _require_current(stored: StoredSecret) -> None:
    """Raise `CommandError` for a secret that was replaced: the operator may not know of that rotation."""
    api_key = stored.api_key
    if stored.is_current or not api_key.is_active:  # `rotate` says why it rejects a key that is not active
        return
    if stored.has_ended:
        state = f"The secret {stored.masked} has ended, but {api_key.masked} of the same key works."
    else:
        state = (
            f"{api_key.masked} replaced the secret {stored.masked}, which works until {_second(stored)}. "
            "Another rotation would end it immediately."
        )
    raise CommandError(f"{state} To rotate the key, run the command with its id, {api_key.pk}.")


def _second(stored: StoredSecret) -> str:
    return f"{stored.works_until:%Y-%m-%d %H:%M:%S} UTC"
