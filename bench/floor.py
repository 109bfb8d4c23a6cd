"""The floor: a request's two statements and its JSON, in a bare WSGI function without Django's request handling."""

from collections.abc import Callable, Iterable
from typing import Any

import onehorizon.wsgi  # noqa: F401, sets up Django as in production
from apikeys import admission
from apikeys.models import StoredSecret
from core.formats import OrjsonRenderer
from workspaces.task_pages import task_page

render = OrjsonRenderer().render


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    secret = environ["HTTP_AUTHORIZATION"].removeprefix("Bearer ")
    principal = admission.authenticate(secret)
    stored = principal.stored_secret if principal else StoredSecret.objects.authenticate(secret)
    tasks, next_cursor = task_page(stored.workspace_id, None, limit=50)
    body = render({"tasks": tasks, "nextCursor": next_cursor})
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
