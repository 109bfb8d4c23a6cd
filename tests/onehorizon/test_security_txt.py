"""`/.well-known/security.txt` (RFC 9116)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from time_machine import travel

URL = "/.well-known/security.txt"


@pytest.fixture
def _contact(settings: Any) -> None:
    settings.SECURITY_CONTACT = "security@example.com"
    settings.BASE_URL = "https://onehorizon.example"


@pytest.mark.usefixtures("_contact")
def test_the_file_has_all_fields_and_needs_no_session_and_no_database(client: Client) -> None:
    """Without the fixture `db`, pytest-django rejects every query."""
    with travel(datetime(2026, 11, 27, 18, 30, tzinfo=UTC), tick=False):
        response = client.get(URL, headers={"Host": "localhost"})

    assert response.status_code == 200
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert not response.cookies
    assert response.content.decode() == (
        "Contact: mailto:security@example.com\n"
        "Expires: 2027-02-25T00:00:00Z\n"
        "Preferred-Languages: en\n"
        "Canonical: https://onehorizon.example/.well-known/security.txt\n"
        "Policy: https://onehorizon.example/docs/security/\n"
    )


@pytest.mark.usefixtures("_contact")
def test_it_never_expires_soon_or_after_a_year(client: Client) -> None:
    for moment in (datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2028, 2, 29, tzinfo=UTC)):
        with travel(moment, tick=False):
            text = client.get(URL).content.decode()
        (expires,) = re.findall(r"Expires: (.*)\n", text)
        assert timedelta(days=80) < datetime.fromisoformat(expires) - moment < timedelta(days=365)


@pytest.mark.usefixtures("_contact")
def test_its_policy_is_a_page(client: Client) -> None:
    (policy,) = re.findall(r"Policy: https://onehorizon.example(.*)\n", client.get(URL).content.decode())
    page = client.get(policy)

    assert page.status_code == 200
    assert f'href="http://testserver{URL}"' in page.content.decode()


@pytest.mark.usefixtures("_contact")
def test_it_accepts_get_and_head_only(client: Client) -> None:
    head = client.head(URL)

    assert (head.status_code, head.content) == (200, b"")
    for method in ("POST", "PUT", "DELETE"):
        response = client.generic(method, URL)
        assert (response.status_code, response["Allow"]) == (405, "GET, HEAD, OPTIONS")


def test_without_a_contact_there_is_no_file(client: Client, settings: Any) -> None:
    settings.SECURITY_CONTACT = ""

    assert client.get(URL).status_code == 404


@pytest.mark.parametrize(
    ("contact", "uri"),
    [
        ("security+one@example.com", "mailto:security+one@example.com"),
        ("a%b@example.com", "mailto:a%25b@example.com"),
        ("https://example.com/report?product=one", "https://example.com/report?product=one"),
    ],
)
def test_the_contact_is_a_uri(client: Client, settings: Any, contact: str, uri: str) -> None:
    settings.SECURITY_CONTACT = contact

    assert client.get(URL).content.decode().startswith(f"Contact: {uri}\n")
