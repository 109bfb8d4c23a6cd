"""The URL of this installation, as the client sees it. `settings.BASE_URL` is the one for OAuth clients."""

from django.http import HttpRequest


def site_url(request: HttpRequest) -> str:
    """Return the scheme and host of the request, without a slash at the end: `https://onehorizon.ai`."""
    return request.build_absolute_uri("/").rstrip("/")
