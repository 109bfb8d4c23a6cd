"""Which paths belong to the REST API, whose views must be guarded; which requests get JSON errors; which are files."""

from django.conf import settings
from django.http import HttpRequest

API_DOCS = "api/docs"  # a page, although its path is below /api/

PUBLIC_FILES = ("/favicon.ico", "/robots.txt")  # in public/; WhiteNoise serves them


def is_below_api(path: str) -> bool:
    return path == "/api" or path.startswith("/api/")


def is_api_path(path: str) -> bool:
    return is_below_api(path) and path != f"/{API_DOCS}"


def is_oauth_endpoint(request: HttpRequest) -> bool:
    """Return whether a program sent this request to an OAuth endpoint. The device page has the same path, for GET."""
    is_device_request = request.path == "/app/auth/device" and request.method == "POST"
    return is_device_request or request.path in ("/app/auth/token", "/app/auth/revoke")


def is_for_programs(request: HttpRequest) -> bool:
    return is_api_path(request.path) or is_oauth_endpoint(request)


def is_file(path: str) -> bool:
    """Return whether this is the path of a file that WhiteNoise serves, if it exists."""
    return path.startswith(settings.STATIC_URL) or path in PUBLIC_FILES
