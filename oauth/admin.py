"""OAuth applications and tokens in the admin. Never shows a token, a code, a stored secret or a hash."""

from typing import Any

import oauth2_provider.admin  # noqa: F401, registers the toolkit's admins, which are unregistered below
from django import forms
from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.contrib.auth import get_permission_codename
from django.core.exceptions import PermissionDenied
from django.core.validators import MinLengthValidator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import pluralize
from django.urls import reverse
from django.utils.html import format_html
from oauth2_provider.models import AccessToken, RefreshToken
from oauth2_provider.scopes import get_scopes_backend

from core.admin import ReadOnlyMixin, changelist_url
from oauth.models import SECRET_MIN_LENGTH, Application, default_scopes, revoke_token
from workspaces.models import Action, Actor, AuditEvent, Via
from workspaces.operators_admin import AuditedAdmin, ChangeForm, OperatorsAdmin

NAMED_TOKENS = 20  # at most, on the page that asks whether to revoke tokens

for model in [*apps.get_app_config("oauth2_provider").get_models(), *apps.get_app_config("oauth").get_models()]:
    if admin.site.is_registered(model):
        admin.site.unregister(model)


class ApplicationForm(ChangeForm):
    scopes = forms.MultipleChoiceField(
        choices=[(scope, f"{scope}: {sentence}") for scope, sentence in get_scopes_backend().get_all_scopes().items()],
        widget=forms.CheckboxSelectMultiple,
        initial=default_scopes,
        help_text="What it may request. If you remove a scope, its tokens lose it too.",
    )

    class Meta:
        help_texts = {
            "name": "People see it when the application requests access.",
            "client_secret": "For confidential clients. Copy it now: it is stored hashed and can't be shown again.",
            "client_type": "Confidential: a server, which can keep a secret. Public: a program on people's devices.",
            "redirect_uris": (
                "Separate them by spaces or line breaks. Use https, or http on 127.0.0.1, [::1] or localhost with any "
                "port, or, for a public client, a private-use scheme such as com.example.app:/callback."
            ),
        }


@admin.register(Application)
class ApplicationAdmin(AuditedAdmin[Application]):
    """Only the add form shows the client secret; it is stored hashed."""

    form = ApplicationForm
    list_display = ("name", "client_id", "client_type", "authorization_grant_type", "created")
    search_fields = ("^name", "client_id__startswith")
    search_help_text = "Start of a name or a client ID"
    created_action = Action.APPLICATION_CREATED
    changed_action = Action.APPLICATION_CHANGED
    COMMON_FIELDS = ("name", "client_type", "authorization_grant_type", "redirect_uris", "scopes")

    def event_fields(self, obj: Application) -> dict[str, Any]:
        return {"subject": str(obj.pk)}

    def get_fields(self, request: HttpRequest, obj: Application | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("client_id", "client_secret", *self.COMMON_FIELDS)
        return ("client_id", *self.COMMON_FIELDS, "created")

    def get_fieldsets(self, request: HttpRequest, obj: Application | None = None) -> Any:
        guide = format_html(
            '<a href="{}#registering-an-application">OAuth applications</a> explains each field.',
            reverse("document", args=["oauth"]),
        )
        return [(None, {"fields": self.get_fields(request, obj), "description": guide})]

    def get_readonly_fields(self, request: HttpRequest, obj: Application | None = None) -> tuple[str, ...]:
        return () if obj is None else ("client_id", "client_type", "authorization_grant_type", "created")

    def get_form(
        self, request: HttpRequest, obj: Application | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        if "client_secret" in form.base_fields:
            form.base_fields["client_secret"].validators.append(MinLengthValidator(SECRET_MIN_LENGTH))
        return form

    def has_delete_permission(self, request: HttpRequest, obj: Application | None = None) -> bool:
        return False


class TokenAdmin(ReadOnlyMixin, OperatorsAdmin[Any]):
    """Tokens that users granted to applications. They can be revoked but not changed."""

    list_select_related = ("user", "application")
    search_fields = ("user__email__exact", "application__client_id__exact")
    search_help_text = "User's email or application's client ID"
    actions = ("revoke",)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        permission = get_permission_codename("delete", self.opts)
        return request.user.has_perm(f"{self.opts.app_label}.{permission}")

    @admin.action(description="Revoke selected tokens", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Revoke the tokens when the operator has confirmed it. Before that, return the page that asks."""
        if "confirmed" not in request.POST:
            count = queryset.count()
            return self.page(
                request,
                "revoke_tokens.html",
                title=f"Revoke {count:,} token{pluralize(count)}?",
                count=count,
                named=queryset[:NAMED_TOKENS],
                selected=request.POST.getlist(ACTION_CHECKBOX_NAME),
                select_across=request.POST.get("select_across", "0"),
            )
        actor = Actor.of(request, Via.ADMIN)
        count = sum(revoke_token(token, by=actor) for token in queryset)
        messages.success(request, f"{count:,} token{pluralize(count)} revoked.")
        return None

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Redirect to the user's audit events: those about a token have the user as their subject."""
        token = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, token):
            raise PermissionDenied
        if token is None:
            raise Http404
        return redirect(changelist_url(AuditEvent, subject=token.user_id))


@admin.register(AccessToken)
class AccessTokenAdmin(TokenAdmin):
    list_display = fields = ("user", "application", "scope", "created", "expires")


@admin.register(RefreshToken)
class RefreshTokenAdmin(TokenAdmin):
    list_display = fields = ("user", "application", "created", "revoked")
