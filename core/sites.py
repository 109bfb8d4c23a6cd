"""URLs of this installation and of its contacts. OAuth clients get `settings.BASE_URL` instead of the request's."""

from urllib.parse import quote

from django.http import HttpRequest


def site_url(request: HttpRequest) -> str:
    """Return the scheme and host of the request, without a slash at the end: `https://onehorizon.ai`."""
    return request.build_absolute_uri("/").rstrip("/")


def contact_url(contact: str) -> str:
    """Return the URL of an email address, `mailto:security@example.com`. A URL that starts with `https://` stays."""
    return contact if contact.startswith("https://") else f"mailto:{quote(contact, safe='@+')}"
