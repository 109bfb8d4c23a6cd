"""Base classes and helpers of the operators' site: Django's admin in the product's layout, for large tables."""

from typing import Any, ClassVar, cast

from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Field, Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.views import SignOutView


class OperatorsSite(admin.AdminSite):
    site_header = site_title = "One Horizon"
    index_title = "Operators"
    enable_nav_sidebar = False  # it would take a quarter of a list's width; the index has all lists

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        self.disable_action("delete_selected")

    def get_urls(self) -> list[Any]:
        """Leave out "View on site": no object has a page outside the admin."""
        return [url for url in super().get_urls() if getattr(url, "name", None) != "view_on_site"]

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Return the sections of the index, or the one with this app. Apps of the same name are one section."""
        by_name: dict[str, Any] = {}
        for app in super().get_app_list(request):
            section = by_name.setdefault(app["name"], {**app, "models": []})
            section["models"] = sorted([*section["models"], *app["models"]], key=lambda model: model["name"])
        name = app_label and apps.get_app_config(app_label).verbose_name
        return [section for section in by_name.values() if name in (None, section["name"])]

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().each_context(request), "environment": settings.ENVIRONMENT}

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Redirect to the product's sign-in page, which has rate limits.

        Raise `PermissionDenied` for a signed-in user: that user has no access to the admin.
        """
        if request.user.is_authenticated:
            raise PermissionDenied
        return redirect_to_login(request.GET.get("next", request.path.removesuffix("login/")))

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return SignOutView.as_view(page="admin:index")(request)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return redirect("change-password")


class BoundedPaginator(Paginator[Any]):
    """Counts and lists at most `MAX_COUNT` rows, because counting millions is slow. Filter the list to see others."""

    MAX_COUNT = 10_000

    @cached_property
    def count(self) -> int:
        rows = cast("QuerySet[Model]", self.object_list)
        return rows.order_by()[: self.MAX_COUNT].count()

    @property
    def is_cut(self) -> bool:
        """Whether there may be more rows than the paginator counted."""
        return self.count == self.MAX_COUNT


class PlainFieldsMixin:
    """For a ModelAdmin or an inline whose fields have no buttons that edit, show or delete the object they refer to.

    The pencil next to a workspace's tier, for example, would edit the tier of every workspace that has it.
    """

    # Foreign keys with a plus sign, which adds an object to refer to.
    with_plus_sign: ClassVar[tuple[str, ...]] = ()

    def formfield_for_dbfield(self, db_field: Field[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        formfield = super().formfield_for_dbfield(db_field, request, **kwargs)  # type: ignore[misc]  # a mixin
        if formfield is not None and isinstance(formfield.widget, RelatedFieldWidgetWrapper):
            widget = formfield.widget
            widget.can_change_related = widget.can_view_related = widget.can_delete_related = False
            widget.can_add_related = widget.can_add_related and db_field.name in self.with_plus_sign
        return formfield


class ReadOnlyMixin:
    """For a ModelAdmin whose rows can't be added, changed or deleted in the admin."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def change_url(obj: Model) -> str:
    return reverse(f"admin:{obj._meta.app_label}_{obj._meta.model_name}_change", args=[quote(obj.pk)])


def changelist_url(model: type[Model], **query: str) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist", query=query)


def link(url: str, text: object) -> SafeString:
    return format_html('<a href="{}">{}</a>', url, text)
