"""Applications and tokens in the admin."""

import pytest
from django.contrib.auth.hashers import check_password
from django.test import Client
from oauth2_provider.models import AccessToken

from core.admin import change_url, changelist_url
from oauth.models import Application
from tests.admin.pages import add_url
from tests.helpers import Api, make_token
from workspaces.models import AuditEvent, User, Workspace

pytestmark = pytest.mark.django_db

CLIENT_ID = "reports-" + "x" * 92  # as long as one may be

NEW = {
    "name": "Reports",
    "client_id": CLIENT_ID,
    "client_secret": "a-secret-that-was-shown-in-the-form",
    "client_type": "confidential",
    "authorization_grant_type": "authorization-code",
    "redirect_uris": "https://reports.example.com/back",
}


def test_an_application_is_made_and_its_secret_is_kept_hashed_and_told_to_nobody(
    operator_client: Client, operator: User
) -> None:
    answer = operator_client.post(add_url(Application), NEW, follow=True)

    made = Application.objects.get(client_id=CLIENT_ID)
    assert answer.status_code == 200
    assert check_password(NEW["client_secret"], made.client_secret)
    event = AuditEvent.objects.get(action="application.created")
    assert (event.actor, event.subject) == (operator, str(made.pk))
    kept = answer.content.decode() + str(event.details) + str(dict(operator_client.session))
    assert NEW["client_secret"] not in kept
    assert made.client_secret not in kept


@pytest.mark.parametrize("redirect", ["http://reports.example.com/back", "not an address", ""])
def test_a_redirect_that_would_send_codes_in_clear_is_refused_at_its_field(
    operator_client: Client, redirect: str
) -> None:
    answer = operator_client.post(add_url(Application), NEW | {"redirect_uris": redirect})

    assert "errorlist" in answer.content.decode()
    assert not Application.objects.filter(client_id=CLIENT_ID).exists()


def test_a_persons_token_is_ended_from_the_next_request_on(
    operator_client: Client, operator: User, owner: User, workspace: Workspace
) -> None:
    api = Api(make_token(owner))
    assert api.get("/me").status_code == 200

    action = {"action": "revoke", "_selected_action": AccessToken.objects.get().pk}
    answer = operator_client.post(changelist_url(AccessToken), action, follow=True)

    assert "1 token revoked." in answer.content.decode()
    assert api.get("/me").status_code == 401
    event = AuditEvent.objects.get(action="accesstoken.revoked")
    assert (event.actor, event.subject) == (operator, owner.pk)


def test_a_secret_that_is_typed_has_to_be_long(operator_client: Client) -> None:
    answer = operator_client.post(add_url(Application), NEW | {"client_secret": "s3cret"})

    assert "at least 32 characters" in answer.content.decode()
    assert not Application.objects.filter(client_id=CLIENT_ID).exists()


def test_a_tokens_history_is_its_persons(operator_client: Client, owner: User, workspace: Workspace) -> None:
    make_token(owner)
    history = change_url(AccessToken.objects.get()).removesuffix("change/") + "history/"

    assert operator_client.get(history)["Location"] == changelist_url(AuditEvent, subject=owner.pk)


def test_what_was_done_to_a_token_can_be_listed(operator_client: Client, owner: User, workspace: Workspace) -> None:
    make_token(owner)
    operator_client.post(
        changelist_url(AccessToken), {"action": "revoke", "_selected_action": AccessToken.objects.get().pk}
    )

    listed = operator_client.get(changelist_url(AuditEvent, action="accesstoken.revoked"))

    assert "1 audit event" in listed.content.decode()
