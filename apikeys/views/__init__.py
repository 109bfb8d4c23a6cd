"""The pages under Settings → Developer → API Keys."""

from apikeys.views.access import CurrentWorkspaceView
from apikeys.views.one_key import (
    EndPreviousSecretView,
    FirstRequestView,
    KeyView,
    PreviousSecretView,
    RenameKeyView,
    RevokeKeyView,
    RotateKeyView,
)
from apikeys.views.workspace_keys import AddKeyView, FindKeyView, KeyListView, QuotaView

__all__ = [
    "AddKeyView",
    "CurrentWorkspaceView",
    "EndPreviousSecretView",
    "FindKeyView",
    "FirstRequestView",
    "KeyListView",
    "KeyView",
    "PreviousSecretView",
    "QuotaView",
    "RenameKeyView",
    "RevokeKeyView",
    "RotateKeyView",
]
