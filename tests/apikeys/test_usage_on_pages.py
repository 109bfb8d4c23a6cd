"""Usage on the settings pages: which key used the quota, and since when; and the keys that need attention."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.template.loader import render_to_string
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from time_machine import TimeMachineFixture

from apikeys.models import ApiKey, ApiKeyUsage, Counts, StoredSecret
from apikeys.usage import recorder
from apikeys.usage_by_key import percent
from tests.helpers import BY_TEST, Api, html_of, make_key, make_workspace, text_of
from workspaces.models import User, Workspace

NOW = datetime(2026, 11, 26, 10, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def _at_half_past_ten(time_machine: TimeMachineFixture) -> None:
    time_machine.move_to(NOW, tick=False)


def use(api_key: ApiKey, counts: Counts, *, hours_ago: int = 0) -> None:
    """Store the requests of a key in one hour."""
    hour = timezone.now().replace(minute=0, second=0, microsecond=0) - hours_ago * HOUR
    numbers = counts._asdict()
    ApiKeyUsage.objects.create(workspace_id=api_key.workspace_id, api_key=api_key, hour=hour, **numbers)


def get(client: Client, url: str, **params: str) -> str:
    response = client.get(url, params)
    assert response.status_code == 200
    return html_of(response)


def rows_of(html: str, start: str, tag: str) -> list[str]:
    """Return the text of each `tag` element after `start`."""
    _, found, rest = html.partition(start)
    assert found, start
    return [text_of(row) for row in re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", rest, re.DOTALL)]


def heaviest(html: str) -> list[str]:
    return rows_of(html.partition("</ol>")[0], '<ol class="usage-by-key">', "li")


def key_rows(html: str) -> list[str]:
    return rows_of(html, "<tbody>", "tr")


# ---- the list ----


@pytest.mark.usefixtures("_frozen_clock")
def test_the_figures_are_those_of_the_requests(
    owner_client: Client, api: Api, api_key: ApiKey, workspace: Workspace, keys_url: str
) -> None:
    make_key(workspace, "Idle")
    for path in ("/me", "/me", "/unknown"):
        api.get(path)
    recorder.write()

    html = get(owner_client, keys_url)

    assert heaviest(html) == [text_of("CI, production") + f" {busy_now()} 100% 3 admitted"]
    idle, used = key_rows(html)
    assert "3 requests 100%" in used
    assert " 0 " in idle
    key_page = text_of(get(owner_client, f"{keys_url}{api_key.pk}/"))
    assert "Admitted 3 Rejected (429) 0 4xx errors 1 5xx errors 0" in key_page
    assert "3 requests in the last 24 hours." in key_page


def busy_now() -> str:
    return f"Busy since {timezone.now():%a %-d %b, %H}:00"


@pytest.mark.usefixtures("_at_half_past_ten")
def test_the_key_that_used_most_of_the_quota_comes_first(
    owner_client: Client, workspace: Workspace, keys_url: str
) -> None:
    """Rejected requests don't use the quota, so a key with many of them is not the first."""
    export, ci, worker = (make_key(workspace, name)[0] for name in ("Export", "CI", "Worker"))
    for hours_ago in (2, 1, 0):
        use(export, Counts(admitted=300, rejected=20), hours_ago=hours_ago)
    use(ci, Counts(admitted=95, rejected=12_000), hours_ago=5)
    use(worker, Counts(admitted=5), hours_ago=23)
    use(worker, Counts(admitted=9_000), hours_ago=24)

    html = get(owner_client, keys_url)

    assert "1,000 admitted · 12,060 rejected" in text_of(html)
    assert heaviest(html) == [
        "Export Busy since Thu 26 Nov, 08:00 90% 900 admitted 60 rejected",
        "CI 10% 95 admitted 12,000 rejected",
        "Worker <1% 5 admitted",
    ]
    rows = key_rows(html)
    for row, figures in zip(
        rows, ["5 requests <1%", "95 requests 10% 12,000 rejected", "900 requests 90% 60 rejected"], strict=True
    ):
        assert f" {figures} " in row


@pytest.mark.usefixtures("_at_half_past_ten")
def test_five_keys_are_named_revoked_ones_too_and_the_others_are_added_up(
    owner_client: Client, workspace: Workspace, keys_url: str
) -> None:
    keys = [make_key(workspace, f"Key {number}")[0] for number in range(8)]
    for number, key in enumerate(keys):
        use(key, Counts(admitted=100 - number, rejected=number))
    keys[0].revoke(by=BY_TEST)

    first, *rest = heaviest(get(owner_client, keys_url))

    assert first.startswith("Key 0 Revoked ")
    assert first.endswith(" 13% 100 admitted")
    assert [row.split(" Busy")[0] for row in rest] == [
        "Key 1",
        "Key 2",
        "Key 3",
        "Key 4",
        "3 other keys 37% 282 admitted 18 rejected",
    ]
    assert heaviest(get(owner_client, keys_url, status="revoked")) == [first, *rest]


def test_a_workspace_without_requests_says_so(owner_client: Client, api_key: ApiKey, keys_url: str) -> None:
    for url in (keys_url, f"{keys_url}{api_key.pk}/"):
        text = text_of(get(owner_client, url))
        assert "No requests in the last 24 hours." in text
    assert "No requests in the last 7 days." in text_of(get(owner_client, url, usage="7d"))


def test_usage_of_other_workspaces_is_never_shown(
    owner_client: Client, owner: User, elsewhere: Workspace, api_key: ApiKey, keys_url: str
) -> None:
    ours_too = make_workspace(owner, slug="beta")
    for other in (elsewhere, ours_too):
        use(make_key(other, "Not this workspace")[0], Counts(admitted=777, rejected=777))

    for url in (keys_url, f"{keys_url}{api_key.pk}/"):
        html = get(owner_client, url)
        assert "No requests in the last 24 hours." in html
        assert "777" not in html
        assert "Not this workspace" not in html
    for other in (elsewhere, ours_too):
        assert owner_client.get(f"{keys_url}{other.api_keys.get().pk}/?usage=7d").status_code == 404


def test_descriptions_are_escaped(owner_client: Client, workspace: Workspace, keys_url: str) -> None:
    description = "<script>alert('1')</script>\"'"
    api_key, _ = make_key(workspace, description)
    use(api_key, Counts(admitted=1))

    for url in (keys_url, f"{keys_url}{api_key.pk}/"):
        html = get(owner_client, url)
        assert "<script>alert" not in html
        assert description in unescape(html)
    assert heaviest(get(owner_client, keys_url))[0].startswith(description)


@pytest.mark.usefixtures("_frozen_clock")
def test_a_page_of_fifty_keys_takes_as_many_queries_as_one_of_two(
    owner_client: Client, workspace: Workspace, keys_url: str, settings: Any
) -> None:
    settings.APIKEYS_MAX_ACTIVE = 100
    for number in range(2):
        use(make_key(workspace, f"Key {number}")[0], Counts(admitted=number, rejected=1))
    owner_client.get(keys_url)
    with CaptureQueriesContext(connection) as of_two_keys:
        owner_client.get(keys_url)
    for number in range(48):
        use(make_key(workspace, f"Key {number + 2}")[0], Counts(admitted=number, rejected=1))

    with CaptureQueriesContext(connection) as of_fifty_keys:
        html = get(owner_client, keys_url)

    assert len(key_rows(html)) == 50
    assert len(of_fifty_keys) == len(of_two_keys)
    with_usage = [query["sql"] for query in of_fifty_keys if "apikeys_apikeyusage" in query["sql"]]
    assert len(with_usage) == 2


@pytest.mark.usefixtures("_at_half_past_ten")
def test_huge_numbers_have_separators(owner_client: Client, workspace: Workspace, keys_url: str) -> None:
    api_key, _ = make_key(workspace, "Huge")
    use(api_key, Counts(10_000_000_000, 9_876_543_210, 1_234_567, 1))
    use(make_key(workspace, "Small")[0], Counts(admitted=1))

    html = get(owner_client, keys_url)
    key_page = text_of(get(owner_client, f"{keys_url}{api_key.pk}/"))

    assert "10,000,000,001 admitted · 9,876,543,210 rejected" in text_of(html)
    assert [row.split("00 ", 1)[-1] for row in heaviest(html)] == [
        ">99% 10,000,000,000 admitted 9,876,543,210 rejected",
        "Small <1% 1 admitted",
    ]
    assert "Admitted 10,000,000,000 Rejected (429) 9,876,543,210 4xx errors 1,234,567 5xx errors 1" in key_page
    assert "19,876,543,210 requests" in key_page


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (0, 0, "0%"),
        (0, 5, "0%"),
        (1, 1_000, "<1%"),
        (1, 100, "1%"),
        (2, 3, "67%"),
        (995, 1_000, ">99%"),
        (5, 5, "100%"),
    ],
)
def test_only_nothing_is_0_percent_and_only_the_whole_is_100_percent(part: int, whole: int, expected: str) -> None:
    assert percent(part, whole) == expected


# ---- the page of a key ----


@pytest.mark.usefixtures("_at_half_past_ten")
@pytest.mark.parametrize(
    ("period", "name", "bars", "expected"),
    [
        ("24h", "24 hours", 24, Counts(3, 1, 1, 1)),
        ("7d", "7 days", 42, Counts(13, 21, 2, 1)),
        ("30d", "30 days", 30, Counts(113, 221, 3, 1)),
        ("1y", "24 hours", 24, Counts(3, 1, 1, 1)),
        ("", "24 hours", 24, Counts(3, 1, 1, 1)),
    ],
)
def test_the_figures_of_the_chosen_period_are_those_of_its_bars(
    owner_client: Client, api_key: ApiKey, keys_url: str, period: str, name: str, bars: int, expected: Counts
) -> None:
    use(api_key, Counts(2, 1, 1, 1))
    use(api_key, Counts(1, 0, 0, 0), hours_ago=23)
    use(api_key, Counts(10, 20, 1, 0), hours_ago=24)
    use(api_key, Counts(100, 200, 1, 0), hours_ago=29 * 24)
    use(api_key, Counts(5_000, 5_000, 5_000, 0), hours_ago=30 * 24)

    html = get(owner_client, f"{keys_url}{api_key.pk}/", usage=period)

    admitted, rejected, client_errors, server_errors = expected
    totals = f"Admitted {admitted} Rejected (429) {rejected} 4xx errors {client_errors} 5xx errors {server_errors}"
    assert totals in text_of(html)
    assert f"{sum(expected[:2])} requests in the last {name}." in text_of(html)
    assert f'viewBox="0 0 {bars} 100"' in html
    rows = [re.findall(r"[\d,]+$|[\d,]+(?= \d)", row)[-4:] for row in rows_of(html, "<tbody>", "tr")]
    assert [sum(int(number) for number in column) for column in zip(*rows, strict=True)] == list(expected)
    chosen = re.findall(r'<a href="[^"]*usage=(\w+)#usage" aria-current="true">', html)
    assert chosen == [period if period in ("24h", "7d", "30d") else "24h"]


@pytest.mark.usefixtures("_at_half_past_ten")
@pytest.mark.parametrize(
    ("hours_ago", "period", "expected"),
    [
        ([0], "24h", "Busy since Thu 26 Nov, 10:00."),
        ([0, 1, 2], "24h", "Busy since Thu 26 Nov, 08:00."),
        ([1, 2], "24h", "Busy since Thu 26 Nov, 08:00."),
        ([2, 3, 4], "24h", "Busiest from Thu 26 Nov, 06:00 to Thu 26 Nov, 09:00."),
        (range(24), "24h", "Busy since Wed 25 Nov, 11:00 or earlier."),
        ([22, 23], "24h", "Busiest from Wed 25 Nov, 11:00 or earlier to Wed 25 Nov, 13:00."),
        ([50, 51], "7d", "Busiest from Tue 24 Nov, 07:00 to Tue 24 Nov, 09:00."),
        ([10, 34, 58], "30d", "Busy since Tue 24 Nov."),
        ([72, 96], "30d", "Busiest from Sun 22 Nov to Mon 23 Nov."),
        ([72], "30d", "Busiest on Mon 23 Nov."),
    ],
)
def test_the_page_says_since_when_the_key_is_busy(
    owner_client: Client, api_key: ApiKey, keys_url: str, hours_ago: Any, period: str, expected: str
) -> None:
    for hours in hours_ago:
        use(api_key, Counts(admitted=700, rejected=100), hours_ago=hours)
    for hours in {*range(24)} - {*hours_ago}:
        use(api_key, Counts(admitted=60), hours_ago=hours)  # few enough not to be busy

    assert expected in key_text(owner_client, f"{keys_url}{api_key.pk}/", period)


@pytest.mark.usefixtures("_at_half_past_ten")
@pytest.mark.parametrize(
    ("hours_ago", "period", "expected"),
    [
        ([1, 2], "24h", "Busiest from Thu 26 Nov, 08:00 to Thu 26 Nov, 10:00."),
        ([1, 2], "7d", "Busiest from Thu 26 Nov, 08:00 to Thu 26 Nov, 10:00."),
        ([12, 36], "30d", "Busiest from Tue 24 Nov to Wed 25 Nov."),
    ],
)
def test_a_key_without_requests_in_the_current_hour_or_day_is_no_longer_busy(
    owner_client: Client, api_key: ApiKey, keys_url: str, hours_ago: list[int], period: str, expected: str
) -> None:
    for hours in hours_ago:
        use(api_key, Counts(admitted=800), hours_ago=hours)

    assert expected in key_text(owner_client, f"{keys_url}{api_key.pk}/", period)


def key_text(client: Client, url: str, period: str) -> str:
    """Return the text of a key's page with the chart of this period."""
    return text_of(get(client, url, usage=period)).replace(" .", ".")


@pytest.mark.usefixtures("_frozen_clock")
def test_only_rejected_requests_are_a_chart_too(owner_client: Client, api_key: ApiKey, keys_url: str) -> None:
    use(api_key, Counts(rejected=50))

    html = get(owner_client, f"{keys_url}{api_key.pk}/")

    assert "Admitted 0 Rejected (429) 50" in text_of(html)
    assert '<path class="admitted" d=""/>' in html
    assert re.search(r'<path class="rejected" fill="url\(#usage-stripes\)" d="M23.1 100v-100h0.8v100z"/>', html)
    assert heaviest(get(owner_client, keys_url))[0].endswith("0% 0 admitted 50 rejected")


def test_the_usage_stays_on_the_page_of_an_invalid_new_name(
    owner_client: Client, api_key: ApiKey, keys_url: str
) -> None:
    use(api_key, Counts(admitted=3))

    response = owner_client.post(f"{keys_url}{api_key.pk}/rename/", {"description": " "})

    assert "3 requests in the last 24 hours." in text_of(response.content.decode())


# ---- keys that need attention ----

AGO = {
    "never": None,
    "lately": timedelta(days=29, hours=23),
    "long ago": timedelta(days=30, minutes=1),
}


@pytest.mark.usefixtures("_at_half_past_ten")
@pytest.mark.parametrize(
    ("created", "current", "previous", "earlier", "marks"),
    [
        # created; then the last use of the current secret, the previous one, and one that has ended
        ("lately", "never", "never", "never", {"never-used": "Never used"}),
        ("long ago", "never", "never", "never", {"never-used": "Never used", "unused": "Never used"}),
        ("lately", "lately", "never", "never", {}),
        ("lately", "never", "never", "lately", {}),
        ("long ago", "lately", "never", "never", {}),
        ("long ago", "never", "lately", "never", {}),
        ("long ago", "never", "never", "lately", {}),
        ("long ago", "long ago", "never", "never", {"unused": "Unused for 30 days"}),
        ("long ago", "never", "long ago", "never", {"unused": "Unused for 30 days"}),
        ("long ago", "never", "never", "long ago", {"unused": "Unused for 30 days"}),
        ("long ago", "long ago", "long ago", "lately", {}),
    ],
)
def test_a_key_is_unused_if_none_of_its_secrets_was_used(
    owner_client: Client,
    workspace: Workspace,
    keys_url: str,
    created: str,
    current: str,
    previous: str,
    earlier: str,
    marks: dict[str, str],
) -> None:
    api_key = rotated_twice(workspace, AGO[earlier], AGO[previous], AGO[current])
    ApiKey.objects.filter(pk=api_key.pk).update(created_at=timezone.now() - (AGO[created] or DAY))

    pages = {mark: get(owner_client, keys_url, show=mark) for mark in ("never-used", "unused", "expiring")}

    assert {mark for mark, html in pages.items() if "<tbody>" in html} == set(marks)
    for url in (keys_url, f"{keys_url}{api_key.pk}/"):
        assert badges(get(owner_client, url)) == list(marks.values())[:1]


def rotated_twice(workspace: Workspace, *last_uses: timedelta | None) -> ApiKey:
    """Create a key whose three secrets, of which the first has ended, were last used so long ago, or never (None)."""
    api_key, _ = make_key(workspace)
    secrets = [api_key.current_secret]
    for _ in range(2):
        api_key.rotate(overlap=DAY, by=BY_TEST)
        secrets.append(api_key.current_secret)
    for stored, ago in zip(secrets, last_uses, strict=True):
        if ago is not None:
            used_at = timezone.now() - ago
            StoredSecret.objects.filter(pk=stored.pk).update(first_used_at=used_at, last_used_at=used_at)
    assert [stored.has_ended for stored in api_key.secrets.order_by("replaced_at")].count(True) == 1
    return api_key


def badges(html: str) -> list[str]:
    return re.findall(r'class="mark-badge[^"]*">([^<]*)<', html)


@pytest.mark.usefixtures("_at_half_past_ten")
@pytest.mark.parametrize(
    ("expires_at", "badge"),
    [
        ("2026-11-26T10:31Z", "Expires today"),
        ("2026-11-26T23:59Z", "Expires today"),
        ("2026-11-27T00:00Z", "Expires tomorrow"),
        ("2026-11-27T23:59Z", "Expires tomorrow"),
        ("2026-11-28T23:59Z", "Expires in 2 days"),
        ("2026-11-29T10:30Z", "Expires in 3 days"),
        ("2026-11-29T23:59Z", "Expires in 3 days"),
        ("2026-11-30T10:30Z", "Expires in 4 days"),
        ("2026-12-03T10:29Z", "Expires in 6 days"),
        ("2026-12-03T10:30Z", None),
        (None, None),
    ],
)
def test_a_key_that_expires_in_less_than_seven_days_is_marked(
    owner_client: Client, workspace: Workspace, keys_url: str, expires_at: str | None, badge: str | None
) -> None:
    expiry = datetime.fromisoformat(expires_at) if expires_at else None
    api_key = rotated_twice(workspace, None, None, DAY)
    ApiKey.objects.filter(pk=api_key.pk).update(expires_at=expiry)

    assert badges(get(owner_client, keys_url)) == ([badge] if badge else [])
    assert ("<tbody>" in get(owner_client, keys_url, show="expiring")) == bool(badge)


def test_a_key_that_expires_while_its_page_is_rendered_expires_today(time_machine: TimeMachineFixture) -> None:
    midnight = datetime(2026, 11, 27, tzinfo=UTC)
    time_machine.move_to(midnight, tick=False)
    for expires_at in (midnight - timedelta(seconds=1), midnight - 2 * DAY):
        api_key = ApiKey(expires_at=expires_at)
        api_key.is_never_used, api_key.is_unused, api_key.expires_soon = False, False, True

        assert badges(render_to_string("apikeys/_marks.html", {"api_key": api_key})) == ["Expires today"]


@pytest.mark.usefixtures("_at_half_past_ten")
def test_keys_that_do_not_work_are_not_marked(owner_client: Client, workspace: Workspace, keys_url: str) -> None:
    make_key(workspace, "Revoked")[0].revoke(by=BY_TEST)
    make_key(workspace, "Expired")
    past = {"created_at": timezone.now() - 60 * DAY, "expires_at": timezone.now()}
    ApiKey.objects.filter(description="Expired").update(**past)

    html = get(owner_client, keys_url, status="all")

    assert len(key_rows(html)) == 2
    assert badges(html) == []
    assert 'class="marks"' not in html


@pytest.mark.usefixtures("_at_half_past_ten")
def test_a_mark_is_combined_with_search_status_and_pages(
    owner_client: Client, workspace: Workspace, elsewhere: Workspace, keys_url: str, settings: Any
) -> None:
    settings.APIKEYS_MAX_ACTIVE = 100
    for number in range(52):
        make_key(workspace, f"CI {number}")
    make_key(workspace, "Worker")
    make_key(elsewhere, "CI elsewhere")
    StoredSecret.objects.filter(api_key__description="CI 7").update(last_used_at=timezone.now())

    html = get(owner_client, keys_url, show="never-used", q="CI")

    assert len(key_rows(html)) == 50
    older = unescape(re.findall(r'rel="next" href="([^"]*)"', html)[0])
    assert [row.split(" one_")[0] for row in key_rows(get(owner_client, keys_url + older))] == ["CI 0 Never used"]
    assert re.search(r'href="\./\?q=CI" aria-current="true">Never used <b>52</b></a>', html)
    assert 'find/?show=never-used" role="search"' in html
    found = owner_client.post(f"{keys_url}find/?show=never-used", {"text": "Worker"})
    assert found["Location"] == f"{keys_url}?q=Worker&show=never-used"
    assert "No keys are marked “Never used”." in get(owner_client, keys_url, show="never-used", status="revoked")
    assert len(key_rows(get(owner_client, keys_url, show="unknown", status="active"))) == 50


def test_links_to_the_same_list_do_not_repeat_a_secret(
    owner_client: Client, workspace: Workspace, keys_url: str, settings: Any
) -> None:
    settings.APIKEYS_MAX_ACTIVE = 100
    for number in range(51):
        _, secret = make_key(workspace, f"CI {number}")

    html = get(owner_client, keys_url, q=secret, secret=secret, show="never-used")

    assert 'rel="next"' in html
    assert secret not in html
