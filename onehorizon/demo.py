"""The demo workspace: a user in every role, sample tasks, and an API key."""

from dataclasses import dataclass

from django.conf import settings
from django.core.management.base import CommandError
from django.db import transaction
from django.utils.crypto import salted_hmac

from apikeys.models import ActiveKeyLimitReached, ApiKey, ApiKeyQuerySet
from workspaces.models import COMMAND_ACTOR, Role, Task, TaskContributionType, User, Workspace

SLUG = "demo"
KEY_DESCRIPTION = "Demo: local development"

TASKS = [
    # title, status, kind, scope, owner, reviewer
    ("Collect launch feedback from the first ten customers", "idea", "task", "todo", None, None),
    ("Move the status page to its own domain", "open", "task", "todo", "admin", None),
    ("Webhook retries stop after a redirect", "open", "bug", "todo", "member", "admin"),
    ("Publish the Q1 roadmap", "planned", "task", "initiative", "owner", None),
    ("Cut cold-start time of the worker image in half", "planned", "task", "todo", "member", "admin"),
    ("Single sign-on for enterprise workspaces", "in_progress", "task", "initiative", "admin", "owner"),
    ("CSV export drops the last row", "in_progress", "bug", "todo", "member", "admin"),
    ("Billing page in the new design", "review", "task", "todo", "admin", "owner"),
    ("Renew the code signing certificate", "blocked", "task", "todo", "owner", None),
    ("Weekly dependency updates", "in_progress", "task", "ongoing", "member", None),
    ("Time zones in the daily recap", "completed", "bug", "todo", "member", "admin"),
    ("Dark mode for the mobile app", "cancelled", "task", "todo", None, None),
]


@dataclass(frozen=True)
class Demo:
    workspace: Workspace
    users: list[dict[str, str | None]]  # email, password, role. The password is None if it or SECRET_KEY was changed


def require_debug() -> None:
    """Raise `CommandError` if DEBUG is off. The demo's users have passwords that the commands print."""
    if not settings.DEBUG:
        raise CommandError("This command creates demo users, so it works only while DEBUG is on.")


def is_seeded() -> bool:
    """Return whether the demo workspace exists."""
    return Workspace.objects.filter(slug=SLUG).exists()


def seed() -> Demo:
    """Create the demo data that is missing, except keys. Existing workspaces, members, tasks and passwords are kept."""
    with transaction.atomic():
        users = {role: _get_or_create_user(role) for role in ("owner", "admin", "member", "outsider")}
        workspace = _get_or_create_workspace(SLUG, "Demo workspace", users["owner"])
        _get_or_create_workspace("elsewhere", "Another workspace", users["outsider"])
        for role in (Role.ADMIN, Role.MEMBER):
            if not workspace.memberships.filter(user=users[role]).exists():
                workspace.add_member(users[role], role, by=COMMAND_ACTOR)
        if not workspace.tasks.exists():
            _create_tasks(workspace, users)
    credentials = [
        {"email": user.email, "password": _current_password(user), "role": role} for role, user in users.items()
    ]
    return Demo(workspace, credentials)


def latest_key(workspace: Workspace) -> ApiKey | None:
    """Return the newest active demo key, or None. Its secret can't be shown again."""
    return _active_keys(workspace).order_by("-id").first()


def create_key(workspace: Workspace) -> str:
    """Create a demo key and return its secret. If the workspace is at its key limit, revoke the oldest demo key first.

    Raise `KeyNotCreated` if there is no demo key to revoke, or if the workspace is suspended.
    """
    while True:
        try:
            return ApiKey.objects.create_key(workspace, description=KEY_DESCRIPTION, by=COMMAND_ACTOR)[1]
        except ActiveKeyLimitReached:
            oldest = _active_keys(workspace).order_by("id").first()
            if oldest is None:
                raise
            oldest.revoke(by=COMMAND_ACTOR, reason="Replaced by a new demo key")


def _active_keys(workspace: Workspace) -> ApiKeyQuerySet:
    return workspace.api_keys.active().filter(description=KEY_DESCRIPTION)


def _get_or_create_user(role: str) -> User:
    email = f"{role}@example.com"
    existing = User.objects.filter(email=email).first()
    return existing or User.objects.create_user(email, role.capitalize(), _password(email))


def _current_password(user: User) -> str | None:
    """Return the demo user's password, or None if the user has another one: it or SECRET_KEY was changed."""
    password = _password(user.email)
    return password if user.check_password(password) else None


def _password(email: str) -> str:
    """Return the demo user's password. Derived from SECRET_KEY: differs per installation, is the same on every run."""
    return salted_hmac("onehorizon.demo", email).hexdigest()[:16]


def _get_or_create_workspace(slug: str, name: str, owner: User) -> Workspace:
    existing = Workspace.objects.filter(slug=slug).first()
    return existing or Workspace.objects.create_with_owner(owner, name=name, slug=slug, by=COMMAND_ACTOR)


def _create_tasks(workspace: Workspace, users: dict[str, User]) -> None:
    for title, status, kind, scope, owner, reviewer in TASKS:
        contributors = [
            (users[name].pk, type_)
            for name, type_ in (
                (owner, TaskContributionType.ASSIGNEE),
                (reviewer, TaskContributionType.REVIEWER),
            )
            if name
        ]
        Task.objects.create_task(
            workspace,
            title=title,
            status=status,
            kind=kind,
            scope=scope,
            user=users[owner] if owner else None,
            contributors=contributors,
        )
