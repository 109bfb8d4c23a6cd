"""Finding and revoking keys."""

import re
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys import keys
from apikeys.models import ApiKey, StoredSecret
from core.admin import change_url, changelist_url
from tests.admin.browser import Page
from tests.admin.conftest import by
from tests.admin.pages import FIND, REVOKE
from tests.helpers import BY_TEST, Api, make_key
from workspaces.models import AuditEvent, User, Workspace

LIST = changelist_url(ApiKey)


@pytest.mark.parametrize(
    "template",
    ["{secret}", " {secret}\n", "ONE_API_KEY={secret}", "one_{key_id}_…", "one_{key_id}_", "{key_id}", "{id}"],
)
def test_a_key_is_found_by_id_key_id_masked_form_or_secret(
    admin_client: Client, api_key: ApiKey, secret: str, template: str
) -> None:
    text = template.format(secret=secret, key_id=api_key.current_secret.key_id, id=api_key.pk)

    response = admin_client.post(FIND, {"text": text})

    assert (response.status_code, response["Location"]) == (302, change_url(api_key))


def test_an_unknown_secret_is_not_put_into_a_url(admin_client: Client, api_key: ApiKey) -> None:
    unknown = keys.generate().secret
    truncated = f"one_{api_key.current_secret.key_id}_abc"

    responses = [admin_client.post(FIND, {"text": text}) for text in (unknown, truncated, unknown[:40], "x" * 600)]

    assert {response["Location"] for response in responses} == {f"{FIND}?unknown=1"}
    assert "No key found" in admin_client.get(f"{FIND}?unknown=1").content.decode()


def test_an_invented_secret_under_a_real_key_id_finds_nothing(admin_client: Client, api_key: ApiKey) -> None:
    body = f"one_{api_key.current_secret.key_id}_{'a' * keys.SECRET_LENGTH}"

    assert admin_client.post(FIND, {"text": body + keys.checksum(body)})["Location"] == f"{FIND}?unknown=1"


def test_other_text_redirects_to_a_filtered_list(admin_client: Client, workspace: Workspace, owner: User) -> None:
    assert admin_client.post(FIND, {"text": workspace.pk})["Location"] == f"{LIST}?workspace={workspace.pk}"
    assert admin_client.post(FIND, {"text": owner.pk})["Location"] == f"{LIST}?created_by={owner.pk}"
    assert admin_client.post(FIND, {"text": "CI, prod"})["Location"] == f"{LIST}?q=CI%2C+prod"


def test_a_secret_in_the_url_is_not_searched_for(admin_client: Client, secret: str) -> None:
    assert admin_client.get(LIST, {"q": secret})["Location"] == FIND


@pytest.mark.parametrize("text", ["ci, PROD", "acme", "Acme", "owner@EXAMPLE", "Own", "one_{key_id}_…", "{start}"])
def test_the_list_is_searched_by_prefix(
    admin_client: Client, workspace: Workspace, elsewhere: Workspace, owner: User, text: str
) -> None:
    api_key = ApiKey.objects.create_key(workspace, description="CI, production", by=by(owner))[0]
    make_key(elsewhere, "Something else")

    page = admin_client.get(
        LIST, {"q": text.format(key_id=api_key.current_secret.key_id, start=api_key.current_secret.key_id[:6])}
    )

    assert [row.pk for row in page.context["cl"].result_list] == [api_key.pk]


def test_the_list_is_filtered_by_status(admin_client: Client, workspace: Workspace) -> None:
    active, revoked = make_key(workspace)[0], make_key(workspace)[0]
    revoked.revoke(by=by(workspace.members.get(name="Owner")))

    results = {
        status: [key.pk for key in admin_client.get(LIST, {"status": status}).context["cl"].result_list]
        for status in ("active", "revoked", "expired")
    }

    assert results == {"active": [active.pk], "revoked": [revoked.pk], "expired": []}


def test_an_action_revokes_several_keys_with_an_event_for_each(
    admin_client: Client, operator: User, workspace: Workspace, elsewhere: Workspace
) -> None:
    first, second, revoked = (make_key(owned)[0] for owned in (workspace, elsewhere, workspace))
    revoked.revoke(by=by(operator), reason="Before")
    chosen = [first.pk, second.pk, revoked.pk]

    confirmation = admin_client.post(LIST, {"action": "revoke_selected", "_selected_action": chosen}).content.decode()
    page = admin_client.post(
        REVOKE, {"key": chosen, "reason": "Leaked in a log"}, REMOTE_ADDR="192.0.2.7"
    ).content.decode()

    assert "Revoke 3 keys?" in confirmation
    assert page.count("<strong>Revoked</strong>") == 2
    assert page.count("<strong>Already revoked</strong>") == 1
    for api_key in (first, second):
        api_key.refresh_from_db()
        event = api_key.audit_events.get(action="api_key.revoked")
        assert (api_key.revoked_by, api_key.revoke_reason) == (operator, "Leaked in a log")
        assert (event.actor, event.via, event.client_ip) == (operator, "admin", "192.0.2.7")
    revoked.refresh_from_db()
    assert revoked.revoke_reason == "Before"


def test_a_revoked_key_is_rejected_from_the_next_request_on(admin_client: Client, api: Api, api_key: ApiKey) -> None:
    assert api.get("/me").status_code == 200
    admin_client.post(REVOKE, {"key": api_key.pk, "reason": "Leaked"})
    assert api.get("/me").status_code == 401


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("", "Enter a reason. It is saved with the change."),
        ("x" * 201, "Ensure this value has at most 200 characters (it has 201)."),
        ("two\nlines", "Remove line breaks and control characters."),
        ("{secret}", "Don't put a key in the reason; it isn't secret."),
        ("it was one_{key_id}_Vq", "Don't put a key in the reason; it isn't secret."),
    ],
)
def test_a_reason_is_required_and_can_not_contain_a_secret(
    admin_client: Client, api_key: ApiKey, secret: str, reason: str, error: str
) -> None:
    reason = reason.format(secret=secret, key_id=api_key.current_secret.key_id)

    response = admin_client.post(REVOKE, {"key": api_key.pk, "reason": reason})

    api_key.refresh_from_db()
    assert b"errorlist" in response.content
    assert response.context["form"].errors == {"reason": [error]}
    assert f"one_{api_key.current_secret.key_id}_" not in response.content.decode().replace(api_key.masked, "")
    assert api_key.revoked_at is None


def test_an_action_without_a_selection_shows_a_message(admin_client: Client, db: None) -> None:
    assert b"No key selected" in admin_client.get(REVOKE).content


def test_too_many_selected_keys_are_rejected(
    admin_client: Client, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apikeys.admin.MAX_REVOKED_AT_ONCE", 1)
    chosen = [make_key(workspace)[0].pk, make_key(workspace)[0].pk]

    page = admin_client.post(LIST, {"action": "revoke_selected", "_selected_action": chosen}, follow=True)

    assert "Select at most 1 keys" in page.content.decode()


def test_a_key_is_renamed_with_an_event(admin_client: Client, operator: User, api_key: ApiKey) -> None:
    Page.open(admin_client, change_url(api_key)).form().send(admin_client, description="CI, staging")

    api_key.refresh_from_db()
    event = api_key.audit_events.get(action="api_key.renamed")
    assert api_key.description == "CI, staging"
    assert (event.actor, event.via, event.sentence) == (
        operator,
        "admin",
        "Renamed from “CI, production” to “CI, staging”",
    )


def test_an_outdated_page_does_not_undo_another_operators_description(
    admin_client: Client, operator: User, api_key: ApiKey
) -> None:
    outdated = Page.open(admin_client, change_url(api_key)).form()
    api_key.rename("CI, staging", by=by(operator))

    outdated.send(admin_client)

    assert ApiKey.objects.get().description == "CI, staging"
    assert api_key.audit_events.filter(action="api_key.renamed").count() == 1


def test_a_revoked_key_cannot_be_edited(admin_client: Client, operator: User, api_key: ApiKey) -> None:
    api_key.revoke(by=by(operator))

    response = admin_client.post(change_url(api_key), {"description": "Other"})

    api_key.refresh_from_db()
    assert response.status_code == 403
    assert api_key.description == "CI, production"


def test_an_unknown_status_is_ignored(admin_client: Client, api_key: ApiKey) -> None:
    assert api_key.masked in admin_client.get(changelist_url(ApiKey, status="bogus")).content.decode()


@pytest.mark.parametrize("url", [f"{changelist_url(ApiKey)}?workspace=%00", f"{REVOKE}?key=%00"])
def test_a_nul_in_a_url_finds_nothing(admin_client: Client, api_key: ApiKey, url: str) -> None:
    response = admin_client.get(url)

    assert response.status_code in (200, 400)
    assert api_key.masked not in response.content.decode()


@pytest.mark.parametrize("template", ["{secret}", "was {secret:.30}"])
def test_a_description_can_not_contain_a_key(admin_client: Client, api_key: ApiKey, secret: str, template: str) -> None:
    form = Page.open(admin_client, change_url(api_key)).form()

    response = form.send(admin_client, description=template.format(secret=secret))

    assert "put a key in the description; it isn" in response.content.decode()
    assert ApiKey.objects.get().description == "CI, production"


def test_searching_for_the_prefix_of_all_keys_finds_none(admin_client: Client, api_key: ApiKey) -> None:
    assert not admin_client.get(LIST, {"q": "one_"}).context["cl"].result_list


# ---- the secrets of a key ----

HOUR = timedelta(hours=1)


def messages_after(client: Client, text: str) -> list[str]:
    response = client.post(FIND, {"text": text}, follow=True)
    return [str(message) for message in response.context["messages"]]


def rows_of_secrets(client: Client, api_key: ApiKey) -> list[list[str]]:
    """Return the cells of the table of secrets on a key's page."""
    html = client.get(change_url(api_key)).content.decode()
    table = html.partition('<div class="secrets"')[2].partition("</table>")[0]
    rows = re.findall("<tr>(.*?)</tr>", table.partition("<tbody>")[2], re.DOTALL)
    return [[re.sub("<.*?>", "", cell) for cell in re.findall("<td>(.*?)</td>", row)] for row in rows]


def test_the_page_of_a_key_lists_its_secrets_newest_first(admin_client: Client, api_key: ApiKey, secret: str) -> None:
    first = api_key.current_secret
    second_secret = api_key.rotate(overlap=HOUR, by=BY_TEST)
    second = api_key.current_secret
    api_key.rotate(overlap=HOUR, by=BY_TEST)
    third = api_key.current_secret
    Api(second_secret).get("/me", REMOTE_ADDR="203.0.113.7")
    first.refresh_from_db()
    second.refresh_from_db()

    rows = rows_of_secrets(admin_client, api_key)

    def time(value: object) -> str:
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"

    used = f"{time(second.last_used_at)} from 203.0.113.7"
    assert rows == [
        [third.masked, "current", time(third.created_at), "never", "no end set"],
        [second.masked, "previous", time(second.created_at), used, time(second.ends_at)],
        [first.masked, "ended", time(first.created_at), "never", time(first.works_until)],
    ]


def test_all_secrets_of_a_revoked_or_expired_key_have_ended(admin_client: Client, workspace: Workspace) -> None:
    revoked, expiring = make_key(workspace)[0], make_key(workspace, expires_at=timezone.now() + HOUR)[0]
    for api_key in (revoked, expiring):
        api_key.rotate(overlap=24 * HOUR, by=BY_TEST)
    assert [row[1] for row in rows_of_secrets(admin_client, expiring)] == ["current", "previous"]

    revoked.revoke(by=BY_TEST)
    ApiKey.objects.filter(pk=expiring.pk).update(expires_at=timezone.now())

    for api_key in (revoked, expiring):
        api_key.refresh_from_db()
        end = api_key.revoked_at or api_key.expires_at
        rows = rows_of_secrets(admin_client, api_key)
        assert [(row[1], row[4]) for row in rows] == [("ended", f"{end:%Y-%m-%d %H:%M:%S} UTC")] * 2


def test_the_page_shows_a_bounded_number_of_secrets(
    admin_client: Client, api_key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apikeys.admin.MAX_SECRETS_SHOWN", 2)
    api_key.rotate(overlap=HOUR, by=BY_TEST)
    assert "The newest 2 secrets" not in admin_client.get(change_url(api_key)).content.decode()

    api_key.rotate(overlap=HOUR, by=BY_TEST)

    assert [row[0] for row in rows_of_secrets(admin_client, api_key)] == [
        stored.masked for stored in api_key.secrets.all()[:2]
    ]
    assert "The newest 2 secrets. To find an earlier one," in admin_client.get(change_url(api_key)).content.decode()


@pytest.mark.parametrize("template", ["{secret}", "{masked}", "{key_id}"])
def test_a_key_is_found_by_each_of_its_secrets_and_a_message_says_which(
    admin_client: Client, api_key: ApiKey, secret: str, template: str
) -> None:
    found = []
    stored = api_key.current_secret
    for overlap in (None, HOUR, timedelta()):
        if overlap is not None:
            api_key.rotate(overlap=overlap, by=BY_TEST)
            stored = api_key.secrets.get(pk=stored.pk)
        if overlap == timedelta():
            stored = api_key.secrets.order_by("created_at")[0]
        text = template.format(secret=secret, masked=stored.masked, key_id=stored.key_id)
        assert admin_client.post(FIND, {"text": text})["Location"] == change_url(api_key)
        admin_client.get(change_url(api_key))
        (message,) = messages_after(admin_client, text)
        end = f"{stored.works_until:%Y-%m-%d %H:%M:%S} UTC" if stored.works_until else None
        found.append((message, end))

    (current, _), (previous, until), (earlier, ended) = found
    assert current == f"This key was found by its current secret: {stored.masked}"
    assert previous == f"This key was found by its previous secret, which works until {until}: {stored.masked}"
    assert earlier == f"This key was found by its earlier secret, which ended on {ended}: {stored.masked}"


def test_the_last_secret_of_a_revoked_key_has_ended(admin_client: Client, api_key: ApiKey, secret: str) -> None:
    api_key.revoke(by=BY_TEST)

    (message,) = messages_after(admin_client, secret)

    ended = f"{api_key.revoked_at:%Y-%m-%d %H:%M:%S} UTC"
    assert message == f"This key was found by its last secret, which ended on {ended}: {api_key.masked}"


def test_a_key_that_is_found_by_its_id_has_no_message(admin_client: Client, api_key: ApiKey) -> None:
    assert messages_after(admin_client, f" {api_key.pk} ") == []


def test_the_list_finds_the_key_by_the_start_of_the_key_id_of_any_secret(
    admin_client: Client, workspace: Workspace, api_key: ApiKey
) -> None:
    make_key(workspace, "Another")
    for _ in range(2):
        api_key.rotate(overlap=HOUR, by=BY_TEST)

    for key_id in api_key.secrets.values_list("key_id", flat=True):
        for text in (key_id[:7], f"one_{key_id[:7]}", f"one_{key_id}_…"):
            page = admin_client.get(LIST, {"q": text})
            assert [row.pk for row in page.context["cl"].result_list] == [api_key.pk]


@pytest.mark.parametrize("url", [LIST, f"{LIST}?q=CI", f"{LIST}?status=active", REVOKE])
def test_the_number_of_queries_does_not_depend_on_the_number_of_keys(
    admin_client: Client, workspace: Workspace, url: str
) -> None:
    counts = []
    for _ in range(2):
        for _ in range(4):
            make_key(workspace)[0].rotate(overlap=HOUR, by=BY_TEST)
        keys_chosen = [("key", pk) for pk in ApiKey.objects.values_list("pk", flat=True)] if url == REVOKE else []
        admin_client.get(LIST)
        with CaptureQueriesContext(connection) as queries:
            html = admin_client.get(f"{url}?{urlencode(keys_chosen)}" if keys_chosen else url).content.decode()
        counts.append(len(queries))
        assert all(api_key.masked in html for api_key in ApiKey.objects.all())

    assert counts[0] == counts[1]


@pytest.mark.parametrize("url", [LIST, "{change}", REVOKE + "?key={id}"])
def test_no_page_loads_what_secrets_are_verified_with(admin_client: Client, api_key: ApiKey, url: str) -> None:
    api_key.rotate(overlap=HOUR, by=BY_TEST)

    with CaptureQueriesContext(connection) as queries:
        response = admin_client.get(url.format(change=change_url(api_key), id=api_key.pk))

    assert response.status_code == 200
    text = " ".join(query["sql"] for query in queries)
    assert "apikeys_storedsecret" in text
    assert not re.search(r"\bhash\b|fingerprint|shared_proof", text)


def test_the_confirmation_of_a_revocation_shows_the_last_use_of_both_secrets(
    admin_client: Client, api_key: ApiKey, secret: str
) -> None:
    Api(secret).get("/me", REMOTE_ADDR="203.0.113.7")
    old = api_key.masked
    new_secret = api_key.rotate(overlap=HOUR, by=BY_TEST)
    Api(new_secret).get("/me", REMOTE_ADDR="203.0.113.8")

    html = admin_client.get(f"{REVOKE}?key={api_key.pk}").content.decode()

    text = " ".join(re.sub("<.*?>", "", html).split())
    assert f"{api_key.masked} CI, production Workspace Acme Active, last used" in text
    assert re.search(rf"used [^,]* from 203\.0\.113\.8 Also its previous secret {old}, last used [^,]* from", text)
    assert "from 203.0.113.7" in text


def test_the_events_of_a_rotation_are_listed_and_filtered(
    admin_client: Client, api_key: ApiKey, workspace: Workspace
) -> None:
    old = api_key.masked
    api_key.rotate(overlap=HOUR, by=BY_TEST)
    api_key.end_previous_secret(by=BY_TEST)
    events = changelist_url(AuditEvent)

    rotated = admin_client.get(events, {"action": "api_key.rotated"}).content.decode()
    ended = admin_client.get(events, {"action": "api_key.previous_secret_ended"}).content.decode()

    assert f"Rotated to {api_key.masked}; the old secret {old} works until" in rotated
    assert f"Old secret {old} ended" in ended
    for html in (rotated, ended):
        assert f'href="{change_url(api_key)}"' in html
        assert workspace.name in html


def test_operators_cannot_rotate_in_the_admin(admin_client: Client, api_key: ApiKey) -> None:
    api_key.rotate(overlap=HOUR, by=BY_TEST)

    html = admin_client.get(change_url(api_key)).content.decode()

    assert "Rotate" not in html
    assert "End now" not in html
    assert StoredSecret.objects.count() == 2


def test_the_first_invalid_field_and_nothing_else_gets_the_focus(admin_client: Client, api_key: ApiKey) -> None:
    """Django renders the earlier value of some fields in a hidden input next to the field."""
    form = Page.open(admin_client, change_url(api_key)).form()

    page = form.send(admin_client, description=" ").content.decode()

    assert re.findall(r'<\w+ [^>]*name="([^"]+)"[^>]* autofocus', page) == ["description"]
