from django.urls import include, path, re_path

from onehorizon.api import UnknownPathView

urlpatterns = [
    path("api/v1/", include("workspaces.api_urls")),
    re_path(r"^api(?s:/.*)?\Z", UnknownPathView.as_view()),
]

handler400 = "onehorizon.errors.bad_request"
handler404 = "onehorizon.errors.not_found"
handler500 = "onehorizon.errors.server_error"
