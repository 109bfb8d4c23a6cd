import re
import unicodedata
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Field

REASON_MAX_LENGTH = 200  # of a revocation's and a suspension's reason
MAX_MARKS = 30  # combining marks in a row, as in the Stream-Safe Text Format (UAX #15)

# Contents of character classes, for the validators and the patterns in the OpenAPI document. Python and ECMA-262
# interpret them alike. Control characters include line separators and bidirectional controls.
_CONTROLS = r"\x00-\x1F\x7F-\x9F\u2028-\u202E\u2066-\u2069"
_CONTROLS_BUT_BREAKS = r"\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x9F\u2028-\u202E\u2066-\u2069"  # all but \t, \n and \r
_SPACES = r"\x20\xA0\u1680\u2000-\u200A\u202F\u205F\u3000"
_BREAKS = r"\t-\r\x1C-\x1F\x85\u2028\u2029"  # the control characters that `str.strip` removes
_CONTROLS_BUT_WHITESPACE = r"\x00-\x08\x0E-\x1B\x7F-\x84\x86-\x9F\u202A-\u202E\u2066-\u2069"
_WHITESPACE = f"{_BREAKS}{_SPACES}"  # what `str.strip` removes
_INVISIBLE = r"\xAD\u061C\u180E\u200B-\u200F\u2060-\u2065\u206A-\u206F\uFE00-\uFE0F\uFEFF"  # besides spaces
_SURROGATES = r"\uD800-\uDFFF"  # not in the patterns: JSON has none, and not every regex engine can name them

_CONTROL = re.compile(f"[{_CONTROLS}{_SURROGATES}]")
_CONTROL_BUT_BREAK = re.compile(f"[{_CONTROLS_BUT_BREAKS}{_SURROGATES}]")
_VISIBLE = re.compile(f"[^{_CONTROLS}{_SPACES}{_INVISIBLE}]")

# What makes text fail `single_line` even if it is stripped first: a control character that is not stripped, or no
# visible character. Each repetition ends where the next part begins, so that searching takes linear time.
FORBIDDEN_IN_LINE = (
    rf"[{_CONTROLS_BUT_WHITESPACE}]|[^{_WHITESPACE}][{_SPACES}]*[{_BREAKS}][{_WHITESPACE}]*[^{_WHITESPACE}]"
    rf"|^[{_CONTROLS}{_SPACES}{_INVISIBLE}]*$"
)
FORBIDDEN_IN_LINES = f"[{_CONTROLS_BUT_BREAKS}]"  # what makes text fail `multiple_lines`


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

    For names and titles. Spaces, and characters such as U+200B, are invisible.
    """
    if _CONTROL.search(value):
        raise ValidationError("Remove line breaks and control characters.", code="control_characters")
    _require_few_marks(value)
    if not _VISIBLE.search(value):
        raise ValidationError("Enter at least one visible character.", code="invisible")


def multiple_lines(value: str) -> None:
    """Raise `ValidationError` for many combining marks, and control characters other than line breaks and tabs.

    For longer text.
    """
    if _CONTROL_BUT_BREAK.search(value):
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
