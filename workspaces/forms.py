import unicodedata
from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm

from workspaces.models import User, Workspace

EMAIL_MAX_LENGTH = 254


def normalize_email(email: str) -> str:
    """Return the email as sign-in looks it up: NFKC, like the value of Django's `UsernameField`, and lower-case.

    Longer text than any email is only stripped, because normalization takes quadratic time in the worst case.
    """
    email = email.strip()
    return unicodedata.normalize("NFKC", email).strip().lower() if len(email) <= EMAIL_MAX_LENGTH else email


class SignInForm(AuthenticationForm):
    error_messages = {
        "invalid_login": "Incorrect email or password.",
        "inactive": "This account is deactivated.",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].widget = forms.EmailInput(
            attrs={"autocomplete": "username", "autofocus": True, "maxlength": EMAIL_MAX_LENGTH}
        )

    def clean_username(self) -> str:
        return normalize_email(self.cleaned_data["username"])


class ChooseWorkspaceForm(forms.Form):
    """A choice among the user's workspaces."""

    workspace = forms.ModelChoiceField(Workspace.objects.none())

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["workspace"].queryset = user.reachable_workspaces()  # type: ignore[attr-defined]
