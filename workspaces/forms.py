import unicodedata
from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm

from workspaces.models import User, Workspace

EMAIL_MAX_LENGTH = 254


def email_of(typed: str) -> str:
    """The email as it is looked up. Spellings that the form takes for the same are the same here too.

    What is longer than any email stays as it is: normalizing takes the square of a text's length, at worst.
    """
    typed = typed.strip()
    return unicodedata.normalize("NFKC", typed).strip().lower() if len(typed) <= EMAIL_MAX_LENGTH else typed


class SignInForm(AuthenticationForm):
    error_messages = {
        "invalid_login": "This email and password don't go together.",
        "inactive": "This account is switched off.",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].widget = forms.EmailInput(
            attrs={"autocomplete": "username", "autofocus": True, "maxlength": EMAIL_MAX_LENGTH}
        )

    def clean_username(self) -> str:
        return email_of(self.cleaned_data["username"])


class ChooseWorkspaceForm(forms.Form):
    """Which of the person's own workspaces to work in."""

    workspace = forms.ModelChoiceField(Workspace.objects.none())

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["workspace"].queryset = user.reachable_workspaces()  # type: ignore[attr-defined]
