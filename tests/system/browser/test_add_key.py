from __future__ import annotations

import os
import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone
from playwright.sync_api import Page, expect

from apikeys.models import ApiKey
from tests.helpers import Api, Visit, commits, make_key, make_token
from tests.processes import TIMEOUT, fetch, program
from tests.system.browser.helpers import create_key
from workspaces.models import User, Workspace

pytestmark = commits
same_on_every_database = pytest.mark.one_database("examples that the page shows, and how Chromium shows them")


def assert_shown_nowhere(page: Page, secret: str) -> None:
    page.wait_for_load_state()
    assert secret not in page.content()
    assert secret not in page.url


EXAMPLES = {
    "curl": '{"tasks":[],"nextCursor":null}',
    "JavaScript": "{ tasks: [], nextCursor: null }\n",
    "Python": "{'tasks': [], 'nextCursor': None}\n",
    ".env": '{"tasks":[],"nextCursor":null}',
}


def run_in_bash(text: str, directory: Path, *options: str, **variables: str) -> str:
    """Run text that was pasted into a terminal, in `directory`, and return what it prints."""
    result = subprocess.run(
        ["bash", *options],
        input=text,
        cwd=directory,
        env={"PATH": os.environ["PATH"], "HOME": str(directory), **variables},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    return result.stdout


@same_on_every_database
def test_each_example_runs_as_copied_and_prints_the_tasks(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str, tmp_path: Path
) -> None:
    program("curl", install="apt-get install curl")
    program("node", install="apt-get install nodejs (or your system's equivalent)")
    page = visit(owner, permissions=["clipboard-read", "clipboard-write"])
    secret = create_key(page, keys_url)
    (tmp_path / ".env").write_text("OTHER=1")  # its last line has no end

    printed = {}
    for name in EXAMPLES:
        page.get_by_role("tab", name=name, exact=True).click()
        page.get_by_role("tabpanel").get_by_role("button", name="Copy").click()
        expect(page.get_by_role("tabpanel").get_by_role("button", name="Copied")).to_be_visible()
        copied = page.evaluate("navigator.clipboard.readText()")
        printed[name] = run_in_bash(copied, tmp_path, "-e")

    assert printed == EXAMPLES
    assert (tmp_path / ".env").read_text() == f"OTHER=1\nONE_API_KEY={secret}\n"
    command = run_in_bash(". ./.env; echo $OTHER $ONE_API_KEY", tmp_path)
    assert command == f"1 {secret}\n"


@same_on_every_database
def test_without_javascript_the_examples_are_complete(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str, tmp_path: Path
) -> None:
    page = visit(owner, java_script_enabled=False)
    secret = create_key(page, keys_url)

    for name, example in zip(EXAMPLES, page.locator("pre").all(), strict=True):
        expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
        expect(example).to_be_visible()
        assert secret in (example.text_content() or "")
    expect(page.get_by_role("tab")).to_have_count(0)
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)
    assert run_in_bash(page.locator("#curl").text_content() or "", tmp_path, "-e") == EXAMPLES["curl"]
    run_in_bash(page.locator("#env").text_content() or "", tmp_path, "-e")
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


@same_on_every_database
def test_a_shell_that_ignores_commands_with_a_leading_space_keeps_no_key_in_its_history(
    visit: Visit, owner: User, keys_url: str, tmp_path: Path
) -> None:
    page = visit(owner)
    secret = create_key(page, keys_url)
    pasted = "\n".join(page.locator("pre").all_text_contents())

    options = ["--norc", "--noprofile", "-i"]
    run_in_bash(pasted, tmp_path, *options, HISTFILE=str(tmp_path / "history"), HISTCONTROL="ignorespace")

    history = (tmp_path / "history").read_text()
    assert "curl " in history
    assert secret not in history


@same_on_every_database
def test_the_tabs_of_the_examples_work_with_the_keyboard(visit: Visit, owner: User, keys_url: str) -> None:
    page = visit(owner, viewport={"width": 320, "height": 568})
    create_key(page, keys_url)
    tabs = page.get_by_role("tablist", name="Try it in a terminal").get_by_role("tab")
    expect(tabs).to_have_text(list(EXAMPLES))

    tabs.first.focus()
    for key, name in [
        ("ArrowRight", "JavaScript"),
        ("ArrowLeft", "curl"),
        ("ArrowLeft", ".env"),
        ("ArrowRight", "curl"),
        ("End", ".env"),
        ("Home", "curl"),
        ("ArrowRight", "JavaScript"),
    ]:
        page.keyboard.press(key)
        tab = page.get_by_role("tab", name=name, exact=True)
        expect(tab).to_be_focused()
        expect(tab).to_have_attribute("aria-selected", "true")
        expect(page.get_by_role("tab", selected=True)).to_have_count(1)
        expect(page.get_by_role("tabpanel")).to_have_count(1)
        expect(page.get_by_role("tabpanel", name=name, exact=True)).to_be_visible()
        for element in (page.get_by_role("dialog"), page.get_by_role("tablist")):
            assert element.evaluate("element => element.scrollWidth <= element.clientWidth")
    page.keyboard.press("Tab")
    expect(page.locator("#js")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("tabpanel").get_by_role("button", name="Copied")).to_be_visible()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("tab", name="JavaScript")).to_be_focused()


# By how many pixels the actions at the bottom of the dialog cover the element that has the focus.
COVERED = """() => {
  const actions = document.querySelector("dialog .actions"), focused = document.activeElement;
  if (actions.contains(focused)) return 0;
  return Math.max(0, focused.getBoundingClientRect().bottom - actions.getBoundingClientRect().top);
}"""


@same_on_every_database
def test_the_element_with_the_focus_is_not_covered(visit: Visit, owner: User, keys_url: str) -> None:
    page = visit(owner, viewport={"width": 320, "height": 568})
    create_key(page, keys_url)

    for _ in range(30):
        page.keyboard.press("Tab")
        assert page.evaluate(COVERED) == 0
        if page.get_by_role("link", name="Done, I've saved it").evaluate("link => link === document.activeElement"):
            return
    raise AssertionError("Tab does not reach the link")


@same_on_every_database
def test_large_text_fits_into_the_dialog(visit: Visit, owner: User, keys_url: str) -> None:
    page = visit(owner, viewport={"width": 390, "height": 844})
    create_key(page, keys_url)

    page.evaluate("document.documentElement.style.fontSize = document.body.style.fontSize = '30px'")

    assert page.get_by_role("dialog").evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")


@same_on_every_database
def test_the_page_links_to_the_guides(visit: Visit, owner: User, keys_url: str) -> None:
    page = visit(owner)
    create_key(page, keys_url)

    for name, url, heading in [
        ("Use the key in GitHub Actions, GitLab CI or cron", "/docs/ci/", "API keys in CI"),
        ("with the JavaScript SDK", "/docs/api-keys/#javascript", "JavaScript"),
    ]:
        link = page.get_by_role("link", name=name)
        expect(link).to_have_attribute("href", url)
        with page.expect_popup() as guide:
            link.click()
        expect(guide.value.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    expect(page.locator("#secret")).to_be_visible()


def test_the_dialog_closes_only_when_the_user_confirms_that_the_key_is_saved(
    visit: Visit, owner: User, keys_url: str
) -> None:
    page = visit(owner)
    secret = create_key(page, keys_url)
    dialog = page.get_by_role("dialog", name="Save your API key")
    expect(dialog).to_contain_text("You won't see this again.")

    for _ in range(3):
        page.keyboard.press("Escape")
    page.mouse.click(5, 5)
    expect(dialog).to_be_visible()
    page.get_by_role("link", name="Done, I've saved it").click()

    expect(page.get_by_role("link", name="CI, production")).to_be_visible()
    expect(dialog).to_have_count(0)
    assert_shown_nowhere(page, secret)


def test_copying_is_confirmed_visibly_and_for_screen_readers(visit: Visit, owner: User, keys_url: str) -> None:
    page = visit(owner, permissions=["clipboard-read", "clipboard-write"])
    page.clock.install()
    secret = create_key(page, keys_url)
    page.clock.pause_at(timezone.now() + timedelta(hours=1))  # so that the label stays "Copied"

    page.get_by_role("button", name="Copy").first.click()

    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    page.clock.run_for(100)
    expect(page.locator("[data-announcement]")).to_have_text("Copied to the clipboard.")
    assert page.evaluate("navigator.clipboard.readText()") == secret


@pytest.mark.parametrize("javascript", [True, False])
def test_reload_back_and_forward_create_no_second_key_and_show_no_secret(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str, javascript: bool
) -> None:
    page = visit(owner, java_script_enabled=javascript)
    page.goto(keys_url)
    secret = create_key(page, keys_url)

    page.reload()
    assert_shown_nowhere(page, secret)
    page.go_back()
    assert_shown_nowhere(page, secret)
    page.go_forward()
    assert_shown_nowhere(page, secret)

    assert workspace.api_keys.count() == 1


def test_going_back_from_another_page_shows_no_secret(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str
) -> None:
    page = visit(owner)
    secret = create_key(page, keys_url)

    page.goto("/settings/password/")
    page.go_back()

    assert_shown_nowhere(page, secret)
    assert workspace.api_keys.count() == 1


def test_a_reload_without_javascript_shows_that_one_key_was_created(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str
) -> None:
    page = visit(owner, java_script_enabled=False)
    secret = create_key(page, keys_url)

    page.reload()

    expect(page.get_by_role("status").last).to_contain_text("You submitted this form twice; only one key was created.")
    assert_shown_nowhere(page, secret)


def test_a_double_click_creates_one_key_and_shows_its_secret(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str
) -> None:
    page = visit(owner)
    page.goto(f"{keys_url}add/")
    page.get_by_label("Description").fill("CI, production")

    page.get_by_role("button", name="Create key").dblclick()

    expect(page.locator("#secret")).to_be_visible()
    assert workspace.api_keys.count() == 1


def test_the_same_form_in_two_tabs_creates_one_key(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str
) -> None:
    page = visit(owner, java_script_enabled=False)
    page.goto(f"{keys_url}add/")
    form = page.locator("form[data-submit-once]").evaluate("form => [...new FormData(form)]")
    fields = dict(form) | {"description": "CI, production"}
    url = page.url
    first = page.context.request.post(url, form=fields, headers={"Referer": url})

    second = page.context.request.post(url, form=fields, headers={"Referer": url})

    assert "Save your API key" in first.text()
    assert "only one key was created" in second.text()
    assert workspace.api_keys.count() == 1


def test_the_secret_is_in_no_cookie_session_log_or_cache(visit: Visit, owner: User, keys_url: str, log: Path) -> None:
    page = visit(owner)
    with page.expect_response(lambda response: response.request.method == "POST") as created:
        secret = create_key(page, keys_url)

    assert created.value.headers["cache-control"] == "no-store"
    cookies = " ".join(f"{cookie['name']}={cookie['value']}" for cookie in page.context.cookies())
    sessions = " ".join(str(session.get_decoded()) for session in Session.objects.all())
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, history.state])")
    assert secret[17:40] not in cookies + sessions + stored + log.read_text()


def test_errors_are_next_to_their_field_and_keep_the_input(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str
) -> None:
    page = visit(owner)
    page.goto(f"{keys_url}add/")
    page.locator("form[data-submit-once]").evaluate("form => form.noValidate = true")
    page.get_by_label("Description").evaluate("field => field.removeAttribute('maxlength')")

    page.get_by_label("Description").fill("x" * 101)
    page.get_by_label("90 days").check()
    page.get_by_role("button", name="Create key").click()

    field = page.locator(".field", has=page.get_by_label("Description"))
    expect(field.get_by_role("alert")).to_contain_text("at most 100 characters")
    expect(page.get_by_label("Description")).to_have_value("x" * 101)
    expect(page.get_by_label("Description")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("90 days")).to_be_checked()
    assert workspace.api_keys.count() == 0


@pytest.mark.parametrize(("choice", "days"), [("30 days", 30), ("90 days", 90), ("1 year", 365)])
def test_a_preset_expires_at_the_end_of_the_day_that_it_shows(
    visit: Visit, owner: User, keys_url: str, choice: str, days: int
) -> None:
    page = visit(owner)
    opened = timezone.now()
    page.goto(f"{keys_url}add/")
    label = page.get_by_text(re.compile(rf"^{choice}, until ")).inner_text()
    page.get_by_label("Description").fill("CI, production")

    page.get_by_label(label).check()
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("#secret")).to_be_visible()

    expires_at = ApiKey.objects.get().expires_at
    assert expires_at is not None
    assert f"{expires_at:%H:%M:%S}" == "23:59:59"
    assert label in {f"{choice}, until {ends:%-d %B %Y}" for ends in (opened + timedelta(days=days), expires_at)}


def test_a_custom_date_lasts_to_the_end_of_that_day(visit: Visit, owner: User, keys_url: str) -> None:
    page = visit(owner)
    page.goto(f"{keys_url}add/")
    day = timezone.now().date() + timedelta(days=10)
    page.get_by_label("Description").fill("CI, production")

    page.get_by_label("Last day the key works").fill(day.isoformat())
    expect(page.get_by_label("Custom date")).to_be_checked()
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("#secret")).to_be_visible()

    expires_at = ApiKey.objects.get().expires_at
    assert expires_at is not None
    assert f"{expires_at:%Y-%m-%d %H:%M}" == f"{day} 23:59"


@pytest.mark.parametrize(
    ("typed", "message"), [("", "Choose the last day"), ("2020-01-01", "This day is over in UTC.")]
)
def test_an_invalid_date_gets_an_error_next_to_its_field(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str, typed: str, message: str
) -> None:
    page = visit(owner, java_script_enabled=False)
    page.goto(f"{keys_url}add/")
    page.get_by_label("Description").fill("CI, production")
    page.get_by_label("Custom date").check()
    url = page.url
    fields: dict[str, str | float | bool] = {"description": "CI, production", "expiry": "date", "expires_on": typed}
    fields["idempotency_key"] = page.locator("input[name=idempotency_key]").input_value()
    fields["csrfmiddlewaretoken"] = page.locator("form[data-submit-once] input[name=csrfmiddlewaretoken]").input_value()

    html = page.context.request.post(url, form=fields, headers={"Referer": url}).text()

    assert message in html
    assert 'value="CI, production"' in html
    assert workspace.api_keys.count() == 0


def test_with_twenty_active_keys_the_button_is_disabled_and_the_page_explains_why(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str
) -> None:
    for number in range(19):
        make_key(workspace, f"Key {number}")
    page, other_tab = visit(owner), visit(owner)
    other_tab.goto(f"{keys_url}add/")
    make_key(workspace, "The last")

    page.goto(keys_url)
    expect(page.get_by_role("button", name="Add key")).to_be_disabled()
    expect(page.get_by_text("You've reached the limit of 20 active keys. Revoke one to add another.")).to_be_visible()
    other_tab.get_by_label("Description").fill("One too many")
    other_tab.get_by_role("button", name="Create key").click()

    expect(other_tab.get_by_role("alert")).to_contain_text("revoke one first")
    expect(other_tab.get_by_label("Description")).to_have_value("One too many")
    assert workspace.api_keys.count() == 20


def test_a_key_created_in_the_browser_works_at_once(visit: Visit, owner: User, site: str, keys_url: str) -> None:
    secret = create_key(visit(owner), keys_url)

    assert fetch(f"{site}/api/v1/me", secret)[0] == 200


def test_the_form_accepts_as_many_characters_as_the_api(
    visit: Visit, owner: User, workspace: Workspace, keys_url: str
) -> None:
    """Browsers count UTF-16 code units, of which an emoji has two."""
    page = visit(owner)
    page.goto(f"{keys_url}add/")
    page.get_by_label("Description").focus()
    page.keyboard.insert_text("\U0001f511" * 60)
    page.get_by_role("button", name="Create key").click()
    page.locator("#secret").wait_for()

    api_key = workspace.api_keys.get()
    api = Api(make_token(owner))
    path = f"/workspaces/current/api-keys/{api_key.pk}"
    assert api_key.description == "\U0001f511" * 50
    assert api.patch(path, {"description": api_key.description}).status_code == 200
    assert api.patch(path, {"description": f"{api_key.description}!"}).status_code == 400
