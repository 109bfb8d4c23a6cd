"""Fields for text that people write: NFC, a length as browsers count it, a search that ignores the case of all letters.

`models.CharField` stores text as it comes, and SQLite's LIKE ignores the case of ASCII letters only.
"""

from typing import Any

from django import forms
from django.db import models
from django.db.backends.signals import connection_created
from django.db.models import lookups
from django.dispatch import receiver

from workspaces.validators import LengthValidator, normalize


class LineFormField(forms.CharField):
    """A line of text in a form."""

    def __init__(self, *, max_length: int, **kwargs: Any) -> None:
        super().__init__(max_length=max_length, **kwargs)
        self.validators.append(LengthValidator(max_length))

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return text and normalize(text)


class LineField(models.CharField[str, str]):
    """A line of text, stored in NFC. In migrations it is a `CharField`: the column is the same."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.validators.append(LengthValidator(kwargs["max_length"]))

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.CharField", args, kwargs

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return text and normalize(text)

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(**{"form_class": LineFormField, **kwargs})


class LinesField(models.TextField[str, str]):
    """Text with line breaks, stored in NFC. In migrations it is a `TextField`."""

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.TextField", args, kwargs

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return text and normalize(text)


# ---- search ----


@receiver(connection_created)
def add_casefold(connection: Any, **_: Any) -> None:
    """Add the function CASEFOLD to SQLite, whose own UPPER and LIKE ignore the case of ASCII letters only."""
    if connection.vendor == "sqlite":
        connection.connection.create_function("CASEFOLD", 1, str.casefold, deterministic=True)


class IgnoresCase(lookups.PatternLookup):
    """Base class of lookups that normalize the text, and ignore the case of all letters on SQLite as on PostgreSQL."""

    def get_prep_lookup(self) -> Any:
        return normalize(super().get_prep_lookup())

    def as_sqlite(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        column, column_params = self.process_lhs(compiler, connection)
        pattern, pattern_params = self.process_rhs(compiler, connection)
        sql = f"CASEFOLD({column}) LIKE CASEFOLD({pattern}) ESCAPE '\\'"
        return sql, [*column_params, *pattern_params]


@LineField.register_lookup
class IContains(IgnoresCase, lookups.IContains):
    pass


@LineField.register_lookup
class IStartsWith(IgnoresCase, lookups.IStartsWith):
    pass
