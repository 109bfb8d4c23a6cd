from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from onehorizon.documents import DocumentView
from onehorizon.openapi import SchemaView
from onehorizon.paths import API_DOCS
from onehorizon.reference import ReferenceView
from onehorizon.security_txt import SecurityTxtView
from workspaces.api import UnknownPathView

urlpatterns = [
    path("api/v1/", include("workspaces.api_urls")),
    path("api/v1/", include("apikeys.api_urls")),
    path("api/v1/openapi.json", SchemaView.as_view(), name="openapi"),
    path(API_DOCS, ReferenceView.as_view(), name="api-docs"),
    re_path(r"^api(/[\s\S]*)?\Z", UnknownPathView.as_view()),
    path(settings.ADMIN_URL, admin.site.urls),
    path("", RedirectView.as_view(pattern_name="current-api-keys"), name="home"),
    path("docs/", RedirectView.as_view(url="/docs/api-keys/"), name="documents"),
    path("docs/<str:name>/", DocumentView.as_view(), name="document"),
    path(".well-known/change-password", RedirectView.as_view(pattern_name="change-password")),
    path(".well-known/security.txt", SecurityTxtView.as_view(), name="security-txt"),
    path("", include("workspaces.urls")),
    path("", include("apikeys.urls")),
    path("", include("oauth.urls")),
]

handler400 = "onehorizon.errors.bad_request"
handler403 = "onehorizon.errors.permission_denied"
handler404 = "onehorizon.errors.not_found"
handler500 = "onehorizon.errors.server_error"
