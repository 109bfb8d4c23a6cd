"""Applications and the tokens people gave them, for operators. Never a token, a code or a secret, nor its hash."""

from typing import Any

import oauth2_provider.admin  # noqa: F401, registers the toolkit's own, which show what is below
from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.validators import MinLengthValidator
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from oauth2_provider.models import AccessToken, RefreshToken

from core.admin import ReadOnlyMixin, changelist_url
from oauth.models import Application
from workspaces.admin import AuditedAdmin
from workspaces.models import AuditEvent

SECRET_MIN_LENGTH = 32  # of one that an operator types in place of the generated one

for model in [*apps.get_app_config("oauth2_provider").get_models(), *apps.get_app_config("oauth").get_models()]:
    if admin.site.is_registered(model):
        admin.site.unregister(model)


@admin.register(Application)
class ApplicationAdmin(AuditedAdmin[Application]):
    """A confidential client's secret stands in the form that makes it, and is kept hashed from then on."""

    list_display = ("name", "client_id", "client_type", "authorization_grant_type", "created")
    search_fields = ("^name", "client_id__exact")
    search_help_text = "By how a name begins, or by client id."
    KEPT = ("name", "client_type", "authorization_grant_type", "redirect_uris")

    def about(self, obj: Application) -> dict[str, Any]:
        return {"subject": str(obj.pk)}

    def get_fields(self, request: HttpRequest, obj: Application | None = None) -> tuple[str, ...]:
        return ("client_id", "client_secret", *self.KEPT) if obj is None else ("client_id", *self.KEPT, "created")

    def get_readonly_fields(self, request: HttpRequest, obj: Application | None = None) -> tuple[str, ...]:
        return () if obj is None else ("client_id", "client_type", "authorization_grant_type", "created")

    def get_form(
        self, request: HttpRequest, obj: Application | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        if "client_secret" in form.base_fields:
            told = "For a confidential client. Copy it now: it is kept hashed, and nobody can read it again."
            form.base_fields["client_secret"].help_text = told
            form.base_fields["client_secret"].validators.append(MinLengthValidator(SECRET_MIN_LENGTH))
        return form

    def has_delete_permission(self, request: HttpRequest, obj: Application | None = None) -> bool:
        return False


class TokenAdmin(ReadOnlyMixin, AuditedAdmin[Any]):
    """Who let which application in. Nothing of it can be changed, but it can be ended."""

    list_select_related = ("user", "application")
    search_fields = ("user__email__exact", "application__client_id__exact")
    search_help_text = "By a person's email or an application's client id."
    actions = ("revoke",)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("apikeys.revoke_apikey")

    @admin.action(description="Revoke", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        tokens = [token for token in queryset if getattr(token, "revoked", None) is None]
        for token in tokens:
            with transaction.atomic():
                self.record(request, "revoked", token, application=token.application.client_id)
                token.revoke()
        messages.success(request, f"Revoked: {len(tokens)}.")

    def about(self, obj: Any) -> dict[str, Any]:
        return {"subject": obj.user_id}

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Its events are the person's, since a token ends with its row."""
        token = self.get_object(request, unquote(object_id))
        if token is None:
            raise Http404
        return redirect(changelist_url(AuditEvent, subject=token.user_id))


@admin.register(AccessToken)
class AccessTokenAdmin(TokenAdmin):
    list_display = fields = ("user", "application", "scope", "created", "expires")


@admin.register(RefreshToken)
class RefreshTokenAdmin(TokenAdmin):
    list_display = fields = ("user", "application", "created", "revoked")
