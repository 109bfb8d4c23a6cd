"""Fields of requests and responses.

In the OpenAPI document, text must match the `pattern` of a field and must not match its `forbidden_pattern`. Generators
copy only `pattern` into clients, so it must be ASCII: not every language can name other characters.
"""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from rest_framework import serializers

from workspaces.ids import id_pattern, is_id
from workspaces.validators import (
    FORBIDDEN_IN_LINE,
    FORBIDDEN_IN_LINES,
    MAX_MARKS,
    LengthValidator,
    multiple_lines,
    normalize,
    single_line,
)

TEXT_HELP = (
    "Stored in NFC. Its length is then counted in UTF-16 code units, as in JavaScript: most emoji count as two. "
    f"At most {MAX_MARKS} combining marks may follow each other."
)
LINES_HELP = f"Without control characters, except line breaks and tabs. {TEXT_HELP}"
LINE_HELP = (
    "One line, with a visible character and without control characters. White space at both ends is removed. "
    f"{TEXT_HELP}"
)


class StringField(serializers.CharField):
    """A string. DRF's `CharField` also accepts numbers."""

    default_error_messages = {"invalid": "This must be a string."}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class TextField(StringField):
    """Text in NFC, with a length as browsers count it."""

    def __init__(self, *, max_length: int, **kwargs: Any) -> None:
        super().__init__(max_length=max_length, **kwargs)
        self.validators.append(LengthValidator(max_length))

    def to_internal_value(self, data: Any) -> str:
        return normalize(super().to_internal_value(data))


class LineField(TextField):
    """A line of text."""

    forbidden_pattern = FORBIDDEN_IN_LINE

    def __init__(
        self,
        *,
        validators: Sequence[Callable[[str], None]] = (single_line,),
        help_text: str = LINE_HELP,
        **kwargs: Any,
    ) -> None:
        super().__init__(validators=validators, help_text=help_text, **kwargs)


class LinesField(TextField):
    """Text with line breaks, which may be blank. It is not trimmed."""

    forbidden_pattern = FORBIDDEN_IN_LINES

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            validators=[multiple_lines], allow_blank=True, trim_whitespace=False, help_text=LINES_HELP, **kwargs
        )


class IdField(serializers.CharField):
    """An id with this prefix. In a response, nothing validates it."""

    def __init__(self, prefix: str, **kwargs: Any) -> None:
        self.prefix = prefix
        self.pattern = f"^{id_pattern(prefix)}$"
        super().__init__(**kwargs)


class UserIdField(StringField):
    """The id of a user in a body. The serializer must check that the user is a member, which rejects malformed ids."""

    pattern = f"^{id_pattern('u')}$"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)


class UserFilterField(serializers.CharField):
    """The id of a user in a query. A malformed id matches no item. PostgreSQL can't compare a NUL character."""

    pattern = r"^[^\x00]*$"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=40, trim_whitespace=False, **kwargs)


class CursorField(IdField):
    """The cursor of a query: the id of the last item of the previous page."""

    default_error_messages = {"invalid": "Invalid cursor. Send the nextCursor of the previous page unchanged."}

    def __init__(self, prefix: str) -> None:
        super().__init__(
            prefix, required=False, trim_whitespace=False, help_text="The `nextCursor` of the previous page."
        )

    def to_internal_value(self, data: Any) -> str:
        if not is_id(self.prefix, data):
            self.fail("invalid")
        return str(data)


class NextCursorField(IdField):
    """The cursor in the response of a list with pages."""

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix, allow_null=True, help_text="The `cursor` of the next page, or null on the last page.")


class LimitField(serializers.IntegerField):
    """The number of items of a page. DRF also accepts `+5`, ` 5`, `5.0`, `1_0` and digits of other scripts."""

    PATTERN = re.compile(r"[0-9]{1,9}")
    MAX = 200

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1, max_value=self.MAX, default=50, help_text="The most items to return.", **kwargs)
        self.error_messages["invalid"] = f"Send a whole number from 1 to {self.MAX}."

    def to_internal_value(self, data: Any) -> int:
        if not self.PATTERN.fullmatch(data):
            self.fail("invalid")
        return int(data)


class WholeNumberField(serializers.IntegerField):
    """A whole number of a body, such as `60` or `60.0`. DRF's `IntegerField` also accepts text such as `"60"`."""

    def __init__(self, *, min_value: int, max_value: int, **kwargs: Any) -> None:
        message = f"Send a whole number from {min_value} to {max_value}."
        errors: dict[str, Any] = dict.fromkeys(("invalid", "min_value", "max_value"), message)
        super().__init__(min_value=min_value, max_value=max_value, error_messages=errors, **kwargs)

    def to_internal_value(self, data: Any) -> int:
        is_whole = type(data) is int or (isinstance(data, float) and data.is_integer())  # True is an int too
        if not is_whole:
            self.fail("invalid")
        return int(data)


class TimeField(serializers.DateTimeField):
    """A time in RFC 3339. DRF also accepts week dates, digits of other scripts, and times without an offset."""

    PATTERN = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
    default_error_messages = {"invalid": "Use RFC 3339 format, such as 2027-01-31T09:00:00Z."}

    def to_internal_value(self, data: Any) -> datetime:
        if not isinstance(data, str) or not self.PATTERN.fullmatch(data):
            self.fail("invalid")
        return super().to_internal_value(data.upper())


class ChoiceField(serializers.ChoiceField):
    """Lists the choices in its error. DRF's error repeats the value, which may be a secret in the wrong field."""

    def __init__(self, choices: Any, **kwargs: Any) -> None:
        super().__init__(choices, **kwargs)
        self.error_messages["invalid_choice"] = f"This must be one of: {', '.join(self.choices)}."
