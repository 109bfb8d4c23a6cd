"""How forms are rendered."""

from typing import Any

from django import forms
from django.forms.renderers import DjangoTemplates
from django.utils.safestring import SafeString


class BoundField(forms.BoundField):
    """Gives the first invalid control of a form the focus when the page has loaded."""

    def as_widget(
        self, widget: forms.Widget | None = None, attrs: dict[str, Any] | None = None, only_initial: bool = False
    ) -> SafeString:
        # A group of controls is left out: each of them would have the attribute.
        invalid = [field for field in self.form.visible_fields() if field.errors and not field.use_fieldset]
        if widget is None and invalid:
            attrs = {**(attrs or {}), "autofocus": self.name == invalid[0].name}
        return super().as_widget(widget, attrs, only_initial)


class FormRenderer(DjangoTemplates):
    bound_field_class = BoundField
