"""Views that the pages and the admin share."""

from typing import Any

from django.conf import settings
from django.contrib.auth.views import LogoutView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse


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

    def get_default_redirect_url(self) -> str:
        """Return the URL of the sign-in page that confirms it. A message would need a new session."""
        return reverse(settings.LOGOUT_REDIRECT_URL, query={"signed-out": "true"})

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response: HttpResponse = super().post(request, *args, **kwargs)
        response["Clear-Site-Data"] = '"cache", "storage"'
        return response
