import unicodedata

from django.core.exceptions import ValidationError

_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_LAYOUT = frozenset("\n\r\t")


def _is_control(character: str) -> bool:
    """Controls, lone surrogates, line and paragraph separators, and what turns the direction of the text after it."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _BIDI_CONTROLS


def _is_visible(character: str) -> bool:
    """Not a space, nor what shapes or joins others: U+200B and its like."""
    return unicodedata.category(character)[0] not in "CMZ"


def single_line(value: str) -> None:
    """For a name or a title: refuses every control character, and what shows nothing."""
    if any(map(_is_control, value)):
        raise ValidationError("Control characters can't be used here.", code="control_characters")

    if not any(map(_is_visible, value)):
        raise ValidationError("There is nothing to see in this.", code="invisible")


def multiple_lines(value: str) -> None:
    """For running text: line breaks and tabs are fine."""
    if any(_is_control(character) and character not in _LAYOUT for character in value):
        raise ValidationError("Control characters can't be used here.", code="control_characters")
