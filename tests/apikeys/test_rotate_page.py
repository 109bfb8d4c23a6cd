"""The pages that rotate a key and end its previous secret, over HTTP. tests/system/browser covers them in a browser."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import strip_tags
from time_machine import TimeMachineFixture

from apikeys import keys
from apikeys.models import ApiKey, StoredSecret
from tests.helpers import BY_TEST, Api, html_of, make_key, sign_in, text_of
from workspaces.models import User, Workspace

IDEMPOTENCY_KEY = "0" * 32
NOW = datetime(2026, 11, 26, 14, 5, tzinfo=UTC)


def page_text(response: Any) -> str:
    return text_of(html_of(response))


def rotation_of(api_key: ApiKey, **changes: str) -> dict[str, str]:
    replacing = ApiKey.objects.get(pk=api_key.pk).current_secret.key_id
    return {"overlap": "24h", "idempotency_key": IDEMPOTENCY_KEY, "replacing": replacing} | changes


def secret_in(response: Any) -> str:
    match = re.search(r'id="secret"[^>]*>([^<]+)<', response.content.decode())
    assert match
    return match[1]


def rotate(api_key: ApiKey, overlap: timedelta = timedelta(days=1)) -> str:
    return api_key.rotate(overlap=overlap, by=BY_TEST)


def use(api_key: ApiKey, secret: str, **changes: Any) -> None:
    """Record a use of this secret."""
    stored = StoredSecret.objects.get(pk=keys.parse(secret))
    now = timezone.now()
    values = {"first_used_at": stored.first_used_at or now, "last_used_at": now, "last_used_from": "203.0.113.7"}
    StoredSecret.objects.filter(pk=stored.pk).update(**values | changes)


# ---- rotating ----


@pytest.mark.parametrize(("choice", "hours"), [("0", 0), ("1h", 1), ("24h", 24), ("7d", 168)])
def test_a_key_is_rotated_with_the_chosen_overlap(
    owner_client: Client, api_key: ApiKey, secret: str, key_url: str, choice: str, hours: int
) -> None:
    before = timezone.now()

    response = owner_client.post(f"{key_url}rotate/", rotation_of(api_key, overlap=choice))

    page = page_text(response)
    assert "Save your new API key" in page
    assert "rotate the key again" in page
    rotated = ApiKey.objects.get()
    assert keys.parse(secret_in(response)) == rotated.current_secret.key_id
    old = StoredSecret.objects.get(pk=keys.parse(secret))
    assert old.ends_at is not None
    assert before + timedelta(hours=hours) <= old.ends_at <= timezone.now() + timedelta(hours=hours)
    works_until = f"The old secret {old.masked} works until {old.ends_at:%-d %b %Y, %H:%M} UTC."
    assert (works_until in page) == (hours > 0)
    assert ("The old secret no longer works." in page) == (hours == 0)
    statuses = [Api(value).get("/me").status_code for value in (secret, secret_in(response))]
    assert statuses == [200 if hours else 401, 200]


def test_the_form_shows_the_exact_end_of_each_overlap(
    owner_client: Client, api_key: ApiKey, key_url: str, time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to(NOW, tick=False)

    for url in (f"{key_url}rotate/", key_url):  # the dialog too
        page = page_text(owner_client.get(url))

        assert "Now. Services that use it fail immediately." in page
        assert "In 1 hour: 26 Nov 2026, 15:05 UTC" in page
        assert "In 24 hours: 27 Nov 2026, 14:05 UTC" in page
        assert "In 7 days: 3 Dec 2026, 14:05 UTC" in page
    assert re.search(r'value="24h"[^>]*checked', owner_client.get(key_url).content.decode())


def test_no_overlap_is_longer_than_the_life_of_the_key(
    owner_client: Client, workspace: Workspace, keys_url: str, time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to(NOW, tick=False)
    api_key, secret = make_key(workspace, expires_at=NOW + timedelta(hours=5))

    page = page_text(owner_client.get(f"{keys_url}{api_key.pk}/rotate/"))
    response = owner_client.post(f"{keys_url}{api_key.pk}/rotate/", rotation_of(api_key))

    assert "In 1 hour: 26 Nov 2026, 15:05 UTC" in page
    assert "In 24 hours, or when the key expires: 26 Nov 2026, 19:05 UTC" in page
    assert "In 7 days, or when the key expires: 26 Nov 2026, 19:05 UTC" in page
    assert "works until 26 Nov 2026, 19:05 UTC." in page_text(response)
    assert StoredSecret.objects.get(pk=keys.parse(secret)).ends_at == NOW + timedelta(hours=5)


def test_submitting_a_form_twice_rotates_once_and_shows_the_secret_once(
    owner_client: Client, api_key: ApiKey, key_url: str
) -> None:
    form = rotation_of(api_key)
    secret = secret_in(owner_client.post(f"{key_url}rotate/", form))

    repeated = owner_client.post(f"{key_url}rotate/", form, follow=True)

    assert repeated.redirect_chain == [(f"{key_url}?duplicate=rotation", 302)]
    assert "You submitted this form twice; the key was rotated only once." in page_text(repeated)
    assert (
        "If you didn't save it, rotate the key again, which ends the old secret immediately, or create another key."
        in page_text(repeated)
    )
    assert secret not in repeated.content.decode()
    assert ApiKey.objects.get().current_secret.key_id == keys.parse(secret)
    assert api_key.secrets.count() == 2


def test_a_form_shown_before_a_colleague_rotated_the_key_changes_nothing(
    owner_client: Client, admin: User, api_key: ApiKey, secret: str, key_url: str
) -> None:
    stale = rotation_of(api_key)
    theirs = secret_in(sign_in(admin).post(f"{key_url}rotate/", rotation_of(api_key, idempotency_key="1" * 32)))

    response = owner_client.post(f"{key_url}rotate/", stale)

    masked = keys.mask(keys.parse(theirs) or "")
    assert f"This key was rotated in the meantime: its current secret is {masked}." in page_text(response)
    assert [Api(value).get("/me").status_code for value in (secret, theirs)] == [200, 200]
    assert api_key.secrets.count() == 2
    # The page with the error describes the present state, so that its form can replace the colleague's secret.
    assert f'name="replacing" value="{keys.parse(theirs)}"' in response.content.decode()
    assert "Rotating ends it immediately." in page_text(response)


def test_the_form_warns_that_rotating_ends_the_old_secret_with_its_last_use(
    owner_client: Client, api_key: ApiKey, secret: str, key_url: str
) -> None:
    assert "Rotating ends it immediately" not in page_text(owner_client.get(f"{key_url}rotate/"))
    masked = api_key.masked
    rotate(api_key)
    use(api_key, secret, last_used_at=timezone.now() - timedelta(minutes=3, seconds=5))

    for url in (f"{key_url}rotate/", key_url):
        page = page_text(owner_client.get(url))

        assert f"The old secret {masked} still works (last used 3 minutes ago from 203.0.113.7)." in page
        assert "Rotating ends it immediately." in page

    owner_client.post(f"{key_url}rotate/", rotation_of(api_key))
    assert Api(secret).get("/me").status_code == 401


@pytest.mark.parametrize("state", ["revoked", "expired"])
def test_a_revoked_or_expired_key_can_not_be_rotated(
    owner_client: Client, workspace: Workspace, keys_url: str, state: str
) -> None:
    api_key, _ = make_key(workspace, expires_at=timezone.now() + timedelta(days=1))
    form = rotation_of(api_key)
    if state == "revoked":
        api_key.revoke(by=BY_TEST)
    else:
        ApiKey.objects.filter(pk=api_key.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    url = f"{keys_url}{api_key.pk}/"

    assert owner_client.get(f"{url}rotate/")["Location"] == url
    assert f"This key is {state}, so it can't be rotated." in page_text(owner_client.post(f"{url}rotate/", form))
    assert f"{url}rotate/" not in owner_client.get(url).content.decode()
    assert api_key.secrets.count() == 1


def test_a_key_of_a_suspended_workspace_can_not_be_rotated(
    owner_client: Client, api_key: ApiKey, workspace: Workspace, key_url: str
) -> None:
    workspace.suspend(by=BY_TEST, reason="Unpaid")

    assert "You can rotate keys once it is resumed" in page_text(
        owner_client.post(f"{key_url}rotate/", rotation_of(api_key))
    )
    button = '<button class="primary" disabled aria-describedby="suspended">Rotate key'
    assert button in owner_client.get(f"{key_url}rotate/").content.decode()
    assert api_key.secrets.count() == 1


def test_the_key_page_of_a_suspended_workspace_has_no_link_to_the_form(
    owner_client: Client, workspace: Workspace, api_key: ApiKey, key_url: str
) -> None:
    workspace.suspend("Unpaid invoices", by=BY_TEST)

    page = html_of(owner_client.get(key_url))

    assert '<button disabled aria-describedby="suspended">Rotate</button>' in page
    assert f'href="{key_url}rotate/"' not in page


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"overlap": ""}, "This field is required."),
        ({"overlap": "30d"}, "Select a valid choice."),
        ({"idempotency_key": ""}, "This form is incomplete."),
        ({"idempotency_key": "A" * 32}, "This form is incomplete."),
        ({"replacing": ""}, "This form is incomplete."),
        ({"replacing": "x" * 13}, "This form is incomplete."),
        ({"replacing": "\x00" * 12}, "This form is incomplete."),
    ],
)
def test_an_invalid_form_shows_an_error_and_rotates_nothing(
    owner_client: Client, api_key: ApiKey, key_url: str, changes: dict[str, str], error: str
) -> None:
    response = owner_client.post(f"{key_url}rotate/", rotation_of(api_key, **changes))

    assert error in page_text(response)
    assert 'role="alert"' in response.content.decode()
    assert api_key.secrets.count() == 1


@pytest.mark.parametrize("path", ["rotate/", "end-previous-secret/", "previous-secret/"])
def test_members_get_403_and_outsiders_404(
    member: User, outsider: User, elsewhere: Workspace, api_key: ApiKey, key_url: str, path: str
) -> None:
    rotate(api_key)
    form = rotation_of(api_key) | {"key_id": api_key.secrets.exclude(replaced_at=None).get().key_id}

    for user, status in ((member, 403), (outsider, 404)):
        client = sign_in(user)
        assert client.get(f"{key_url}{path}").status_code == status
        assert client.post(f"{key_url}{path}", form).status_code == status
    assert ApiKey.objects.get().previous_secret is not None
    assert api_key.secrets.count() == 2


@pytest.mark.parametrize(("path", "limit"), [("rotate/", 60), ("end-previous-secret/", 120)])
@pytest.mark.usefixtures("_frozen_clock")
def test_the_forms_are_rate_limited(owner_client: Client, key_url: str, path: str, limit: int) -> None:
    responses = [owner_client.post(f"{key_url}{path}") for _ in range(limit + 1)]

    assert 429 not in [response.status_code for response in responses[:-1]]
    assert responses[-1].status_code == 429


def test_the_secret_page_is_not_cached_and_never_translated(
    owner_client: Client, api_key: ApiKey, key_url: str
) -> None:
    response = owner_client.post(f"{key_url}rotate/", rotation_of(api_key))

    assert response["Cache-Control"] == "no-store"
    assert '<html lang="en" translate="no">' in response.content.decode()


# ---- the old secret ----


def test_the_key_page_and_the_list_show_the_old_secret_and_its_last_use(
    owner_client: Client, api_key: ApiKey, secret: str, keys_url: str, key_url: str
) -> None:
    assert "Old secret" not in page_text(owner_client.get(key_url)) + page_text(owner_client.get(keys_url))
    masked = api_key.masked
    rotate(api_key)
    use(api_key, secret, last_used_at=timezone.now() - timedelta(minutes=3, seconds=5))
    ends_at = StoredSecret.objects.get(pk=keys.parse(secret)).ends_at

    for url in (key_url, keys_url, f"{key_url}previous-secret/", f"{key_url}end-previous-secret/"):
        page = page_text(owner_client.get(url))

        assert f"Old secret {masked} works until {ends_at:%-d %b %Y, %H:%M} UTC" in page, url
        assert "· last used 3 minutes ago from 203.0.113.7" in page, url
        assert "The new secret has not been used yet." in page, url
        assert "Safe to end." not in page, url


def test_the_pages_say_when_the_old_secret_is_safe_to_end(
    owner_client: Client, api_key: ApiKey, secret: str, keys_url: str, key_url: str, time_machine: TimeMachineFixture
) -> None:
    new = rotate(api_key)
    time_machine.move_to(NOW, tick=False)
    StoredSecret.objects.filter(pk=keys.parse(secret)).update(ends_at=NOW + timedelta(days=1))
    use(api_key, new)
    urls = (key_url, keys_url, f"{key_url}previous-secret/", f"{key_url}end-previous-secret/")

    for last_used_at, message in [
        (None, "Never used. Safe to end."),
        (NOW - timedelta(minutes=85), "Not used since 26 Nov 2026, 12:40 UTC. Safe to end."),
        (NOW, "It was still used after the new secret's first use."),
    ]:
        StoredSecret.objects.filter(pk=keys.parse(secret)).update(last_used_at=last_used_at)
        for url in urls:
            page = page_text(owner_client.get(url))
            assert message in page, url
            assert ("Safe to end." in page) == ("Safe to end." in message), url


@pytest.mark.parametrize(
    ("minutes", "message"),
    [
        (60, "Not used since 26 Nov 2026, 13:05 UTC. Safe to end."),
        (59, "It was still used after the new secret's first use."),
    ],
)
def test_after_an_hour_in_which_only_the_new_secret_was_used_the_old_one_is_safe_to_end(
    minutes: int,
    message: str,
    owner_client: Client,
    api_key: ApiKey,
    secret: str,
    key_url: str,
    time_machine: TimeMachineFixture,
) -> None:
    """Both were used for a while, as in a rolling deployment. Time without a use of the new one says nothing."""
    new = rotate(api_key)
    time_machine.move_to(NOW, tick=False)
    StoredSecret.objects.filter(pk=keys.parse(secret)).update(
        ends_at=NOW + timedelta(days=1), last_used_at=NOW - timedelta(minutes=minutes)
    )
    of_new = StoredSecret.objects.filter(pk=keys.parse(new))
    of_new.update(first_used_at=NOW - timedelta(hours=3), last_used_at=NOW)

    page = page_text(owner_client.get(key_url))
    of_new.update(last_used_at=NOW - timedelta(hours=1))
    without_a_use = page_text(owner_client.get(key_url))

    assert message in page
    assert ("Safe to end." in page) == ("Safe to end." in message)
    assert "Safe to end." not in without_a_use


def test_the_old_secret_is_ended_after_a_confirmation(
    owner_client: Client, api_key: ApiKey, secret: str, key_url: str
) -> None:
    old = api_key.current_secret.key_id
    new = rotate(api_key)
    confirmation = owner_client.get(f"{key_url}end-previous-secret/")
    assert "Requests with this secret will fail immediately." in page_text(confirmation)
    assert f'name="key_id" value="{old}"' in confirmation.content.decode()

    ended = owner_client.post(f"{key_url}end-previous-secret/", {"key_id": old}, follow=True)

    assert ended.redirect_chain == [(key_url, 302)]
    assert "Old secret ended." in page_text(ended)
    assert [Api(value).get("/me").status_code for value in (secret, new)] == [401, 200]
    assert owner_client.get(f"{key_url}end-previous-secret/")["Location"] == key_url
    assert "The old secret has ended." in page_text(owner_client.get(f"{key_url}previous-secret/"))


def test_a_confirmation_shown_before_another_rotation_ends_nothing(
    owner_client: Client, api_key: ApiKey, secret: str, key_url: str
) -> None:
    first = api_key.current_secret
    second = rotate(api_key)
    rotate(api_key)

    response = owner_client.post(f"{key_url}end-previous-secret/", {"key_id": first.key_id}, follow=True)

    message = f"Nothing was ended: {first.masked} is not an old secret of this key that still works."
    assert message in page_text(response)
    assert Api(second).get("/me").status_code == 200


@pytest.mark.parametrize("form", [{}, {"key_id": ""}, {"key_id": "x" * 13}, {"key_id": "\x00" * 12}])
def test_an_incomplete_confirmation_ends_nothing(
    owner_client: Client, api_key: ApiKey, key_url: str, form: dict[str, str]
) -> None:
    rotate(api_key)

    response = owner_client.post(f"{key_url}end-previous-secret/", form, follow=True)

    assert "Nothing was ended, because the form was incomplete. Try again." in page_text(response)
    assert ApiKey.objects.get().previous_secret is not None


def test_the_details_are_about_the_current_secret(
    owner_client: Client, api_key: ApiKey, secret: str, keys_url: str, key_url: str
) -> None:
    assert "Last rotated Never" in page_text(owner_client.get(key_url))
    use(api_key, secret)
    new = rotate(api_key, overlap=timedelta())

    page = page_text(owner_client.get(key_url))
    assert "Last used Not since the rotation" in page
    assert "Last rotated just now" in page
    assert "It has not been used with its current secret." in page
    assert "Not since rotation" in page_text(owner_client.get(keys_url))

    use(api_key, new)
    assert "Last used just now from 203.0.113.7" in page_text(owner_client.get(key_url))


def test_the_confirmation_of_a_revocation_names_the_old_secret(
    owner_client: Client, api_key: ApiKey, secret: str, key_url: str
) -> None:
    masked = api_key.masked
    rotate(api_key)
    use(api_key, secret)

    page = page_text(owner_client.get(f"{key_url}revoke/"))

    assert f"Its old secret {masked} still works (last used just now from 203.0.113.7), and ends too." in page


def test_the_history_shows_each_step(owner_client: Client, api_key: ApiKey, secret: str, key_url: str) -> None:
    first = api_key.masked
    owner_client.post(f"{key_url}rotate/", rotation_of(api_key))
    key_id = keys.parse(secret) or ""
    owner_client.post(f"{key_url}end-previous-secret/", {"key_id": key_id})
    second = ApiKey.objects.get().masked
    owner_client.post(f"{key_url}rotate/", rotation_of(api_key, overlap="0", idempotency_key="1" * 32))

    page = page_text(owner_client.get(key_url))

    steps = [
        f"Rotated to {ApiKey.objects.get().masked}; the old secret {second} ended",
        f"Old secret {first} ended",
        f"Rotated to {second}; the old secret {first} works until",
        "Created as “CI, production”",
    ]
    positions = [page.index(step) for step in steps]
    assert positions == sorted(positions)


def test_the_list_reads_the_secrets_of_all_keys_with_one_statement(
    owner_client: Client, workspace: Workspace, keys_url: str
) -> None:
    counts = []
    for number in range(3):
        rotate(make_key(workspace, f"Key {number}")[0])
        with CaptureQueriesContext(connection) as captured:
            owner_client.get(keys_url)
        counts.append(len(captured))

    assert len(set(counts)) == 1


# ---- searching for a secret ----


def test_a_search_for_a_secret_says_which_secret_of_the_key_it_is(
    owner_client: Client, api_key: ApiKey, secret: str, keys_url: str, key_url: str
) -> None:
    second = rotate(api_key)
    third = rotate(api_key)

    def search(text: str) -> Any:
        return owner_client.post(f"{keys_url}find/", {"text": text}, follow=True)

    for pasted, message, links in [
        (third, "This is the current secret of CI, production", [f"{key_url}rotate/", f"{key_url}revoke/"]),
        (second, "This is the old secret of CI, production", [f"{key_url}end-previous-secret/", f"{key_url}revoke/"]),
        (secret, "This is an earlier secret of CI, production", []),
    ]:
        response = search(pasted)
        notice = re.search(
            r'<div class="notice[^>]*role="status">.*?</div>\s*</div>', response.content.decode(), re.DOTALL
        )
        assert notice
        assert message in strip_tags(notice[0])
        assert re.findall(r'href="([^"]*)"', notice[0]) == [*links, keys_url]
        assert keys.mask(keys.parse(pasted) or "") in notice[0]
    assert "no longer works." in page_text(search(secret))
    assert "If it leaked, end it now, or revoke the key." in page_text(search(second))

    api_key.revoke(by=BY_TEST)
    for pasted in (secret, second, third):
        page = search(pasted)
        assert "The key is revoked, so the secret no longer works." in page_text(page)
        assert f'href="{key_url}revoke/"' not in page.content.decode()
