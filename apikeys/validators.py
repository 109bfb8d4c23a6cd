import re

from django.core.exceptions import ValidationError

from apikeys import keys
from workspaces.validators import single_line

PART_OF_A_KEY = re.compile(rf"{keys.MARK}_[0-9A-Za-z]{{{keys.KEY_ID_LENGTH}}}_[0-9A-Za-z]")


def without_key(value: str) -> None:
    """For text that is kept and shown: refuses a key, whole or cut."""
    if PART_OF_A_KEY.search(value):
        raise ValidationError("This has a key or a part of one in it. It is kept and shown: leave the key out.")


# For every text about a key that is stored and shown: descriptions and reasons.
STORED_TEXT_VALIDATORS = [single_line, without_key]
