from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm

from workspaces.models import User, Workspace


class SignInForm(AuthenticationForm):
    error_messages = {
        "invalid_login": "This email and password don't go together.",
        "inactive": "This account is switched off.",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].widget = forms.EmailInput(
            attrs={"autocomplete": "username", "autofocus": True, "maxlength": 254}
        )

    def clean_username(self) -> str:
        email: str = self.cleaned_data["username"]
        return email.strip().lower()


class ChooseWorkspaceForm(forms.Form):
    """Which of the person's own workspaces to work in."""

    workspace = forms.ModelChoiceField(Workspace.objects.none())

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["workspace"].queryset = user.reachable_workspaces()  # type: ignore[attr-defined]
