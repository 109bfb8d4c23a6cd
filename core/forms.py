"""How forms are rendered."""

from typing import Any

from django import forms
from django.forms.renderers import DjangoTemplates


class BoundField(forms.BoundField):
    """Gives the first invalid field of a form the focus when the page has loaded."""

    def build_widget_attrs(self, attrs: dict[str, Any], widget: forms.Widget | None = None) -> dict[str, Any]:
        attrs = super().build_widget_attrs(attrs, widget)
        invalid = [field.name for field in self.form.visible_fields() if field.errors]
        if invalid:
            attrs["autofocus"] = self.name == invalid[0]
        return attrs


class FormRenderer(DjangoTemplates):
    bound_field_class = BoundField
