"""Which paths belong to the REST API: their errors are JSON, and their views must be guarded."""

API_DOCS = "api/docs"  # a page, although its path is below /api/


def is_below_api(path: str) -> bool:
    return path == "/api" or path.startswith("/api/")


def is_api_path(path: str) -> bool:
    return is_below_api(path) and path != f"/{API_DOCS}"
