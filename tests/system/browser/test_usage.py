"""Usage on the settings pages: the figures of one bar, without JavaScript too; small screens and forced colours."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from apikeys.models import ApiKey, ApiKeyUsage, Counts, Interval, Period, StoredSecret
from tests.helpers import BY_TEST, Visit, commits, make_key
from tests.system.browser.craft import problems_of
from tests.system.browser.helpers import PHONE
from workspaces.models import User, Workspace

pytestmark = [commits, pytest.mark.one_database("how Chromium shows a page")]

HUGE = Counts(10_000_000_000, 9_876_543_210, 8_765_432_109, 7_654_321_098)


@pytest.fixture(autouse=True)
def _hour_does_not_end() -> None:
    """Wait for the next hour if this one ends within a minute: the server's clock can't be stopped."""
    left = 3600 - time.time() % 3600
    if left < 60:
        time.sleep(left)


def use(api_key: ApiKey, counts: Counts, *, bar: int = 23) -> datetime:
    """Store the requests of a key in the hour of one of the 24 bars, and return that hour."""
    hour = Period.last(24, Interval.HOUR).starts[bar]
    numbers = counts._asdict()
    ApiKeyUsage.objects.create(workspace_id=api_key.workspace_id, api_key=api_key, hour=hour, **numbers)
    return hour


def day_of(moment: datetime) -> str:
    """Return a pattern of a day on the pages. In September, Chromium's `en-GB` has "Sept" and Django has "Sep"."""
    return f"{moment.day} {moment:%b}t?"


def visible_figures(page: Page) -> list[str]:
    """Return the figures that are not transparent."""
    script = "all => all.filter(e => getComputedStyle(e).opacity === '1').map(e => e.innerText.replace(/\\s+/g, ' '))"
    figures: list[str] = page.locator(".usage-chart .figures").evaluate_all(script)
    return [" ".join(text.split(" ")[-4:]) for text in figures]


@pytest.mark.parametrize("javascript", [True, False])
def test_the_figures_of_a_bar_are_shown_by_pointer_and_keyboard(
    visit: Visit, owner: User, api_key: ApiKey, keys_url: str, javascript: bool
) -> None:
    use(api_key, Counts(5, 1), bar=2)
    use(api_key, Counts(7, 0), bar=10)
    use(api_key, Counts(1_234, 56), bar=15)
    use(api_key, Counts(0, 3), bar=20)
    page = visit(owner, java_script_enabled=javascript)
    page.goto(f"{keys_url}{api_key.pk}/")
    bars = page.get_by_role("radio")

    expect(bars).to_have_count(4)
    assert visible_figures(page) == ["1,234 admitted 56 rejected"]  # of the busiest bar
    page.locator(".usage-chart label").nth(0).hover()
    assert visible_figures(page) == ["5 admitted 1 rejected"]
    page.locator("h1").hover()
    assert visible_figures(page) == ["1,234 admitted 56 rejected"]

    page.get_by_role("link", name="30 days").focus()
    page.keyboard.press("Tab")  # all bars are one tab stop
    expect(bars.nth(2)).to_be_focused()
    page.keyboard.press("ArrowRight")
    assert visible_figures(page) == ["0 admitted 3 rejected"]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert visible_figures(page) == ["7 admitted 0 rejected"]
    page.keyboard.press("Tab")
    expect(page.get_by_text("Show the figures as a table")).to_be_focused()


def test_a_touch_shows_the_figures_of_a_bar(visit: Visit, owner: User, api_key: ApiKey, keys_url: str) -> None:
    use(api_key, Counts(5, 1), bar=2)
    use(api_key, Counts(7, 0), bar=10)
    page = visit(owner, **PHONE)
    page.goto(f"{keys_url}{api_key.pk}/")

    page.locator(".usage-chart label").nth(0).tap()

    assert visible_figures(page) == ["5 admitted 1 rejected"]


def test_a_screen_reader_reads_the_figures_of_each_bar(
    visit: Visit, owner: User, api_key: ApiKey, keys_url: str
) -> None:
    hour = use(api_key, Counts(1_234, 56), bar=15)
    page = visit(owner, timezone_id="UTC")
    page.goto(f"{keys_url}{api_key.pk}/")

    bar = page.get_by_role("radiogroup", name="Figures by hour").get_by_role("radio")
    expect(bar).to_have_accessible_name(
        re.compile(f"^{hour:%a} {day_of(hour)}, {hour:%H:%M} 1,234 admitted 56 rejected$")
    )
    expect(page.get_by_role("figure", name="Requests in the last 24 hours")).to_be_visible()
    expect(
        page.get_by_role("img", name="Bar chart of 1,234 admitted and 56 rejected requests, by hour")
    ).to_be_visible()


@pytest.mark.parametrize("javascript", [True, False])
def test_the_table_has_the_same_figures(
    visit: Visit, owner: User, api_key: ApiKey, keys_url: str, javascript: bool
) -> None:
    use(api_key, Counts(1_234, 56, 7, 8), bar=15)
    use(api_key, Counts(1), bar=16)
    page = visit(owner, java_script_enabled=javascript)
    page.goto(f"{keys_url}{api_key.pk}/")

    page.get_by_text("Show the figures as a table").click()

    rows = page.locator(".usage-chart tbody tr")
    expect(rows).to_have_count(2)
    assert [cell.inner_text() for cell in rows.nth(1).locator("td").all()] == ["1,234", "56", "7", "8"]
    assert [cell.inner_text() for cell in rows.nth(0).locator("td").all()] == ["1", "0", "0", "0"]


def test_hours_are_in_the_users_time_zone_and_days_in_utc(
    visit: Visit, owner: User, api_key: ApiKey, keys_url: str
) -> None:
    hour = use(api_key, Counts(5))
    local = hour + timedelta(hours=5, minutes=30)
    page = visit(owner, timezone_id="Asia/Kolkata")

    page.goto(f"{keys_url}{api_key.pk}/")
    expect(page.locator(".usage-chart .figures")).to_contain_text(
        re.compile(f"{local:%a} {day_of(local)}, {local:%H}:30")
    )
    expect(page.get_by_text("Busy since")).to_contain_text(re.compile(f"{day_of(local)}, {local:%H}:30"))
    expect(page.locator(".usage-chart .axis time").nth(1)).to_have_text(f"{local - timedelta(hours=19):%H:%M}")
    expect(page.locator(".usage-chart .zone")).to_have_text("Times in GMT+5:30")
    page.get_by_role("link", name="30 days").click()
    expect(page.locator(".usage-chart .figures")).to_contain_text(re.compile(f"{hour:%a} {day_of(hour)}"))
    expect(page.locator(".usage-chart .zone")).to_have_text("Days in UTC")


def test_the_list_leads_to_the_key_that_used_the_quota(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str
) -> None:
    export, _ = make_key(workspace, "Nightly export")
    for number in range(3):
        use(make_key(workspace, f"Service {number}")[0], Counts(10))
    use(export, Counts(970, 400))
    page = visit(owner, java_script_enabled=False)
    page.goto(keys_url)

    panel = page.get_by_role("region", name="Usage by key, last 24 hours")
    expect(panel.get_by_role("listitem").first).to_contain_text("97%")
    panel.get_by_role("link").first.click()

    expect(page.get_by_role("heading", name="Nightly export")).to_be_visible()
    expect(page.get_by_role("region", name="Usage")).to_be_in_viewport()


def test_the_list_is_filtered_by_what_needs_attention(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str
) -> None:
    soon = datetime.now(UTC) + timedelta(days=2)
    make_key(workspace, "Trial", expires_at=soon)
    make_key(workspace, "CI")
    page = visit(owner, java_script_enabled=False)
    page.goto(keys_url)
    rows = page.locator("tbody tr")

    page.get_by_role("link", name="Expires soon 1").click()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("Trial")
    page.get_by_role("searchbox").fill("CI")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_text("No keys match “CI”")).to_be_visible()
    page.get_by_role("link", name="Expires soon 1").click()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("CI")
    page.get_by_role("link", name="Never used 2").click()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("CI")


def a_busy_workspace(workspace: Workspace) -> None:
    for number in range(7):
        api_key, _ = make_key(workspace, f"Service {number}, production")
        for bar in range(24):
            use(api_key, Counts(100 + number * 10, bar % 5 * 20), bar=bar)
    api_key.revoke(by=BY_TEST)
    make_key(workspace, "Trial", expires_at=datetime.now(UTC) + timedelta(days=2))


def huge_numbers(workspace: Workspace) -> None:
    for number in range(7):
        api_key, _ = make_key(workspace, "W" * 100 if number else "Huge")
        use(api_key, HUGE, bar=number)


def one_bar(workspace: Workspace) -> None:
    use(make_key(workspace)[0], Counts(1))


def only_rejected_requests(workspace: Workspace) -> None:
    use(make_key(workspace)[0], Counts(rejected=50))


@pytest.mark.parametrize(
    "state", [a_busy_workspace, huge_numbers, one_bar, only_rejected_requests], ids=lambda state: state.__name__
)
def test_pages_with_usage_pass_axe_and_fit_every_width(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str, state: Any
) -> None:
    state(workspace)
    page = visit(owner, reduced_motion="reduce")

    api_key = workspace.api_keys.earliest("pk")
    for url in (keys_url, f"{keys_url}{api_key.pk}/?usage=7d"):
        page.goto(url)
        for details in page.locator(".usage-chart summary").all():
            details.click()
        assert problems_of(page) == [], url


def test_bars_are_visible_with_forced_colours(visit: Visit, owner: User, api_key: ApiKey, keys_url: str) -> None:
    use(api_key, Counts(5, 3))
    page = visit(owner, forced_colors="active")
    page.goto(f"{keys_url}{api_key.pk}/")
    color = "e => getComputedStyle(e).{}"
    text = page.locator("h1").evaluate(color.format("color"))

    assert page.locator(".bars .admitted").evaluate(color.format("fill")) == text
    assert page.locator(".bars .rejected").evaluate(color.format("stroke")) == text
    assert page.locator(".bars .stripe").evaluate(color.format("fill")) == text


def test_the_first_load_with_usage_is_under_sixty_kilobytes(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str
) -> None:
    for number in range(20):
        api_key, _ = make_key(workspace, f"Key {number}")
        for bar in range(24):
            use(api_key, Counts(1_000 + 37 * bar + number, 13 * bar), bar=bar)
    StoredSecret.objects.update(last_used_at=timezone.now(), last_used_from="2001:db8:1111:2222:3333:4444:5555:6666")

    for url in (keys_url, f"{keys_url}{api_key.pk}/"):
        assert size_of_first_load(visit(owner), url) < 60_000, url


def size_of_first_load(page: Page, url: str) -> int:
    sizes: list[int] = []
    page.on("response", lambda response: sizes.append(len(response.body())))
    page.goto(url, wait_until="networkidle")
    return sum(sizes)
