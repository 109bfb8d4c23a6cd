"""The URLs of the admin's pages."""

from django.db.models import Model
from django.urls import reverse
from oauth2_provider.models import AccessToken, RefreshToken

from apikeys.models import ApiKey
from core.admin import change_url, changelist_url
from oauth.models import Application
from workspaces.models import AuditEvent, Tier, User, Workspace

MODELS: list[type[Model]] = [Workspace, User, Tier, ApiKey, AuditEvent, Application, AccessToken, RefreshToken]
INDEX = reverse("admin:index")
FIND = reverse("admin:apikeys_apikey_find")
REVOKE = reverse("admin:apikeys_apikey_revoke")
BUSIEST = reverse("admin:apikeys_apikey_busiest")


def action_url(obj: Model, action: str) -> str:
    """Return the URL of an object's page for `action`, such as `history` or `delete`."""
    return change_url(obj).removesuffix("change/") + f"{action}/"


def add_url(model: type[Model]) -> str:
    return changelist_url(model) + "add/"
