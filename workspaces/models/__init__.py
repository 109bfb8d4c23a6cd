from workspaces.models.audit import COMMAND_ACTOR, Action, Actor, AuditEvent, NotAllowed, Via
from workspaces.models.tasks import (
    Task,
    TaskContributionType,
    TaskContributor,
    TaskKind,
    TaskQuerySet,
    TaskScope,
    TaskStatus,
    TaskVisibility,
)
from workspaces.models.users import EMAIL_MAX_LENGTH, NoWorkspaceChosen, User, access_ended
from workspaces.models.workspaces import (
    KEY_MANAGERS,
    KeyManagersOnly,
    LastOwner,
    Membership,
    Role,
    Tier,
    Workspace,
)

__all__ = [
    "COMMAND_ACTOR",
    "EMAIL_MAX_LENGTH",
    "KEY_MANAGERS",
    "Action",
    "Actor",
    "AuditEvent",
    "KeyManagersOnly",
    "LastOwner",
    "Membership",
    "NoWorkspaceChosen",
    "NotAllowed",
    "Role",
    "Task",
    "TaskContributionType",
    "TaskContributor",
    "TaskKind",
    "TaskQuerySet",
    "TaskScope",
    "TaskStatus",
    "TaskVisibility",
    "Tier",
    "User",
    "Via",
    "Workspace",
    "access_ended",
]
