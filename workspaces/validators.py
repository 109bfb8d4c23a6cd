import unicodedata
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Field

REASON_MAX_LENGTH = 200  # of a revocation's and a suspension's reason

_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_WHITESPACE = frozenset("\n\r\t")


def _is_control(character: str) -> bool:
    """Return whether it is a control, lone surrogate, line or paragraph separator, or bidirectional control."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _BIDI_CONTROLS


def _is_visible(character: str) -> bool:
    """Return whether `character` shows something by itself, unlike spaces, combining marks and U+200B."""
    return unicodedata.category(character)[0] not in "CMZ"


def single_line(value: str) -> None:
    """Raise `ValidationError` for control characters and for text without a visible character. For names and titles."""
    if any(map(_is_control, value)):
        raise ValidationError("Remove line breaks and control characters.", code="control_characters")

    if not any(map(_is_visible, value)):
        raise ValidationError("Enter at least one visible character.", code="invisible")


def multiple_lines(value: str) -> None:
    """Raise `ValidationError` for control characters other than line breaks and tabs. For longer text."""
    if any(_is_control(character) and character not in _WHITESPACE for character in value):
        raise ValidationError("Remove control characters.", code="control_characters")


def clean_text(field: Field[Any, Any], text: str, *, name: str = "") -> str:
    """Return `text` stripped and validated by the model's field.

    Raise `ValidationError` with the key `name`, by default the field's name. For methods that don't call `full_clean`.
    """
    try:
        cleaned: str = field.clean(text.strip(), None)
    except ValidationError as error:
        raise ValidationError({name or field.name: error}) from None
    return cleaned
