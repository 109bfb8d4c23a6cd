from typing import Any

from django import forms
from django.contrib.auth.forms import AdminPasswordChangeForm, AuthenticationForm, PasswordChangeForm

from workspaces.models import EMAIL_MAX_LENGTH, User, Workspace


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
        return User.objects.normalize_email(self.cleaned_data["username"])


class SavePasswordOnlyMixin:
    """Saves no other field of the user. Another request may have changed them meanwhile, such as `is_active`."""

    def save(self, commit: bool = True) -> User:
        user: User = super().save(commit=False)  # type: ignore[misc]  # the form's
        user.save(update_fields=["password"])
        return user


class ChangePasswordForm(SavePasswordOnlyMixin, PasswordChangeForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["new_password1"].help_text = "At least 10 characters. Common passwords are rejected."
        self.fields["new_password2"].help_text = ""


class SetPasswordForm(SavePasswordOnlyMixin, AdminPasswordChangeForm):  # type: ignore[type-arg]  # not generic at run time
    """For operators."""


class ChooseWorkspaceForm(forms.Form):
    """A choice among the user's workspaces."""

    workspace = forms.ModelChoiceField(Workspace.objects.none())

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["workspace"].queryset = user.reachable_workspaces()  # type: ignore[attr-defined]  # the field above
