import re

from django.core.exceptions import ValidationError

from apikeys import keys
from workspaces.validators import single_line

PART_OF_A_KEY = re.compile(rf"{keys.PREFIX}_[0-9A-Za-z]{{{keys.KEY_ID_LENGTH}}}_[0-9A-Za-z]")


def without_key(value: str) -> None:
    """Raise `ValidationError` if `value` contains a key or a part of one. For text that is stored and shown."""
    if PART_OF_A_KEY.search(value):
        raise ValidationError("Don't put a key in the description; it isn't secret.", code="contains_key")


# Validators for text that is stored with a key and shown: descriptions and reasons.
STORED_TEXT_VALIDATORS = [single_line, without_key]
