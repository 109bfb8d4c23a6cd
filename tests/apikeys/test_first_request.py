"""The fragment that shows whether the first request with a new secret has arrived."""

from __future__ import annotations

from datetime import timedelta

from django.test import Client

from apikeys.models import ApiKey
from tests.helpers import BY_TEST, html_of, make_key, text_of


def test_the_first_request_is_shown_as_a_fragment(owner_client: Client, api_key: ApiKey, key_url: str) -> None:
    def fragment() -> str:
        key_id = ApiKey.objects.get().current_secret.key_id
        return text_of(html_of(owner_client.get(f"{key_url}first-request/{key_id}/")))

    assert fragment() == "Waiting for the first request…"
    api_key.current_secret.record_use("203.0.113.7")
    assert fragment() == "Received from 203.0.113.7. The key works."

    api_key.rotate(overlap=timedelta(days=1), by=BY_TEST)
    assert fragment() == "Waiting for the first request with the new secret…"
    ApiKey.objects.get().current_secret.record_use(None)
    assert fragment() == "First request received. The key works."
    other = make_key(api_key.workspace)[0].current_secret.key_id
    assert owner_client.get(f"{key_url}first-request/{other}/").status_code == 404
