import re
import uuid
from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.utils import timezone

from apikeys.models import DESCRIPTION_MAX_LENGTH, ApiKey
from apikeys.validators import PART_OF_A_KEY
from workspaces.ids import is_id

EXPIRIES = {"never": None, "30": timedelta(days=30), "90": timedelta(days=90), "365": timedelta(days=365)}
CUSTOM = "date"

# What must not stand in an address: a key, whole or cut, or any run that could be the inside of one.
_LIKE_A_SECRET = re.compile(rf"{PART_OF_A_KEY.pattern}|[0-9A-Za-z]{{24,}}")


def like_a_secret(text: str) -> bool:
    return _LIKE_A_SECRET.search(text) is not None and not is_id("key", text)


class KeylessInput(forms.TextInput):
    """Empty where a key was typed: the page that refuses it shows it to nobody."""

    def format_value(self, value: Any) -> str | None:
        text = super().format_value(value)
        return None if text and PART_OF_A_KEY.search(text) else text


class DescriptionForm(forms.Form):
    """A key's description, by the model's own rules."""

    description = forms.CharField(
        max_length=DESCRIPTION_MAX_LENGTH,
        validators=ApiKey._meta.get_field("description").validators,
        widget=KeylessInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        error_messages={"required": "Describe the key, so that you can tell it apart later."},
    )


class AddKeyForm(DescriptionForm):
    """A new key. `once` is this form's own number: however often it is sent, it makes one key."""

    expiry = forms.ChoiceField(widget=forms.RadioSelect, initial="never")
    expires_on = forms.DateField(
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        error_messages={"invalid": "This is not a date. Write it as 2027-01-31."},
    )
    once = forms.RegexField(r"\A[0-9a-f]{32}\Z", widget=forms.HiddenInput, initial=lambda: uuid.uuid4().hex)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        today = timezone.now()
        labels = {"never": "Never", "30": "30 days", "90": "90 days", "365": "1 year"}
        self.fields["expiry"].choices = [  # type: ignore[attr-defined]
            (value, labels[value] if span is None else f"{labels[value]}, until {today + span:%-d %B %Y}")
            for value, span in EXPIRIES.items()
        ] + [(CUSTOM, "A date of your own")]
        self.fields["expires_on"].widget.attrs["min"] = f"{today + timedelta(days=1):%Y-%m-%d}"

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("expiry") != CUSTOM:
            # A date that was typed and then not chosen is no error.
            self.errors.pop("expires_on", None)
        elif "expires_on" in cleaned:
            day = cleaned["expires_on"]
            if day is None:
                self.add_error("expires_on", "Choose the last day on which the key works.")
            elif day <= timezone.now().date():
                self.add_error("expires_on", "Choose a day after today.")
        return cleaned

    @property
    def expires_at(self) -> datetime | None:
        """When the key ends: a date's whole day (UTC) still counts."""
        expiry = self.cleaned_data["expiry"]
        if expiry == CUSTOM:
            return datetime.combine(self.cleaned_data["expires_on"], time.max, tzinfo=timezone.get_default_timezone())
        span = EXPIRIES[expiry]
        return None if span is None else timezone.now() + span


class ReasonForm(forms.Form):
    """Why something is done. It is kept and shown, so it can't hold a key or a part of one."""

    reason = forms.CharField(
        max_length=200,
        validators=ApiKey._meta.get_field("revoke_reason").validators,
        widget=KeylessInput(attrs={"autocomplete": "off"}),
        error_messages={"required": "Say why: it is kept with the change."},
    )


class RevokeForm(ReasonForm):
    """A reason, for who wants to give one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].required = False


class FindForm(forms.Form):
    """A word of a description, a masked key, or a whole secret."""

    text = forms.CharField(required=False, max_length=500)
