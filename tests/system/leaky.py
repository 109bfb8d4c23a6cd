"""A test that leaks a secret and fails only because of the sweep. test_sweep.py runs it."""

import pytest

from workspaces.models import User


@pytest.mark.django_db
def test_this_test_stores_a_secret(secret: str) -> None:
    User.objects.update(name=secret)
