import pytest
from django.contrib.auth.models import Group
from django.test import Client

from tests.helpers import make_user
from workspaces.models import Actor, User, Via


def staff_of(name: str, *groups: str) -> User:
    user = make_user(name)
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    user.groups.set(Group.objects.filter(name__in=groups))
    return user


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def by(user: User) -> Actor:
    return Actor(Via.PAGE, user)


@pytest.fixture
def operator(db: None) -> User:
    return staff_of("operator", "operators")


@pytest.fixture
def support(db: None) -> User:
    return staff_of("support", "support")


@pytest.fixture
def plain_staff(db: None) -> User:
    """May use the admin, and is in no group."""
    return staff_of("plain-staff")


@pytest.fixture
def operator_client(operator: User) -> Client:
    """The operator's browser."""
    return signed_in(operator)
