"""A test that leaks, and passes but for the sweep: run by test_sweep.py, never with the suite."""

import pytest

from workspaces.models import User


@pytest.mark.django_db
def test_that_stores_a_secret(secret: str) -> None:
    User.objects.update(name=secret)
