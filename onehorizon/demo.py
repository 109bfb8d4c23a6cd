"""The demo workspace: people in every role, tasks that look like a team's, and a key to try the API with."""

from dataclasses import dataclass

from django.db import transaction
from django.utils.crypto import salted_hmac

from apikeys.models import ActiveKeyLimitReached, ApiKey
from workspaces.models import Actor, Role, Task, TaskContributionType, User, Via, Workspace

KEY_DESCRIPTION = "Demo: local development"
COMMAND = Actor(via=Via.COMMAND)

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
    users: list[dict[str, str]]  # email, password, role
    secret: str


def seed() -> Demo:
    """Makes what is missing of the demo, and one new key. Safe to repeat; what people changed stays."""
    with transaction.atomic():
        people = {role: _person(role) for role in ("owner", "admin", "member", "outsider")}
        workspace = _workspace("demo", "Demo workspace", people["owner"])
        _workspace("elsewhere", "Another workspace", people["outsider"])
        for role in (Role.ADMIN, Role.MEMBER):
            if not workspace.memberships.filter(user=people[role]).exists():
                workspace.add_member(people[role], role, by=COMMAND)
        if not workspace.tasks.exists():
            _tasks(workspace, people)
    users = [
        {"email": person.email, "password": _password(person.email), "role": role} for role, person in people.items()
    ]
    return Demo(workspace, users, _new_key(workspace))


def _person(role: str) -> User:
    email = f"{role}@example.com"
    user = User.objects.filter(email=email).first()
    if user is None:
        return User.objects.create_user(email, role.capitalize(), _password(email))
    if not user.check_password(_password(email)):
        user.set_password(_password(email))
        user.save(update_fields=["password"])
    return user


def _password(email: str) -> str:
    """Different on every installation, the same on each run, and kept nowhere: it hangs on SECRET_KEY."""
    return salted_hmac("onehorizon.demo", email).hexdigest()[:16]


def _workspace(slug: str, name: str, owner: User) -> Workspace:
    found = Workspace.objects.filter(slug=slug).first()
    return found or Workspace.objects.create_with_owner(owner, name=name, slug=slug, by=COMMAND)


def _tasks(workspace: Workspace, people: dict[str, User]) -> None:
    for title, status, kind, scope, owner, reviewer in TASKS:
        contributors = [
            (people[name].pk, type_)
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
            user=people[owner] if owner else None,
            contributors=contributors,
        )


def _new_key(workspace: Workspace) -> str:
    """A fresh key's secret. Where the workspace is full, the oldest demo key makes room.

    Raises `ActiveKeyLimitReached` where none of its keys is a demo key, and `WorkspaceSuspended`.
    """
    while True:
        try:
            return ApiKey.objects.create_key(workspace, description=KEY_DESCRIPTION, by=COMMAND)[1]
        except ActiveKeyLimitReached:
            demo_keys = workspace.api_keys.active().filter(description=KEY_DESCRIPTION)
            oldest = demo_keys.order_by("id").first()
            if oldest is None:
                raise
            oldest.revoke(by=COMMAND, reason="Makes room for a new demo key")
