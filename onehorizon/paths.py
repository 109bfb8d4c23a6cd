"""Which paths belong to the REST API, whose views must be guarded, and which requests get JSON errors."""

from django.http import HttpRequest

API_DOCS = "api/docs"  # a page, although its path is below /api/


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
