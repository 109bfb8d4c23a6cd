"""Views that the pages and the admin share."""

from typing import Any

from django.contrib.auth.views import LogoutView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect


class SignOutView(LogoutView):
    """Signs out on POST. GET redirects to `page`."""

    http_method_names = ["get", "head", "post", "options"]
    page = "home"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return redirect(self.page)
