import re
import uuid
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString

from apikeys import keys
from apikeys.models import DEFAULT_OVERLAP, MAX_OVERLAP, ApiKey
from apikeys.validators import (
    DESCRIPTION_MAX_LENGTH,
    DESCRIPTION_VALIDATORS,
    PART_OF_A_KEY,
    REASON_VALIDATORS,
    end_of_day,
)
from workspaces.fields import LineFormField
from workspaces.ids import is_id
from workspaces.templatetags.moments import exact_moment
from workspaces.validators import REASON_MAX_LENGTH

EXPIRIES = {"never": None, "30": timedelta(days=30), "90": timedelta(days=90), "365": timedelta(days=365)}
CUSTOM = "date"
OVERLAPS = {"0": timedelta(), "1h": timedelta(hours=1), "24h": DEFAULT_OVERLAP, "7d": MAX_OVERLAP}
DAY_IS_OVER = "This day is over in UTC. Choose a later day."

# Text that must not appear in a URL: a key, a part of one with its prefix, or 24 or more base62 characters in a row,
# which may come from the middle of a secret.
_LOOKS_LIKE_SECRET = re.compile(rf"{PART_OF_A_KEY.pattern}|[0-9A-Za-z]{{24,}}")

_WHOLE_KEY_ID = rf"\A{keys.KEY_ID_PATTERN.pattern}\Z"


def looks_like_secret(text: str) -> bool:
    """Return whether `text` may contain a secret. The id of a key doesn't."""
    return _LOOKS_LIKE_SECRET.search(text) is not None and not is_id("key", text)


class KeylessInput(forms.TextInput):
    """A text input that renders empty if its value contains a key, so that the page with the error doesn't show it."""

    def format_value(self, value: Any) -> str | None:
        text = super().format_value(value)
        return None if text and PART_OF_A_KEY.search(text) else text


class DescriptionForm(forms.Form):
    """A key's description."""

    description = LineFormField(
        max_length=DESCRIPTION_MAX_LENGTH,
        validators=DESCRIPTION_VALIDATORS,
        widget=KeylessInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        error_messages={"required": "Enter a description, so that you can tell your keys apart."},
    )


class AddKeyForm(DescriptionForm):
    """A new key. The form carries its own `idempotency_key`: submitting it twice creates one key."""

    expiry = forms.ChoiceField(widget=forms.RadioSelect, initial="never")
    expires_on = forms.DateField(
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        error_messages={"invalid": "Enter a date such as 2027-01-31."},
    )
    idempotency_key = forms.RegexField(r"\A[0-9a-f]{32}\Z", widget=forms.HiddenInput, initial=lambda: uuid.uuid4().hex)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        examples = "for example “CI, production” or “Billing worker, staging”"
        self.fields["description"].help_text = f"The service and the environment, {examples}."
        now = timezone.now()
        labels = {"never": "Never", "30": "30 days", "90": "90 days", "365": "1 year"}
        self.fields["expiry"].choices = [  # type: ignore[attr-defined]  # a ChoiceField
            (value, labels[value] if lifetime is None else f"{labels[value]}, until {now + lifetime:%-d %B %Y}")
            for value, lifetime in EXPIRIES.items()
        ] + [(CUSTOM, "Custom date")]
        self.fields["expires_on"].widget.attrs["min"] = f"{now:%Y-%m-%d}"

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("expiry") != CUSTOM:
            if self.data.get(self.add_prefix("expires_on")):  # without JavaScript, typing a date doesn't select it
                self.errors.pop("expires_on", None)
                self.add_error("expires_on", "Choose “Custom date” to use this date, or clear it.")
        elif "expires_on" in cleaned:
            day = cleaned["expires_on"]
            if day is None:
                self.add_error("expires_on", "Choose the last day the key works.")
            elif day < timezone.now().date():
                self.add_error("expires_on", DAY_IS_OVER)
        return cleaned

    @property
    def expires_at(self) -> datetime | None:
        """Return when the key expires, at the end of a day in UTC, or None."""
        expiry = self.cleaned_data["expiry"]
        if expiry == CUSTOM:
            return end_of_day(self.cleaned_data["expires_on"])
        lifetime = EXPIRIES[expiry]
        return None if lifetime is None else end_of_day((timezone.now() + lifetime).date())


class ReasonField(LineFormField):
    """A reason, which is stored and shown."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            max_length=REASON_MAX_LENGTH,
            validators=REASON_VALIDATORS,
            widget=KeylessInput(attrs={"autocomplete": "off"}),
            **kwargs,
        )


class RevokeForm(forms.Form):
    """An optional reason, and the description of a key that was used recently, typed as a confirmation."""

    confirmation = LineFormField(
        max_length=DESCRIPTION_MAX_LENGTH,
        widget=KeylessInput(attrs={"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false"}),
        error_messages={"required": "Type the description to confirm that you want to revoke a key that is in use."},
    )
    reason = ReasonField(
        required=False, help_text="Shown in the key's history, for example “leaked in a log” or “replaced”."
    )

    def __init__(self, *args: Any, api_key: ApiKey, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.api_key = api_key
        if api_key.was_used_recently:
            self.fields["confirmation"].help_text = escape(api_key.description)  # Django takes it for HTML
        else:
            del self.fields["confirmation"]

    def clean_confirmation(self) -> str:
        confirmation: str = self.cleaned_data["confirmation"]
        if _as_read(confirmation) != _as_read(self.api_key.description):
            raise ValidationError("This is not the key's description. Type it as shown above.")
        return confirmation


def _as_read(text: str) -> str:
    """Return the text with the spacing that a browser shows, in one case."""
    return " ".join(text.casefold().split())


class ReasonForm(forms.Form):
    """A required reason."""

    reason = ReasonField(error_messages={"required": "Enter a reason. It is saved with the change."})


class RotateForm(forms.Form):
    """A rotation. The form carries its own `idempotency_key`: submitting it twice rotates the key once.

    `replacing` is the key id of the current secret when the form was shown. The template renders it.
    """

    overlap = forms.TypedChoiceField(widget=forms.RadioSelect, initial="24h", coerce=OVERLAPS.__getitem__)
    idempotency_key = forms.RegexField(r"\A[0-9a-f]{32}\Z", widget=forms.HiddenInput, initial=lambda: uuid.uuid4().hex)
    replacing = forms.RegexField(_WHOLE_KEY_ID)

    def __init__(self, *args: Any, api_key: ApiKey, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        now = timezone.now()
        self.fields["overlap"].choices = [  # type: ignore[attr-defined]  # a ChoiceField
            ("0", "Now. Services that use it fail immediately."),
            ("1h", _end_label("In 1 hour", now + OVERLAPS["1h"], api_key.expires_at)),
            ("24h", _end_label("In 24 hours", now + OVERLAPS["24h"], api_key.expires_at)),
            ("7d", _end_label("In 7 days", now + OVERLAPS["7d"], api_key.expires_at)),
        ]

    @property
    def is_incomplete(self) -> bool:
        """Whether a hidden field is missing or invalid."""
        return bool({"idempotency_key", "replacing"} & self.errors.keys())


def _end_label(label: str, end: datetime, expires_at: datetime | None) -> SafeString:
    if expires_at is not None and expires_at < end:
        return format_html("{}, or when the key expires: {}", label, exact_moment(expires_at))
    return format_html("{}: {}", label, exact_moment(end))


class EndPreviousSecretForm(forms.Form):
    """The key id of the secret to end, which another rotation may have ended since the form was shown."""

    key_id = forms.RegexField(_WHOLE_KEY_ID)


class FindForm(forms.Form):
    """Search text: part of a description, a key id, a masked key or a secret."""

    text = forms.CharField(required=False, max_length=500)
