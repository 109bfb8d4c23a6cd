"""People."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models, transaction
from django.db.models.functions import Lower
from django.dispatch import Signal
from django.utils import timezone

from core.db import contention
from workspaces.fields import LineField
from workspaces.ids import IdField
from workspaces.models.audit import Action, Actor, AuditEvent, NotAllowed
from workspaces.validators import single_line

if TYPE_CHECKING:
    from workspaces.models.workspaces import Workspace


EMAIL_MAX_LENGTH = 254

# Sent with `user` in the transaction that ends a user's access. Receivers revoke the credentials that they store.
access_ended = Signal()


class NoWorkspaceChosen(Exception):
    """The person is in several workspaces and has not chosen a current one, or is in none."""

    def __init__(self, workspaces: Sequence[Workspace]) -> None:
        names = ", ".join(f"{workspace.name} ({workspace.pk})" for workspace in workspaces)
        super().__init__(
            f"Choose one of your workspaces: {names}." if names else "You are not a member of any workspace."
        )


class UserManager(BaseUserManager["User"]):
    @classmethod
    def normalize_email(cls, email: str | None) -> str:
        """Return the email as it is stored and looked up: NFKC, like the value of Django's `UsernameField`, lower-case.

        Longer text than any email is only stripped, because normalization takes quadratic time in the worst case.
        """
        email = (email or "").strip()
        if len(email) > EMAIL_MAX_LENGTH:
            return email
        lower = unicodedata.normalize("NFKC", email).strip().lower()
        return unicodedata.normalize("NFKC", lower)  # again: letters and marks may compose once they are lower-case

    def create_user(self, email: str, name: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=self.normalize_email(email), name=name, **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, name: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, name, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email=self.normalize_email(username))


class EmailField(models.EmailField[str, str]):
    """An email address, stored and looked up as `normalize_email` returns it. In migrations it is Django's field.

    So everything that finds people by email ignores case, such as sign-in and `manage.py changepassword`.
    """

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.EmailField", args, kwargs

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return text and UserManager.normalize_email(text)


class User(AbstractBaseUser, PermissionsMixin):
    """A person."""

    id = IdField("u")
    email = EmailField(
        max_length=EMAIL_MAX_LENGTH, unique=True, error_messages={"unique": "A user with this email already exists."}
    )
    name = LineField(max_length=100, validators=[single_line])
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField("may use the admin", default=False)
    chosen_workspace = models.ForeignKey(
        "Workspace", on_delete=models.SET_NULL, null=True, blank=True, related_name="+", editable=False
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # How many times the user's sessions were ended. A session is valid for the number at its start.
    session_generation = models.PositiveIntegerField(default=0, db_default=0, editable=False)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["name"]

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(email=Lower("email")), name="user_email_lower_case")]

    def __str__(self) -> str:
        return self.email

    def reachable_workspaces(self) -> models.QuerySet[Workspace]:
        """Return the workspaces that the person may access."""
        return self.workspaces.all()

    def current_workspace(self) -> Workspace:
        """Return the chosen workspace, or the only one. Raise `NoWorkspaceChosen`."""
        reachable = list(self.reachable_workspaces())
        chosen = [workspace for workspace in reachable if workspace.pk == self.chosen_workspace_id] or reachable
        if len(chosen) != 1:
            raise NoWorkspaceChosen(reachable)
        return chosen[0]

    def choose(self, workspace: Workspace) -> None:
        """Make it the current workspace."""
        self.chosen_workspace = workspace
        self.save(update_fields=["chosen_workspace"])

    def can_be_changed_by(self, operator: User) -> bool:
        """Return False for a superuser, unless the operator is one too: an operator can't take over that account."""
        return not self.is_superuser or operator.is_superuser

    def require_editor(self, by: Actor) -> None:
        """Raise `NotAllowed` if the actor is an operator who can't change this user."""
        if by.user is not None and not self.can_be_changed_by(by.user):
            raise NotAllowed("Only superusers can change a superuser.")

    @transaction.atomic
    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, and end the access of a deactivated user in the same transaction.

        A changed password revokes tokens in this transaction too (oauth.passwords).
        """
        super().save(*args, **kwargs)
        saved = kwargs.get("update_fields")
        if not self.is_active and (saved is None or "is_active" in saved):
            self._end_access()

    @transaction.atomic
    def end_access(self, *, by: Actor) -> None:
        """End all sessions, and revoke all OAuth tokens and codes. Workspaces' API keys are not affected.

        For operators. Raise `NotAllowed`.
        """
        by.require_operator()
        self._end_access()
        AuditEvent.objects.record(Action.USER_ACCESS_ENDED, by, subject=self.pk)

    def _end_access(self) -> None:
        User.objects.filter(pk=self.pk).update(session_generation=models.F("session_generation") + 1)
        self.refresh_from_db(fields=["session_generation"])
        access_ended.send(User, user=self)

    def lock_access(self) -> bool:
        """Lock the user's row, and return whether a session or token that was checked before is still valid.

        It is not if the user was deactivated, the access was ended or the password was changed after this object was
        read. Call it in the transaction that grants access, so that no such change misses the new grant. Code that
        revokes some of the user's grants calls it first too, so that it doesn't miss one that is not committed yet.
        """
        contention.about_to_lock(contention.row(self.pk))
        # `no_key`, so that rows with a foreign key to the user can be inserted meanwhile.
        current = User.objects.select_for_update(no_key=True).filter(pk=self.pk, is_active=True).first()
        return current is not None and current.get_session_auth_hash() == self.get_session_auth_hash()

    def get_session_auth_hash(self) -> str:
        """Return the value that a valid session contains. It changes with the password and with `end_access`."""
        return super().get_session_auth_hash() + self._generation_suffix

    def get_session_auth_fallback_hash(self) -> Iterator[str]:
        return (value + self._generation_suffix for value in super().get_session_auth_fallback_hash())

    @property
    def _generation_suffix(self) -> str:
        return f".{self.session_generation}" if self.session_generation else ""
