import pytest

from tests.helpers import make_staff
from workspaces.models import Actor, User, Via


def by(user: User) -> Actor:
    return Actor(Via.ADMIN if user.is_staff else Via.PAGE, user)


@pytest.fixture
def support(db: None) -> User:
    return make_staff("support", "support")


@pytest.fixture
def plain_staff(db: None) -> User:
    """A staff user in no group."""
    return make_staff("plain-staff")
