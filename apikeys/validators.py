import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time

from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.deconstruct import deconstructible

from apikeys import keys
from workspaces.validators import single_line

PART_OF_A_KEY = re.compile(rf"{keys.PREFIX}_[0-9A-Za-z]{{{keys.KEY_ID_LENGTH}}}_[0-9A-Za-z]")


@deconstructible
class NoKeyValidator:
    """Raise `ValidationError` for text that contains a key or a part of one. For text that is stored and shown.

    The message calls the text `noun`.
    """

    def __init__(self, noun: str) -> None:
        self.noun = noun

    def __call__(self, value: str) -> None:
        if PART_OF_A_KEY.search(value):
            raise ValidationError(f"Don't put a key in the {self.noun}; it isn't secret.", code="contains_key")


# For fields of models, forms and serializers. They also need `max_length`, which adds the check of the length.
DESCRIPTION_MAX_LENGTH = 100
DESCRIPTION_VALIDATORS: list[Callable[[str], None]] = [single_line, NoKeyValidator("description")]
REASON_VALIDATORS: list[Callable[[str], None]] = [single_line, NoKeyValidator("reason")]


def end_of_day(day: date) -> datetime:
    """Return the last moment of the day in UTC: a key whose expiry is a date works on that day."""
    return datetime.combine(day, time.max, tzinfo=UTC)


def clean_expiry(expires_at: datetime) -> datetime:
    """Return the expiry in UTC. Raise `ValidationError` for a past time or one after the year 9999."""
    try:
        expires_at = expires_at.astimezone(UTC)
    except OverflowError:
        raise ValidationError({"expires_at": "This must not be after the year 9999."}) from None
    if expires_at <= timezone.now():
        raise ValidationError({"expires_at": "This must be in the future."})
    return expires_at
