"""Remembered consent, and the content of consent pages."""

from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import Count, OuterRef, QuerySet, Subquery, Window
from django.db.models.functions import Coalesce
from django.utils import timezone
from oauth2_provider.models import RefreshToken
from oauth2_provider.scopes import get_scopes_backend
from oauth2_provider.settings import oauth2_settings

from oauth.models import Application, TokenFamily
from oauth.redirect_uris import is_loopback
from workspaces.access import Scope
from workspaces.models import KEY_MANAGERS, Membership, User

NAMED_WORKSPACES = 5  # at most, on a consent page, which shows the number of the others


def consented_at(user: User, application: Application, scopes: list[str], redirect_uri: str) -> datetime | None:
    """Return when the user consented to this, or None if the consent page must be shown.

    A consent is valid while the application has a refresh token with all of these scopes: until the token expires or is
    revoked, or an operator changes the application. An authorization without the consent page has the time of the
    consent before it, so it can't extend that one.
    """
    if not identifies_client(redirect_uri):
        return None
    authorizations = active_authorizations(user, application)
    return max((start for granted, start in authorizations if set(scopes) <= set(granted.split())), default=None)


def identifies_client(redirect_uri: str) -> bool:
    """Return whether only one client can receive a code that is sent to this redirect URI (RFC 8252, section 8.6).

    Any program on the user's device can listen on a loopback port or register a private-use scheme, and send the
    client's id. A secret doesn't help: every copy of such an application contains it.
    """
    parts = urlsplit(redirect_uri)
    host = parts.hostname or ""
    return parts.scheme == "https" and not is_loopback(host) and not host.endswith(".localhost")  # RFC 6761, 6.3


def active_authorizations(user: User, application: Application) -> QuerySet[Any, tuple[str, datetime]]:
    """Return the scopes, separated by spaces, and the start of each authorization that the application can refresh.

    There are no duplicates: an application may have requested many authorizations since the consent.
    """
    now = timezone.now()
    unused_lifetime = timedelta(seconds=oauth2_settings.REFRESH_TOKEN_EXPIRE_SECONDS)
    family = TokenFamily.objects.filter(pk=OuterRef("token_family"))
    return (
        RefreshToken.objects.annotate(start=Coalesce(Subquery(family.values("started_at")), "created"))
        .filter(
            user=user,
            application=application,
            revoked=None,
            access_token__expires__gt=now - unused_lifetime,
            start__gt=now - settings.OAUTH_REFRESH_TOKEN_LIFETIME,
            start__gte=application.updated,
        )
        .values_list("access_token__scope", "start")
        .distinct()
    )


# ---- the page ----


class WorkspaceList:
    """The first workspaces of these memberships, and the number of the others, whose rows are not loaded."""

    def __init__(self, memberships: QuerySet[Membership], heading: str, none: str) -> None:
        self.memberships, self.heading, self.none = memberships, heading, none

    @cached_property
    def named(self) -> list[Any]:
        rows = self.memberships.select_related("workspace").annotate(total=Window(Count("*")))
        return list(rows.order_by("workspace__name", "workspace_id")[:NAMED_WORKSPACES])

    @property
    def total(self) -> int:
        return self.named[0].total if self.named else 0

    @property
    def more(self) -> int:
        return self.total - len(self.named)


def workspace_lists(user: User, scopes: list[str]) -> list[WorkspaceList]:
    """Return the workspaces that the application gets access to, or nothing if the scopes are not about workspaces.

    There are two lists if the user can manage keys in some of the workspaces only.
    """
    for_data, for_keys = bool({Scope.READ, Scope.WRITE} & set(scopes)), Scope.MANAGE_KEYS in scopes
    no_workspace = "None. You are not a member of any workspace yet."
    of_data = WorkspaceList(user.memberships.all(), "Tasks and members in these workspaces:", no_workspace)
    of_keys = WorkspaceList(
        user.memberships.filter(role__in=KEY_MANAGERS),
        "API keys in these workspaces:",
        "None. You are not an owner or admin of any workspace.",
    )
    if for_data and for_keys and of_data.total == of_keys.total:
        of_data.heading = "Tasks, members and API keys in these workspaces:"
        return [of_data]
    return [of_data] * for_data + [of_keys] * for_keys


def consent_context(user: User, scopes: list[str]) -> dict[str, Any]:
    """Return the template context of a consent page: what the application can do, and in which workspaces.

    The database is queried when the page is rendered.
    """
    descriptions: dict[str, str] = get_scopes_backend().get_all_scopes()
    return {
        "scope_descriptions": [description for scope, description in descriptions.items() if scope in scopes],
        "workspace_lists": partial(workspace_lists, user, scopes),
    }
