"""Two operators who change the same thing at the same moment. SQLite runs one such request at a time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.signals import pre_save
from django.test import Client

from core.admin import change_url
from tests.admin.browser import Page
from tests.admin.pages import add_url
from tests.helpers import BY_TEST, commits, make_staff, sign_in
from tests.processes import TIMEOUT, in_threads, wait_until_blocked
from workspaces.models import Tier, User, Workspace

pytestmark = [commits, pytest.mark.skipif("connection.vendor != 'postgresql'", reason="needs row locks")]


@pytest.mark.parametrize("model", [Workspace, Tier])
def test_a_value_that_another_operator_takes_at_the_same_moment_is_an_error_of_the_form(
    admin_client: Client, owner: User, model: Any
) -> None:
    entered: dict[str, Any] = {"name": "New", "slug": "new", "owner": owner.pk}
    if model is Tier:
        entered = {"name": "new", "requests": "9", "seconds": "9", "burst_requests": "9", "burst_seconds": "9"}
    form = Page.open(admin_client, add_url(model)).form()
    clients = [admin_client, sign_in(make_staff("colleague", "operators"))]
    both_are_valid = threading.Barrier(2)

    def wait(sender: Any, instance: Any, **_: Any) -> None:
        both_are_valid.wait(TIMEOUT)

    pre_save.connect(wait, model)
    try:
        responses: list[Any] = in_threads(*(partial(form.send, client, **entered) for client in clients))
    finally:
        pre_save.disconnect(wait, model)

    rejected, accepted = sorted(responses, key=lambda response: len(response.redirect_chain))
    assert (rejected.status_code, accepted.status_code) == (200, 200)
    assert "was added successfully" in accepted.content.decode()
    assert "already exists." in str(rejected.context["errors"])
    assert set(Page("/", rejected.content.decode()).form().fields) >= set(entered.items())


def test_a_member_who_leaves_at_the_same_moment_is_an_error_of_the_form(
    admin_client: Client, workspace: Workspace
) -> None:
    form = Page.open(admin_client, change_url(workspace)).form()

    def promote() -> Any:
        try:
            return form.send(admin_client, None, **{"memberships-1-role": "owner"})
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            workspace.memberships.get(role="admin").leave(by=BY_TEST)
            waiting = threads.submit(promote)
            wait_until_blocked()
        response = waiting.result(TIMEOUT)

    assert response.status_code == 200
    assert "The members have changed since you opened this page." in response.content.decode()
