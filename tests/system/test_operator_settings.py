"""The admin's URL and environment name are settings."""

from secrets import token_urlsafe

import pytest

from tests.processes import manage

PRINT_SETTINGS = """
from django.conf import settings
from django.urls import reverse
print(settings.ENVIRONMENT, reverse("admin:index"))
"""

pytestmark = [pytest.mark.django_db, pytest.mark.one_database("runs no statement")]


def environment_and_url(**environment: str) -> str:
    return manage("shell", "--verbosity", "0", "--command", PRINT_SETTINGS, **environment).stdout.strip()


def test_the_default_environment_and_url() -> None:
    assert environment_and_url(DEBUG="on") == "development /admin/"


def test_the_environment_is_production_with_debug_off() -> None:
    production = {"DEBUG": "off", "SECRET_KEY": token_urlsafe(50), "ALLOWED_HOSTS": "example.com"}

    assert environment_and_url(**production) == "production /admin/"


def test_the_environment_and_the_url_can_be_set() -> None:
    assert environment_and_url(ENVIRONMENT="staging", ADMIN_URL="desk/night-shift/") == "staging /desk/night-shift/"
