"""The URL of this installation as in the client's request. OAuth clients get `settings.BASE_URL` instead."""

from django.http import HttpRequest


def site_url(request: HttpRequest) -> str:
    """Return the scheme and host of the request, without a slash at the end: `https://onehorizon.ai`."""
    return request.build_absolute_uri("/").rstrip("/")
