"""`PAGE_MIDDLEWARE` may not contain middleware that would lose one of its hooks."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.messages.middleware import MessageMiddleware
from django.core.exceptions import ImproperlyConfigured

from core.requests import Handler


@pytest.mark.parametrize("hook", ["process_view", "process_exception", "process_template_response"])
def test_page_middleware_with_a_hook_that_only_django_calls_stops_the_start(
    hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MessageMiddleware, hook, lambda *_: None, raising=False)

    with pytest.raises(ImproperlyConfigured, match=rf"^django\.contrib\.messages.*\.MessageMiddleware has {hook}: "):
        Handler()


def test_the_csrf_middleware_is_such_a_middleware(settings: Any) -> None:
    settings.PAGE_MIDDLEWARE = [*settings.PAGE_MIDDLEWARE, "django.middleware.csrf.CsrfViewMiddleware"]

    with pytest.raises(ImproperlyConfigured, match="CsrfViewMiddleware has process_view"):
        Handler()
