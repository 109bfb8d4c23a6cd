"""Where the admin is and what it calls itself, by the environment; a bad value stops the start with one sentence."""

from secrets import token_urlsafe

import pytest

from tests.helpers import manage

WHERE = """
from django.conf import settings
from django.urls import reverse
print(settings.ENVIRONMENT, reverse("admin:index"))
"""

pytestmark = pytest.mark.django_db


def told(**environment: str) -> str:
    return manage("shell", "--verbosity", "0", "--command", WHERE, **environment).stdout.strip()


def test_by_default() -> None:
    assert told(DEBUG="on") == "development /admin/"


def test_in_production() -> None:
    assert told(DEBUG="off", SECRET_KEY=token_urlsafe(50), ALLOWED_HOSTS="example.com") == "production /admin/"


def test_moved_and_named() -> None:
    assert told(ENVIRONMENT="staging", ADMIN_URL="desk/night-shift/") == "staging /desk/night-shift/"


@pytest.mark.parametrize("url", ["", "/", "/admin/", "admin", "admin//", "a b/", "<x>/", "api/", "w/admin/", "docs/"])
def test_a_bad_address_is_refused(url: str) -> None:
    checked = manage("check", ADMIN_URL=url)

    assert checked.returncode != 0
    assert checked.stderr.startswith("onehorizon: ADMIN_URL must be an unused path with a slash at its end only")


def test_a_bad_name_is_refused() -> None:
    assert "ENVIRONMENT" in manage("check", ENVIRONMENT="x" * 31).stderr
