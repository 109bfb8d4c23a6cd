import unicodedata
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Field

REASON_MAX_LENGTH = 200  # of a revocation's and a suspension's reason
MAX_MARKS = 30  # combining marks in a row, as in the Stream-Safe Text Format (UAX #15)

_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_WHITESPACE = frozenset("\n\r\t")


def _is_control(character: str) -> bool:
    """Return whether it is a control, lone surrogate, line or paragraph separator, or bidirectional control."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _BIDI_CONTROLS


def _is_visible(character: str) -> bool:
    """Return whether `character` shows something by itself, unlike spaces, combining marks and U+200B."""
    return unicodedata.category(character)[0] not in "CMZ"


def _has_many_marks(text: str) -> bool:
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character)[0] == "M" else 0
        if marks > MAX_MARKS:
            return True
    return False


def normalize(text: str) -> str:
    """Return the text in NFC, the form in which all text is stored and searched.

    Text with more than `MAX_MARKS` combining marks in a row is returned as it is, because sorting them takes quadratic
    time. `single_line` and `multiple_lines` reject it.
    """
    return text if text.isascii() or _has_many_marks(text) else unicodedata.normalize("NFC", text)


class LengthValidator:
    """Raise `ValidationError` for text that is too long only if counted as browsers do, in UTF-16 code units.

    Added to fields whose `max_length` already limits the code points, which are what a column counts.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __call__(self, value: str) -> None:
        if len(value) <= self.limit < len(value.encode("utf-16-le", "surrogatepass")) // 2:
            message = f"Ensure this value has at most {self.limit} characters. Emoji, among others, count as two."
            raise ValidationError(message, code="max_length")


def _require_few_marks(text: str) -> None:
    if _has_many_marks(text):
        raise ValidationError(f"Remove combining marks: at most {MAX_MARKS} may follow each other.", code="marks")


def single_line(value: str) -> None:
    """Raise `ValidationError` for control characters, many combining marks, and text without a visible character.

    For names and titles.
    """
    if any(map(_is_control, value)):
        raise ValidationError("Remove line breaks and control characters.", code="control_characters")
    _require_few_marks(value)
    if not any(map(_is_visible, value)):
        raise ValidationError("Enter at least one visible character.", code="invisible")


def multiple_lines(value: str) -> None:
    """Raise `ValidationError` for many combining marks, and control characters other than line breaks and tabs.

    For longer text.
    """
    if any(_is_control(character) and character not in _WHITESPACE for character in value):
        raise ValidationError("Remove control characters.", code="control_characters")
    _require_few_marks(value)


def clean_text(field: Field[Any, Any], text: str, *, name: str = "") -> str:
    """Return `text` stripped and validated by the model's field.

    Raise `ValidationError` with the key `name`, by default the field's name. For methods that don't call `full_clean`.
    """
    try:
        cleaned: str = field.clean(text.strip(), None)
    except ValidationError as error:
        raise ValidationError({name or field.name: error}) from None
    return cleaned
