"""Views that the pages and the admin share."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.views import LogoutView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect


class SignOutView(LogoutView):
    """Signs out on POST, and deletes what the browser has cached or stored of this site. GET redirects to `page`.

    Clear-Site-Data does not include cookies: browsers would delete those of every host below the same registered
    domain, and the device cookie, which protects the next sign-in (`workspaces/devices.py`). Django deletes the
    session's.
    """

    http_method_names = ["get", "head", "post", "options"]
    page = "home"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return redirect(self.page)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response: HttpResponse = super().post(request, *args, **kwargs)
        messages.success(request, "Signed out.", extra_tags="session")
        response["Clear-Site-Data"] = '"cache", "storage"'
        return response
